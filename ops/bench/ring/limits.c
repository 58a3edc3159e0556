/* What the machine allows: a cache line handed over and back (`line_ns`, one way), and blocks handed over in bulk (`lines`, a second).
 *
 *     limits count=N block=BYTES bytes=N cpus=A,B
 */
#include "common.h"

#include <stdatomic.h>

static struct {
    _Alignas(128) _Atomic uint64_t ping;
    _Alignas(128) _Atomic uint64_t pong;
} line;
static uint64_t count, block, blocks;
static long cpus[2] = {-1, -1};
static uint64_t *room, received;
#define AHEAD 4u /* blocks in flight */

static void *answer(void *nothing) {
    pin(cpus[1]);
    for (uint64_t i = 1; i <= count; i++) {
        while (atomic_load_explicit(&line.ping, memory_order_acquire) != i) {}
        atomic_store_explicit(&line.pong, i, memory_order_release);
    }
    return nothing;
}

static void *receive(void *nothing) {
    pin(cpus[1]);
    uint64_t sum = 0, words = block / 8;
    for (uint64_t b = 0; b < blocks; b++) {
        while (atomic_load_explicit(&line.ping, memory_order_acquire) <= b) relax();
        const uint64_t *from = room + b % AHEAD * words;
        for (uint64_t i = 0; i < words; i++) sum += from[i];
        atomic_store_explicit(&line.pong, b + 1, memory_order_release);
    }
    received = sum;
    return nothing;
}

int main(int argc, char **argv) {
    (void)argc;
    pthread_t other;
    count = (uint64_t)number(argv, "count", 1000000);
    block = (uint64_t)number(argv, "block", 65536);
    blocks = (uint64_t)number(argv, "bytes", 1 << 30) / block + 1;
    const char *pair = word(argv, "cpus", NULL);
    if (pair && sscanf(pair, "%ld,%ld", &cpus[0], &cpus[1]) != 2) fail("cpus=A,B");

    pthread_create(&other, NULL, answer, NULL);
    pin(cpus[0]);
    uint64_t start = bench_ns();
    for (uint64_t i = 1; i <= count; i++) {
        atomic_store_explicit(&line.ping, i, memory_order_release);
        while (atomic_load_explicit(&line.pong, memory_order_acquire) != i) {}
    }
    printf("line_ns %.1f\n", (double)(bench_ns() - start) / (double)count / 2);
    pthread_join(other, NULL);

    line.ping = line.pong = 0;
    uint64_t words = block / 8, sent = 0;
    room = aligned_alloc(4096, AHEAD * block);
    if (!room) fail("no memory");
    memset(room, 1, AHEAD * block);
    pthread_create(&other, NULL, receive, NULL);
    start = bench_ns();
    for (uint64_t b = 0; b < blocks; b++) {
        while (atomic_load_explicit(&line.pong, memory_order_acquire) + AHEAD <= b) relax();
        uint64_t *to = room + b % AHEAD * words;
        for (uint64_t i = 0; i < words; i++) to[i] = b + i;
        sent += words * b + words * (words - 1) / 2;
        atomic_store_explicit(&line.ping, b + 1, memory_order_release);
    }
    pthread_join(other, NULL);
    double taken = (double)(bench_ns() - start) * 1e-9;
    if (sent != received) fail("other words came out than went in");
    printf("lines %.0f\n", (double)(blocks * block / 64) / taken);
    free(room);
    return 0;
}
