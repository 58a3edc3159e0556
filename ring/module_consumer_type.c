/* What a Consumer says of itself, and its type. */

static PyObject *consumer_beat(Consumer *self, PyObject *unused) {
    (void)unused;
    if (self->shut & (SHUT_CLOSED | SHUT_BUSY) || self->born != forks) return refuse_use("consumer", self->shut, self->born);
    rc_consumer_beat(&self->c);
    Py_RETURN_NONE;
}

enum { CONSUMER_CLOSED, CONSUMER_LAG, CONSUMER_BYTES };

static PyObject *consumer_get(Consumer *self, void *which) {
    if ((int)(intptr_t)which == CONSUMER_CLOSED) return PyBool_FromLong(self->shut & SHUT_CLOSED);
    if (self->shut & SHUT_CLOSED) return refuse_use("consumer", self->shut, self->born);
    rc_ring *ring = self->c.ring;
    uint64_t sum = 0;
    if ((int)(intptr_t)which == CONSUMER_LAG) {
        bool multi = ring->capabilities & RC_CAP_MULTI;
        uint64_t cursor = atomic_load_explicit(multi ? &ring->at->control.claim : &ring->at->cells[0].seq, memory_order_relaxed);
        sum = cursor - self->c.at; /* relaxed: a number to look at */
        return PyLong_FromUnsignedLongLong((int64_t)sum < 0 ? 0 : sum);
    }
    for (uint64_t i = 1; i <= self->held; i++) {
        const uint8_t *payload;
        int64_t length = rc_get(ring, self->c.at + i, &payload);
        if (length < 0) return fail(state_of((PyObject *)self), RC_CORRUPT, ring);
        sum += (uint64_t)length;
    }
    return PyLong_FromUnsignedLongLong(sum);
}

static PyMemberDef consumer_members[] = {
    {"ring", T_OBJECT, offsetof(Consumer, owner), READONLY, "its ring"},
    {"stage", T_UINT, offsetof(Consumer, c.stage), READONLY, "index of its stage"},
    {"filter", T_BOOL, offsetof(Consumer, filter), READONLY, "it may mark messages"},
    {"at", T_ULONGLONG, offsetof(Consumer, c.at), READONLY, "the last sequence given back"},
    {"held", T_ULONGLONG, offsetof(Consumer, held), READONLY, "sequences shown and not given back, with the rejected ones"},
    {"skipped", T_ULONGLONG, offsetof(Consumer, skipped), READONLY, "given back unseen: a filter upstream rejected them"},
    {"lost", T_ULONGLONG, offsetof(Consumer, c.tuple.lost), READONLY, "broadcast: overwritten unread"},
    {"stalls", T_ULONGLONG, offsetof(Consumer, c.tuple.stalls), READONLY, "times it had to wait"},
    {"batches", T_ULONGLONG, offsetof(Consumer, c.tuple.batches), READONLY, "times it gave back"},
    {0},
};
static PyGetSetDef consumer_getters[] = {
    {"closed", (getter)consumer_get, NULL, "close() was called", (void *)(intptr_t)CONSUMER_CLOSED},
    {"lag", (getter)consumer_get, NULL, "published (claimed, with several producers) and not yet given back", (void *)(intptr_t)CONSUMER_LAG},
    {"held_bytes", (getter)consumer_get, NULL, "payload of the held sequences, with the rejected ones", (void *)(intptr_t)CONSUMER_BYTES},
    {0},
};
static PyMethodDef consumer_methods[] = {
    FAST("take", consumer_take, "the next message; RingTimeout, RingEnded, RingStopped, RingOverrun"),
    FAST("take_many", consumer_take_many, "up to max messages; fewer, even none, if a filter upstream rejected some"),
    FAST("peek_many", consumer_peek_many, "as take_many, but nothing is given back before release()"),
    FAST("release", consumer_release, "give back the first n held sequences (all); the others will be shown again"),
    FAST("view", consumer_view, "messages where they stand, without a copy"),
    FAST("run", consumer_run, "run a native stage; True: the end, False: the time is over"),
    ONE("sequence", consumer_sequence, "the sequence of the index-th message shown"),
    ONE("mark", consumer_mark, "a filter's answers, one a message shown: True, it goes no further"),
    NONE("beat", consumer_beat, "say that it lives and where it is"),
    NONE("leave", consumer_leave, "take no further part, gate nobody, close; last stages only"),
    NONE("close", consumer_close, "leave the place to another; BufferError while a view is out"),
    NONE("__enter__", self_entered, NULL),
    FAST("__exit__", consumer_exit, NULL),
    {0},
};
static PyType_Slot consumer_slots[] = {{Py_tp_dealloc, consumer_dealloc}, {Py_tp_methods, consumer_methods},
                                       {Py_tp_members, consumer_members}, {Py_tp_getset, consumer_getters},
                                       {Py_tp_doc, "A stage's place in a ring. One thread uses it."}, {0, NULL}};
static PyType_Spec consumer_spec = {"muniment.ring._ring.Consumer", sizeof(Consumer), 0, HEAP, consumer_slots};
