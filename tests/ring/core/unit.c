/* One thread: formats, openings, refusals, counts. `unit [NAME]` runs one or all; every byte and every field of a header is made wrong in turn. */
#include "exercise.h"
#include "samples.h"

#include <unistd.h>

static void configurations_out_of_bounds_are_refused(void) {
    rc_config wrong[32];
    size_t n = 0;
#define WRONG(change) \
    do { wrong[n] = full(); rc_config *c = &wrong[n++]; change; } while (0)
    WRONG(c->kind = 0);
    WRONG(c->kind = 3);
    WRONG(c->capabilities |= RC_CAP_ALL + 1u);
    WRONG(c->wait = 4);
    WRONG(c->stages = 0);
    WRONG(c->stages = RC_STAGES + 1);
    WRONG(c->capacity = 0);
    WRONG(c->capacity = 3);
    WRONG(c->capacity = RC_MAX_CAPACITY * 2);
    WRONG(c->slot_bytes = 0);
    WRONG(c->slot_bytes = RC_MAX_SLOT + 1);
    WRONG(c->meta_bytes = RC_MAX_META + 1);
    WRONG(c->filters = 0);
    WRONG(c->filters = 8);
    WRONG(c->capabilities = 0);
    WRONG(c->deps[0] = 1);
    WRONG(c->deps[1] = 2);
    WRONG(c->deps[1] = 4);
    WRONG(c->deps[3] = 1);
    WRONG(c->kind = RC_BROADCAST);
    WRONG(memset(c->deps, 0, sizeof c->deps); c->kind = RC_BROADCAST);
    WRONG(*c = plain(); c->kind = RC_BROADCAST; c->capabilities = RC_CAP_MULTI);
    WRONG(*c = plain(); c->kind = RC_BROADCAST; c->capabilities = RC_CAP_DROP);
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = 77;
        CHECK(rc_size(&wrong[i], &bytes) == RC_INVALID && bytes == 77, "configuration %zu", i);
        CHECK(rc_format(NULL, UINT64_MAX, &wrong[i]) == RC_INVALID, "configuration %zu", i);
    }
    rc_config good = full(), most = plain();
    uint64_t bytes = 0;
    CHECK(rc_size(&good, &bytes) == RC_OK && bytes > sizeof(rc_layout) && bytes % 4096 == 0, "%llu bytes", U(bytes));
    most.capacity = RC_MAX_CAPACITY;
    most.slot_bytes = RC_MAX_SLOT;
    CHECK(rc_size(&most, &bytes) == RC_OK && bytes > RC_MAX_CAPACITY * RC_MAX_SLOT, "%llu bytes", U(bytes));
}

typedef struct {
    const char *name;
    size_t offset, size;
    bool harmless; /* some other values make a ring that fits the same bytes, or nothing is computed from it */
} field;
#define FIELD(name, harmless) {#name, offsetof(rc_header, name), sizeof(((rc_header *)0)->name), harmless}
static const field FIELDS[] = {
    FIELD(magic, false),      FIELD(version, false),     FIELD(kind, false),       FIELD(capabilities, false), FIELD(layout_bytes, false),
    FIELD(initialized, false), FIELD(stages, true),      FIELD(capacity, true),    FIELD(slot_bytes, true),    FIELD(stride, false),
    FIELD(mapped_bytes, false), FIELD(marks_off, false), FIELD(stamps_off, false), FIELD(meta_off, false),     FIELD(slots_off, false),
    FIELD(meta_bytes, true),  FIELD(wait, true),         FIELD(deps, true),        FIELD(created_unix_ns, true), FIELD(spec_sha256, true),
    FIELD(filters, true),     FIELD(reserved, false)};

static uint8_t *image(uint64_t *bytes) {
    rc_config config = full();
    rc_ring ring;
    make_ring(&ring, &config);
    put_some(&ring, 5);
    *bytes = ring.mapped_bytes;
    return (uint8_t *)ring.at;
}

static void every_field_made_wrong_is_refused(void) {
    static const uint64_t values[] = {0, 1, 2, 3, 7, 8, 9, 16, 17, 4095, 4096, 1u << 20, (1u << 20) + 1, 1ull << 31, UINT32_MAX, 1ull << 32,
                                      1ull << 63, UINT64_MAX - 7, UINT64_MAX};
    uint64_t bytes;
    uint8_t *good = image(&bytes), *bad = zeroed(bytes);
    size_t covered = 0;
    for (size_t f = 0; f < sizeof FIELDS / sizeof *FIELDS; f++) {
        covered += FIELDS[f].size;
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            memcpy(bad, good, bytes);
            size_t size = FIELDS[f].size < 8 ? FIELDS[f].size : 8;
            memcpy(bad + FIELDS[f].offset, &values[k], size);
            bool same = !memcmp(bad, good, bytes);
            int answer = open_and_exercise(bad, bytes);
            CHECK(same ? answer == RC_OK : FIELDS[f].harmless || answer < 0, "%s = %llx is taken", FIELDS[f].name, U(values[k]));
        }
    }
    CHECK(covered == sizeof(rc_header), "fields of %zu bytes", covered);
    free(good);
    free(bad);
}

static void every_byte_flipped_is_refused_or_survived(void) {
    uint64_t bytes;
    uint8_t *good = image(&bytes), *bad = zeroed(bytes);
    unsigned taken = 0;
    for (size_t at = 0; at < sizeof(rc_layout) + 4096; at++) {
        static const uint8_t masks[] = {0xff, 0x01, 0x80};
        for (size_t m = 0; m < (at < sizeof(rc_header) ? 3 : 1); m++) {
            memcpy(bad, good, bytes);
            bad[at % bytes] ^= masks[m];
            taken += open_and_exercise(bad, bytes) == RC_OK && at < offsetof(rc_header, meta_bytes);
        }
    }
    CHECK(!taken, "%u flips of what places follow from were taken", taken);
    free(good);
    free(bad);
}

static void a_short_mapping_is_refused(void) {
    uint64_t bytes;
    uint8_t *good = image(&bytes);
    uint64_t sizes[] = {0, 1, sizeof(rc_header), sizeof(rc_layout) - 1, sizeof(rc_layout), bytes - 4096, bytes - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *part = zeroed((sizes[i] + RC_LINE) & ~(uint64_t)(RC_LINE - 1));
        memcpy(part, good, sizes[i]);
        rc_ring ring;
        CHECK(rc_open(&ring, part, sizes[i]) == RC_SIZE_BAD, "%llu of %llu bytes", U(sizes[i]), U(bytes));
        free(part);
    }
    free(good);
}

static void answers_name_what_is_wrong(void) {
    uint64_t bytes;
    uint8_t *at = image(&bytes);
    rc_ring ring;
    rc_header *h = &((rc_layout *)(void *)at)->header;
    atomic_store(&h->initialized, 1);
    CHECK(rc_open(&ring, at, bytes) == RC_NOT_READY, "half written");
    atomic_store(&h->initialized, 2);
    h->version = 2;
    CHECK(rc_open(&ring, at, bytes) == RC_VERSION_BAD, "another version");
    h->magic = 0;
    CHECK(rc_open(&ring, at, bytes) == RC_MAGIC_BAD, "no ring");
    free(at);
}

static void a_header_that_changes_after_the_opening_changes_nothing(void) {
    for (uint32_t pattern = 0; pattern < 2; pattern++) {
        rc_config config = full();
        rc_ring ring;
        rc_snap snap;
        make_ring(&ring, &config);
        put_some(&ring, 5);
        memset(&ring.at->header, pattern ? 0xff : 0, sizeof(rc_header));
        exercise(&ring);
        rc_snapshot(&ring, &snap, false);
        CHECK(snap.capacity == 8 && snap.stages == 3 && snap.slot_bytes == 24 && snap.cursor == 11, "%llu slots, %u stages, cursor %llu",
              U(snap.capacity), snap.stages, U(snap.cursor));
        free(ring.at);
    }
}

static void impossible_sequences_are_corrupt(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_consumer c;
    rc_producer p;
    make_ring(&ring, &config);
    CHECK(rc_consumer_attach(&c, &ring, 0) == RC_OK && rc_producer_attach(&p, &ring) == RC_OK, "attach");
    atomic_store(&ring.at->cells[0].seq, 9);
    CHECK(rc_available(&c) == RC_CORRUPT, "a cursor further than the ring is long");
    CHECK(rc_wait_available(&c, UINT64_MAX) == RC_CORRUPT, "it waits for a liar");
    atomic_store(&ring.at->cells[0].seq, UINT64_MAX);
    CHECK(rc_available(&c) == RC_CORRUPT, "a cursor behind the stage");
    atomic_store(&ring.at->cells[RC_CELL_STAGE].seq, 1);
    CHECK(rc_try_claim(&p, 1) == RC_CORRUPT, "a stage before the producer");
    CHECK(rc_wait_space(&p, UINT64_MAX) == RC_CORRUPT, "it waits for a liar");
    rc_put(&ring, 1, "x", 1);
    *(uint32_t *)(void *)rc_slot(&ring, 1) = 25;
    const uint8_t *payload;
    CHECK(rc_get(&ring, 1, &payload) == -1, "a length beyond the slot");
    free(ring.at);
}

static void a_broadcast_length_that_lies_is_corrupt(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_consumer c;
    uint8_t copy[64];
    config.kind = RC_BROADCAST;
    make_ring(&ring, &config);
    put_some(&ring, 1);
    CHECK(rc_consumer_attach(&c, &ring, 0) == RC_OK && rc_available(&c) == 1, "one message");
    *(uint64_t *)(void *)rc_slot(&ring, 1) = UINT64_MAX;
    CHECK(rc_copy_next(&c, copy) == RC_CORRUPT, "a length beyond the slot");
    free(ring.at);
}

static void sequences_wrap(void) {
    rc_config config = full();
    rc_ring ring;
    make_ring(&ring, &config);
    uint64_t start = UINT64_MAX - 4;
    for (uint32_t i = 0; i <= 3; i++) atomic_store(&ring.at->cells[i].seq, start);
    for (uint64_t round = 0; round < 4; round++) {
        put_some(&ring, 3);
        for (uint32_t stage = 0; stage < 3; stage++) {
            rc_consumer c;
            CHECK(rc_consumer_attach(&c, &ring, stage) == RC_OK, "attach");
            CHECK(rc_available(&c) == 3 && c.at == start + 3 * round, "stage %u at %llu", stage, U(c.at));
            rc_release(&c, 3);
            rc_consumer_detach(&c);
        }
    }
    free(ring.at);
}

static void a_place_has_one_owner(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_producer p, q;
    rc_consumer c, d;
    make_ring(&ring, &config);
    CHECK(rc_producer_attach(&p, &ring) == RC_OK && rc_producer_attach(&q, &ring) == RC_BUSY, "two producers");
    CHECK(rc_consumer_attach(&c, &ring, 0) == RC_OK && rc_consumer_attach(&d, &ring, 0) == RC_BUSY, "two of one stage");
    CHECK(rc_consumer_attach(&d, &ring, 1) == RC_INVALID, "no such stage");
    rc_producer_detach(&p);
    rc_producer_detach(&p);
    CHECK(rc_producer_attach(&q, &ring) == RC_OK, "the place is free");
    atomic_store(&ring.at->cells[0].owner, (uint64_t)INT32_MAX << 32 | 1); /* no such process */
    CHECK(rc_producer_attach(&p, &ring) == RC_OK, "the owner is dead");
    atomic_store(&ring.at->cells[0].owner, UINT64_MAX);
    CHECK(rc_producer_attach(&p, &ring) == RC_BUSY, "an owner that cannot be judged counts as alive");
    free(ring.at);
}

static void what_was_not_published_is_claimed_again(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_producer p;
    make_ring(&ring, &config);
    CHECK(rc_producer_attach(&p, &ring) == RC_OK && rc_try_claim(&p, 100) == 8 && p.claimed == 8, "all slots");
    CHECK(rc_try_claim(&p, 1) == 0 && rc_wait_space(&p, 0) == RC_TIMEOUT, "full");
    rc_publish(&p, 3);
    rc_unclaim(&p);
    CHECK(p.claimed == 3 && rc_try_claim(&p, 1) == 1 && p.claimed == 4, "claimed %llu", U(p.claimed));
    rc_producer_detach(&p);
    CHECK(rc_producer_attach(&p, &ring) == RC_OK && rc_try_claim(&p, 8) == 5 && p.claimed == 8, "after a new attach: %llu", U(p.claimed));
    rc_refuse(&p, 4);
    rc_tuple t;
    CHECK(rc_read_tuple(p.cell, &t) && t.lost == 4 && t.sequence == 3 && t.batches == 1, "lost %llu at %llu", U(t.lost), U(t.sequence));
    free(ring.at);
}

static void a_stage_takes_everything_before_it_ends(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_consumer c;
    make_ring(&ring, &config);
    put_some(&ring, 2);
    rc_end(&ring, 2);
    CHECK(rc_consumer_attach(&c, &ring, 0) == RC_OK && rc_available(&c) == 2, "two messages");
    rc_release(&c, 1);
    CHECK(rc_available(&c) == 1, "one left");
    rc_release(&c, 1);
    CHECK(rc_available(&c) == RC_ENDED && rc_wait_available(&c, UINT64_MAX) == RC_ENDED, "the end");
    free(ring.at);
}

static void the_first_stop_wins(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_consumer c;
    rc_producer p;
    uint32_t stage, code;
    uint64_t sequence;
    make_ring(&ring, &config);
    CHECK(rc_stop_read(&ring, &stage, &code, &sequence) == 0 && stage == RC_NO_STAGE, "running");
    CHECK(rc_stop(&ring, 3, 4, 5) && !rc_stop(&ring, 6, 7, 8), "two winners");
    CHECK(rc_stop_read(&ring, &stage, &code, &sequence) == 2 && stage == 3 && code == 4 && sequence == 5, "%u %u", stage, code);
    CHECK(rc_consumer_attach(&c, &ring, 0) == RC_OK && rc_wait_available(&c, UINT64_MAX) == RC_STOPPED, "a stage goes on");
    CHECK(rc_producer_attach(&p, &ring) == RC_OK && rc_try_claim(&p, 1) == RC_STOPPED, "a producer goes on");
    CHECK(rc_wait_space(&p, UINT64_MAX) == RC_STOPPED, "a producer waits");
    free(ring.at);
}

static void who_left_gates_nobody_and_does_not_come_back(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_consumer a, b;
    rc_producer p;
    config.stages = 3;
    config.deps[2] = 1;
    make_ring(&ring, &config);
    put_some(&ring, 8);
    CHECK(rc_consumer_attach(&a, &ring, 0) == RC_OK && rc_leave(&a) == RC_INVALID, "somebody waits for it");
    CHECK(rc_consumer_attach(&b, &ring, 1) == RC_OK && rc_leave(&b) == RC_OK, "a leaf");
    rc_consumer_detach(&b);
    CHECK(rc_available(&a) == 8, "eight");
    rc_release(&a, 8);
    CHECK(rc_consumer_attach(&b, &ring, 2) == RC_OK && rc_available(&b) == 8, "eight");
    rc_release(&b, 8);
    CHECK(rc_producer_attach(&p, &ring) == RC_OK && rc_try_claim(&p, 8) == 8, "held by who left");
    rc_publish(&p, 8);
    CHECK(rc_consumer_attach(&b, &ring, 1) == RC_INVALID, "its messages were overwritten");
    CHECK(rc_available(&a) == 8, "eight");
    rc_release(&a, 8);
    CHECK(rc_try_claim(&p, 1) == 0, "the other leaf holds the producer, and nothing is corrupt");
    free(ring.at);
}

static void several_producers_leave_named_holes(void) {
    rc_config config = plain();
    rc_ring ring;
    rc_producer p, q;
    rc_consumer c;
    rc_snap snap;
    config.capabilities = RC_CAP_MULTI;
    make_ring(&ring, &config);
    CHECK(rc_producer_attach(&p, &ring) == RC_OK && rc_producer_attach(&q, &ring) == RC_OK && p.cell != q.cell, "two places");
    CHECK(rc_try_claim(&p, 3) == 3 && rc_try_claim(&q, 2) == 2 && rc_try_claim(&q, 1) == RC_INVALID, "published before the next claim");
    rc_publish(&q, 2);
    CHECK(rc_consumer_attach(&c, &ring, 0) == RC_OK && rc_available(&c) == 0, "nothing before the hole is closed");
    rc_snapshot(&ring, &snap, false);
    CHECK(snap.cursor == 5 && snap.cells == 3 && snap.cell[0].held_lo == 1 && snap.cell[0].held_hi == 3 && !snap.cell[1].held_hi,
          "hole %llu..%llu", U(snap.cell[0].held_lo), U(snap.cell[0].held_hi));
    atomic_store(&p.cell->owner, (uint64_t)INT32_MAX << 32 | 1); /* its owner died in the middle */
    rc_producer r;
    CHECK(rc_producer_attach(&r, &ring) == RC_OK && r.cell != p.cell, "the dead one keeps the place that names its hole");
    rc_publish(&p, 3);
    CHECK(rc_available(&c) == 5, "five");
    free(ring.at);
}

static void files_are_created_once_and_attached_only_whole(void) {
    char folder[] = "/tmp/ring-unit-XXXXXX", path[80], other[80];
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/ring", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    rc_config config = full();
    rc_map map, again;
    rc_ring ring;
    CHECK(rc_map_attach(&again, path, true) == RC_SYSTEM, "nothing there");
    CHECK(rc_map_create(&map, path, &config) == RC_OK && rc_open(&ring, map.memory, map.bytes) == RC_OK, "create");
    CHECK(rc_map_create(&again, path, &config) == RC_BUSY, "it exists");
    put_some(&ring, 4);
    CHECK(rc_map_attach(&again, path, false) == RC_OK && again.bytes == map.bytes, "attach");
    rc_ring seen;
    rc_snap snap;
    CHECK(rc_open(&seen, again.memory, again.bytes) == RC_OK && rc_snapshot(&seen, &snap, true) && snap.cursor == 4, "read-only snapshot");
    rc_unmap(&again);
    FILE *file = fopen(other, "wb");
    if (!file || fputs("short", file) < 0 || fclose(file)) abort();
    CHECK(rc_map_attach(&again, other, false) == RC_MAGIC_BAD, "a short file of something else");
    if (!(file = fopen(other, "wb")) || fclose(file)) abort();
    CHECK(rc_map_attach(&again, other, false) == RC_MAGIC_BAD, "an empty file");
    if (!(file = fopen(other, "wb")) || fwrite(map.memory, 1, 256, file) != 256 || fclose(file)) abort();
    CHECK(rc_map_attach(&again, other, false) == RC_SIZE_BAD, "the begin of a ring");
    remove(other);
    if (symlink(path, other)) abort();
    CHECK(rc_map_attach(&again, other, false) == RC_SYSTEM, "a link is not followed");
    remove(other);
    CHECK(rc_map_attach(&again, folder, false) != RC_OK, "a folder");
    rc_unmap(&map);
    remove(path);
    CHECK(!remove(folder), "something was left in the folder");
}

typedef struct {
    const char *name;
    void (*run)(void);
} test;
#define TEST(name) {#name, name}
static const test TESTS[] = {TEST(configurations_out_of_bounds_are_refused),
                             TEST(every_field_made_wrong_is_refused),
                             TEST(every_byte_flipped_is_refused_or_survived),
                             TEST(a_short_mapping_is_refused),
                             TEST(answers_name_what_is_wrong),
                             TEST(a_header_that_changes_after_the_opening_changes_nothing),
                             TEST(impossible_sequences_are_corrupt),
                             TEST(a_broadcast_length_that_lies_is_corrupt),
                             TEST(sequences_wrap),
                             TEST(a_place_has_one_owner),
                             TEST(what_was_not_published_is_claimed_again),
                             TEST(a_stage_takes_everything_before_it_ends),
                             TEST(the_first_stop_wins),
                             TEST(who_left_gates_nobody_and_does_not_come_back),
                             TEST(several_producers_leave_named_holes),
                             TEST(files_are_created_once_and_attached_only_whole)};

int main(int count, char **words) {
    unsigned ran = 0;
    for (size_t i = 0; i < sizeof TESTS / sizeof *TESTS; i++) {
        if (count > 1 && strcmp(words[1], "--list") == 0) puts(TESTS[i].name);
        if (count > 1 && strcmp(words[1], TESTS[i].name)) continue;
        TESTS[i].run();
        ran++;
    }
    if (count > 1 && strcmp(words[1], "--list") == 0) return 0;
    return ended("unit") || !ran;
}
