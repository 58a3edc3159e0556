/* The ring engine: bounded, shared-memory rings of messages. No Python here; `module.c` is the glue.
 *
 * A ring is one mapping: header, control line, cells, then (as the kind needs) marks, stamps, the spec's text and the slots.
 * A participant (producer or stage) owns one cell and is its only writer; everybody may read it. So there is one writer for
 * every shared word but three, and those three say so: `rc_control.claim` (several producers), `owner` words, `rc_control.stop`.
 *
 * Sequences are u64 counts: 0 = nothing yet, the first message is 1, distances are wrapping differences.
 *     stage.seq <= upstream.seq <= cursor <= min(final stage.seq) + capacity
 *
 * Mapped bytes are untrusted (another process wrote them): `rc_open` validates the header once and copies what it needs into
 * `rc_ring`, which is private; nothing of the header is read again. Every count read later is checked against the capacity,
 * every length against `slot_bytes`: a lie costs an error (RC_CORRUPT), never a wild access.
 *
 * Orders and their reasons stand beside each atomic (`core.c` begins with the argument); `tests/ring/model` explores the same protocol exhaustively.
 */
#ifndef MUNIMENT_RING_CORE_H
#define MUNIMENT_RING_CORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef RC_ORDER_PUBLISH
#define RC_ORDER_PUBLISH memory_order_release /* cursor; the other orders by name: core_inner.h */
#endif

#define RC_MAGIC 0x314e524du /* "MRN1" in memory order */
#define RC_VERSION 1u
#define RC_LINE 128u /* two 64-byte lines: the adjacent-line prefetcher pulls pairs */
#define RC_STAGES 16u
#define RC_PRODUCERS 16u
#define RC_MAX_CAPACITY (1ull << 30)
#define RC_MAX_SLOT (1u << 20)
#define RC_MAX_META (1u << 20)
#define RC_NO_STAGE 0xffffffffu

/* What a ring is (`rc_header.kind`). */
enum { RC_GATED = 1, RC_BROADCAST = 2 };

/* Capabilities (`rc_header.capabilities`); an unknown bit refuses the attach. */
enum {
    RC_CAP_MULTI = 1u << 0, /* several producers: a stamp a slot says what is published */
    RC_CAP_FIXED = 1u << 1, /* every message has exactly slot_bytes; a slot has no length word */
    RC_CAP_MARKS = 1u << 2, /* some stages are filters: a byte a stage and slot, set by the filter, skipped by what depends on it */
    RC_CAP_DROP = 1u << 3,  /* a full ring refuses the new message and counts it */
    RC_CAP_ALL = (1u << 4) - 1
};

enum { RC_SPIN = 0, RC_PACED = 1, RC_BACKOFF = 2, RC_PARK = 3 };

/* Answers. Counts and answers share an int64_t where said: >= 0 a count, < 0 one of these. */
enum {
    RC_OK = 0,
    RC_TIMEOUT = -1,  /* the deadline passed */
    RC_STOPPED = -2,  /* somebody stopped the ring: see rc_stop_read */
    RC_ENDED = -3,    /* the producer ended it and everything was taken */
    RC_CORRUPT = -4,  /* the mapping says something impossible */
    RC_INVALID = -5,  /* an argument or a configuration out of its bounds */
    RC_MAGIC_BAD = -6,
    RC_VERSION_BAD = -7,
    RC_NOT_READY = -8, /* initialized is not 2: recreate */
    RC_SIZE_BAD = -9,  /* mapped bytes do not agree with the header */
    RC_BUSY = -10,     /* the place is owned by a living participant */
    RC_FULL = -11,     /* no space, and the caller does not wait (or the ring drops) */
    RC_OVERRUN = -12,  /* broadcast: the slot was overwritten while, or before, it was read */
    RC_SYSTEM = -13    /* errno says it */
};

typedef struct {
    uint32_t magic;
    uint16_t version, kind;
    uint32_t capabilities, layout_bytes; /* layout_bytes: everything before the marks */
    _Atomic uint32_t initialized;        /* 0 nothing, 1 being written, 2 ready */
    uint32_t stages;
    uint64_t capacity;              /* slots, a power of two */
    uint32_t slot_bytes, stride;    /* largest payload; bytes from slot to slot */
    uint64_t mapped_bytes;
    uint64_t marks_off, stamps_off, meta_off, slots_off;
    uint32_t meta_bytes, wait;
    uint64_t created_unix_ns;
    uint8_t spec_sha256[32];
    uint16_t deps[RC_STAGES]; /* bit j of deps[i]: stage i waits for stage j < i; 0: for the producer */
    uint32_t filters;         /* bit i: stage i sets marks */
    uint8_t reserved[92];
} rc_header;

/* Shared words that belong to no single participant. */
typedef struct {
    _Alignas(RC_LINE) _Atomic uint64_t claim; /* several producers: sequences handed out, by compare-and-swap */
    _Alignas(RC_LINE) _Atomic uint64_t end;   /* 0 open, else final sequence + 1 */
    _Atomic uint32_t stop;                    /* 0 running, 1 being written, 2 stopped */
    uint32_t stop_stage, stop_code, pad;
    uint64_t stop_sequence;
} rc_control;

/* What a participant says of itself; all of one instant (two-copy latch, `rc_beat`). */
typedef struct {
    uint64_t sequence; /* its own sequence when it wrote this */
    uint64_t batches;
    uint64_t stalls;       /* times it had to wait */
    uint64_t lost;         /* producer: refused under drop; broadcast reader: overwritten unread */
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC */
} rc_tuple;

typedef struct {
    _Alignas(RC_LINE) _Atomic uint64_t seq;     /* hot, alone: the producer's is the cursor */
    _Alignas(RC_LINE) _Atomic uint64_t version; /* latch: readers use copy[version & 1] */
    _Atomic uint64_t copy[2][5];
    _Atomic uint64_t owner;         /* pid << 32 | low half of its start time; 0 nobody */
    _Atomic uint32_t bell;          /* futex: bit 0 = somebody may sleep until seq moves */
    _Atomic uint32_t active;        /* a stage that left (0) gates nobody */
    _Atomic uint64_t held_lo, held_hi; /* several producers: claimed and not yet published; 0 none */
} rc_cell;

/* cells[0] is the single producer (its seq is the cursor; of a MULTI ring it is unused), then the stages, then several producers. */
#define RC_CELL_STAGE 1u
#define RC_CELL_PRODUCER (1u + RC_STAGES)
#define RC_CELLS (1u + RC_STAGES + RC_PRODUCERS)

typedef struct {
    rc_header header;
    rc_control control;
    rc_cell cells[RC_CELLS];
} rc_layout;

_Static_assert(sizeof(rc_header) == 256, "header: two lines of 128");
_Static_assert(offsetof(rc_header, initialized) == 16, "initialized");
_Static_assert(offsetof(rc_header, capacity) == 24, "capacity");
_Static_assert(offsetof(rc_header, marks_off) == 48, "offsets");
_Static_assert(offsetof(rc_header, created_unix_ns) == 88, "created");
_Static_assert(offsetof(rc_header, spec_sha256) == 96, "spec");
_Static_assert(offsetof(rc_header, deps) == 128, "deps");
_Static_assert(sizeof(rc_control) == 2 * RC_LINE, "control");
_Static_assert(sizeof(rc_cell) == 2 * RC_LINE, "cell");
_Static_assert(offsetof(rc_cell, version) == RC_LINE, "the hot word is alone");
_Static_assert(offsetof(rc_layout, control) == 256, "control after header");
_Static_assert(offsetof(rc_layout, cells) == 512, "cells after control");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "plain lock-free words");
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mapped rings are little-endian"
#endif

/* How to make a ring. */
typedef struct {
    uint32_t kind, capabilities, wait, stages; /* RC_CAP_MARKS is set here if and only if `filters` is not 0 */
    uint32_t filters;
    uint64_t capacity;
    uint32_t slot_bytes, meta_bytes;
    const void *meta; /* the spec's canonical text, kept so that a reader can name the stages */
    uint8_t spec_sha256[32];
    uint16_t deps[RC_STAGES];
} rc_config;

/* The private, validated description of a mapping. Read-only after rc_open; threads may share it. */
typedef struct {
    rc_layout *at;
    uint8_t *slots, *marks;
    _Atomic uint64_t *stamps;
    const uint8_t *meta;
    uint64_t capacity, mask, mapped_bytes, created_unix_ns;
    uint8_t spec_sha256[32];
    uint32_t slot_bytes, stride, stages, kind, capabilities, wait, meta_bytes;
    uint16_t deps[RC_STAGES];
    uint16_t above[RC_STAGES]; /* the filters upstream of stage i, whose marks i honours */
    uint16_t filters;          /* the stages that set marks */
    uint16_t final_mask;       /* stages nobody depends on: they release slots */
} rc_ring;

/* One producer: private to its thread. */
typedef struct {
    rc_ring *ring;
    rc_cell *cell;
    const rc_control *control;
    uint64_t claimed;   /* the last sequence handed to the caller */
    uint64_t published; /* the last sequence this producer published */
    uint64_t open;      /* may claim up to here without a look at the stages; MULTI and broadcast: `claimed`, so always a look */
    uint64_t gate;      /* MULTI, cached: no final stage is behind this */
    bool plain;         /* to publish is to store the cursor: neither MULTI nor RC_PARK */
    rc_tuple tuple;
} rc_producer;

/* One stage: private to its thread. */
typedef struct {
    rc_ring *ring;
    rc_cell *cell;
    uint32_t stage;
    uint64_t at;    /* released so far */
    uint64_t limit; /* cached: available up to here */
    rc_tuple tuple;
} rc_consumer;

/* ---- making and opening (layout.c) ---- */
int rc_size(const rc_config *config, uint64_t *bytes);
int rc_format(void *memory, uint64_t bytes, const rc_config *config);
int rc_open(rc_ring *ring, void *memory, uint64_t bytes);

/* ---- producing (core.c). A claim is of consecutive sequences; slot(claimed - n + 1) is the first. ---- */
int rc_producer_attach(rc_producer *producer, rc_ring *ring);
void rc_producer_detach(rc_producer *producer);
/* Claim up to `want` (>= 1) slots without waiting: the number claimed (0: full), or RC_STOPPED, RC_CORRUPT. Inline while it is known
 * that there is space: a message published alone costs 1.7 ns so, 3.3 ns through a call. */
int64_t rc_look_and_claim(rc_producer *producer, uint64_t want);
static inline int64_t rc_try_claim(rc_producer *producer, uint64_t want) {
    /* Relaxed: only whether to go on; the values are read by rc_stop_read. */
    bool stopping = atomic_load_explicit(&producer->control->stop, memory_order_relaxed) != 0;
    if (stopping || producer->open - producer->claimed < want) return rc_look_and_claim(producer, want);
    producer->claimed += want;
    return (int64_t)want;
}
/* Wait until one slot is free: RC_OK, RC_TIMEOUT, RC_STOPPED, RC_CORRUPT. */
int rc_wait_space(rc_producer *producer, uint64_t deadline_ns);
/* Publish the next `n` claimed slots (a MULTI producer publishes all it claimed, at once, before it claims again). Inline where nobody
 * need be woken and no slot stamped. */
void rc_publish_and_tell(rc_producer *producer, uint64_t n);
static inline void rc_publish(rc_producer *producer, uint64_t n) {
    if (!producer->plain) {
        rc_publish_and_tell(producer, n);
        return;
    }
    producer->tuple.batches++;
    producer->published += n;
    atomic_store_explicit(&producer->cell->seq, producer->published, RC_ORDER_PUBLISH); /* the slots' bytes before the cursor */
}
/* Give back what was claimed and not published; not for MULTI: others may have claimed behind it. */
void rc_unclaim(rc_producer *producer);
/* Count `n` messages that a full dropping ring refused. */
void rc_refuse(rc_producer *producer, uint64_t n);
/* No more messages after `final_sequence`: stages that took it see RC_ENDED. */
void rc_end(rc_ring *ring, uint64_t final_sequence);

/* ---- consuming (consume.c) ---- */
int rc_consumer_attach(rc_consumer *consumer, rc_ring *ring, uint32_t stage);
void rc_consumer_detach(rc_consumer *consumer);
/* A leaf stage that takes no further part; it gates nobody from now on. */
int rc_leave(rc_consumer *consumer);
/* How many messages may be read now from `at + 1` on; 0 none; RC_ENDED, RC_STOPPED, RC_CORRUPT. */
int64_t rc_available(rc_consumer *consumer);
/* The same, waiting; `paced` rings wait once, at most 0.4 us, for a fuller batch. Adds RC_TIMEOUT. */
int64_t rc_wait_available(rc_consumer *consumer, uint64_t deadline_ns);
/* Give back `n` messages: after the last read of them and after every mark. */
void rc_release(rc_consumer *consumer, uint64_t n);
/* Broadcast only: copy message `at + 1` out; its length, or RC_OVERRUN (position moved on, loss counted), RC_CORRUPT. */
int64_t rc_copy_next(rc_consumer *consumer, void *into);

/* ---- slots ---- */
static inline uint8_t *rc_slot(const rc_ring *ring, uint64_t sequence) {
    return ring->slots + (sequence & ring->mask) * ring->stride;
}
/* Write a message into a claimed slot; the caller has checked `length` (a FIXED ring: exactly slot_bytes). */
void rc_put(rc_ring *ring, uint64_t sequence, const void *bytes, uint32_t length);
/* Its payload and length, or -1 if the length is a lie. */
static inline int64_t rc_get(const rc_ring *ring, uint64_t sequence, const uint8_t **payload) {
    const uint8_t *slot = rc_slot(ring, sequence);
    if (ring->capabilities & RC_CAP_FIXED) {
        *payload = slot;
        return ring->slot_bytes;
    }
    uint32_t length = *(const volatile uint32_t *)slot; /* once: it may change under us, if the other side is broken */
    *payload = slot + 8;
    return length <= ring->slot_bytes ? (int64_t)length : -1;
}
/* Did a filter upstream of `stage` reject the message? Only where RC_CAP_MARKS. */
bool rc_marked(const rc_ring *ring, uint32_t stage, uint64_t sequence);
void rc_mark(rc_ring *ring, uint32_t stage, uint64_t sequence, bool rejected);

/* ---- saying how it goes ---- */
void rc_beat(rc_cell *cell, const rc_tuple *tuple);
/* All five values of one beat; false only for a writer that is broken (the values may then be of two beats). */
bool rc_read_tuple(const rc_cell *cell, rc_tuple *out);
void rc_producer_beat(rc_producer *producer);
void rc_consumer_beat(rc_consumer *consumer);
/* Stop everybody at `sequence` of `stage` (RC_NO_STAGE: not a stage); the first one wins. True if it was this call. */
bool rc_stop(rc_ring *ring, uint32_t stage, uint32_t code, uint64_t sequence);
/* 0 running, 1 being stopped (or died doing so), 2 stopped: then the three values are written. */
uint32_t rc_stop_read(const rc_ring *ring, uint32_t *stage, uint32_t *code, uint64_t *sequence);
uint64_t rc_now_ns(void);  /* CLOCK_MONOTONIC */
uint64_t rc_unix_ns(void); /* CLOCK_REALTIME */

/* ---- snapshot (snapshot.c): any thread or process, read-only, never waits for a writer. Packed, little-endian, hashed as it is. ---- */
#define RC_SNAP_MAGIC 0x31534e4du /* "MNS1" in memory order */
typedef struct {
    uint64_t lo, hi; /* certified: its sequence was in [lo, hi] when the cursor was read */
    uint64_t sequence, batches, stalls, lost, heartbeat_ns;
    uint64_t owner;
    uint64_t held_lo, held_hi;
    uint32_t active, deps, alive, index; /* alive: 1 its owner lives, 0 dead, 2 nobody or not to be seen from here */
} rc_snap_cell;

typedef struct {
    uint32_t magic, version, bytes, kind;
    uint32_t capabilities, layout_bytes, initialized, wait;
    uint64_t mapped_bytes, capacity;
    uint32_t slot_bytes, stages, cells, exact; /* cells: producer(s) first, then the stages */
    uint64_t cursor, end, t0_ns, t1_ns; /* t0, t1: CLOCK_MONOTONIC before the first and after the last load */
    uint64_t unix_ns, created_unix_ns;
    uint32_t stop, stop_stage, stop_code, torn; /* torn: latches that moved in all tries; 0 but for a broken writer */
    uint64_t stop_sequence;
    uint8_t spec_sha256[32];
    rc_snap_cell cell[RC_CELLS];
} rc_snap;
_Static_assert(sizeof(rc_snap_cell) == 96, "snapshot cell");
_Static_assert(offsetof(rc_snap, cell) == 168, "snapshot head");
/* Fill `snap`; returns its packed length in bytes. `liveness`: also ask the system which owners live (slow: /proc). */
uint32_t rc_snapshot(const rc_ring *ring, rc_snap *snap, bool liveness);

/* ---- mappings and owners (map.c) ---- */
typedef struct {
    void *memory;
    uint64_t bytes;
    bool writable;
} rc_map;
/* Anonymous shared memory (inherited by fork), formatted. */
int rc_map_anonymous(rc_map *map, const rc_config *config);
/* A new file, formatted without a name and then linked in: nobody sees a half one, a kill leaves nothing. RC_BUSY: it exists. */
int rc_map_create(rc_map *map, const char *path, const rc_config *config);
/* An existing regular file (links are not followed); `writable` false maps it read-only. */
int rc_map_attach(rc_map *map, const char *path, bool writable);
void rc_unmap(rc_map *map);
uint64_t rc_self(void);         /* owner word of this process */
int rc_alive(uint64_t owner);   /* 1 lives, 0 dead, 2 cannot say (0 or no /proc) */

#endif
