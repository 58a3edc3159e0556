/* Arbitrary bytes taken for a ring: rc_open, then everything that a program does with one (exercise.h). Nothing may touch a byte outside.
 *
 * The first two bytes choose one of eight valid images and whether the rest replaces its first bytes or is laid over it at an offset; so a fuzzer
 * need not find the header by itself. With -DRC_OWN_DRIVER a deterministic driver mutates: `fuzz_open RUNS SEED`; without, libFuzzer.
 */
#include "exercise.h"

enum { IMAGES = 8 };

static rc_config image_config(unsigned k) {
    rc_config c = {.kind = k & 4 ? RC_BROADCAST : RC_GATED, .wait = k & 3, .stages = 1 + k % 3, .capacity = 1u << (k & 3), .slot_bytes = 8 + k * 3};
    if (k & 1) c.capabilities |= RC_CAP_FIXED;
    if (c.kind == RC_GATED && k & 2) c.capabilities |= RC_CAP_MULTI;
    if (c.kind == RC_GATED && c.stages == 3) {
        c.capabilities |= RC_CAP_MARKS;
        c.filters = 1;
        c.deps[1] = 1;
        c.deps[2] = 2;
    }
    c.meta = "spec";
    c.meta_bytes = k % 5;
    return c;
}

static uint8_t *valid_image(unsigned k, uint64_t *bytes) {
    rc_config config = image_config(k);
    rc_ring ring;
    rc_producer p;
    uint8_t payload[64] = {0};
    make_ring(&ring, &config);
    if (rc_producer_attach(&p, &ring)) abort();
    int64_t n = rc_try_claim(&p, 2);
    for (int64_t i = 0; i < n; i++) rc_put(&ring, p.claimed - (uint64_t)i, payload, ring.slot_bytes);
    rc_publish(&p, (uint64_t)n);
    rc_producer_detach(&p);
    *bytes = ring.mapped_bytes;
    return (uint8_t *)ring.at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) return 0;
    uint64_t bytes;
    uint8_t *at = valid_image(data[0] % IMAGES, &bytes);
    uint64_t offset = data[1] & 1 ? (uint64_t)(data[2] | data[3] << 8) % bytes : 0, length = size - 4;
    if (length > bytes - offset) length = bytes - offset;
    memcpy(at + offset, data + 4, length);
    uint64_t told = data[1] & 2 ? (uint64_t)(data[2] | data[3] << 8) % (bytes + 1) : bytes; /* a mapping that is shorter than it says */
    if (told < bytes) {
        uint8_t *part = zeroed((told + RC_LINE) & ~(uint64_t)(RC_LINE - 1));
        memcpy(part, at, told);
        open_and_exercise(part, told);
        free(part);
    } else {
        open_and_exercise(at, bytes);
    }
    free(at);
    if (atomic_load(&failures)) abort();
    return 0;
}

#ifdef RC_OWN_DRIVER
/* Laid over an image: a few words of it, each random, an extreme, or one off what is there. */
int main(int count, char **words) {
    if (count < 3) return 2;
    uint64_t runs = strtoull(words[1], NULL, 10), random = strtoull(words[2], NULL, 10) | 1, taken = 0;
    static const uint64_t extremes[] = {0, 1, 2, 16, 256, 4096, 1u << 20, 0xff, 0xffff, UINT32_MAX, 1ull << 32, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
    for (uint64_t run = 0; run < runs; run++) {
        uint64_t bytes;
        uint8_t *at = valid_image((unsigned)(next_random(&random) % IMAGES), &bytes);
        for (uint64_t changes = 1 + next_random(&random) % 4; changes--;) {
            uint64_t r = next_random(&random), value, size = 1ull << (r & 3);
            uint64_t part = r >> 7 & 3; /* fields that places follow from, all cells, the first slots, anything */
            uint64_t from = part == 2 ? bytes - 4096 : 0; /* the slots of all images are one page */
            uint64_t span = part == 0 ? offsetof(rc_header, created_unix_ns) : part == 1 ? sizeof(rc_layout) : part == 2 ? 128 : bytes;
            uint64_t offset = from + (r >> 9) % span / size * size;
            memcpy(&value, at + (offset & ~7ull), 8);
            if (r >> 4 & 1)
                value = extremes[(r >> 40) % (sizeof extremes / sizeof *extremes)];
            else
                value = r >> 5 & 1 ? value + (r >> 6 & 1 ? 1 : UINT64_MAX) : next_random(&random);
            memcpy(at + offset, &value, size);
        }
        taken += open_and_exercise(at, bytes) == RC_OK;
        free(at);
        if (atomic_load(&failures)) return 1;
    }
    printf("fuzz_open: %llu runs, %llu taken for rings\n", (unsigned long long)runs, (unsigned long long)taken);
    return taken == 0 || taken == runs;
}
#endif
