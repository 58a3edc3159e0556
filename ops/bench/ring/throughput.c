/* Messages a second through the ring as a user of core.h moves them: claim, write, publish; wait, read, release.
 *
 *     throughput shape=one|chain|diamond payload=8|64 batch=N capacity=N wait=0..3 producers=N count=N most=N cpus=A,B
 *
 * `rate` is of the whole way: from the first claim to the last release. Sums of what every stage read are compared.
 * Built as the extension is, one unit with the core; -DSEPARATE leaves the core to the linker, so that nothing inlines.
 */
#include "common.h"

#ifdef SEPARATE
#include "core.h"
#else
#include "core.c"
#include "consume.c"
#include "layout.c"
#include "map.c"
#endif

#define INLINE static inline __attribute__((always_inline))

static rc_ring ring;
static uint64_t count, batch, most, producers;
static int64_t cpus[2] = {-1, -1};
static _Atomic uint64_t left;

typedef struct {
    uint32_t stage;
    uint64_t sum, batches, stalls;
} taker;

INLINE uint64_t take(taker *t, rc_consumer *c, uint64_t words) {
    const rc_ring r = ring; /* read-only after rc_open: a copy keeps its fields in registers */
    uint64_t sum = 0, taken = 0;
    int64_t n;
    while ((n = rc_wait_available(c, UINT64_MAX)) > 0) {
        uint64_t m = (uint64_t)n < most ? (uint64_t)n : most;
        for (uint64_t s = c->at + 1; s != c->at + 1 + m; s++) {
            const uint64_t *p = (const uint64_t *)(const void *)rc_slot(&r, s);
            for (uint64_t w = 0; w < words; w++) sum += p[w];
        }
        rc_release(c, m);
        taken += m;
    }
    if (n != RC_ENDED || taken != count) fail("a stage did not see every message");
    t->batches = c->tuple.batches;
    t->stalls = c->tuple.stalls;
    return sum;
}

static void *stage(void *of) {
    taker *t = of;
    rc_consumer c;
    pin(cpus[1]);
    if (rc_consumer_attach(&c, &ring, t->stage)) fail("attach of a stage");
    atomic_fetch_sub(&left, 1);
    t->sum = ring.slot_bytes == 8 ? take(t, &c, 1) : take(t, &c, 8);
    rc_consumer_detach(&c);
    return NULL;
}

INLINE void give(rc_producer *p, uint64_t share, uint64_t words) {
    const rc_ring r = ring;
    uint64_t sent = 0;
    while (sent < share) {
        int64_t n = rc_try_claim(p, share - sent < batch ? share - sent : batch);
        if (n <= 0) {
            if (n < 0 || rc_wait_space(p, UINT64_MAX)) fail("the producer was refused");
            continue;
        }
        uint64_t last = p->claimed;
        for (uint64_t s = last - (uint64_t)n + 1; s != last + 1; s++) {
            uint64_t *to = (uint64_t *)(void *)rc_slot(&r, s);
            for (uint64_t w = 0; w < words; w++) to[w] = s + w;
        }
        rc_publish(p, (uint64_t)n);
        sent += (uint64_t)n;
    }
}

static void *produce(void *share) {
    rc_producer p;
    pin(cpus[0]);
    if (rc_producer_attach(&p, &ring)) fail("attach of a producer");
    if (ring.slot_bytes == 8) give(&p, *(uint64_t *)share, 1);
    else give(&p, *(uint64_t *)share, 8);
    rc_producer_detach(&p);
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    const char *shape = word(argv, "shape", "one");
    bool one = !strcmp(shape, "one");
    rc_config config = {.kind = RC_GATED, .capabilities = RC_CAP_FIXED, .stages = one ? 1 : 3};
    if (!strcmp(shape, "chain")) config.deps[1] = 1, config.deps[2] = 2;
    else if (!strcmp(shape, "diamond")) config.deps[2] = 3;
    else if (!one) fail("shape=one|chain|diamond");
    count = (uint64_t)number(argv, "count", 10000000);
    batch = (uint64_t)number(argv, "batch", 1);
    most = (uint64_t)number(argv, "most", INT64_MAX);
    producers = (uint64_t)number(argv, "producers", 1);
    config.capacity = (uint64_t)number(argv, "capacity", 65536);
    config.slot_bytes = (uint32_t)number(argv, "payload", 8);
    config.wait = (uint32_t)number(argv, "wait", RC_PACED);
    if (config.slot_bytes != 8 && config.slot_bytes != 64) fail("payload=8|64");
    if (producers > 1) config.capabilities |= RC_CAP_MULTI;
    if (producers < 1 || producers > RC_PRODUCERS) fail("producers=1..16");
    const char *pair = word(argv, "cpus", NULL);
    if (pair && sscanf(pair, "%ld,%ld", &cpus[0], &cpus[1]) != 2) fail("cpus=A,B");

    rc_map map;
    if (rc_map_anonymous(&map, &config) || rc_open(&ring, map.memory, map.bytes)) fail("no ring of that size");
    memset(ring.slots, 0, ring.capacity * ring.stride); /* every page is there before the clock starts */
    taker takers[3] = {{.stage = 0}, {.stage = 1}, {.stage = 2}};
    pthread_t threads[3], givers[RC_PRODUCERS];
    uint64_t shares[RC_PRODUCERS];
    atomic_store(&left, config.stages);
    for (uint32_t i = 0; i < config.stages; i++) pthread_create(&threads[i], NULL, stage, &takers[i]);
    while (atomic_load(&left)) sched_yield();
    uint64_t start = bench_ns();
    for (uint64_t i = 0; i < producers; i++) {
        shares[i] = count / producers + (i < count % producers);
        pthread_create(&givers[i], NULL, produce, &shares[i]);
    }
    for (uint64_t i = 0; i < producers; i++) pthread_join(givers[i], NULL);
    rc_end(&ring, count);
    for (uint32_t i = 0; i < config.stages; i++) pthread_join(threads[i], NULL);
    double taken = (double)(bench_ns() - start) * 1e-9;
    for (uint32_t i = 0; i < config.stages; i++)
        if (takers[i].sum != checksum(count, config.slot_bytes / 8)) fail("a stage read other bytes than were written");
    printf("rate %.0f\nbatch %.1f\nstalls %llu\n", (double)count / taken, (double)count / (double)takers[0].batches,
           (unsigned long long)takers[0].stalls);
    rc_unmap(&map);
    return 0;
}
