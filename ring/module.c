/* muniment.ring._ring: the Python face. It converts, holds lifetimes and gives the GIL away while it waits; the engine is elsewhere.
 *
 * One translation unit: the engine's files are included, so that claim, put and publish inline into the methods. Limited API of 3.11,
 * heap types, METH_O and METH_FASTCALL on every path that runs often. Rules of the face:
 *  1. An object is used by one thread. While it has given the GIL away it says BUSY, and a second thread gets BufferError.
 *  2. Nothing is given back or published while a memoryview over it lives: views and claims own their exports.
 *  3. An object of the parent is refused in a forked child; its place in the ring is still the parent's.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "core.c"
#include "consume.c"
#include "layout.c"
#include "map.c"
#include "snapshot.c"
#include "sha256.c"
#include "json_scan.c"
#include "stages.c"
#include "feed.c"

#include "module.h"

#include "module_ring.c"
#include "module_producer.c"
#include "module_claim.c"
#include "module_consumer.c"
#include "module_view.c"
#include "module_stage.c"
#include "module_consumer_type.c"

static PyObject *module_noop(PyObject *module, PyObject *argument) {
    (void)module, (void)argument;
    Py_RETURN_NONE;
}

static PyObject *module_snapshot_size(PyObject *module, PyObject *cells) {
    (void)module;
    uint64_t n;
    if (!as_u64(cells, "cells", 0, RC_CELLS, &n)) return NULL;
    return PyLong_FromUnsignedLongLong(offsetof(rc_snap, cell) + n * sizeof(rc_snap_cell));
}

static PyMethodDef module_functions[] = {
    ONE("noop", module_noop, "does nothing: what a call costs"),
    ONE("snapshot_size", module_snapshot_size, "bytes of a packed snapshot with so many cells"),
    {0},
};

typedef struct {
    const char *name, *doc;
    size_t at;
} Raised;

static const Raised raised[] = {
    {"RingStopped", "Somebody stopped the ring: .stage (None: no stage), .stop_code, .sequence.", offsetof(State, stopped)},
    {"RingEnded", "The ring has ended and every message was taken.", offsetof(State, ended)},
    {"RingCorrupt", "The mapping says something impossible: another process wrote it.", offsetof(State, corrupt)},
    {"RingUnusable", "Not a ring that this version can open; .code says why.", offsetof(State, unusable)},
    {"RingBusy", "The place, or the file's name, is taken.", offsetof(State, busy)},
    {"RingFull", "No slot is free, and the ring drops.", offsetof(State, full)},
    {"RingOverrun", "Broadcast: messages were overwritten unread: .lost, .sequence where it goes on.", offsetof(State, overrun)},
    {"BadLine", "A line does not fit a slot: .line (from 1), .offset; everything before it was published.", offsetof(State, bad_line)},
};

static PyObject **room_of(State *state, size_t at) { return (PyObject **)(void *)((char *)state + at); }

static int add_errors(PyObject *module, State *state) {
    state->error = PyErr_NewExceptionWithDoc("muniment.ring._ring.RingError", "What a ring refuses; .code is the engine's answer.", NULL, NULL);
    if (!state->error || PyModule_AddObjectRef(module, "RingError", state->error)) return -1;
    for (size_t i = 0; i < sizeof raised / sizeof *raised; i++) {
        char name[64] = "muniment.ring._ring.";
        strncat(name, raised[i].name, 32);
        PyObject *class = *room_of(state, raised[i].at) = PyErr_NewExceptionWithDoc(name, raised[i].doc, state->error, NULL);
        if (!class || PyModule_AddObjectRef(module, raised[i].name, class)) return -1;
    }
    PyObject *bases = PyTuple_Pack(2, state->error, PyExc_TimeoutError);
    state->timeout = bases ? PyErr_NewExceptionWithDoc("muniment.ring._ring.RingTimeout", "The time is over.", bases, NULL) : NULL;
    Py_XDECREF(bases);
    return state->timeout ? PyModule_AddObjectRef(module, "RingTimeout", state->timeout) : -1;
}

static int add_type(PyObject *module, const char *name, PyType_Spec *spec, PyTypeObject **at, PyTypeObject *base) {
    *at = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    return *at ? PyModule_AddObjectRef(module, name, (PyObject *)*at) : -1;
}

static int module_exec(PyObject *module) {
    static bool counting;
    static const struct {
        const char *name;
        long long value;
    } numbers[] = {{"MAX_CAPACITY", RC_MAX_CAPACITY}, {"MAX_SLOT_BYTES", RC_MAX_SLOT}, {"MAX_META_BYTES", RC_MAX_META},
                   {"MAX_STAGES", RC_STAGES}, {"MAX_PRODUCERS", RC_PRODUCERS}, {"LAYOUT_VERSION", RC_VERSION},
                   {"TIMEOUT", RC_TIMEOUT}, {"STOPPED", RC_STOPPED}, {"ENDED", RC_ENDED}, {"CORRUPT", RC_CORRUPT},
                   {"MAGIC_BAD", RC_MAGIC_BAD}, {"VERSION_BAD", RC_VERSION_BAD}, {"NOT_READY", RC_NOT_READY},
                   {"SIZE_BAD", RC_SIZE_BAD}, {"BUSY", RC_BUSY}, {"FULL", RC_FULL}, {"OVERRUN", RC_OVERRUN}};
    State *s = PyModule_GetState(module);
    if (!counting && pthread_atfork(NULL, NULL, count_fork)) {
        PyErr_NoMemory();
        return -1;
    }
    counting = true;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        PyObject *number = PyLong_FromLongLong(numbers[i].value);
        int failed = number ? PyModule_AddObjectRef(module, numbers[i].name, number) : -1;
        Py_XDECREF(number);
        if (failed) return -1;
    }
    if (add_errors(module, s) || add_type(module, "Ring", &ring_spec, &s->ring, NULL) ||
        add_type(module, "Producer", &producer_spec, &s->producer, NULL) || add_type(module, "Claim", &claim_spec, &s->claim, NULL) ||
        add_type(module, "Consumer", &consumer_spec, &s->consumer, NULL) || add_type(module, "View", &view_spec, &s->view, NULL) ||
        add_type(module, "Feeder", &feeder_spec, &s->feeder, NULL) || add_type(module, "NativeStage", &native_spec, &s->native, NULL) ||
        add_type(module, "Forward", &forward_spec, &s->forward, s->native) || add_type(module, "Count", &count_spec, &s->count, s->native) ||
        add_type(module, "Digest", &digest_spec, &s->digest, s->native) || add_type(module, "Filter", &filter_spec, &s->filter, s->native))
        return -1;
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    PyObject **all = PyModule_GetState(module);
    for (size_t i = 0; all && i < sizeof(State) / sizeof *all; i++) Py_VISIT(all[i]);
    return 0;
}

static int module_clear(PyObject *module) {
    PyObject **all = PyModule_GetState(module);
    for (size_t i = 0; all && i < sizeof(State) / sizeof *all; i++) Py_CLEAR(all[i]);
    return 0;
}

static void module_free(void *module) { module_clear(module); }

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static struct PyModuleDef module_def = {PyModuleDef_HEAD_INIT, "_ring", "Rings in shared memory, in C.", sizeof(State), module_functions,
                                        module_slots, module_traverse, module_clear, module_free};

PyMODINIT_FUNC PyInit__ring(void) { return PyModuleDef_Init(&module_def); }
