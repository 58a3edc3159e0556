/* What the pure-C tests of the ring share: saying what failed, memory of the exact size (a sanitizer sees the byte after it), numbers. */
#ifndef MUNIMENT_TEST_HARNESS_H
#define MUNIMENT_TEST_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic unsigned failures;

#define CHECK(condition, ...)                                                      \
    do {                                                                           \
        if (!(condition) && atomic_fetch_add(&failures, 1) < 20) {                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE_NAME__, __LINE__, #condition);   \
            fprintf(stderr, __VA_ARGS__);                                          \
            fputc('\n', stderr);                                                   \
        }                                                                          \
    } while (0)
#ifndef __FILE_NAME__
#define __FILE_NAME__ __FILE__
#endif

static inline uint64_t next_random(uint64_t *state) { /* xorshift64 */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline void *zeroed(uint64_t bytes) {
    void *memory = aligned_alloc(RC_LINE, bytes);
    if (!memory) abort();
    memset(memory, 0, bytes);
    return memory;
}

/* A formatted ring in memory of its own; the caller frees `ring->at`. */
static inline void make_ring(rc_ring *ring, const rc_config *config) {
    uint64_t bytes = 0;
    int answer = rc_size(config, &bytes);
    if (answer) {
        fprintf(stderr, "rc_size: %d\n", answer);
        abort();
    }
    void *memory = zeroed(bytes);
    answer = rc_format(memory, bytes, config);
    if (!answer) answer = rc_open(ring, memory, bytes);
    if (answer) {
        fprintf(stderr, "rc_open: %d\n", answer);
        abort();
    }
}

static inline int ended(const char *program) {
    unsigned bad = atomic_load(&failures);
    printf("%s: %u failures\n", program, bad);
    return bad != 0;
}

#endif
