/* muniment.ring._ring.Producer: publishing bytes, lists and buffers. */

static PyObject *ring_producer(Ring *self, PyObject *unused) {
    (void)unused;
    if (!self->open) return ring_shut();
    if (!self->map.writable) return ring_read_only();
    State *state = state_of((PyObject *)self);
    Producer *producer = make(state->producer);
    if (!producer) return NULL;
    producer->shut = SHUT_CLOSED;
    int answer = rc_producer_attach(&producer->p, &self->ring);
    if (answer) {
        Py_DECREF(producer);
        return fail(state, answer, &self->ring);
    }
    producer->slot_bytes = self->ring.slot_bytes;
    bool fixed = self->ring.capabilities & RC_CAP_FIXED;
    producer->least = fixed ? self->ring.slot_bytes : 0;
    producer->room = fixed ? 0 : self->ring.slot_bytes;
    producer->owner = (Ring *)Py_NewRef((PyObject *)self);
    self->users++;
    producer->shut = 0;
    producer->born = forks;
    return (PyObject *)producer;
}

static void producer_leave(Producer *self) {
    if (self->shut & SHUT_CLOSED) return;
    self->shut = SHUT_CLOSED;
    self->owner->users--;
    if (self->born == forks) rc_producer_detach(&self->p); /* in a child the place is still the parent's */
}

static PyObject *producer_close(Producer *self, PyObject *unused) {
    (void)unused;
    if (self->shut & (SHUT_BUSY | SHUT_OUT)) return refuse_use("producer", self->shut, self->born);
    producer_leave(self);
    Py_RETURN_NONE;
}

static PyObject *producer_exit(Producer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    (void)args, (void)n, (void)keywords;
    return producer_close(self, NULL);
}

static void producer_dealloc(Producer *self) {
    producer_leave(self);
    Py_XDECREF((PyObject *)self->owner);
    unmake((PyObject *)self);
}

static PyObject *wrong_length(const Producer *self, size_t length) {
    PyErr_Format(PyExc_ValueError, self->room ? "message: expected at most %zu bytes, found %zu" : "message: expected exactly %zu bytes, found %zu",
                 self->least + self->room, length);
    return NULL;
}

static inline bool fits(const Producer *self, Py_ssize_t length) { return (size_t)length - self->least <= self->room; }

/* After rc_try_claim answered `n` <= 0: wait for a slot, with the GIL released in slices. 1: try again. 0: the ring drops and is full, or
 * the time is over. PY_ERROR: an exception is set. Others run meanwhile: what was borrowed before is not ours afterwards. */
static int make_room(Producer *self, int64_t n, uint64_t deadline) {
    while (n == 0) {
        if (self->p.ring->capabilities & RC_CAP_DROP || !deadline) return 0;
        uint64_t until = slice_end(deadline);
        self->shut |= SHUT_BUSY;
        Py_BEGIN_ALLOW_THREADS
        n = rc_wait_space(&self->p, until);
        Py_END_ALLOW_THREADS
        self->shut &= ~(unsigned)SHUT_BUSY;
        if (n == RC_OK) return 1;
        if (n == RC_TIMEOUT && (n = between_slices(deadline)) == RC_TIMEOUT) return 0;
    }
    fail(state_of((PyObject *)self), n, self->p.ring);
    return PY_ERROR;
}

static inline void published(Producer *self, uint64_t n) {
    rc_publish(&self->p, n);
    if (__builtin_expect(!(self->p.published % BEAT_EVERY), 0)) rc_producer_beat(&self->p);
}

static PyObject *publish_bytes(Producer *self, const void *bytes, Py_ssize_t length) {
    if (__builtin_expect(!fits(self, length), 0)) return wrong_length(self, (size_t)length);
    int64_t n;
    while (__builtin_expect((n = rc_try_claim(&self->p, 1)) != 1, 0)) {
        int room = make_room(self, n, FOREVER);
        if (room < 0) return NULL;
        if (!room) {
            rc_refuse(&self->p, 1);
            Py_RETURN_FALSE;
        }
    }
    rc_put(self->p.ring, self->p.claimed, bytes, (uint32_t)length);
    published(self, 1);
    Py_RETURN_TRUE;
}

static PyObject *producer_publish(Producer *self, PyObject *message) {
    if (UNUSABLE(self)) return refuse_use("producer", self->shut, self->born);
    if (__builtin_expect(Py_TYPE(message) == &PyBytes_Type, 1)) {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(message, &bytes, &length)) return NULL;
        return publish_bytes(self, bytes, length);
    }
    Py_buffer buffer;
    if (PyObject_GetBuffer(message, &buffer, PyBUF_SIMPLE)) return NULL;
    /* The exporter may have run code of its own: look again. */
    PyObject *answer = UNUSABLE(self) ? refuse_use("producer", self->shut, self->born) : publish_bytes(self, buffer.buf, buffer.len);
    PyBuffer_Release(&buffer);
    return answer;
}

enum { RUN = 256 }; /* messages gathered at once: pointers and lengths are 4 KiB of stack */

typedef struct {
    char *bytes[RUN];
    Py_ssize_t length[RUN];
} Run;

/* Pointers to up to RUN messages from `from` on: how many, or -1 with an exception. Nothing runs between here and the copy. */
static Py_ssize_t gather(const Producer *self, PyObject *list, Py_ssize_t from, Py_ssize_t to, Run *run) {
    Py_ssize_t n = to - from < RUN ? to - from : RUN;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyList_GetItem(list, from + i);
        if (!item) return -1;
        if (PyBytes_AsStringAndSize(item, &run->bytes[i], &run->length[i])) {
            PyErr_Format(PyExc_TypeError, "message %zd of the list: expected bytes, found %R", from + i, Py_TYPE(item));
            return -1;
        }
        if (!fits(self, run->length[i])) {
            wrong_length(self, (size_t)run->length[i]);
            return -1;
        }
    }
    return n;
}

static PyObject *producer_publish_many(Producer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"messages", "timeout", NULL};
    PyObject *given[2];
    uint64_t deadline;
    Run run;
    if (!arguments("publish_many", names, 1, args, n, keywords, given) || !as_deadline(given[1], &deadline)) return NULL;
    PyObject *list = given[0];
    if (!PyList_Check(list)) {
        PyErr_Format(PyExc_TypeError, "messages: expected a list of bytes, found %R", Py_TYPE(list));
        return NULL;
    }
    if (UNUSABLE(self)) return refuse_use("producer", self->shut, self->born);
    Py_ssize_t size = PyList_Size(list), done = 0;
    /* A list is refused whole: all of it is looked at before any of it is published. Up to RUN, gathering is that look. */
    for (Py_ssize_t from = RUN; from < size; from += RUN)
        if (gather(self, list, from, size, &run) < 0) return NULL;
    while (done < size) {
        Py_ssize_t ready = gather(self, list, done, size, &run); /* again after each wait: the list may have changed */
        if (ready < 0) return NULL;
        int64_t claimed = rc_try_claim(&self->p, (uint64_t)ready);
        if (claimed <= 0) {
            int room = make_room(self, claimed, deadline);
            if (room < 0) return NULL;
            if (!room) break;
            continue;
        }
        uint64_t first = self->p.claimed - (uint64_t)claimed + 1;
        for (int64_t i = 0; i < claimed; i++) rc_put(self->p.ring, first + (uint64_t)i, run.bytes[i], (uint32_t)run.length[i]);
        rc_publish(&self->p, (uint64_t)claimed);
        done += (Py_ssize_t)claimed;
    }
    if (done < size && self->p.ring->capabilities & RC_CAP_DROP) rc_refuse(&self->p, (uint64_t)(size - done));
    else if (done) rc_producer_beat(&self->p);
    return PyLong_FromSsize_t(done);
}

/* Copy `n` records into the claimed slots from `first` on. */
static void put_records(rc_ring *ring, uint64_t first, const uint8_t *from, uint64_t n) {
    if (ring->kind == RC_GATED && ring->stride == ring->slot_bytes) {
        uint64_t left = ring->capacity - (first & ring->mask), head = n < left ? n : left;
        memcpy(rc_slot(ring, first), from, head * ring->stride);
        memcpy(ring->slots, from + head * ring->stride, (n - head) * ring->stride);
        return;
    }
    for (uint64_t i = 0; i < n; i++) rc_put(ring, first + i, from + i * ring->slot_bytes, ring->slot_bytes);
}

#define COPY_BYTES (1u << 20) /* copied without the GIL at once: 50 us or so */

static PyObject *producer_publish_buffer(Producer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"records", "timeout", NULL};
    PyObject *given[2], *answer = NULL;
    uint64_t deadline, done = 0;
    Py_buffer buffer;
    if (!arguments("publish_buffer", names, 1, args, n, keywords, given) || !as_deadline(given[1], &deadline)) return NULL;
    if (PyObject_GetBuffer(given[0], &buffer, PyBUF_SIMPLE)) return NULL;
    rc_ring *ring = self->p.ring;
    if (UNUSABLE(self)) {
        refuse_use("producer", self->shut, self->born);
        goto exit;
    }
    if (!(ring->capabilities & RC_CAP_FIXED)) {
        PyErr_SetString(PyExc_BufferError, "records are of fixed rings; this one has messages of any length: publish_many");
        goto exit;
    }
    if ((uint64_t)buffer.len % ring->slot_bytes) {
        PyErr_Format(PyExc_ValueError, "records: expected whole records of %u bytes, found %zd bytes", ring->slot_bytes, buffer.len);
        goto exit;
    }
    uint64_t size = (uint64_t)buffer.len / ring->slot_bytes, most = COPY_BYTES / ring->slot_bytes;
    while (done < size) {
        int64_t claimed = rc_try_claim(&self->p, size - done < most ? size - done : most);
        if (claimed <= 0) {
            int room = make_room(self, claimed, deadline);
            if (room < 0) goto exit;
            if (!room) break;
            continue;
        }
        uint64_t first = self->p.claimed - (uint64_t)claimed + 1, bytes = (uint64_t)claimed * ring->slot_bytes;
        const uint8_t *from = (const uint8_t *)buffer.buf + done * ring->slot_bytes;
        if (bytes < COPY_BYTES / 16) {
            put_records(ring, first, from, (uint64_t)claimed);
        } else {
            self->shut |= SHUT_BUSY;
            Py_BEGIN_ALLOW_THREADS
            put_records(ring, first, from, (uint64_t)claimed);
            Py_END_ALLOW_THREADS
            self->shut &= ~(unsigned)SHUT_BUSY;
        }
        rc_publish(&self->p, (uint64_t)claimed);
        done += (uint64_t)claimed;
    }
    if (done < size && ring->capabilities & RC_CAP_DROP) rc_refuse(&self->p, size - done);
    else if (done) rc_producer_beat(&self->p);
    answer = PyLong_FromUnsignedLongLong(done);
exit:
    PyBuffer_Release(&buffer);
    return answer;
}

static PyObject *producer_end(Producer *self, PyObject *unused) {
    (void)unused;
    if (UNUSABLE(self)) return refuse_use("producer", self->shut, self->born);
    if (self->p.ring->capabilities & RC_CAP_MULTI) {
        PyErr_SetString(PyExc_BufferError, "one of several producers cannot end the ring: Ring.end(final sequence), when all are done");
        return NULL;
    }
    rc_producer_beat(&self->p);
    rc_end(self->p.ring, self->p.published);
    Py_RETURN_NONE;
}

static PyObject *producer_beat(Producer *self, PyObject *unused) {
    (void)unused;
    if (UNUSABLE(self)) return refuse_use("producer", self->shut, self->born);
    rc_producer_beat(&self->p);
    Py_RETURN_NONE;
}

static PyObject *producer_claim(Producer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords);

static PyObject *producer_get(Producer *self, void *which) {
    (void)which;
    return PyBool_FromLong(self->shut & SHUT_CLOSED);
}
static PyGetSetDef producer_getters[] = {{"closed", (getter)producer_get, NULL, "close() was called", NULL}, {0}};
static PyMemberDef producer_members[] = {
    {"ring", T_OBJECT, offsetof(Producer, owner), READONLY, "its ring"},
    {"at", T_ULONGLONG, offsetof(Producer, p.published), READONLY, "the last sequence this producer published"},
    {"slot_bytes", T_UINT, offsetof(Producer, slot_bytes), READONLY, "largest message, or the size of each (fixed)"},
    {"lost", T_ULONGLONG, offsetof(Producer, p.tuple.lost), READONLY, "messages that a full dropping ring refused"},
    {"stalls", T_ULONGLONG, offsetof(Producer, p.tuple.stalls), READONLY, "times it had to wait"},
    {"batches", T_ULONGLONG, offsetof(Producer, p.tuple.batches), READONLY, "publications"},
    {0},
};
static PyMethodDef producer_methods[] = {
    ONE("publish", producer_publish, "one message; waits for a slot; False: the ring drops and is full"),
    FAST("publish_many", producer_publish_many, "a list of bytes, in order; how many were published: fewer at the timeout, or if the ring drops"),
    FAST("publish_buffer", producer_publish_buffer, "whole records (fixed rings); how many were published"),
    FAST("claim", producer_claim, "up to n contiguous slots to write into (fixed rings)"),
    NONE("end", producer_end, "no message after the last one published"),
    NONE("beat", producer_beat, "say that it lives and where it is"),
    NONE("close", producer_close, "leave the place; BufferError while a claim is out"),
    NONE("__enter__", self_entered, NULL),
    FAST("__exit__", producer_exit, NULL),
    {0},
};
static PyType_Slot producer_slots[] = {{Py_tp_dealloc, producer_dealloc}, {Py_tp_methods, producer_methods},
                                       {Py_tp_members, producer_members}, {Py_tp_getset, producer_getters},
                                       {Py_tp_doc, "A producer's place in a ring. One thread uses it."}, {0, NULL}};
static PyType_Spec producer_spec = {"muniment.ring._ring.Producer", sizeof(Producer), 0, HEAP, producer_slots};
