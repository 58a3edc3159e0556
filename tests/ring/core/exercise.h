/* Everything that a program does with an opened ring, once, without waiting: a mapping may answer what it likes, nothing may touch a byte
 * outside of it. `memory` is of exactly the mapped size, so a sanitizer sees the first byte too many. */
#ifndef MUNIMENT_TEST_EXERCISE_H
#define MUNIMENT_TEST_EXERCISE_H

#include "harness.h"

static volatile uint64_t sink;

static void exercise_stage(rc_ring *ring, uint32_t stage) {
    rc_consumer c;
    if (rc_consumer_attach(&c, ring, stage)) return;
    for (int turn = 0; turn < 3; turn++) {
        int64_t n = rc_available(&c);
        if (n <= 0) break;
        CHECK((uint64_t)n <= ring->capacity, "%lld messages in a ring of %llu", (long long)n, (unsigned long long)ring->capacity);
        if (ring->kind == RC_BROADCAST) {
            uint8_t *copy = zeroed((ring->slot_bytes + RC_LINE - 1u) & ~(RC_LINE - 1u));
            int64_t length = rc_copy_next(&c, copy);
            CHECK(length <= (int64_t)ring->slot_bytes, "a copy of %lld bytes", (long long)length);
            free(copy);
            if (length >= 0) rc_release(&c, 1);
            continue;
        }
        for (int64_t i = 1; i <= n && i <= 64; i++) {
            const uint8_t *payload;
            int64_t length = rc_get(ring, c.at + (uint64_t)i, &payload);
            for (int64_t k = 0; k < length; k++) sink += payload[k];
            if (ring->capabilities & RC_CAP_MARKS) {
                sink += rc_marked(ring, stage, c.at + (uint64_t)i);
                rc_mark(ring, stage, c.at + (uint64_t)i, i & 1);
            }
        }
        rc_release(&c, (uint64_t)n);
    }
    rc_consumer_detach(&c);
}

static void exercise_producer(rc_ring *ring, const uint8_t *payload) {
    rc_producer p;
    if (rc_producer_attach(&p, ring)) return;
    int64_t n = rc_try_claim(&p, 3);
    if (n > 0) {
        CHECK((uint64_t)n <= ring->capacity, "claimed %lld of %llu", (long long)n, (unsigned long long)ring->capacity);
        for (int64_t i = 0; i < n; i++) rc_put(ring, p.claimed - (uint64_t)i, payload, ring->slot_bytes);
        rc_publish(&p, (uint64_t)n);
    }
    rc_producer_detach(&p);
}

static void exercise(rc_ring *ring) {
    rc_snap snap;
    uint8_t *payload = zeroed((ring->slot_bytes + RC_LINE - 1u) & ~(RC_LINE - 1u));
    for (uint32_t i = 0; i < ring->meta_bytes; i++) sink += ring->meta[i];
    uint32_t bytes = rc_snapshot(ring, &snap, true);
    CHECK(bytes == snap.bytes && bytes <= sizeof snap, "a snapshot of %u bytes", bytes);
    for (int turn = 0; turn < 2; turn++) {
        for (uint32_t stage = 0; stage < ring->stages; stage++) exercise_stage(ring, stage);
        exercise_producer(ring, payload);
    }
    rc_stop(ring, 0, 7, 1);
    uint32_t stage, code;
    uint64_t sequence;
    rc_stop_read(ring, &stage, &code, &sequence);
    rc_snapshot(ring, &snap, false);
    for (uint32_t i = 0; i < (snap.bytes - offsetof(rc_snap, cell)) / 8; i++) sink += ((const uint64_t *)(const void *)snap.cell)[i];
    free(payload);
}

/* Open bytes of somebody else's and use them if they are taken for a ring. The answer of rc_open. */
static int open_and_exercise(void *memory, uint64_t bytes) {
    rc_ring ring;
    int answer = rc_open(&ring, memory, bytes);
    if (answer == RC_OK) {
        CHECK(ring.mapped_bytes <= bytes, "mapped %llu of %llu", (unsigned long long)ring.mapped_bytes, (unsigned long long)bytes);
        exercise(&ring);
    }
    return answer;
}

#endif
