/* muniment.ring._ring.Ring: a mapping, its description, and who may be made from it. */

static PyObject *ring_shut(void) {
    PyErr_SetString(PyExc_BufferError, "the ring is closed");
    return NULL;
}

static PyObject *ring_read_only(void) {
    PyErr_SetString(PyExc_BufferError, "the ring is attached read-only; attach it with writable=True");
    return NULL;
}

/* A Ring around a mapping that was just made; the mapping is undone if it is no ring of ours. */
static PyObject *ring_around(PyTypeObject *type, rc_map *map, PyObject *path) {
    rc_ring opened;
    int answer = rc_open(&opened, map->memory, map->bytes);
    Ring *self = answer ? NULL : make(type);
    if (!self) {
        rc_unmap(map);
        if (!answer) return NULL;
        State *state = PyType_GetModuleState(type);
        if (answer != RC_CORRUPT) return fail(state, answer, NULL);
        return throw_error(state->unusable, new_error(state->unusable, answer, "a header that contradicts itself; recreate the ring"));
    }
    self->ring = opened;
    self->map = *map;
    self->path = Py_NewRef(path);
    /* Says only which stages of ours write marks; the marks themselves stand where rc_open found room for them. */
    self->filters = opened.capabilities & RC_CAP_MARKS ? opened.at->header.filters : 0;
    self->open = true;
    return (PyObject *)self;
}

static const char *const kinds[] = {"gated", "broadcast", NULL}; /* from RC_GATED on */
static const char *const waits[] = {"spin", "paced", "backoff", "park", NULL}; /* from RC_SPIN on */

static bool word_of(PyObject *from, const char *what, const char *const *words, uint32_t first, uint32_t *out) {
    if (!from) return true;
    for (uint32_t i = 0; PyUnicode_Check(from) && words[i]; i++)
        if (!PyUnicode_CompareWithASCIIString(from, words[i])) {
            *out = first + i;
            return true;
        }
    PyErr_Format(PyUnicode_Check(from) ? PyExc_ValueError : PyExc_TypeError, "%s: expected a word such as %s, found %R", what, words[0], from);
    return false;
}

static bool stages_of(PyObject *stages, rc_config *config) {
    if (!PyList_Check(stages) && !PyTuple_Check(stages)) {
        PyErr_SetString(PyExc_TypeError, "stages: expected a list of ints (bit j of number i: stage i waits for stage j)");
        return false;
    }
    Py_ssize_t n = PySequence_Size(stages);
    if (n < 1 || n > (Py_ssize_t)RC_STAGES) {
        PyErr_Format(PyExc_ValueError, "stages: expected 1 to %u, found %zd", RC_STAGES, n);
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(stages, i);
        uint64_t mask = 0;
        bool fine = item && as_u64(item, "stages: bits of earlier stages", 0, (1ull << i) - 1, &mask);
        Py_XDECREF(item);
        if (!fine) return false;
        config->deps[i] = (uint16_t)mask;
    }
    config->stages = (uint32_t)n;
    return true;
}

/* `path` as the file system's bytes (b"" for None, an anonymous ring) and as what Ring.path shows. */
static bool path_of(PyObject *from, PyObject **bytes, PyObject **shown) {
    if (from == Py_None) {
        *bytes = PyBytes_FromStringAndSize(NULL, 0);
        *shown = *bytes ? Py_NewRef(Py_None) : NULL;
        return *bytes != NULL;
    }
    if (!PyUnicode_FSConverter(from, bytes)) return false;
    *shown = PyUnicode_DecodeFSDefaultAndSize(PyBytes_AsString(*bytes), PyBytes_Size(*bytes));
    if (*shown) return true;
    Py_CLEAR(*bytes);
    return false;
}

static PyObject *path_failed(State *state, int answer, PyObject *path) {
    if (answer == RC_SYSTEM) return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    if (answer == RC_BUSY) return throw_error(state->busy, new_error(state->busy, answer, "a file with this name exists"));
    return fail(state, answer, NULL);
}

static PyObject *ring_create(PyObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"path", "capacity", "slot_bytes", "stages", "kind", "wait", "multi", "fixed", "filters", "drop",
                            "meta", "spec_sha256", NULL};
    PyObject *from, *capacity = NULL, *slot_bytes = NULL, *stages = NULL, *kind = NULL, *wait = NULL, *filters = NULL;
    int multi = 0, fixed = 0, drop = 0, answer = RC_INVALID;
    Py_buffer meta = {0}, spec = {0};
    PyObject *bytes = NULL, *path = NULL, *ring = NULL;
    rc_config c = {.kind = RC_GATED, .wait = RC_BACKOFF};
    rc_map map = {0};
    uint64_t value;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|$OOOOOppOpy*y*:create", names, &from, &capacity, &slot_bytes, &stages, &kind,
                                     &wait, &multi, &fixed, &filters, &drop, &meta, &spec))
        return NULL;
    State *state = PyType_GetModuleState((PyTypeObject *)type);
    if (!capacity || !slot_bytes || !stages) {
        PyErr_SetString(PyExc_TypeError, "create() needs capacity, slot_bytes and stages");
        goto exit;
    }
    if (!as_u64(capacity, "capacity: a power of two,", 1, RC_MAX_CAPACITY, &c.capacity)) goto exit;
    if (c.capacity & (c.capacity - 1)) {
        PyErr_Format(PyExc_ValueError, "capacity: expected a power of two, found %R", capacity);
        goto exit;
    }
    if (!as_u64(slot_bytes, "slot_bytes", 1, RC_MAX_SLOT, &value)) goto exit;
    c.slot_bytes = (uint32_t)value;
    if (!stages_of(stages, &c)) goto exit;
    if (!word_of(kind, "kind", kinds, RC_GATED, &c.kind) || !word_of(wait, "wait", waits, RC_SPIN, &c.wait)) goto exit;
    if (filters && !as_u64(filters, "filters: bits of stages,", 0, (1u << c.stages) - 1, &value)) goto exit;
    if (filters) c.filters = (uint32_t)value;
    c.capabilities = (multi ? RC_CAP_MULTI : 0) | (fixed ? RC_CAP_FIXED : 0) | (drop ? RC_CAP_DROP : 0) | (c.filters ? RC_CAP_MARKS : 0);
    if (meta.len > (Py_ssize_t)RC_MAX_META || (spec.buf && spec.len != 32 && spec.len != 0)) {
        PyErr_Format(PyExc_ValueError, "meta: at most %u bytes, found %zd; spec_sha256: 32 bytes, found %zd", RC_MAX_META, meta.len, spec.len);
        goto exit;
    }
    c.meta = meta.buf;
    c.meta_bytes = (uint32_t)meta.len;
    if (spec.len) memcpy(c.spec_sha256, spec.buf, sizeof c.spec_sha256);
    if (rc_size(&c, &value)) {
        PyErr_SetString(PyExc_ValueError, "a broadcast ring has neither dependencies nor several producers, filters or drop");
        goto exit;
    }
    if (!path_of(from, &bytes, &path)) goto exit;
    const char *file = PyBytes_AsString(bytes);
    Py_BEGIN_ALLOW_THREADS
    answer = path == Py_None ? rc_map_anonymous(&map, &c) : rc_map_create(&map, file, &c);
    Py_END_ALLOW_THREADS
    ring = answer ? path_failed(state, answer, path) : ring_around((PyTypeObject *)type, &map, path);
exit:
    if (meta.obj) PyBuffer_Release(&meta);
    if (spec.obj) PyBuffer_Release(&spec);
    Py_XDECREF(bytes);
    Py_XDECREF(path);
    return ring;
}

static PyObject *ring_attach(PyObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"path", "writable", NULL};
    PyObject *from, *bytes = NULL, *path = NULL, *ring = NULL;
    int writable = 1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|$p:attach", names, &from, &writable)) return NULL;
    if (from == Py_None) {
        PyErr_SetString(PyExc_TypeError, "attach() needs a path: an anonymous ring is inherited by fork, not attached");
        return NULL;
    }
    if (!path_of(from, &bytes, &path)) return NULL;
    rc_map map = {0};
    int answer = rc_map_attach(&map, PyBytes_AsString(bytes), writable);
    ring = answer ? path_failed(PyType_GetModuleState((PyTypeObject *)type), answer, path) : ring_around((PyTypeObject *)type, &map, path);
    Py_DECREF(bytes);
    Py_DECREF(path);
    return ring;
}

static PyObject *ring_close(Ring *self, PyObject *unused) {
    (void)unused;
    if (!self->open) Py_RETURN_NONE;
    if (self->users) {
        PyErr_Format(PyExc_BufferError, "the ring has %zd open producers and consumers; close them first", self->users);
        return NULL;
    }
    self->open = false;
    rc_unmap(&self->map);
    Py_RETURN_NONE;
}

static void ring_dealloc(Ring *self) {
    if (self->open) rc_unmap(&self->map); /* producers, consumers and views hold a reference: nobody is left */
    Py_XDECREF(self->path);
    unmake((PyObject *)self);
}

static PyObject *self_entered(PyObject *self, PyObject *unused) {
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *ring_exit(Ring *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    (void)args, (void)n, (void)keywords;
    return ring_close(self, NULL);
}

static PyObject *ring_snapshot(Ring *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"liveness", NULL};
    PyObject *given[1];
    int liveness = 0;
    if (n || keywords) {
        if (!arguments("snapshot_raw", names, 0, args, n, keywords, given)) return NULL;
        if (given[0] && (liveness = PyObject_IsTrue(given[0])) < 0) return NULL;
    }
    if (!self->open) return ring_shut();
    rc_snap snap;
    uint32_t bytes = rc_snapshot(&self->ring, &snap, liveness);
    return PyBytes_FromStringAndSize((const char *)&snap, bytes);
}

static PyObject *ring_stop(Ring *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"stage", "code", "sequence", NULL};
    PyObject *given[3];
    uint64_t stage = RC_NO_STAGE, code, sequence;
    if (!arguments("stop", names, 3, args, n, keywords, given)) return NULL;
    if (given[0] != Py_None && !as_u64(given[0], "stage", 0, self->ring.stages - 1, &stage)) return NULL;
    if (!as_u64(given[1], "code", 0, UINT32_MAX, &code) || !as_u64(given[2], "sequence", 0, UINT64_MAX, &sequence)) return NULL;
    if (!self->open) return ring_shut();
    if (!self->map.writable) return ring_read_only();
    return PyBool_FromLong(rc_stop(&self->ring, (uint32_t)stage, (uint32_t)code, sequence));
}

static PyObject *ring_end(Ring *self, PyObject *final) {
    uint64_t sequence;
    if (!as_u64(final, "final sequence", 0, UINT64_MAX - 1, &sequence)) return NULL;
    if (!self->open) return ring_shut();
    if (!self->map.writable) return ring_read_only();
    rc_end(&self->ring, sequence);
    Py_RETURN_NONE;
}

enum { RING_STAGES, RING_META, RING_SPEC, RING_STOPPED, RING_ENDED, RING_CLOSED, RING_WRITABLE, RING_MULTI, RING_FIXED, RING_DROP, RING_KIND, RING_WAIT };

static PyObject *ring_get(Ring *self, void *which) {
    const rc_ring *ring = &self->ring;
    switch ((int)(intptr_t)which) {
    case RING_STAGES: {
        PyObject *list = PyList_New((Py_ssize_t)ring->stages);
        for (uint32_t i = 0; list && i < ring->stages; i++) {
            PyObject *mask = PyLong_FromLong(ring->deps[i]);
            if (!mask) Py_CLEAR(list);
            else PyList_SetItem(list, (Py_ssize_t)i, mask);
        }
        return list;
    }
    case RING_SPEC: return PyBytes_FromStringAndSize((const char *)ring->spec_sha256, sizeof ring->spec_sha256);
    case RING_CLOSED: return PyBool_FromLong(!self->open);
    case RING_WRITABLE: return PyBool_FromLong(self->map.writable);
    case RING_MULTI: return PyBool_FromLong(ring->capabilities & RC_CAP_MULTI);
    case RING_FIXED: return PyBool_FromLong(ring->capabilities & RC_CAP_FIXED);
    case RING_DROP: return PyBool_FromLong(ring->capabilities & RC_CAP_DROP);
    case RING_KIND: return PyUnicode_FromString(kinds[ring->kind - RC_GATED]);
    case RING_WAIT: return PyUnicode_FromString(waits[ring->wait - RC_SPIN]);
    default: break;
    }
    if (!self->open) return ring_shut();
    if ((int)(intptr_t)which == RING_META) return PyBytes_FromStringAndSize((const char *)ring->meta, ring->meta_bytes);
    if ((int)(intptr_t)which == RING_ENDED) {
        uint64_t end = atomic_load_explicit(&ring->at->control.end, memory_order_acquire); /* with the cursor before it */
        if (!end) Py_RETURN_NONE;
        return PyLong_FromUnsignedLongLong(end - 1);
    }
    uint32_t stage = RC_NO_STAGE, code = 0;
    uint64_t sequence = 0;
    if (!rc_stop_read(ring, &stage, &code, &sequence)) Py_RETURN_NONE;
    if (stage == RC_NO_STAGE) return Py_BuildValue("(OIK)", Py_None, code, (unsigned long long)sequence);
    return Py_BuildValue("(IIK)", stage, code, (unsigned long long)sequence);
}

static PyMemberDef ring_members[] = {
    {"path", T_OBJECT, offsetof(Ring, path), READONLY, "its file, or None: anonymous"},
    {"capacity", T_ULONGLONG, offsetof(Ring, ring.capacity), READONLY, "slots"},
    {"mapped_bytes", T_ULONGLONG, offsetof(Ring, ring.mapped_bytes), READONLY, "bytes of the mapping"},
    {"created_unix_ns", T_ULONGLONG, offsetof(Ring, ring.created_unix_ns), READONLY, "when it was formatted"},
    {"slot_bytes", T_UINT, offsetof(Ring, ring.slot_bytes), READONLY, "largest message, or the size of each (fixed)"},
    {"stride", T_UINT, offsetof(Ring, ring.stride), READONLY, "bytes from slot to slot"},
    {"filters", T_UINT, offsetof(Ring, filters), READONLY, "bit i: stage i sets marks"},
    {0},
};

#define RING_GETTER(name, which, doc) {name, (getter)ring_get, NULL, doc, (void *)(intptr_t)(which)}
static PyGetSetDef ring_getters[] = {
    RING_GETTER("stages", RING_STAGES, "bit j of number i: stage i waits for stage j"),
    RING_GETTER("kind", RING_KIND, "gated or broadcast"),
    RING_GETTER("wait", RING_WAIT, "spin, paced, backoff or park"),
    RING_GETTER("meta", RING_META, "what was kept with it: the spec's canonical text"),
    RING_GETTER("spec_sha256", RING_SPEC, "32 bytes"),
    RING_GETTER("stopped", RING_STOPPED, "None, or (stage or None, code, sequence); (None, 0, 0): who stops it is not ready, or died"),
    RING_GETTER("ended", RING_ENDED, "None, or the final sequence"),
    RING_GETTER("closed", RING_CLOSED, "close() was called"),
    RING_GETTER("writable", RING_WRITABLE, "False: attached to look only"),
    RING_GETTER("multi", RING_MULTI, "several producers"),
    RING_GETTER("fixed", RING_FIXED, "every message has slot_bytes"),
    RING_GETTER("drop", RING_DROP, "a full ring refuses the new message and counts it"),
    {0},
};

static PyObject *ring_producer(Ring *self, PyObject *unused);
static PyObject *ring_consumer(Ring *self, PyObject *stage);

static PyMethodDef ring_methods[] = {
    {"create", (PyCFunction)(void (*)(void))ring_create, METH_VARARGS | METH_KEYWORDS | METH_CLASS, "a new ring; path None: anonymous, inherited by fork"},
    {"attach", (PyCFunction)(void (*)(void))ring_attach, METH_VARARGS | METH_KEYWORDS | METH_CLASS, "a ring that exists"},
    NONE("producer", ring_producer, "take the producer's place; RingBusy: a living one has it"),
    ONE("consumer", ring_consumer, "take a stage's place; RingBusy: a living one has it"),
    FAST("snapshot_raw", ring_snapshot, "the packed record (rc_snap); liveness: ask also which owners live"),
    FAST("stop", ring_stop, "stop everybody; True: it was this call"),
    ONE("end", ring_end, "no message after this sequence"),
    NONE("close", ring_close, "unmap; BufferError while producers or consumers are open"),
    NONE("__enter__", self_entered, NULL),
    FAST("__exit__", ring_exit, NULL),
    {0},
};

static PyType_Slot ring_slots[] = {{Py_tp_dealloc, ring_dealloc}, {Py_tp_methods, ring_methods}, {Py_tp_members, ring_members},
                                   {Py_tp_getset, ring_getters}, {Py_tp_doc, "A ring: bounded messages in shared memory."}, {0, NULL}};
static PyType_Spec ring_spec = {"muniment.ring._ring.Ring", sizeof(Ring), 0, HEAP, ring_slots};
