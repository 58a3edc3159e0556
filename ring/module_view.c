/* muniment.ring._ring.View: messages where they stand. It owns the buffer export, so a memoryview can never dangle: the slots are given
 * back only when no memoryview is left. */

typedef struct {
    PyObject_HEAD
    Consumer *owner; /* NULL: released */
    uint64_t n;      /* messages, consecutive, none rejected upstream */
    Py_ssize_t exports, pick; /* pick: the message that the export being made is of; -1 all */
    Records records;
} View;

static PyObject *consumer_view(Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    uint64_t most, deadline;
    int64_t ready;
    if (self->copy) return no_views();
    if (!show_arguments("view", self, args, n, keywords, &most, &deadline)) return NULL;
    while ((ready = available_most(self, most, deadline)) > 0 && rejected(self, self->c.at + 1)) {
        uint64_t gone = 1; /* what nobody is to see goes back at once */
        while (gone < (uint64_t)ready && rejected(self, self->c.at + 1 + gone)) gone++;
        self->skipped += gone;
        give_back(self, gone);
    }
    if (ready < 0) return NULL;
    uint64_t count = (uint64_t)ready, first = self->c.at + 1, left = self->c.ring->capacity - (first & self->c.ring->mask);
    if (self->c.ring->capabilities & RC_CAP_FIXED && count > left) count = left;
    if (self->marks)
        for (uint64_t i = 1; i < count; i++)
            if (rejected(self, first + i)) count = i;
    View *view = make(state_of((PyObject *)self)->view);
    if (!view) return NULL;
    view->n = count;
    view->pick = -1;
    view->owner = (Consumer *)Py_NewRef((PyObject *)self);
    self->held = self->shown = count;
    self->shut |= SHUT_OUT | SHUT_VIEW;
    return (PyObject *)view;
}

static void view_over(View *self, uint64_t n) {
    Consumer *owner = self->owner;
    self->owner = NULL;
    if (owner->born == forks) release_held(owner, n);
    else owner->shut &= ~(unsigned)(SHUT_OUT | SHUT_VIEW);
    Py_DECREF(owner);
}

static PyObject *view_release(View *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"n", NULL};
    PyObject *given[1];
    uint64_t count = self->n;
    if (!arguments("release", names, 0, args, n, keywords, given)) return NULL;
    if (given[0] && given[0] != Py_None && !as_u64(given[0], "n", 0, self->n, &count)) return NULL;
    if (!self->owner) Py_RETURN_NONE;
    if (self->exports) {
        PyErr_Format(PyExc_BufferError, "%zd memoryviews of the view are alive; release them first", self->exports);
        return NULL;
    }
    if (self->owner->born != forks) return refuse_use("view", 0, self->owner->born);
    view_over(self, count);
    Py_RETURN_NONE;
}

/* An exception gives nothing back: a failed message is not passed over. With memoryviews alive (a traceback holds them) the view ends
 * with the last of them. */
static PyObject *view_exit(View *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    (void)keywords;
    if (n < 1 || args[0] == Py_None) return view_release(self, NULL, 0, NULL);
    if (self->owner && !self->exports) view_over(self, 0);
    Py_RETURN_FALSE;
}

static void view_dealloc(View *self) {
    if (self->owner) view_over(self, 0); /* forgotten, not released: the messages will be shown again */
    unmake((PyObject *)self);
}

static Py_ssize_t view_length(View *self) { return self->owner ? (Py_ssize_t)self->n : 0; }

static int view_buffer(View *self, Py_buffer *buffer, int flags) {
    buffer->obj = NULL;
    if (!self->owner) {
        PyErr_SetString(PyExc_BufferError, "the view was released");
        return -1;
    }
    const rc_ring *ring = self->owner->c.ring;
    uint64_t first = self->owner->c.at + 1;
    int answer;
    if (self->pick >= 0) {
        const uint8_t *payload;
        int64_t length = rc_get(ring, first + (uint64_t)self->pick, &payload);
        if (length < 0) {
            fail(state_of((PyObject *)self), RC_CORRUPT, ring);
            return -1;
        }
        answer = PyBuffer_FillInfo(buffer, (PyObject *)self, (void *)(uintptr_t)payload, (Py_ssize_t)length, 1, flags);
    } else if (ring->capabilities & RC_CAP_FIXED) {
        answer = export_records((PyObject *)self, buffer, flags, ring, first, self->n, &self->records, true);
    } else {
        PyErr_SetString(PyExc_BufferError, "messages of any length do not stand together: view[i] is one of them");
        return -1;
    }
    if (!answer) self->exports++;
    return answer;
}

static void view_unbuffer(View *self, Py_buffer *buffer) {
    (void)buffer;
    self->exports--;
}

static PyObject *view_item(View *self, Py_ssize_t index) {
    if (index < 0 || index >= view_length(self)) {
        PyErr_SetString(PyExc_IndexError, "the view has no such message");
        return NULL;
    }
    int collects = PyGC_Disable(); /* making a memoryview may collect garbage: no finalizer is to see `pick` */
    self->pick = index;
    PyObject *message = PyMemoryView_FromObject((PyObject *)self);
    self->pick = -1;
    if (collects) PyGC_Enable();
    return message;
}

static PyObject *view_get(View *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(!self->owner);
}

static PyGetSetDef view_getters[] = {{"released", (getter)view_get, NULL, "its slots were given back", NULL}, {0}};
static PyMethodDef view_methods[] = {
    FAST("release", view_release, "give back the first n messages (all); BufferError while memoryviews are alive"),
    NONE("__enter__", self_entered, NULL),
    FAST("__exit__", view_exit, NULL),
    {0},
};
static PyType_Slot view_slots[] = {{Py_tp_dealloc, view_dealloc}, {Py_tp_methods, view_methods}, {Py_tp_getset, view_getters},
                                   {Py_sq_length, view_length}, {Py_sq_item, view_item}, {Py_bf_getbuffer, view_buffer},
                                   {Py_bf_releasebuffer, view_unbuffer},
                                   {Py_tp_doc, "Messages where they stand; a read-only buffer of them (fixed rings)."}, {0, NULL}};
static PyType_Spec view_spec = {"muniment.ring._ring.View", sizeof(View), 0, HEAP, view_slots};
