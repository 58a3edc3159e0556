/* Threads on one ring: order, loss and doubling are proved by sequences and sums; a snapshot looks on all the time.
 *
 *     stress TOPOLOGY WAIT CAPACITY MESSAGES SEED [stop]
 *
 * TOPOLOGY one, chain, diamond, fork, leave, multi, multichain, broadcast; WAIT spin, paced, backoff, park. `stop`: a stage stops the ring half way.
 * Exit 0: nothing was wrong; the messages taken and the snapshots made are printed.
 */
#include "harness.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

enum { SENDERS = 3, WORDS = 3, DEADLINE_S = 120 };

static rc_ring ring;
static const char *topology;
static uint64_t messages, stop_at, seed;
static uint64_t deadline;
static uint32_t senders = 1;
static _Atomic uint32_t running;
static _Atomic uint64_t snapshots, taken_all, lost_all;

static bool is(const char *name) { return !strcmp(topology, name); }

static void jitter(uint64_t *state) {
    if ((next_random(state) & 127) == 0) sched_yield();
}

/* ---- producing: word 0 the sequence, 1 its complement, 2 sender << 48 | its own count, set to the sequence by stage 0 later ---- */

static void fill(uint64_t sequence, uint64_t word) {
    uint64_t words[WORDS] = {sequence, ~sequence, word};
    rc_put(&ring, sequence, words, ring.capabilities & RC_CAP_FIXED ? ring.slot_bytes : (uint32_t)sizeof words);
}

static void *produce(void *argument) {
    uint64_t me = (uint64_t)(uintptr_t)argument, random = seed * 31 + me + 1, sent = 0;
    uint64_t share = messages / senders + (me < messages % senders);
    bool multi = ring.capabilities & RC_CAP_MULTI;
    rc_producer p;
    int answer = rc_producer_attach(&p, &ring);
    CHECK(answer == RC_OK, "producer %llu: %d", (unsigned long long)me, answer);
    while (sent < share && answer == RC_OK) {
        uint64_t want = 1 + next_random(&random) % 17;
        if (want > share - sent) want = share - sent;
        int64_t n = rc_try_claim(&p, want);
        if (n == 0) answer = rc_wait_space(&p, deadline);
        if (n < 0) answer = (int)n;
        if (n <= 0) continue;
        uint64_t first = p.claimed - (uint64_t)n + 1;
        for (uint64_t i = 0; i < (uint64_t)n; i++) fill(first + i, me << 48 | (sent + i));
        uint64_t part = multi ? (uint64_t)n : next_random(&random) % ((uint64_t)n + 1);
        if (part) rc_publish(&p, part);
        if ((uint64_t)n - part) rc_publish(&p, (uint64_t)n - part);
        sent += (uint64_t)n;
        if ((next_random(&random) & 15) == 0) rc_producer_beat(&p);
        jitter(&random);
    }
    CHECK(answer == RC_OK || (stop_at && answer == RC_STOPPED), "producer %llu ended with %d after %llu", (unsigned long long)me, answer,
          (unsigned long long)sent);
    if (!multi && answer == RC_OK) rc_end(&ring, messages);
    rc_producer_detach(&p);
    return NULL;
}

/* ---- stages ---- */

static bool depends(uint32_t stage, uint32_t on) { return ring.deps[stage] >> on & 1; }

static void look_at(uint32_t stage, uint64_t sequence, uint64_t *next) {
    const uint8_t *payload;
    int64_t length = rc_get(&ring, sequence, &payload);
    uint64_t words[WORDS] = {0};
    CHECK(length >= (int64_t)sizeof words, "stage %u: message %llu has %lld bytes", stage, (unsigned long long)sequence, (long long)length);
    memcpy(words, payload, sizeof words);
#ifdef RC_PLANT_OVERREAD
    if (sequence == messages) words[2] += ring.at->header.magic * 0u + ((volatile uint8_t *)ring.at)[ring.mapped_bytes];
#endif
#ifdef RC_PLANT_SHIFT
    words[2] += (uint64_t)(1 << (int)(31 + (sequence & 1))) * 0u;
#endif
    CHECK(words[0] == sequence && words[1] == ~sequence, "stage %u at %llu reads message %llu", stage, (unsigned long long)sequence,
          (unsigned long long)words[0]);
    bool filters = ring.capabilities & RC_CAP_MARKS;
    if (filters && stage == 0) {
        rc_mark(&ring, 0, sequence, sequence % 3 == 0);
    } else if (filters && depends(stage, 0)) {
        CHECK(rc_marked(&ring, stage, sequence) == (sequence % 3 == 0), "stage %u: mark of %llu", stage, (unsigned long long)sequence);
    }
    uint64_t sender = words[2] >> 48, count = words[2] & 0xffffffffffff;
    CHECK(sender < SENDERS && count == next[sender], "stage %u at %llu: sender %llu count %llu", stage, (unsigned long long)sequence,
          (unsigned long long)sender, (unsigned long long)count);
    if (sender < SENDERS) next[sender] = count + 1;
}

static void *consume(void *argument) {
    uint32_t stage = (uint32_t)(uintptr_t)argument;
    uint64_t random = seed * 77 + stage + 5, next[SENDERS] = {0};
    rc_consumer c;
    int64_t n = rc_consumer_attach(&c, &ring, stage);
    CHECK(n == RC_OK, "stage %u: %lld", stage, (long long)n);
    while ((n = rc_wait_available(&c, deadline)) > 0) {
        if (next_random(&random) & 1) n = 1 + (int64_t)(next_random(&random) % (uint64_t)n);
        for (int64_t i = 1; i <= n; i++) {
            if (stop_at && stage == 0 && c.at + (uint64_t)i == stop_at) {
                rc_release(&c, (uint64_t)i - 1); /* what came before it is done */
                CHECK(rc_stop(&ring, stage, 5, stop_at), "somebody else stopped");
                goto exit;
            }
            look_at(stage, c.at + (uint64_t)i, next);
        }
        if (is("leave") && stage == 1 && c.at > messages / 2) { /* without giving back what it just read */
            rc_leave(&c);
            goto exit;
        }
        rc_release(&c, (uint64_t)n);
        if ((next_random(&random) & 7) == 0) rc_consumer_beat(&c);
        jitter(&random);
    }
    CHECK(n == (stop_at ? RC_STOPPED : RC_ENDED), "stage %u ended with %lld at %llu", stage, (long long)n, (unsigned long long)c.at);
    CHECK(stop_at ? c.at < stop_at || ring.deps[stage] == 0 : c.at == messages, "stage %u ended at %llu", stage, (unsigned long long)c.at);
exit:
    atomic_fetch_add(&taken_all, c.at);
    rc_consumer_detach(&c);
    return NULL;
}

static void *copy_out(void *argument) {
    uint32_t stage = (uint32_t)(uintptr_t)argument;
    uint64_t words[WORDS], taken = 0, before = 0;
    rc_consumer c;
    int64_t n = rc_consumer_attach(&c, &ring, stage);
    CHECK(n == RC_OK, "reader %u: %lld", stage, (long long)n);
    while ((n = rc_wait_available(&c, deadline)) > 0) {
        int64_t length = rc_copy_next(&c, words);
        if (length == RC_OVERRUN) continue;
        CHECK(length == sizeof words, "reader %u: %lld at %llu", stage, (long long)length, (unsigned long long)c.at);
        CHECK(words[0] == c.at + 1 && words[1] == ~words[0] && words[2] == words[0] - 1, "reader %u at %llu reads %llu, %llx, %llu", stage,
              (unsigned long long)c.at, (unsigned long long)words[0], (unsigned long long)words[1], (unsigned long long)words[2]);
        CHECK(words[0] > before, "reader %u: %llu after %llu", stage, (unsigned long long)words[0], (unsigned long long)before);
        before = words[0];
        rc_release(&c, 1);
        taken++;
    }
    CHECK(n == RC_ENDED && c.at == messages, "reader %u ended with %lld at %llu", stage, (long long)n, (unsigned long long)c.at);
    CHECK(taken + c.tuple.lost == messages, "reader %u: %llu taken, %llu lost", stage, (unsigned long long)taken,
          (unsigned long long)c.tuple.lost);
    atomic_fetch_add(&taken_all, taken);
    atomic_fetch_add(&lost_all, c.tuple.lost);
    rc_consumer_detach(&c);
    return NULL;
}

/* ---- looking on: a snapshot, and a latch of its own whose five fields are equal in every beat ---- */

static rc_cell *spare(void) { return &ring.at->cells[RC_CELL_STAGE + RC_STAGES - 1]; }

static void *beat(void *argument) {
    (void)argument;
    for (uint64_t k = 1; atomic_load_explicit(&running, memory_order_relaxed); k++) {
        rc_beat(spare(), &(rc_tuple){k, k, k, k, k});
        if (k % 256 == 0) sched_yield();
    }
    return NULL;
}

static void look_on(uint64_t *cursor_before) {
    rc_snap s;
    rc_tuple t;
    rc_snapshot(&ring, &s, false);
    CHECK(s.cursor >= *cursor_before, "the cursor went back");
    *cursor_before = s.cursor;
    const rc_snap_cell *stages = &s.cell[s.cells - s.stages];
    for (uint32_t i = 0; i < s.stages; i++) {
        CHECK(stages[i].lo <= stages[i].hi && stages[i].lo <= s.cursor, "stage %u: %llu..%llu beside %llu", i,
              (unsigned long long)stages[i].lo, (unsigned long long)stages[i].hi, (unsigned long long)s.cursor);
        bool gates = ring.kind == RC_GATED && !(is("leave") && i == 1);
        CHECK(!gates || s.cursor - stages[i].hi <= s.capacity || s.cursor < stages[i].hi, "cursor %llu, stage %u at %llu",
              (unsigned long long)s.cursor, i, (unsigned long long)stages[i].hi);
        CHECK(stages[i].sequence <= messages && stages[i].batches <= messages, "tuple of stage %u", i);
        for (uint32_t j = 0; j < i; j++) CHECK(!depends(i, j) || stages[i].lo <= stages[j].lo, "stage %u before its upstream %u", i, j);
    }
    if (rc_read_tuple(spare(), &t))
        CHECK(t.sequence == t.batches && t.batches == t.stalls && t.stalls == t.lost && t.lost == t.heartbeat_ns, "a tuple of two beats");
    atomic_fetch_add_explicit(&snapshots, 1, memory_order_relaxed);
}

static void *watch(void *argument) {
    (void)argument;
    uint64_t cursor = 0;
    struct timespec nap = {0, 20000};
    while (atomic_load_explicit(&running, memory_order_relaxed)) {
        for (int i = 0; i < 8; i++) look_on(&cursor);
        nanosleep(&nap, NULL);
    }
    return NULL;
}

/* ---- */

static uint32_t wait_named(const char *name) {
    const char *names[] = {"spin", "paced", "backoff", "park"};
    for (uint32_t i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) return i;
    abort();
}

static void configure(rc_config *config) {
    config->stages = 1;
    if (is("chain") || is("multichain") || is("diamond")) {
        config->stages = 3;
        config->deps[1] = is("diamond") ? 0 : 1;
        config->deps[2] = is("diamond") ? 3 : 2;
        config->filters = 1;
        config->capabilities |= RC_CAP_MARKS;
    } else if (is("fork") || is("leave") || is("broadcast")) {
        config->stages = 2;
    } else if (!is("one") && !is("multi")) {
        abort();
    }
    if (is("multi") || is("multichain")) {
        config->capabilities |= RC_CAP_MULTI;
        senders = SENDERS;
    }
    config->kind = is("broadcast") ? RC_BROADCAST : RC_GATED;
    if (seed & 1) config->capabilities |= RC_CAP_FIXED;
}

int main(int count, char **words) {
    if (count < 6) return 2;
    topology = words[1];
    messages = strtoull(words[4], NULL, 10);
    seed = strtoull(words[5], NULL, 10);
    stop_at = count > 6 && !strcmp(words[6], "stop") ? messages / 2 + 1 : 0;
    rc_config config = {.wait = wait_named(words[2]), .capacity = strtoull(words[3], NULL, 10), .slot_bytes = 8 * WORDS};
    configure(&config);
    make_ring(&ring, &config);
    deadline = rc_now_ns() + DEADLINE_S * 1000000000ull;
    atomic_store(&running, 1);
    pthread_t looking[2], stages[RC_STAGES], producers[SENDERS];
    if (pthread_create(&looking[0], NULL, watch, NULL) || pthread_create(&looking[1], NULL, beat, NULL)) abort();
    for (uintptr_t i = 0; i < ring.stages; i++)
        if (pthread_create(&stages[i], NULL, ring.kind == RC_BROADCAST ? copy_out : consume, (void *)i)) abort();
    for (uintptr_t i = 0; i < senders; i++)
        if (pthread_create(&producers[i], NULL, produce, (void *)i)) abort();
    for (uint32_t i = 0; i < senders; i++) pthread_join(producers[i], NULL);
    if (senders > 1 && !stop_at) rc_end(&ring, messages);
    for (uint32_t i = 0; i < ring.stages; i++) pthread_join(stages[i], NULL);
    atomic_store(&running, 0);
    for (int i = 0; i < 2; i++) pthread_join(looking[i], NULL);
    uint32_t stage = 0, code = 0;
    uint64_t sequence = 0, cursor = 0;
    uint32_t state = rc_stop_read(&ring, &stage, &code, &sequence);
    CHECK(stop_at ? state == 2 && !stage && code == 5 && sequence == stop_at : state == 0, "stop %u at %llu", state,
          (unsigned long long)sequence);
    look_on(&cursor);
    printf("taken %llu lost %llu snapshots %llu\n", (unsigned long long)taken_all, (unsigned long long)lost_all,
           (unsigned long long)snapshots);
    free(ring.at);
    return ended("stress");
}
