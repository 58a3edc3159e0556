/* A consistent picture of a running ring, taken without stopping or slowing anybody, from any process that may read the mapping.
 *
 * Stages only move forward, so reading them before and after the cursor brackets each: at the moment the cursor was read a
 * stage's sequence was in [lo, hi]; lo == hi everywhere is an exact picture. Downstream first: a stage read later has moved on,
 * never back, so lo(downstream) <= lo(upstream) <= cursor. The cursor's acquire carries the final stages the producer had seen
 * when it claimed (it acquired them), so cursor - hi(final) <= capacity. Measured: 75 to 150 ns.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core_inner.h"

#include <string.h>

static uint64_t load(const _Atomic uint64_t *word) { return atomic_load_explicit(word, RC_ORDER_SNAPSHOT); }

static void describe(const rc_cell *cell, rc_snap_cell *out, uint32_t index, uint32_t deps, uint32_t *torn) {
    rc_tuple tuple;
    *torn += !rc_read_tuple(cell, &tuple);
    out->sequence = tuple.sequence;
    out->batches = tuple.batches;
    out->stalls = tuple.stalls;
    out->lost = tuple.lost;
    out->heartbeat_ns = tuple.heartbeat_ns;
    out->owner = load(&cell->owner);
    out->held_hi = load(&cell->held_hi);
    out->held_lo = out->held_hi ? load(&cell->held_lo) : 0;
    out->active = atomic_load_explicit(&cell->active, memory_order_acquire);
    out->deps = deps;
    out->alive = 2;
    out->index = index;
}

uint32_t rc_snapshot(const rc_ring *ring, rc_snap *s, bool liveness) {
    const rc_cell *cells = ring->at->cells, *stages = &cells[RC_CELL_STAGE];
    bool multi = ring->capabilities & RC_CAP_MULTI;
    const _Atomic uint64_t *cursor = multi ? &ring->at->control.claim : &cells[0].seq;
    uint64_t lo[RC_STAGES], hi[RC_STAGES];

    uint64_t t0 = rc_now_ns();
    for (uint32_t i = ring->stages; i-- > 0;) lo[i] = load(&stages[i].seq);
    uint64_t at = load(cursor);
    for (uint32_t i = 0; i < ring->stages; i++) hi[i] = load(&stages[i].seq);
    uint64_t t1 = rc_now_ns();

    memset(s, 0, offsetof(rc_snap, cell));
    uint32_t n = 0, exact = 1, torn = 0;
    for (uint32_t i = 0; i < (multi ? RC_PRODUCERS : 1); i++) {
        const rc_cell *cell = multi ? &cells[RC_CELL_PRODUCER + i] : cells;
        if (multi && !load(&cell->owner)) continue;
        rc_snap_cell *out = &s->cell[n++];
        out->lo = out->hi = multi ? load(&cell->seq) : at;
        describe(cell, out, multi ? RC_CELL_PRODUCER + i : 0, 0, &torn);
    }
    for (uint32_t i = 0; i < ring->stages; i++) {
        rc_snap_cell *out = &s->cell[n++];
        out->lo = lo[i];
        out->hi = hi[i];
        exact &= lo[i] == hi[i];
        describe(&stages[i], out, RC_CELL_STAGE + i, ring->deps[i], &torn);
    }
    s->magic = RC_SNAP_MAGIC;
    s->version = 1;
    s->bytes = (uint32_t)(offsetof(rc_snap, cell) + n * sizeof(rc_snap_cell));
    s->kind = ring->kind;
    s->capabilities = ring->capabilities;
    s->layout_bytes = (uint32_t)sizeof(rc_layout);
    s->initialized = atomic_load_explicit(&ring->at->header.initialized, memory_order_acquire);
    s->wait = ring->wait;
    s->mapped_bytes = ring->mapped_bytes;
    s->capacity = ring->capacity;
    s->slot_bytes = ring->slot_bytes;
    s->stages = ring->stages;
    s->cells = n;
    s->exact = exact;
    s->cursor = at;
    s->end = load(&ring->at->control.end);
    s->t0_ns = t0;
    s->t1_ns = t1;
    s->unix_ns = clock_ns(CLOCK_REALTIME_COARSE); /* 5 ns against 25; up to 4 ms late, t0 and t1 are exact */
    s->created_unix_ns = ring->created_unix_ns;
    s->stop = rc_stop_read(ring, &s->stop_stage, &s->stop_code, &s->stop_sequence);
    s->torn = torn;
    memcpy(s->spec_sha256, ring->spec_sha256, sizeof s->spec_sha256);
    if (liveness)
        for (uint32_t i = 0; i < n; i++) s->cell[i].alive = (uint32_t)rc_alive(s->cell[i].owner);
    return s->bytes;
}
