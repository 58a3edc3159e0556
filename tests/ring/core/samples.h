/* Rings to test on, and messages in them. */
#ifndef MUNIMENT_TEST_SAMPLES_H
#define MUNIMENT_TEST_SAMPLES_H

#include "harness.h"

#define U(x) ((unsigned long long)(x)) /* for printf */

static rc_config plain(void) {
    return (rc_config){.kind = RC_GATED, .wait = RC_BACKOFF, .stages = 1, .capacity = 8, .slot_bytes = 24};
}

/* A ring with all there is: filters, three stages, text, and some messages on their way. */
static rc_config full(void) {
    rc_config c = plain();
    c.capabilities = RC_CAP_MARKS;
    c.filters = 1;
    c.stages = 3;
    c.deps[1] = 1;
    c.deps[2] = 3;
    c.meta = "text!";
    c.meta_bytes = 5;
    memset(c.spec_sha256, 0xab, sizeof c.spec_sha256);
    return c;
}

static void put_some(rc_ring *ring, uint64_t count) {
    rc_producer p;
    uint8_t payload[64] = {1, 2, 3};
    CHECK(rc_producer_attach(&p, ring) == RC_OK, "attach");
    int64_t n = rc_try_claim(&p, count);
    CHECK(n == (int64_t)count, "claimed %lld of %llu", (long long)n, U(count));
    for (uint64_t i = p.claimed - count + 1; i != p.claimed + 1; i++) rc_put(ring, i, payload, ring->slot_bytes);
    rc_publish(&p, count);
    rc_producer_detach(&p);
}

#endif
