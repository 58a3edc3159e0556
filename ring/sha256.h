/* SHA-256 (FIPS 180-4), one pass, no allocation. Picks the processor's own instructions at run time where it has them. */
#ifndef MUNIMENT_RING_SHA256_H
#define MUNIMENT_RING_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct sha256 {
    uint32_t state[8];
    uint64_t bytes; /* taken so far */
    void (*blocks)(uint32_t state[8], const uint8_t *data, size_t count); /* whole 64-byte blocks */
    uint8_t rest[64];                                                     /* bytes % 64 of them wait here */
} sha256;

/* 1 the processor's instructions are used, 0 the portable code; `portable` true forces the latter (tests, figures). */
int sha256_start(sha256 *hash, int portable);
void sha256_add(sha256 *hash, const void *data, size_t length);
/* The digest of everything so far; the hash goes on unchanged. */
void sha256_read(const sha256 *hash, uint8_t digest[32]);

#endif
