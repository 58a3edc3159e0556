/* What the bench programs share: arguments `name=value`, pinning, the clock, percentiles. C and C++. */
#ifndef MUNIMENT_BENCH_COMMON_H
#define MUNIMENT_BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_setaffinity_np */
#endif
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The value of `name=…`, or `otherwise`. */
static inline const char *word(char **argv, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (char **arg = argv + 1; *arg; arg++)
        if (!strncmp(*arg, name, length) && (*arg)[length] == '=') return *arg + length + 1;
    return otherwise;
}

static inline int64_t number(char **argv, const char *name, int64_t otherwise) {
    const char *text = word(argv, name, NULL);
    return text ? strtoll(text, NULL, 0) : otherwise;
}

/* Bind the calling thread to one processor; -1 leaves it to the scheduler. */
static inline void pin(int64_t cpu) {
    if (cpu < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set)) {
        fprintf(stderr, "cannot pin to processor %lld\n", (long long)cpu);
        exit(2);
    }
}

static inline uint64_t bench_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static inline void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Every message holds its sequence s from 1 on; word w of it is s + w. */
static inline uint64_t checksum(uint64_t count, uint64_t words) {
    uint64_t sum = count % 2 ? (count + 1) / 2 * count : count / 2 * (count + 1);
    return words * sum + words * (words - 1) / 2 * count;
}

static inline int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Print `name_p50 name_p99 name_p999`, ns; sorts the samples. */
static inline void percentiles(const char *name, uint64_t *samples, uint64_t n) {
    qsort(samples, n, sizeof *samples, by_value);
    printf("%s_p50 %llu\n%s_p99 %llu\n%s_p999 %llu\n", name, (unsigned long long)samples[n / 2], name,
           (unsigned long long)samples[n * 99 / 100], name, (unsigned long long)samples[n * 999 / 1000]);
}

#endif
