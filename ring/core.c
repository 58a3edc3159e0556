/* The protocol: every shared word that changes after the header is ready, and why each order is enough.
 *
 * One fact carries most of it: a release store and the acquire load that reads it (or a later value) order everything before
 * the store before everything after the load. So:
 *  1. slots are plain bytes: the producer writes them before the release of its cursor, a stage reads them after the acquire;
 *  2. a slot is used again only after an acquire of every final stage's sequence, which it released after its last read;
 *  3. what a stage writes beside the slots (marks) travels with its sequence to the stages downstream;
 *  4. with one producer there is no read-modify-write and no seq_cst on the way of a message. Parking adds one seq_cst fence on
 *     each side (store, fence, load against store, fence, load): without it both sides may miss each other.
 * The macros name the orders so that a test can weaken one at a time and see it caught (tests/ring). An order that changes here changes
 * in the explorer's programs too: tests/ring/model/orders.txt has every atomic of the C and what stands for it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif
#include "core_inner.h"

#include <string.h>

uint64_t rc_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
uint64_t rc_unix_ns(void) { return clock_ns(CLOCK_REALTIME); }

/* ---- what a participant says of itself ---- */

/* Two copies: readers use copy[version & 1], the next one is written to the other, then version moves. A writer that is
 * descheduled in the middle leaves the readers' copy alone. Field stores release: who reads a field of the beat after next sees
 * version moved (its store came before) and tries again. Version releases: who sees it sees its copy whole. */
void rc_beat(rc_cell *cell, const rc_tuple *tuple) {
    const uint64_t fields[5] = {tuple->sequence, tuple->batches, tuple->stalls, tuple->lost, tuple->heartbeat_ns};
    uint64_t version = atomic_load_explicit(&cell->version, memory_order_relaxed) + 1; /* relaxed: its own word */
    for (int i = 0; i < 5; i++) atomic_store_explicit(&cell->copy[version & 1][i], fields[i], memory_order_release);
    atomic_store_explicit(&cell->version, version, memory_order_release);
}

bool rc_read_tuple(const rc_cell *cell, rc_tuple *out) {
    for (int attempt = 0; attempt < 64; attempt++) {
        uint64_t fields[5];
        uint64_t version = atomic_load_explicit(&cell->version, memory_order_acquire); /* its copy is whole */
        for (int i = 0; i < 5; i++)
            fields[i] = atomic_load_explicit(&cell->copy[version & 1][i], memory_order_acquire); /* see rc_beat */
        bool still = version == atomic_load_explicit(&cell->version, memory_order_relaxed); /* ordered by the acquires above */
        *out = (rc_tuple){fields[0], fields[1], fields[2], fields[3], fields[4]};
        if (still) return true;
    }
    return false; /* two whole beats in each of 64 readings: a broken writer */
}

void rc_producer_beat(rc_producer *p) {
    p->tuple.sequence = p->published;
    p->tuple.heartbeat_ns = clock_ns(CLOCK_MONOTONIC_COARSE); /* 4.8 ns against 18 ns; 1 to 4 ms coarse */
    rc_beat(p->cell, &p->tuple);
}

void rc_consumer_beat(rc_consumer *c) {
    c->tuple.sequence = c->at;
    c->tuple.heartbeat_ns = clock_ns(CLOCK_MONOTONIC_COARSE);
    rc_beat(c->cell, &c->tuple);
}

void rc_refuse(rc_producer *p, uint64_t n) {
    p->tuple.lost += n;
    rc_producer_beat(p);
}

/* ---- stop and end ---- */

bool rc_stop(rc_ring *ring, uint32_t stage, uint32_t code, uint64_t sequence) {
    rc_control *control = &ring->at->control;
    uint32_t running = 0;
    /* Relaxed: winning only gives the right to write the three values. */
    bool won = atomic_compare_exchange_strong_explicit(&control->stop, &running, 1, memory_order_relaxed, memory_order_relaxed);
    if (won) {
        control->stop_stage = stage;
        control->stop_code = code;
        control->stop_sequence = sequence;
        atomic_store_explicit(&control->stop, 2, memory_order_release); /* who acquires 2 sees the three values */
    }
    ring_all(ring);
    return won;
}

uint32_t rc_stop_read(const rc_ring *ring, uint32_t *stage, uint32_t *code, uint64_t *sequence) {
    const rc_control *control = &ring->at->control;
    uint32_t state = atomic_load_explicit(&control->stop, memory_order_acquire); /* pairs with the release of 2 */
    *stage = state == 2 ? control->stop_stage : RC_NO_STAGE;
    *code = state == 2 ? control->stop_code : 0;
    *sequence = state == 2 ? control->stop_sequence : 0;
    return state;
}

void rc_end(rc_ring *ring, uint64_t final_sequence) {
    /* Release: comes after the last publish of the same thread, so who sees the end sees the last cursor. */
    atomic_store_explicit(&ring->at->control.end, final_sequence + 1, memory_order_release);
    ring_all(ring);
}

/* ---- producing ---- */

int rc_producer_attach(rc_producer *p, rc_ring *ring) {
    memset(p, 0, sizeof *p);
    bool multi = ring->capabilities & RC_CAP_MULTI;
    rc_cell *cells = ring->at->cells, *first = multi ? &cells[RC_CELL_PRODUCER] : cells, *found = NULL;
    for (uint32_t i = 0; i < (multi ? RC_PRODUCERS : 1) && !found; i++) {
        /* A dead producer that still holds a claim stays where it is: it names the hole. */
        if (multi && atomic_load_explicit(&first[i].held_hi, memory_order_relaxed)) continue;
        if (own(&first[i]) == RC_OK) found = &first[i];
    }
    if (!found) return RC_BUSY;
    p->ring = ring;
    p->cell = found;
    rc_read_tuple(found, &p->tuple); /* counts go on where the last owner left them */
    /* Acquire: a taken-over cursor carries the slots before it. What was claimed and not published is claimed again. */
    p->published = multi ? 0 : atomic_load_explicit(&found->seq, memory_order_acquire);
    p->claimed = p->published;
    p->control = &ring->at->control;
    p->plain = !multi && ring->wait != RC_PARK;
    p->open = p->claimed; /* as if full: the first claim looks */
    if (multi) p->gate = atomic_load_explicit(&ring->at->control.claim, memory_order_relaxed) - ring->capacity;
    rc_producer_beat(p);
    return RC_OK;
}

void rc_producer_detach(rc_producer *p) {
    if (!p->cell) return;
    rc_producer_beat(p);
    disown(&p->cell);
}

/* The distance from `claimed` back to the slowest active final stage; more than the capacity: impossible. */
static uint64_t behind(const rc_ring *ring, uint64_t claimed, rc_cell **slowest) {
    uint64_t worst = 0;
    rc_cell *stages = &ring->at->cells[RC_CELL_STAGE];
    for (uint32_t mask = ring->final_mask; mask; mask &= mask - 1) {
        rc_cell *cell = &stages[__builtin_ctz(mask)];
        /* Acquire: a stage that left without giving back all it had (rc_leave releases) has read its last slot. */
        if (!atomic_load_explicit(&cell->active, memory_order_acquire)) continue;
        /* Acquire: its reads of the slot are over before we write it again. */
        uint64_t distance = claimed - atomic_load_explicit(&cell->seq, RC_ORDER_GATE);
        if (distance > worst || !*slowest) *slowest = cell;
        if (distance > worst) worst = distance;
    }
    return worst;
}

static int64_t claim_shared(rc_producer *p, uint64_t want) {
    rc_ring *ring = p->ring;
    _Atomic uint64_t *word = &ring->at->control.claim;
    if (p->published != p->claimed) return RC_INVALID; /* a hole of our own making */
    /* A guess; the exchange judges it. Acquire, here and wherever it is read: with the claim come the stage sequences that allowed it
     * (the exchange releases them), or an old one would make the distance impossible. */
    uint64_t claim = atomic_load_explicit(word, memory_order_acquire);
    for (;;) {
        uint64_t used = claim - p->gate;
        if (ring->capacity - used < want || used > ring->capacity) {
            rc_cell *slowest = NULL;
            used = behind(ring, claim, &slowest);
            uint64_t again = atomic_load_explicit(word, memory_order_acquire);
            if (again != claim) { /* an old guess may lie behind a stage: not corrupt, only old */
                claim = again;
                continue;
            }
            if (used > ring->capacity) return RC_CORRUPT;
            p->gate = claim - used;
        }
        uint64_t n = ring->capacity - used < want ? ring->capacity - used : want;
        if (!n) return 0;
        /* Said before it is true: whoever finds us dead after the exchange finds the hole named. */
        atomic_store_explicit(&p->cell->held_lo, claim + 1, memory_order_relaxed);
        atomic_store_explicit(&p->cell->held_hi, claim + n, memory_order_relaxed);
        /* Release: who reads this claim (a snapshot) sees the held range, and the stage sequences that allowed it. */
        if (atomic_compare_exchange_weak_explicit(word, &claim, claim + n, memory_order_release, memory_order_acquire)) {
            p->published = claim;
            p->claimed = p->open = claim + n;
            return (int64_t)n;
        }
        atomic_store_explicit(&p->cell->held_hi, 0, memory_order_relaxed);
    }
}

int64_t rc_look_and_claim(rc_producer *p, uint64_t want) {
    rc_ring *ring = p->ring;
    if (stopping(ring)) return RC_STOPPED;
    if (want > ring->capacity) want = ring->capacity;
    if (ring->capabilities & RC_CAP_MULTI) return claim_shared(p, want);
    uint64_t used = p->claimed - p->published; /* a broadcast is gated by nobody but itself */
    if (ring->kind == RC_GATED) {
        rc_cell *slowest = NULL;
        used = behind(ring, p->claimed, &slowest);
        if (used > ring->capacity) return RC_CORRUPT;
    }
    uint64_t space = ring->capacity - used;
    if (space < want) want = space;
    p->open = p->claimed + (ring->kind == RC_GATED ? space : want);
    p->claimed += want;
    return (int64_t)want;
}

void rc_unclaim(rc_producer *p) { p->claimed = p->published; }

/* Is there a free slot? As rc_try_claim, without taking it. */
static int64_t has_space(rc_producer *p, rc_cell **slowest) {
    rc_ring *ring = p->ring;
    if (stopping(ring)) return RC_STOPPED;
    if (ring->kind == RC_BROADCAST) return p->claimed - p->published < ring->capacity;
    bool multi = ring->capabilities & RC_CAP_MULTI;
    uint64_t claim = multi ? atomic_load_explicit(&ring->at->control.claim, memory_order_acquire) : p->claimed;
    uint64_t used = behind(ring, claim, slowest);
    if (used > ring->capacity) return multi ? 0 : RC_CORRUPT; /* multi: an old claim; rc_try_claim judges */
    return used < ring->capacity;
}

int rc_wait_space(rc_producer *p, uint64_t deadline_ns) {
    unsigned step = 0;
    uint64_t now = 0;
    for (;;) {
        rc_cell *slowest = NULL;
        int64_t answer = has_space(p, &slowest);
        if (answer) return answer < 0 ? (int)answer : RC_OK;
        if (!step) {
            p->tuple.stalls++;
            rc_producer_beat(p);
        }
        if (now >= deadline_ns) return RC_TIMEOUT;
        if (wait_step(p->ring, &step, &now) && slowest) {
            uint32_t value = take_bell(slowest);
            rc_cell *again = NULL;
            if (!has_space(p, &again) && again == slowest) sleep_on(&slowest->bell, value, deadline_ns);
        }
        if (now > p->tuple.heartbeat_ns + BEAT_NS) rc_producer_beat(p);
    }
}

void rc_publish_and_tell(rc_producer *p, uint64_t n) {
    rc_ring *ring = p->ring;
    uint64_t last = p->published + n;
    p->tuple.batches++;
    if (ring->capabilities & RC_CAP_MULTI) {
        /* Release, each: the slot's bytes before its stamp. Stages take the run of stamps that are what they should be. */
        for (uint64_t s = p->published + 1; s != last + 1; s++)
            atomic_store_explicit(&ring->stamps[s & ring->mask], s, RC_ORDER_STAMP);
        atomic_store_explicit(&p->cell->seq, last, memory_order_release); /* for the snapshot: what it published last */
        atomic_store_explicit(&p->cell->held_hi, 0, memory_order_release); /* after the stamps: no hole is left */
    } else {
        atomic_store_explicit(&p->cell->seq, last, RC_ORDER_PUBLISH); /* the slots' bytes before the cursor, once a batch */
    }
    p->published = last;
    ring_bell(ring, &ring->at->cells[0]);
}

/* ---- slots ---- */

/* A broadcast slot may be read while it is written: words are atomic, and the stamp is odd meanwhile. The fence keeps the words
 * after the odd stamp; the last stamp releases them. Readers: rc_copy_next. */
static void put_broadcast(rc_ring *ring, uint64_t sequence, const void *bytes, uint32_t length) {
    _Atomic uint64_t *stamp = &ring->stamps[sequence & ring->mask];
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)rc_slot(ring, sequence);
    const uint8_t *from = bytes;
    atomic_store_explicit(stamp, 2 * sequence - 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    if (!(ring->capabilities & RC_CAP_FIXED)) atomic_store_explicit(words++, length, memory_order_relaxed);
    for (uint32_t done = 0; done < length; done += 8) {
        uint64_t word = 0;
        memcpy(&word, from + done, length - done < 8 ? length - done : 8);
        atomic_store_explicit(words++, word, memory_order_relaxed);
    }
    atomic_store_explicit(stamp, 2 * sequence, RC_ORDER_STAMP);
}

void rc_put(rc_ring *ring, uint64_t sequence, const void *bytes, uint32_t length) {
    if (ring->kind == RC_BROADCAST) {
        put_broadcast(ring, sequence, bytes, length);
        return;
    }
    uint8_t *slot = rc_slot(ring, sequence);
    if (!(ring->capabilities & RC_CAP_FIXED)) {
        *(uint64_t *)(void *)slot = length;
        slot += 8;
    }
    memcpy(slot, bytes, length);
}

/* Marks are plain bytes: one writer each, read only by stages downstream of it (fact 3 above). */
void rc_mark(rc_ring *ring, uint32_t stage, uint64_t sequence, bool rejected) {
    ring->marks[stage * ring->capacity + (sequence & ring->mask)] = rejected;
}

bool rc_marked(const rc_ring *ring, uint32_t stage, uint64_t sequence) {
    for (uint32_t mask = ring->above[stage]; mask; mask &= mask - 1)
        if (ring->marks[(uint32_t)__builtin_ctz(mask) * ring->capacity + (sequence & ring->mask)]) return true;
    return false;
}
