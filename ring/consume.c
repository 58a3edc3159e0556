/* Stages: what is available, waiting for it, giving it back; and the broadcast reader, which nobody waits for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif
#include "core_inner.h"

#include <string.h>

#define PACE_BATCH 1024u /* paced: fewer than this and it waits once */
#define PACE_NS 300u     /* by the clock: a pause takes 11 to 47 ns, by the processor; 0.2 to 0.8 us were equally fast */
#define SCAN 4096u       /* stamps looked at in one go */

int rc_consumer_attach(rc_consumer *c, rc_ring *ring, uint32_t stage) {
    memset(c, 0, sizeof *c);
    if (stage >= ring->stages) return RC_INVALID;
    rc_cell *cell = &ring->at->cells[RC_CELL_STAGE + stage];
    /* Who left a gated ring gates nobody: its messages were overwritten, and its old sequence would make every distance impossible. */
    if (ring->kind == RC_GATED && !atomic_load_explicit(&cell->active, memory_order_relaxed)) return RC_INVALID;
    int answer = own(cell);
    if (answer) return answer;
    c->ring = ring;
    c->cell = cell;
    c->stage = stage;
    rc_read_tuple(cell, &c->tuple);
    /* Relaxed: `own` acquired it. What was read and not released is read again. */
    c->at = c->limit = atomic_load_explicit(&cell->seq, memory_order_relaxed);
    atomic_store_explicit(&cell->active, 1, memory_order_relaxed);
    rc_consumer_beat(c);
    return RC_OK;
}

void rc_consumer_detach(rc_consumer *c) {
    if (!c->cell) return;
    rc_consumer_beat(c);
    disown(&c->cell);
}

int rc_leave(rc_consumer *c) {
    if (!(c->ring->final_mask >> c->stage & 1)) return RC_INVALID; /* somebody waits for it */
    /* Release: its reads are over before the producer finds it gone. */
    atomic_store_explicit(&c->cell->active, 0, memory_order_release);
    ring_bell(c->ring, c->cell);
    return RC_OK;
}

/* A broadcast reader that fell behind goes on a quarter of the ring behind the cursor; what it skipped is counted. */
static uint64_t catch_up(rc_consumer *c, uint64_t distance) {
    uint64_t keep = c->ring->capacity - c->ring->capacity / 4; /* never 0: of one slot, the newest message */
    uint64_t skip = distance > keep ? distance - keep : 1;
    c->tuple.lost += skip;
    c->at += skip;
    /* Release: as rc_release; nobody is gated by it, a snapshot reads it. */
    atomic_store_explicit(&c->cell->seq, c->at, memory_order_release);
    rc_consumer_beat(c);
    return distance - skip;
}

/* Messages up to the first stamp that is not its own sequence (acquire each: the slot's bytes, pairs with RC_ORDER_STAMP). */
static uint64_t stamped(const rc_consumer *c) {
    const rc_ring *ring = c->ring;
    uint64_t most = ring->capacity < SCAN ? ring->capacity : SCAN, n = 0;
    while (n < most && atomic_load_explicit(&ring->stamps[(c->at + n + 1) & ring->mask], RC_ORDER_AVAILABLE) == c->at + n + 1) n++;
    return n;
}

static int64_t look(rc_consumer *c, rc_cell **slowest) {
    rc_ring *ring = c->ring;
    rc_cell *cells = ring->at->cells;
    if (stopping(ring)) return RC_STOPPED;
    uint64_t distance = UINT64_MAX;
    *slowest = &cells[0];
    if (ring->deps[c->stage]) {
        for (uint32_t mask = ring->deps[c->stage]; mask; mask &= mask - 1) {
            rc_cell *cell = &cells[RC_CELL_STAGE + (uint32_t)__builtin_ctz(mask)];
            /* Acquire: its marks, and through its own acquire the slot's bytes. */
            uint64_t d = atomic_load_explicit(&cell->seq, RC_ORDER_AVAILABLE) - c->at;
            if (d < distance || distance == UINT64_MAX) *slowest = cell;
            if (d < distance) distance = d;
        }
    } else if (ring->capabilities & RC_CAP_MULTI) {
        distance = stamped(c);
    } else {
        distance = atomic_load_explicit(&cells[0].seq, RC_ORDER_AVAILABLE) - c->at; /* acquire: the slots' bytes */
    }
    if (ring->kind == RC_BROADCAST && distance > ring->capacity && (int64_t)distance > 0) distance = catch_up(c, distance);
    if (distance > ring->capacity) return RC_CORRUPT; /* a cursor behind us, or further ahead than the ring is long */
    if (!distance) {
        uint64_t end = atomic_load_explicit(&ring->at->control.end, memory_order_acquire); /* see rc_end */
        if (end && end == c->at + 1) return RC_ENDED;
        return 0;
    }
    c->limit = c->at + distance;
    return (int64_t)distance;
}

int64_t rc_available(rc_consumer *c) {
    rc_cell *slowest;
    if (c->limit != c->at) return (int64_t)(c->limit - c->at);
    return look(c, &slowest);
}

int64_t rc_wait_available(rc_consumer *c, uint64_t deadline_ns) {
    rc_ring *ring = c->ring;
    unsigned step = 0;
    uint64_t now = 0;
    for (;;) {
        rc_cell *slowest = NULL;
        if (c->limit != c->at) return (int64_t)(c->limit - c->at); /* was held for, or not, when it was found */
        int64_t n = look(c, &slowest);
        if (n > 0 && ring->wait == RC_PACED && n < (int64_t)PACE_BATCH && n < (int64_t)(ring->capacity / 4)) {
            /* Nearly caught up: on the producer's heels each message costs a line transfer (145 ns). Once, bounded; 6 x at 8 bytes. */
            for (uint64_t until = rc_now_ns() + PACE_NS; rc_now_ns() < until;) {
                pause_once();
                pause_once();
            }
            int64_t more = look(c, &slowest);
            if (more > n) n = more;
        }
        if (n) return n;
        if (!step) {
            c->tuple.stalls++;
            rc_consumer_beat(c);
        }
        if (now >= deadline_ns) return RC_TIMEOUT;
        if (wait_step(ring, &step, &now)) {
            rc_cell *again = NULL;
            uint32_t value = take_bell(slowest);
            if (!look(c, &again) && again == slowest) sleep_on(&slowest->bell, value, deadline_ns);
        }
        if (now > c->tuple.heartbeat_ns + BEAT_NS) rc_consumer_beat(c);
    }
}

void rc_release(rc_consumer *c, uint64_t n) {
    c->at += n;
    c->tuple.batches++;
    /* Release: every read of these slots, and every mark, before it. */
    atomic_store_explicit(&c->cell->seq, c->at, RC_ORDER_RELEASE);
    ring_bell(c->ring, c->cell);
}

int64_t rc_copy_next(rc_consumer *c, void *into) {
    rc_ring *ring = c->ring;
    uint64_t sequence = c->at + 1;
    _Atomic uint64_t *stamp = &ring->stamps[sequence & ring->mask];
    const _Atomic uint64_t *words = (const _Atomic uint64_t *)(void *)rc_slot(ring, sequence);
    uint8_t *to = into;
    uint64_t length = ring->slot_bytes;
    /* Acquire: the words below are of this stamp or of a later one. */
    uint64_t before = atomic_load_explicit(stamp, memory_order_acquire);
    if (before == 2 * sequence) {
        if (!(ring->capabilities & RC_CAP_FIXED)) length = atomic_load_explicit(words++, memory_order_relaxed);
        for (uint64_t done = 0; length <= ring->slot_bytes && done < length; done += 8) {
            uint64_t word = atomic_load_explicit(words++, memory_order_relaxed);
            memcpy(to + done, &word, length - done < 8 ? length - done : 8);
        }
        /* If any word was of a later message, the fence makes that message's odd stamp visible here (put_broadcast). */
        atomic_thread_fence(memory_order_acquire);
    }
    if (before != 2 * sequence || atomic_load_explicit(stamp, memory_order_relaxed) != before) {
        uint64_t cursor = atomic_load_explicit(&ring->at->cells[0].seq, RC_ORDER_AVAILABLE);
        if ((int64_t)(cursor - c->at) <= 0) return RC_CORRUPT; /* it was there a moment ago */
        catch_up(c, cursor - c->at);
        c->limit = c->at;
        return RC_OVERRUN;
    }
    if (length > ring->slot_bytes) return RC_CORRUPT;
    return (int64_t)length;
}
