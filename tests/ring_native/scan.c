/* `scan match PATH VALUE`: texts from standard input (length as u32, bytes), one answer a line; -6 for all: no such rule.
 * `scan sha PORTABLE CHUNK`: SHA-256 of the same texts, added CHUNK bytes at a time; first line: 1 if the processor's own code ran.
 * `scan speed`: MB/s of both kinds of SHA-256, and of a match over the text on standard input. */
#include "json_scan.h"
#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Exactly as long as the text, so that the address sanitizer sees one byte too far. */
static uint8_t *next(uint32_t *length) {
    if (fread(length, 4, 1, stdin) != 1) return NULL;
    uint8_t *text = malloc(*length ? *length : 1);
    if (!text || fread(text, 1, *length, stdin) != *length) abort();
    return text;
}

static void sha(int portable, size_t chunk) {
    uint32_t length;
    sha256 hash;
    printf("%d\n", sha256_start(&hash, portable));
    for (uint8_t *text; (text = next(&length)); free(text)) {
        uint8_t digest[32];
        sha256_start(&hash, portable);
        for (size_t at = 0; at < length; at += chunk) {
            sha256_add(&hash, text + at, length - at < chunk ? length - at : chunk);
            sha256_read(&hash, digest); /* a reading in between changes nothing */
        }
        sha256_read(&hash, digest);
        for (int i = 0; i < 32; i++) printf("%02x", digest[i]);
        printf("\n");
    }
}

static void speed(void) {
    static uint8_t data[1 << 20];
    for (int portable = 0; portable < 2; portable++) {
        sha256 hash;
        int fast = sha256_start(&hash, portable);
        double began = seconds();
        for (int i = 0; i < 100; i++) sha256_add(&hash, data, sizeof data);
        printf("sha256 %s: %.0f MB/s\n", fast ? "processor" : "portable", 100 * sizeof data / 1e6 / (seconds() - began));
    }
    size_t length = fread(data, 1, sizeof data, stdin);
    js_query query;
    js_query_set(&query, "data.kind", 9, "x", 1);
    int sum = 0, times = 2000000;
    double began = seconds();
    for (int i = 0; i < times; i++) sum += js_match(&query, data, length);
    double took = seconds() - began;
    printf("match of %zu bytes: %.0f MB/s, %.0f ns, %d\n", length, (double)length * times / 1e6 / took, took / times * 1e9, sum / times);
}

int main(int count, char **argv) {
    if (count == 2 && strcmp(argv[1], "speed") == 0) speed();
    else if (count == 4 && strcmp(argv[1], "sha") == 0) sha(atoi(argv[2]), strtoul(argv[3], NULL, 10));
    else if (count == 4 && strcmp(argv[1], "match") == 0) {
        js_query query;
        uint32_t length;
        int rule = js_query_set(&query, argv[2], strlen(argv[2]), argv[3], strlen(argv[3]));
        for (uint8_t *text; (text = next(&length)); free(text)) printf("%d\n", rule ? rule : js_match(&query, text, length));
    } else return 2;
    return 0;
}
