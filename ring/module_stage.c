/* NativeStage, its four operations, and Feeder: loops of stages.h that run without the GIL. */

typedef struct {
    PyObject_HEAD
    rs_stage run;
    /* What `run` said when it last had the GIL: attributes never read what another thread is writing. */
    uint64_t taken, messages, bytes, rejected, sequence;
    uint32_t code;
    bool busy;
} Stage;

static PyObject *stage_new(PyTypeObject *type, PyObject *args, PyObject *keywords, uint32_t op) {
    if (PyTuple_Size(args) || (keywords && PyDict_Size(keywords))) return PyErr_Format(PyExc_TypeError, "%R takes no arguments", type);
    Stage *self = make(type);
    if (self) rs_init(&self->run, op);
    return (PyObject *)self;
}

static PyObject *forward_new(PyTypeObject *type, PyObject *args, PyObject *keywords) { return stage_new(type, args, keywords, RS_FORWARD); }
static PyObject *count_new(PyTypeObject *type, PyObject *args, PyObject *keywords) { return stage_new(type, args, keywords, RS_COUNT); }
static PyObject *digest_new(PyTypeObject *type, PyObject *args, PyObject *keywords) { return stage_new(type, args, keywords, RS_DIGEST); }

static PyObject *filter_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"path", "value", NULL};
    const char *path, *value;
    Py_ssize_t path_length, value_length;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "s#s#:Filter", names, &path, &path_length, &value, &value_length)) return NULL;
    Stage *self = make(type);
    if (!self) return NULL;
    rs_init(&self->run, RS_FILTER);
    if (rs_filter(&self->run, path, (size_t)path_length, value, (size_t)value_length) == RC_OK) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_Format(PyExc_ValueError, "path %.200s or value %.200s cannot be asked for", path, value);
}

static void stage_say(Stage *self) {
    self->taken = self->run.taken;
    self->messages = self->run.messages;
    self->bytes = self->run.bytes;
    self->rejected = self->run.rejected;
    self->sequence = self->run.sequence;
    self->code = self->run.code;
}

static PyObject *stage_busy(void) {
    PyErr_SetString(PyExc_BufferError, "the native stage is in use by another thread; each needs its own");
    return NULL;
}

static PyObject *consumer_run(Consumer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"stage", "timeout", NULL};
    PyObject *given[2];
    uint64_t deadline;
    if (!arguments("run", names, 1, args, n, keywords, given)) return NULL;
    State *state = state_of((PyObject *)self);
    if (!PyType_IsSubtype(Py_TYPE(given[0]), state->native)) {
        PyErr_Format(PyExc_TypeError, "stage: expected NativeStage, found %R", Py_TYPE(given[0]));
        return NULL;
    }
    Stage *stage = (Stage *)given[0];
    if (!as_deadline(given[1], &deadline)) return NULL;
    if (UNUSABLE(self)) return refuse_use("consumer", self->shut, self->born);
    if (stage->busy) return stage_busy();
    if (rs_check(&stage->run, &self->c)) {
        PyErr_SetString(PyExc_BufferError, "this native stage cannot run here: not on a broadcast ring; a filter only where the ring says so");
        return NULL;
    }
    if (self->filter && stage->run.op != RS_FILTER) {
        PyErr_SetString(PyExc_BufferError, "the ring says that this stage is a filter: another operation would leave old marks standing");
        return NULL;
    }
    int answer;
    do {
        uint64_t until = slice_end(deadline);
        self->shut |= SHUT_BUSY;
        stage->busy = true;
        Py_BEGIN_ALLOW_THREADS
        answer = rs_run(&stage->run, &self->c, until);
        Py_END_ALLOW_THREADS
        self->shut &= ~(unsigned)SHUT_BUSY;
        stage->busy = false;
        stage_say(stage);
    } while (answer == RC_TIMEOUT && !(answer = between_slices(deadline)));
    rc_consumer_beat(&self->c);
    if (answer == RC_ENDED) Py_RETURN_TRUE;
    if (answer == RC_TIMEOUT) Py_RETURN_FALSE;
    return fail(state, answer, self->c.ring);
}

static PyObject *stage_apply(Stage *self, PyObject *message) {
    Py_buffer buffer;
    if (self->busy) return stage_busy();
    if (PyObject_GetBuffer(message, &buffer, PyBUF_SIMPLE)) return NULL;
    if (buffer.len > (Py_ssize_t)RC_MAX_SLOT) {
        PyErr_Format(PyExc_ValueError, "message: expected at most %u bytes, found %zd", RC_MAX_SLOT, buffer.len);
        PyBuffer_Release(&buffer);
        return NULL;
    }
    int answer = rs_apply(&self->run, buffer.buf, (uint32_t)buffer.len);
    PyBuffer_Release(&buffer);
    stage_say(self);
    return PyLong_FromLong(answer);
}

static PyObject *stage_digest_now(Stage *self, PyObject *unused) {
    (void)unused;
    uint8_t digest[32];
    char text[64];
    if (self->busy) return stage_busy();
    if (self->run.op != RS_DIGEST) {
        PyErr_SetString(PyExc_BufferError, "only a digest has one");
        return NULL;
    }
    rs_digest(&self->run, digest);
    for (size_t i = 0; i < sizeof text; i++) text[i] = "0123456789abcdef"[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    return PyUnicode_FromStringAndSize(text, sizeof text);
}

static PyMemberDef stage_members[] = {
    {"op", T_UINT, offsetof(Stage, run.op), READONLY, "FORWARD, COUNT, DIGEST or FILTER"},
    {"taken", T_ULONGLONG, offsetof(Stage, taken), READONLY, "messages released, also rejected ones"},
    {"messages", T_ULONGLONG, offsetof(Stage, messages), READONLY, "of these not rejected upstream"},
    {"bytes", T_ULONGLONG, offsetof(Stage, bytes), READONLY, "payload of `messages`"},
    {"rejected", T_ULONGLONG, offsetof(Stage, rejected), READONLY, "of `messages`, those this filter rejected"},
    {"code", T_UINT, offsetof(Stage, code), READONLY, "why this stage stopped the ring; 0: it did not"},
    {"sequence", T_ULONGLONG, offsetof(Stage, sequence), READONLY, "of the message it stopped at"},
    {0},
};
static PyMethodDef stage_methods[] = {
    ONE("apply", stage_apply, "one message outside a ring: 1 goes on, 0 rejected, < 0 minus a code"),
    NONE("hexdigest", stage_digest_now, "of everything so far"),
    {0},
};
static PyType_Slot native_slots[] = {{Py_tp_dealloc, unmake}, {Py_tp_methods, stage_methods}, {Py_tp_members, stage_members},
                                     {Py_tp_doc, "An operation in C, run by Consumer.run without the GIL."}, {0, NULL}};
static PyType_Slot forward_slots[] = {{Py_tp_new, forward_new}, {Py_tp_doc, "Reads nothing."}, {0, NULL}};
static PyType_Slot count_slots[] = {{Py_tp_new, count_new}, {Py_tp_doc, "Messages and bytes."}, {0, NULL}};
static PyType_Slot digest_slots[] = {{Py_tp_new, digest_new}, {Py_tp_doc, "SHA-256 over each message and a line end."}, {0, NULL}};
static PyType_Slot filter_slots[] = {{Py_tp_new, filter_new}, {Py_tp_doc, "Keeps JSON objects whose `path` has `value`."}, {0, NULL}};
static PyType_Spec native_spec = {"muniment.ring._ring.NativeStage", sizeof(Stage), 0, HEAP | Py_TPFLAGS_BASETYPE, native_slots};
static PyType_Spec forward_spec = {"muniment.ring._ring.Forward", sizeof(Stage), 0, OPEN, forward_slots};
static PyType_Spec count_spec = {"muniment.ring._ring.Count", sizeof(Stage), 0, OPEN, count_slots};
static PyType_Spec digest_spec = {"muniment.ring._ring.Digest", sizeof(Stage), 0, OPEN, digest_slots};
static PyType_Spec filter_spec = {"muniment.ring._ring.Filter", sizeof(Stage), 0, OPEN, filter_slots};

/* ---- feeder ---- */

typedef struct {
    PyObject_HEAD
    rf_feeder feed;
    uint8_t *buffer;
    Producer *owner;
    /* As of Stage: what `feed` said when it last had the GIL. */
    uint64_t lines, bytes, offset;
    bool unterminated;
} Feeder;

static void feeder_say(Feeder *self) {
    self->lines = self->feed.lines;
    self->bytes = self->feed.bytes;
    self->offset = self->feed.offset;
    self->unterminated = self->feed.unterminated;
}

static PyObject *feeder_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"producer", "offset", NULL};
    PyObject *producer, *from = NULL;
    uint64_t offset = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:Feeder", names, &producer, &from)) return NULL;
    State *state = PyType_GetModuleState(type);
    if (Py_TYPE(producer) != state->producer) return PyErr_Format(PyExc_TypeError, "producer: expected Producer, found %R", Py_TYPE(producer));
    if (from && !as_u64(from, "offset", 0, INT64_MAX, &offset)) return NULL;
    Producer *owner = (Producer *)producer;
    if (UNUSABLE(owner)) return refuse_use("producer", owner->shut, owner->born);
    Feeder *self = make(type);
    if (!self) return NULL;
    size_t room = rf_buffer_bytes(owner->p.ring->slot_bytes);
    self->buffer = PyMem_Malloc(room);
    if (!self->buffer || rf_init(&self->feed, &owner->p, self->buffer, room, offset)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->owner = (Producer *)Py_NewRef(producer);
    feeder_say(self);
    return (PyObject *)self;
}

static PyObject *fail_line(State *state, const rf_feeder *feed) {
    const char *text = feed->code == RF_LINE_LONG ? "a line is longer than slot_bytes: .line and .offset say which; everything before it is published"
                                                  : "a line is shorter than the records of this ring: .line and .offset say which";
    PyObject *error = new_error(state->bad_line, RC_INVALID, text);
    if (error && set_u64(error, "line", feed->error_line) && set_u64(error, "offset", feed->error_offset))
        return throw_error(state->bad_line, error);
    Py_XDECREF(error);
    return NULL;
}

static PyObject *feeder_feed(Feeder *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"fd", "timeout", NULL};
    PyObject *given[2];
    uint64_t deadline, fd;
    if (!arguments("feed", names, 1, args, n, keywords, given) || !as_u64(given[0], "fd", 0, INT32_MAX, &fd) ||
        !as_deadline(given[1], &deadline))
        return NULL;
    Producer *owner = self->owner;
    if (UNUSABLE(owner)) return refuse_use("producer", owner->shut, owner->born);
    int answer;
    do {
        uint64_t until = slice_end(deadline);
        owner->shut |= SHUT_BUSY;
        Py_BEGIN_ALLOW_THREADS
        answer = rf_feed(&self->feed, &owner->p, (int)fd, until);
        Py_END_ALLOW_THREADS
        owner->shut &= ~(unsigned)SHUT_BUSY;
        feeder_say(self);
    } while (answer == RC_TIMEOUT && !(answer = between_slices(deadline)));
    if (answer == RC_ENDED) Py_RETURN_TRUE;
    if (answer == RC_TIMEOUT) Py_RETURN_FALSE;
    State *state = state_of((PyObject *)self);
    if (answer == RC_INVALID) return fail_line(state, &self->feed);
    if (answer == RC_SYSTEM) errno = self->feed.system;
    return fail(state, answer, owner->p.ring);
}

static void feeder_dealloc(Feeder *self) {
    PyMem_Free(self->buffer);
    Py_XDECREF((PyObject *)self->owner);
    unmake((PyObject *)self);
}

static PyMemberDef feeder_members[] = {
    {"lines", T_ULONGLONG, offsetof(Feeder, lines), READONLY, "taken from the input: published, or lost where the ring drops"},
    {"bytes", T_ULONGLONG, offsetof(Feeder, bytes), READONLY, "of these lines, without line ends"},
    {"offset", T_ULONGLONG, offsetof(Feeder, offset), READONLY, "in the input, after the last of these lines"},
    {"unterminated", T_BOOL, offsetof(Feeder, unterminated), READONLY, "the last line had no line end"},
    {0},
};
static PyMethodDef feeder_methods[] = {
    FAST("feed", feeder_feed, "publish lines of a descriptor, which is not closed; True: end of input, False: the time is over"),
    {0},
};
static PyType_Slot feeder_slots[] = {{Py_tp_new, feeder_new}, {Py_tp_dealloc, feeder_dealloc}, {Py_tp_methods, feeder_methods}, {Py_tp_members, feeder_members},
                                     {Py_tp_doc, "Publishes the lines of a file descriptor without the GIL."}, {0, NULL}};
static PyType_Spec feeder_spec = {"muniment.ring._ring.Feeder", sizeof(Feeder), 0, OPEN, feeder_slots};
