/* What waiting costs: round trips between two processes, the way of one message, the processor time of who waits.
 *
 *     waits what=trip wait=0..3 count=N gap=US cpus=A,B   trip_p50 trip_p99 trip_p999, ns; gap: microseconds before each trip, so
 *                                                        that a sleeper sleeps. wait=9: a pair of pipes in place of the rings
 *     waits what=way wait=0..3 count=N cpus=A,B          way_p50 way_p99 way_p999, ns: from the publish of a message,
 *                                                        one every 3 us, to the return of the wait
 *     waits what=idle wait=0..3 ms=N                      consumer, producer: processor seconds a second of waiting
 */
#include "common.h"

#include "core.c"
#include "consume.c"
#include "layout.c"
#include "map.c"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIPES 9u
#define PAYLOAD 64u

static long cpus[2] = {-1, -1};
static rc_map map[2];
static rc_ring ring[2];
static int pipes[2][2];
static uint64_t count;

static void make(int i, uint32_t wait, uint64_t capacity) {
    rc_config config = {.kind = RC_GATED, .capabilities = RC_CAP_FIXED, .wait = wait, .stages = 1, .capacity = capacity,
                        .slot_bytes = PAYLOAD};
    if (rc_map_anonymous(&map[i], &config) || rc_open(&ring[i], map[i].memory, map[i].bytes)) fail("no ring");
    memset(ring[i].slots, 0, capacity * PAYLOAD);
}

/* One message each way; `send` of one side is `receive` of the other. */
typedef struct {
    rc_producer out;
    rc_consumer in;
    int read_from, write_to; /* pipes; -1: rings */
} side;

static void side_open(side *s, int out, bool on_pipes) {
    s->read_from = on_pipes ? pipes[!out][0] : -1;
    s->write_to = on_pipes ? pipes[out][1] : -1;
    if (!on_pipes && (rc_producer_attach(&s->out, &ring[out]) || rc_consumer_attach(&s->in, &ring[!out], 0))) fail("attach");
}

static inline void send_one(side *s, const uint8_t *message) {
    if (s->write_to >= 0) {
        if (write(s->write_to, message, PAYLOAD) != (ssize_t)PAYLOAD) fail("write");
        return;
    }
    int64_t n;
    while ((n = rc_try_claim(&s->out, 1)) != 1)
        if (n < 0 || rc_wait_space(&s->out, UINT64_MAX)) fail("claim");
    rc_put(s->out.ring, s->out.claimed, message, PAYLOAD);
    rc_publish(&s->out, 1);
}

static inline void receive_one(side *s, uint8_t *message) {
    if (s->read_from >= 0) {
        if (read(s->read_from, message, PAYLOAD) != (ssize_t)PAYLOAD) fail("read");
        return;
    }
    const uint8_t *payload;
    if (rc_wait_available(&s->in, UINT64_MAX) < 1 || rc_get(s->in.ring, s->in.at + 1, &payload) != PAYLOAD) fail("receive");
    memcpy(message, payload, PAYLOAD);
    rc_release(&s->in, 1);
}

static void trip(char **argv, uint32_t wait) {
    uint8_t message[PAYLOAD] = {1};
    uint64_t gap = (uint64_t)number(argv, "gap", 0) * 1000;
    uint64_t *samples = malloc(count * sizeof *samples);
    bool on_pipes = wait == PIPES;
    side me;
    if (!samples) fail("no memory");
    for (int i = 0; i < 2; i++) {
        if (!on_pipes) make(i, wait, 1024);
        else if (pipe(pipes[i])) fail("pipe");
    }
    pid_t child = fork();
    if (child < 0) fail("fork");
    pin(cpus[child ? 0 : 1]);
    side_open(&me, child ? 0 : 1, on_pipes);
    if (!child) {
        for (uint64_t i = 0; i < count; i++) {
            receive_one(&me, message);
            send_one(&me, message);
        }
        _exit(0);
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t start = bench_ns();
        while (gap && bench_ns() - start < gap) relax();
        start = bench_ns();
        send_one(&me, message);
        receive_one(&me, message);
        samples[i] = bench_ns() - start;
    }
    int status;
    if (waitpid(child, &status, 0) < 0 || status) fail("the other side failed");
    percentiles("trip", samples, count);
    free(samples);
}

static void *now_and_then(void *nothing) {
    rc_producer p;
    pin(cpus[0]);
    if (rc_producer_attach(&p, &ring[0])) fail("attach");
    for (uint64_t i = 0; i < count; i++) {
        uint64_t start = bench_ns(), n;
        while (bench_ns() - start < 3000) relax(); /* alone: the consumer waits for each */
        if ((n = (uint64_t)rc_try_claim(&p, 1)) != 1) fail("claim");
        *(uint64_t *)(void *)rc_slot(&ring[0], p.claimed) = bench_ns();
        rc_publish(&p, 1);
    }
    rc_producer_detach(&p);
    return nothing;
}

static void way(uint32_t wait) {
    uint64_t *samples = malloc(count * sizeof *samples);
    pthread_t other;
    rc_consumer c;
    if (!samples) fail("no memory");
    make(0, wait, 65536);
    if (rc_consumer_attach(&c, &ring[0], 0)) fail("attach");
    pthread_create(&other, NULL, now_and_then, NULL);
    pin(cpus[1]);
    uint64_t waits = 0;
    for (; c.at < count; waits++) {
        int64_t n = rc_wait_available(&c, UINT64_MAX);
        uint64_t given = bench_ns();
        if (n < 1) fail("wait");
        samples[waits] = given - *(const uint64_t *)(const void *)rc_slot(&ring[0], c.at + 1);
        rc_release(&c, (uint64_t)n);
    }
    pthread_join(other, NULL);
    percentiles("way", samples, waits);
    free(samples);
}

static double processor(void) {
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use)) fail("getrusage");
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

static void idle(char **argv, uint32_t wait) {
    uint64_t span = (uint64_t)number(argv, "ms", 500) * 1000000;
    rc_producer p;
    rc_consumer c;
    make(0, wait, 64);
    if (rc_producer_attach(&p, &ring[0]) || rc_consumer_attach(&c, &ring[0], 0)) fail("attach");
    for (int full = 0; full < 2; full++) {
        if (full) {
            if (rc_try_claim(&p, 64) != 64) fail("claim");
            rc_publish(&p, 64);
        }
        uint64_t start = bench_ns();
        double used = processor();
        int64_t answer = full ? rc_wait_space(&p, start + span) : rc_wait_available(&c, start + span);
        if (answer != RC_TIMEOUT) fail("nobody was there to wake it");
        printf("%s %.6f\n", full ? "producer" : "consumer", (processor() - used) / ((double)(bench_ns() - start) * 1e-9));
    }
}

int main(int argc, char **argv) {
    (void)argc;
    const char *what = word(argv, "what", ""), *pair = word(argv, "cpus", NULL);
    uint32_t wait = (uint32_t)number(argv, "wait", RC_SPIN);
    if (pair && sscanf(pair, "%ld,%ld", &cpus[0], &cpus[1]) != 2) fail("cpus=A,B");
    count = (uint64_t)number(argv, "count", 10000);
    if (count < 10) fail("count is 10 or more");
    if (!strcmp(what, "trip")) trip(argv, wait);
    else if (!strcmp(what, "way")) way(wait);
    else if (!strcmp(what, "idle")) idle(argv, wait);
    else fail("what=trip|way|idle");
    return 0;
}
