/* muniment.ring._ring.Consumer: a stage's place; taking, showing without giving back, marking. */

static PyObject *ring_consumer(Ring *self, PyObject *number) {
    uint64_t stage;
    if (!as_u64(number, "stage", 0, self->ring.stages - 1, &stage)) return NULL;
    if (!self->open) return ring_shut();
    if (!self->map.writable) return ring_read_only();
    State *state = state_of((PyObject *)self);
    Consumer *consumer = make(state->consumer);
    if (!consumer) return NULL;
    consumer->shut = SHUT_CLOSED;
    if (self->ring.kind == RC_BROADCAST && !(consumer->copy = PyMem_Malloc(self->ring.slot_bytes + 8))) {
        Py_DECREF(consumer);
        return PyErr_NoMemory();
    }
    int answer = rc_consumer_attach(&consumer->c, &self->ring, (uint32_t)stage);
    if (answer) {
        Py_DECREF(consumer);
        return fail(state, answer, &self->ring);
    }
    consumer->told = consumer->c.tuple.lost;
    consumer->marks = self->ring.capabilities & RC_CAP_MARKS;
    consumer->filter = self->filters >> stage & 1;
    consumer->owner = (Ring *)Py_NewRef((PyObject *)self);
    self->users++;
    consumer->shut = 0;
    consumer->born = forks;
    return (PyObject *)consumer;
}

static void consumer_go(Consumer *self) {
    if (self->shut & SHUT_CLOSED) return;
    self->shut = SHUT_CLOSED;
    self->owner->users--;
    if (self->born == forks) rc_consumer_detach(&self->c); /* in a child the place is still the parent's */
}

static PyObject *consumer_close(Consumer *self, PyObject *unused) {
    (void)unused;
    if (self->shut & (SHUT_BUSY | SHUT_VIEW)) return refuse_use("consumer", self->shut, self->born);
    consumer_go(self);
    Py_RETURN_NONE;
}

static PyObject *consumer_exit(Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    (void)args, (void)n, (void)keywords;
    return consumer_close(self, NULL);
}

static PyObject *consumer_leave(Consumer *self, PyObject *unused) {
    if (UNUSABLE(self)) return refuse_use("consumer", self->shut, self->born);
    if (rc_leave(&self->c)) {
        PyErr_SetString(PyExc_BufferError, "a stage that others depend on cannot leave");
        return NULL;
    }
    return consumer_close(self, unused);
}

static void consumer_dealloc(Consumer *self) {
    consumer_go(self);
    PyMem_Free(self->copy);
    Py_XDECREF((PyObject *)self->owner);
    unmake((PyObject *)self);
}

/* ---- broadcast: copied, then known to be whole; a loss is told once, in its place between the messages ---- */

static PyObject *told_loss(Consumer *self) {
    State *state = state_of((PyObject *)self);
    uint64_t lost = self->c.tuple.lost - self->told;
    self->told = self->c.tuple.lost;
    PyObject *error = new_error(state->overrun, RC_OVERRUN, "messages were overwritten unread: .lost says how many, .sequence where it goes on");
    if (error && set_u64(error, "lost", lost) && set_u64(error, "sequence", self->c.at + 1)) return throw_error(state->overrun, error);
    Py_XDECREF(error);
    return NULL;
}

/* At least one message: how many; PY_ERROR: an exception is set, also at the end, a stop, the timeout. Waits without the GIL, in slices. */
static int64_t available(Consumer *self, uint64_t deadline) {
    /* A paced ring holds for a fuller batch, also here and with something to read; it is told to wait no longer than that. */
    int64_t n = self->c.ring->wait == RC_PACED ? rc_wait_available(&self->c, 0) : rc_available(&self->c);
    if (n == RC_TIMEOUT) n = 0;
    while (n == 0 && self->c.tuple.lost == self->told) {
        if (!deadline) {
            n = RC_TIMEOUT;
            break;
        }
        uint64_t until = slice_end(deadline);
        self->shut |= SHUT_BUSY;
        Py_BEGIN_ALLOW_THREADS
        n = rc_wait_available(&self->c, until);
        Py_END_ALLOW_THREADS
        self->shut &= ~(unsigned)SHUT_BUSY;
        if (n == RC_TIMEOUT) n = between_slices(deadline);
    }
    if (__builtin_expect(n > 0 && self->c.tuple.lost == self->told, 1)) return n;
    if (n == PY_ERROR) return n;
    if (self->c.tuple.lost != self->told) told_loss(self); /* before anything else: it comes before the next message */
    else fail(state_of((PyObject *)self), n, self->c.ring);
    return PY_ERROR;
}

static inline bool rejected(const Consumer *self, uint64_t sequence) {
    return self->marks && rc_marked(self->c.ring, self->c.stage, sequence);
}

/* Give back; a filter that decided nothing decides "goes on", or the mark of the last lap would stand. */
static void give_back(Consumer *self, uint64_t n) {
    if (self->filter && !self->decided)
        for (uint64_t i = 1; i <= n; i++) rc_mark(self->c.ring, self->c.stage, self->c.at + i, false);
    self->decided = false;
    rc_release(&self->c, n);
}

static PyObject *message_at(Consumer *self, uint64_t sequence) {
    const uint8_t *payload;
    int64_t length = rc_get(self->c.ring, sequence, &payload);
    if (__builtin_expect(length < 0, 0)) return fail(state_of((PyObject *)self), RC_CORRUPT, self->c.ring);
    return PyBytes_FromStringAndSize((const char *)payload, (Py_ssize_t)length);
}

static PyObject *copy_next(Consumer *self) {
    int64_t length = rc_copy_next(&self->c, self->copy);
    if (length == RC_OVERRUN) return told_loss(self);
    if (length < 0) return fail(state_of((PyObject *)self), length, self->c.ring);
    PyObject *message = PyBytes_FromStringAndSize((const char *)self->copy, (Py_ssize_t)length);
    if (message) rc_release(&self->c, 1);
    return message;
}

static PyObject *copy_many(Consumer *self, uint64_t n) {
    PyObject *list = PyList_New(0);
    for (uint64_t i = 0; list && i < n; i++) {
        if (i && (rc_available(&self->c) <= 0 || self->c.tuple.lost != self->told)) break; /* what it has goes first */
        uint64_t told = self->told;
        PyObject *message = copy_next(self);
        if (!message && i && PyErr_ExceptionMatches(state_of((PyObject *)self)->overrun)) {
            PyErr_Clear();
            self->told = told;
            break;
        }
        if (!message || PyList_Append(list, message)) Py_CLEAR(list);
        Py_XDECREF(message);
    }
    rc_consumer_beat(&self->c);
    return list;
}

/* ---- taking and showing ---- */

static PyObject *consumer_take(Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"timeout", NULL};
    PyObject *given[1];
    uint64_t deadline = FOREVER;
    if ((n || keywords) && (!arguments("take", names, 0, args, n, keywords, given) || !as_deadline(given[0], &deadline))) return NULL;
    if (UNUSABLE(self)) return refuse_use("consumer", self->shut, self->born);
    for (;;) {
        if (available(self, deadline) < 0) return NULL;
        if (__builtin_expect(!(self->c.at % BEAT_EVERY), 0)) rc_consumer_beat(&self->c);
        if (self->copy) return copy_next(self);
        if (!rejected(self, self->c.at + 1)) break;
        self->skipped++;
        give_back(self, 1);
    }
    PyObject *message = message_at(self, self->c.at + 1);
    if (message) give_back(self, 1);
    return message;
}

/* The messages of the next `n` sequences that no filter upstream rejected. */
static PyObject *messages_of(Consumer *self, uint64_t n) {
    uint64_t first = self->c.at + 1, shown = n;
    if (self->marks)
        for (uint64_t i = 0; i < n; i++) shown -= rejected(self, first + i);
    PyObject *list = PyList_New((Py_ssize_t)shown);
    Py_ssize_t at = 0;
    for (uint64_t i = 0; list && i < n; i++) {
        if (rejected(self, first + i)) continue;
        PyObject *message = message_at(self, first + i);
        if (!message) Py_CLEAR(list);
        else PyList_SetItem(list, at++, message);
    }
    self->shown = shown;
    return list;
}

/* Arguments (max, timeout) of take_many, peek_many and view. */
static bool show_arguments(const char *function, Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords,
                           uint64_t *most, uint64_t *deadline) {
    static const char *const names[] = {"max", "timeout", NULL};
    PyObject *given[2];
    if (!arguments(function, names, 1, args, n, keywords, given) || !as_u64(given[0], "max", 1, INT64_MAX, most) ||
        !as_deadline(given[1], deadline))
        return false;
    if (UNUSABLE(self)) refuse_use("consumer", self->shut, self->born);
    return !UNUSABLE(self);
}

static int64_t available_most(Consumer *self, uint64_t most, uint64_t deadline) {
    int64_t n = available(self, deadline);
    return n > (int64_t)most ? (int64_t)most : n;
}

static PyObject *consumer_take_many(Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    uint64_t most, deadline;
    if (!show_arguments("take_many", self, args, n, keywords, &most, &deadline)) return NULL;
    int64_t ready = available_most(self, most, deadline);
    if (ready < 0) return NULL;
    if (self->copy) return copy_many(self, (uint64_t)ready);
    PyObject *list = messages_of(self, (uint64_t)ready);
    if (!list) return NULL;
    self->skipped += (uint64_t)ready - self->shown;
    give_back(self, (uint64_t)ready);
    rc_consumer_beat(&self->c);
    return list;
}

static PyObject *no_views(void) {
    PyErr_SetString(PyExc_BufferError, "messages of a broadcast ring may be overwritten at any time: take them");
    return NULL;
}

static PyObject *consumer_peek_many(Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    uint64_t most, deadline;
    if (self->copy) return no_views();
    if (!show_arguments("peek_many", self, args, n, keywords, &most, &deadline)) return NULL;
    int64_t ready = available_most(self, most, deadline);
    if (ready < 0) return NULL;
    PyObject *list = messages_of(self, (uint64_t)ready);
    if (!list) return NULL;
    self->held = (uint64_t)ready;
    self->shut |= SHUT_OUT;
    return list;
}

/* Give back the first `n` held sequences and forget the others: they will be shown again. */
static void release_held(Consumer *self, uint64_t n) {
    for (uint64_t i = 1; i <= n && self->marks; i++) self->skipped += rejected(self, self->c.at + i);
    if (n) {
        give_back(self, n);
        rc_consumer_beat(&self->c);
    }
    self->decided = false;
    self->held = self->shown = 0;
    self->shut &= ~(unsigned)(SHUT_OUT | SHUT_VIEW);
}

static bool held_of(Consumer *self, const char *what, unsigned allowed) {
    if (self->shut & ~allowed || self->born != forks) {
        refuse_use("consumer", self->shut, self->born);
        return false;
    }
    if (self->held) return true;
    PyErr_Format(PyExc_BufferError, "there is nothing to %s: peek or view first", what);
    return false;
}

static PyObject *consumer_release(Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"n", NULL};
    PyObject *given[1];
    if (!arguments("release", names, 0, args, n, keywords, given)) return NULL;
    if (!held_of(self, "release", SHUT_OUT)) return NULL;
    uint64_t count = self->held;
    if (given[0] && given[0] != Py_None && !as_u64(given[0], "n", 0, self->held, &count)) return NULL;
    release_held(self, count);
    return PyLong_FromUnsignedLongLong(count);
}

/* Sequence of the `index`-th message that is shown. */
static uint64_t shown_sequence(const Consumer *self, uint64_t index) {
    uint64_t sequence = self->c.at + 1;
    if (!self->marks) return sequence + index;
    for (;; sequence++)
        if (!rejected(self, sequence) && !index--) return sequence;
}

static PyObject *consumer_sequence(Consumer *self, PyObject *index) {
    uint64_t i;
    if (!held_of(self, "number", SHUT_OUT | SHUT_VIEW)) return NULL;
    if (!self->shown) return PyErr_Format(PyExc_ValueError, "index: every message was rejected upstream");
    if (!as_u64(index, "index", 0, self->shown - 1, &i)) return NULL;
    return PyLong_FromUnsignedLongLong(shown_sequence(self, i));
}

static PyObject *consumer_mark(Consumer *self, PyObject *flags) {
    bool bytes = PyBytes_Check(flags);
    if (!held_of(self, "mark", SHUT_OUT | SHUT_VIEW)) return NULL;
    if (!self->filter) {
        PyErr_Format(PyExc_BufferError, "stage %u is no filter: Ring.create(filters=…) says which are", self->c.stage);
        return NULL;
    }
    if (!bytes && !PyList_Check(flags)) {
        PyErr_Format(PyExc_TypeError, "flags: expected a list of bool or bytes, True where rejected; found %R", Py_TYPE(flags));
        return NULL;
    }
    Py_ssize_t size = bytes ? PyBytes_Size(flags) : PyList_Size(flags);
    if ((uint64_t)size != self->shown) {
        PyErr_Format(PyExc_ValueError, "flags: expected one a message, %llu, found %zd", (unsigned long long)self->shown, size);
        return NULL;
    }
    for (Py_ssize_t i = 0; !bytes && i < size; i++) {
        PyObject *flag = PyList_GetItem(flags, i);
        if (flag == Py_True || flag == Py_False) continue;
        PyErr_Format(PyExc_TypeError, "flag %zd: expected bool, found %R", i, flag);
        return NULL;
    }
    uint64_t sequence = self->c.at;
    for (Py_ssize_t i = 0; i < size; i++) {
        do sequence++;
        while (rejected(self, sequence));
        bool no = bytes ? PyBytes_AsString(flags)[i] != 0 : PyList_GetItem(flags, i) == Py_True;
        rc_mark(self->c.ring, self->c.stage, sequence, no);
    }
    self->decided = true;
    Py_RETURN_NONE;
}
