/* What the parts of the Python face share: state, errors, arguments, waiting. Included by `module.c` only; one translation unit. */
#ifndef MUNIMENT_RING_MODULE_H
#define MUNIMENT_RING_MODULE_H

#include "core.h"
#include "stages.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#define SLICE_NS 50000000ull /* longest stay without the GIL: a signal waits at most this long */
#define FOREVER UINT64_MAX
#define PY_ERROR (-100) /* beside the RC_ answers: a Python exception is set */
#define BEAT_EVERY 256u /* one-at-a-time calls say how they are every so many messages: 10 ns once, 0.04 ns each */

typedef struct {
    PyTypeObject *ring, *producer, *consumer, *view, *claim, *feeder, *native, *forward, *count, *digest, *filter;
    PyObject *error, *stopped, *ended, *corrupt, *unusable, *busy, *full, *overrun, *timeout, *bad_line;
} State;

typedef struct {
    PyObject_HEAD
    rc_ring ring;
    rc_map map;
    PyObject *path;   /* str, or None */
    Py_ssize_t users; /* open producers and consumers: while there are some, the mapping stays */
    uint32_t filters;
    bool open;
} Ring;

/* Why an object is not to be used now. */
enum { SHUT_CLOSED = 1, SHUT_BUSY = 2, SHUT_OUT = 4, SHUT_VIEW = 8 };

typedef struct {
    PyObject_HEAD
    rc_producer p;
    Ring *owner;
    uint32_t slot_bytes;
    size_t least, room; /* a message's length lies in [least, least + room] */
    unsigned shut, born;
} Producer;

typedef struct {
    PyObject_HEAD
    rc_consumer c;
    Ring *owner;
    uint8_t *copy;    /* broadcast: where a message is copied before it is known to be whole */
    uint64_t told;    /* broadcast: losses that an exception has named */
    uint64_t held;    /* sequences shown (peek or view) and not given back */
    uint64_t shown;   /* of these, messages no filter upstream rejected */
    uint64_t skipped; /* given back unseen: a filter upstream rejected them */
    bool marks, filter, decided; /* filters exist; it is one; it has marked what it holds */
    unsigned shut, born;
} Consumer;

/* Forks since the start: an object of the parent must not write its words in the child. */
static unsigned forks;
static void count_fork(void) { forks++; }

static inline State *state_of(PyObject *self) { return PyType_GetModuleState(Py_TYPE(self)); }

static void *make(PyTypeObject *type) { return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0); }

static void unmake(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* BufferError: the object is closed, in use by another thread, has something out, or belongs to the parent. */
static PyObject *refuse_use(const char *what, unsigned shut, unsigned born) {
    if (shut & SHUT_CLOSED)
        PyErr_Format(PyExc_BufferError, "the %s is closed; ask the ring for a new one", what);
    else if (born != forks)
        PyErr_Format(PyExc_BufferError, "the %s belongs to the parent process; ask the ring for one in this process", what);
    else if (shut & SHUT_BUSY)
        PyErr_Format(PyExc_BufferError, "the %s is in use by another thread; each thread needs its own", what);
    else
        PyErr_Format(PyExc_BufferError, "the %s has shown messages or claimed slots; release or commit them first", what);
    return NULL;
}
#define UNUSABLE(self) __builtin_expect((self)->shut | ((self)->born ^ forks), 0)

/* ---- errors ---- */

static bool set_u64(PyObject *to, const char *name, uint64_t value) {
    PyObject *number = PyLong_FromUnsignedLongLong(value);
    bool fine = number && !PyObject_SetAttrString(to, name, number);
    Py_XDECREF(number);
    return fine;
}

static bool set_stage(PyObject *to, const char *name, uint32_t stage) {
    if (stage != RC_NO_STAGE) return set_u64(to, name, stage);
    return !PyObject_SetAttrString(to, name, Py_None);
}

/* An instance of one of our classes with its text and `code`; NULL: a Python exception is set. */
static PyObject *new_error(PyObject *class, int code, const char *text) {
    PyObject *error = PyObject_CallFunction(class, "s", text);
    PyObject *number = error ? PyLong_FromLong(code) : NULL;
    if (number && !PyObject_SetAttrString(error, "code", number)) {
        Py_DECREF(number);
        return error;
    }
    Py_XDECREF(number);
    Py_XDECREF(error);
    return NULL;
}

static void *throw_error(PyObject *class, PyObject *error) {
    if (error) PyErr_SetObject(class, error);
    Py_XDECREF(error);
    return NULL;
}

static void *fail_stopped(State *state, const rc_ring *ring) {
    uint32_t stage = RC_NO_STAGE, code = 0;
    uint64_t sequence = 0;
    rc_stop_read(ring, &stage, &code, &sequence);
    PyObject *error = new_error(state->stopped, RC_STOPPED, "the ring was stopped: .stage, .stop_code and .sequence say where");
    if (error && set_stage(error, "stage", stage) && set_u64(error, "stop_code", code) && set_u64(error, "sequence", sequence))
        return throw_error(state->stopped, error);
    Py_XDECREF(error);
    return NULL;
}

/* Raise what an answer means; `ring` may be NULL where it cannot be RC_STOPPED. Always NULL. */
static void *fail(State *state, int64_t answer, const rc_ring *ring) {
    int code = (int)answer;
    PyObject *class = state->unusable;
    const char *text = "not a ring of this version";
    switch (code) {
    case PY_ERROR: return NULL;
    case RC_STOPPED: return fail_stopped(state, ring);
    case RC_SYSTEM: return PyErr_SetFromErrno(PyExc_OSError);
    case RC_TIMEOUT: class = state->timeout; text = "the time is over"; break;
    case RC_ENDED: class = state->ended; text = "the ring has ended and every message was taken"; break;
    case RC_CORRUPT: class = state->corrupt; text = "the mapping says something impossible; capture it, then recreate the ring"; break;
    case RC_BUSY: class = state->busy; text = "the place belongs to a living participant"; break;
    case RC_FULL: class = state->full; text = "the ring is full and drops"; break;
    case RC_MAGIC_BAD: text = "not a ring: it does not begin as one"; break;
    case RC_VERSION_BAD: text = "a ring of another version of the layout; recreate it"; break;
    case RC_NOT_READY: text = "the ring was never finished (initialized is not 2); recreate it"; break;
    case RC_SIZE_BAD: text = "the mapped bytes do not agree with the header; recreate the ring"; break;
    default: PyErr_Format(PyExc_ValueError, "an argument is out of its bounds (answer %d)", code); return NULL;
    }
    return throw_error(class, new_error(class, code, text));
}

/* ---- arguments ---- */

/* An int in [least, most]: TypeError, ValueError otherwise. */
static bool as_u64(PyObject *from, const char *what, uint64_t least, uint64_t most, uint64_t *out) {
    PyObject *number = PyNumber_Index(from);
    if (!number) return false;
    unsigned long long value = PyLong_AsUnsignedLongLong(number);
    bool wrong = value == (unsigned long long)-1 && PyErr_Occurred();
    if (wrong) PyErr_Clear(); /* only OverflowError is possible */
    if (wrong || value < least || value > most) {
        PyErr_Format(PyExc_ValueError, "%s: expected %llu to %llu, found %R", what, (unsigned long long)least,
                     (unsigned long long)most, number);
        Py_DECREF(number);
        return false;
    }
    Py_DECREF(number);
    *out = value;
    return true;
}

/* Seconds or None (also NULL) to a point of CLOCK_MONOTONIC; 0 seconds is 0: do not wait. */
static bool as_deadline(PyObject *from, uint64_t *deadline) {
    *deadline = FOREVER;
    if (!from || from == Py_None) return true;
    double seconds = PyFloat_AsDouble(from);
    if (seconds == -1.0 && PyErr_Occurred()) return false;
    if (isnan(seconds) || seconds < 0) {
        PyErr_Format(PyExc_ValueError, "timeout: expected seconds >= 0 or None, found %R", from);
        return false;
    }
    if (seconds == 0)
        *deadline = 0;
    else if (seconds < 1e9)
        *deadline = rc_now_ns() + (uint64_t)(seconds * 1e9);
    return true;
}

/* METH_FASTCALL | METH_KEYWORDS: `names` (ends with NULL) into `out`; what is not given stays NULL. */
static bool arguments(const char *function, const char *const *names, Py_ssize_t needed, PyObject *const *args, Py_ssize_t n,
                      PyObject *keywords, PyObject **out) {
    Py_ssize_t most = 0;
    while (names[most]) out[most++] = NULL;
    if (n > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments, found %zd", function, most, n);
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++) out[i] = args[i];
    Py_ssize_t named = keywords ? PyTuple_Size(keywords) : 0;
    for (Py_ssize_t k = 0; k < named; k++) {
        PyObject *name = PyTuple_GetItem(keywords, k);
        Py_ssize_t i = 0;
        while (names[i] && PyUnicode_CompareWithASCIIString(name, names[i])) i++;
        if (!names[i] || out[i]) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected or doubled argument %R", function, name);
            return false;
        }
        out[i] = args[n + k];
    }
    for (Py_ssize_t i = 0; i < needed; i++)
        if (!out[i]) {
            PyErr_Format(PyExc_TypeError, "%s() needs the argument %s", function, names[i]);
            return false;
        }
    return true;
}

/* The end of the next stay without the GIL. */
static uint64_t slice_end(uint64_t deadline) {
    uint64_t end = rc_now_ns() + SLICE_NS;
    return end < deadline ? end : deadline;
}

/* After a slice that timed out: 0 go on, RC_TIMEOUT the whole time is over, PY_ERROR a signal handler raised. */
static int between_slices(uint64_t deadline) {
    if (PyErr_CheckSignals()) return PY_ERROR;
    return deadline != FOREVER && rc_now_ns() >= deadline ? RC_TIMEOUT : 0;
}

/* ---- buffers over slots: contiguous records, or one message ---- */

/* Shape and strides of records whose stride is longer than they are (slot_bytes is no multiple of 8); live in the exporter. */
typedef struct {
    Py_ssize_t shape[2], strides[2];
} Records;

static int export_records(PyObject *self, Py_buffer *buffer, int flags, const rc_ring *ring, uint64_t first, uint64_t n,
                          Records *records, bool readonly) {
    uint8_t *at = rc_slot(ring, first);
    if (ring->stride == ring->slot_bytes)
        return PyBuffer_FillInfo(buffer, self, at, (Py_ssize_t)(n * ring->stride), readonly, flags);
    int contiguous = (PyBUF_C_CONTIGUOUS | PyBUF_F_CONTIGUOUS | PyBUF_ANY_CONTIGUOUS) & ~PyBUF_STRIDES;
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES || flags & contiguous || (readonly && flags & PyBUF_WRITABLE)) {
        buffer->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "records have gaps (slot_bytes is no multiple of 8): ask for a buffer with strides");
        return -1;
    }
    *records = (Records){{(Py_ssize_t)n, (Py_ssize_t)ring->slot_bytes}, {(Py_ssize_t)ring->stride, 1}};
    *buffer = (Py_buffer){.buf = at, .obj = Py_NewRef(self), .len = (Py_ssize_t)(n * ring->slot_bytes), .itemsize = 1,
                          .readonly = readonly, .ndim = 2, .format = flags & PyBUF_FORMAT ? "B" : NULL,
                          .shape = records->shape, .strides = records->strides};
    return 0;
}

#define FAST(name, function, doc) {name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS, doc}
#define ONE(name, function, doc) {name, (PyCFunction)(void (*)(void))(function), METH_O, doc}
#define NONE(name, function, doc) {name, (PyCFunction)(void (*)(void))(function), METH_NOARGS, doc}
#define OPEN (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE)
#define HEAP (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

#endif
