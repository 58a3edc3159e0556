/* muniment.ring._ring.Claim: slots that a producer has and nobody sees yet. */

typedef struct {
    PyObject_HEAD
    Producer *owner; /* NULL: committed or given up */
    uint64_t first, n;
    Py_ssize_t exports;
    Records records;
} Claim;

static PyObject *producer_claim(Producer *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"n", "timeout", NULL};
    PyObject *given[2];
    uint64_t want, deadline;
    if (!arguments("claim", names, 1, args, n, keywords, given) || !as_u64(given[0], "n", 1, UINT64_MAX, &want) ||
        !as_deadline(given[1], &deadline))
        return NULL;
    if (UNUSABLE(self)) return refuse_use("producer", self->shut, self->born);
    rc_ring *ring = self->p.ring;
    if (!(ring->capabilities & RC_CAP_FIXED) || ring->capabilities & RC_CAP_MULTI || ring->kind != RC_GATED) {
        PyErr_SetString(PyExc_BufferError, "slots are claimed in gated fixed rings of one producer only");
        return NULL;
    }
    State *state = state_of((PyObject *)self);
    Claim *claim = make(state->claim);
    if (!claim) return NULL;
    uint64_t left = ring->capacity - ((self->p.claimed + 1) & ring->mask); /* contiguous: up to the end of the slots */
    int64_t got;
    while ((got = rc_try_claim(&self->p, want < left ? want : left)) <= 0) {
        int room = make_room(self, got, deadline);
        if (room > 0) continue;
        Py_DECREF(claim);
        return room < 0 ? NULL : fail(state, ring->capabilities & RC_CAP_DROP ? RC_FULL : RC_TIMEOUT, ring);
    }
    claim->n = (uint64_t)got;
    claim->first = self->p.claimed - claim->n + 1;
    claim->owner = (Producer *)Py_NewRef((PyObject *)self);
    self->shut |= SHUT_OUT;
    return (PyObject *)claim;
}

/* The claim is over: publish the first `n`, give back the others. In a child only forget it. */
static void claim_over(Claim *self, uint64_t n) {
    Producer *owner = self->owner;
    self->owner = NULL;
    if (owner->born == forks) {
        if (n) rc_publish(&owner->p, n);
        rc_unclaim(&owner->p);
        if (n) rc_producer_beat(&owner->p);
    }
    owner->shut &= ~(unsigned)SHUT_OUT;
    Py_DECREF(owner);
}

static bool claim_usable(const Claim *self) {
    if (!self->owner)
        PyErr_SetString(PyExc_BufferError, "the claim is over: it was committed or given up");
    else if (self->exports)
        PyErr_Format(PyExc_BufferError, "%zd memoryviews of the claim are alive; release them first", self->exports);
    else
        return true;
    return false;
}

static PyObject *claim_commit(Claim *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    static const char *const names[] = {"n", NULL};
    PyObject *given[1];
    uint64_t count = self->n;
    if (!arguments("commit", names, 0, args, n, keywords, given)) return NULL;
    if (given[0] && given[0] != Py_None && !as_u64(given[0], "n", 0, self->n, &count)) return NULL;
    if (!claim_usable(self)) return NULL;
    if (self->owner->born != forks) return refuse_use("claim", 0, self->owner->born);
    claim_over(self, count);
    return PyLong_FromUnsignedLongLong(count);
}

static PyObject *claim_give_up(Claim *self, PyObject *unused) {
    (void)unused;
    if (!self->owner) Py_RETURN_NONE;
    if (!claim_usable(self)) return NULL;
    claim_over(self, 0);
    Py_RETURN_NONE;
}

/* Left by an exception with memoryviews alive (a traceback holds them): the claim ends with the last of them, the exception goes on. */
static PyObject *claim_exit(Claim *self, PyObject *const *args, Py_ssize_t n, PyObject *keywords) {
    (void)keywords;
    if (n > 0 && args[0] != Py_None && self->exports) Py_RETURN_NONE;
    return claim_give_up(self, NULL);
}

static void claim_dealloc(Claim *self) {
    if (self->owner) claim_over(self, 0); /* a memoryview holds a reference: none is alive */
    unmake((PyObject *)self);
}

static int claim_buffer(Claim *self, Py_buffer *buffer, int flags) {
    if (!self->owner) {
        buffer->obj = NULL;
        return claim_usable(self) - 1;
    }
    int answer = export_records((PyObject *)self, buffer, flags, self->owner->p.ring, self->first, self->n, &self->records, false);
    if (!answer) self->exports++;
    return answer;
}

static void claim_unbuffer(Claim *self, Py_buffer *buffer) {
    (void)buffer;
    self->exports--;
}

static Py_ssize_t claim_length(Claim *self) { return self->owner ? (Py_ssize_t)self->n : 0; }

static PyMemberDef claim_members[] = {{"first", T_ULONGLONG, offsetof(Claim, first), READONLY, "sequence of its first slot"}, {0}};
static PyMethodDef claim_methods[] = {
    FAST("commit", claim_commit, "publish the first n slots (all), give back the others; BufferError while memoryviews are alive"),
    NONE("release", claim_give_up, "publish nothing"),
    NONE("__enter__", self_entered, NULL),
    FAST("__exit__", claim_exit, NULL),
    {0},
};
static PyType_Slot claim_slots[] = {{Py_tp_dealloc, claim_dealloc}, {Py_tp_methods, claim_methods}, {Py_tp_members, claim_members},
                                    {Py_sq_length, claim_length}, {Py_bf_getbuffer, claim_buffer}, {Py_bf_releasebuffer, claim_unbuffer},
                                    {Py_tp_doc, "Claimed slots: a writable buffer of records, published by commit()."}, {0, NULL}};
static PyType_Spec claim_spec = {"muniment.ring._ring.Claim", sizeof(Claim), 0, HEAP, claim_slots};

