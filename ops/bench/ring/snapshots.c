/* What a snapshot costs: itself, and the ring that it is taken of.
 *
 *     snapshots count=N window=MS windows=N from=thread|process cpus=A,B
 *
 * quiet_ns, live_ns: a snapshot of a ring with three stages at rest, and of the running one (median of 9 parts). rate_none, rate_wake,
 * rate_snapshot, rate_liveness: messages a second (64 bytes, batches of 64) while nobody looks, while the observer wakes at 1 kHz and
 * looks at nothing, while it takes a snapshot each time, and one that also asks which owners live. The four take turns by the window;
 * each rate is the median of its windows.
 */
#include "common.h"

#include "core.c"
#include "consume.c"
#include "layout.c"
#include "map.c"
#include "snapshot.c"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NONE, WAKE, SNAPSHOT, LIVENESS, MODES };
static const char *const NAMES[MODES] = {"none", "wake", "snapshot", "liveness"};
static rc_map map;
static rc_ring ring;
static long cpus[2] = {-1, -1};
static uint64_t window, windows, count;

static void *take(void *nothing) {
    rc_consumer c;
    int64_t n;
    uint64_t sum = 0;
    pin(cpus[1]);
    if (rc_consumer_attach(&c, &ring, 0)) fail("attach");
    while ((n = rc_wait_available(&c, UINT64_MAX)) > 0) {
        for (uint64_t s = c.at + 1; s != c.at + 1 + (uint64_t)n; s++) {
            const uint64_t *from = (const uint64_t *)(const void *)rc_slot(&ring, s);
            for (int w = 0; w < 8; w++) sum += from[w];
        }
        rc_release(&c, (uint64_t)n);
    }
    if (n != RC_STOPPED || !sum) fail("the stage ended early");
    return nothing;
}

static void *give(void *nothing) {
    rc_producer p;
    int64_t n;
    pin(cpus[0]);
    if (rc_producer_attach(&p, &ring)) fail("attach");
    for (;;) {
        if ((n = rc_try_claim(&p, 64)) < 0) break;
        if (!n && rc_wait_space(&p, UINT64_MAX)) break;
        for (uint64_t s = p.claimed - (uint64_t)n + 1; n && s != p.claimed + 1; s++) {
            uint64_t *to = (uint64_t *)(void *)rc_slot(&ring, s);
            for (uint64_t w = 0; w < 8; w++) to[w] = s + w;
        }
        if (n) rc_publish(&p, (uint64_t)n);
    }
    return nothing;
}

static double each_ns(const rc_ring *of) {
    rc_snap snap;
    uint64_t parts[9];
    for (int k = 0; k < 9; k++) {
        uint64_t start = bench_ns();
        for (uint64_t i = 0; i < count; i++) rc_snapshot(of, &snap, false);
        parts[k] = (bench_ns() - start) * 100 / count;
    }
    qsort(parts, 9, sizeof *parts, by_value);
    return (double)parts[4] / 100;
}

static void watch(void) {
    uint64_t *rates[MODES], torn = 0;
    const _Atomic uint64_t *cursor = &ring.at->cells[0].seq;
    rc_snap snap;
    for (int m = 0; m < MODES; m++)
        if (!(rates[m] = malloc(windows * sizeof *rates[m]))) fail("no memory");
    while (!atomic_load(cursor)) sched_yield(); /* both sides run */
    prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0);
    for (uint64_t k = 0; k < windows * MODES; k++) {
        uint64_t mode = (k + k / MODES) % MODES; /* each comes first, second, … in turn */
        uint64_t start = bench_ns(), at = start, from = atomic_load(cursor), end = start + window;
        while (at < end) {
            at = mode == NONE || end - at < 1000000 ? end : at + 1000000;
            struct timespec until = {(time_t)(at / 1000000000), (long)(at % 1000000000)};
            while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {}
            if (mode < SNAPSHOT) continue;
            rc_snapshot(&ring, &snap, mode == LIVENESS);
            torn += snap.torn;
        }
        uint64_t moved = atomic_load(cursor) - from;
        rates[mode][k / MODES] = (uint64_t)((double)moved / ((double)(bench_ns() - start) * 1e-9));
    }
    for (int m = 0; m < MODES; m++) {
        qsort(rates[m], windows, sizeof *rates[m], by_value);
        printf("rate_%s %llu\n", NAMES[m], (unsigned long long)rates[m][windows / 2]);
        free(rates[m]);
    }
    printf("torn %llu\n", (unsigned long long)torn);
    printf("live_ns %.2f\n", each_ns(&ring));
    fflush(stdout);
}

int main(int argc, char **argv) {
    (void)argc;
    const char *pair = word(argv, "cpus", NULL);
    if (pair && sscanf(pair, "%ld,%ld", &cpus[0], &cpus[1]) != 2) fail("cpus=A,B");
    count = (uint64_t)number(argv, "count", 100000);
    window = (uint64_t)number(argv, "window", 10) * 1000000;
    windows = (uint64_t)number(argv, "windows", 50);
    rc_config config = {.kind = RC_GATED, .capabilities = RC_CAP_FIXED, .wait = RC_PACED, .stages = 3, .capacity = 1024, .slot_bytes = 8};
    if (rc_map_anonymous(&map, &config) || rc_open(&ring, map.memory, map.bytes)) fail("no ring");
    printf("quiet_ns %.2f\n", each_ns(&ring));
    rc_unmap(&map);

    config = (rc_config){.kind = RC_GATED, .capabilities = RC_CAP_FIXED, .wait = RC_PACED, .stages = 1, .capacity = 65536, .slot_bytes = 64};
    if (rc_map_anonymous(&map, &config) || rc_open(&ring, map.memory, map.bytes)) fail("no ring");
    memset(ring.slots, 0, ring.capacity * ring.stride);
    bool process = !strcmp(word(argv, "from", "thread"), "process");
    fflush(stdout);
    pid_t child = process ? fork() : 0;
    if (process && !child) {
        watch();
        _exit(0);
    }
    pthread_t taker, giver;
    pthread_create(&taker, NULL, take, NULL);
    pthread_create(&giver, NULL, give, NULL);
    int status = 0;
    if (!process) watch();
    else if (waitpid(child, &status, 0) < 0 || status) fail("the observer failed");
    rc_stop(&ring, RC_NO_STAGE, 0, 0);
    pthread_join(giver, NULL);
    pthread_join(taker, NULL);
    return 0;
}
