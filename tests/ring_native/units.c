/* `units NAME`: one case of stages and feeder on a ring of this process alone, without threads. Silent, 0: it holds. */
#include "stages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOLDS(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: not %s\n", __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static rc_map map;
static rc_ring ring;
static rc_producer producer;
static rc_consumer consumers[RC_STAGES];

static void make(rc_config config) {
    config.kind = config.kind ? config.kind : RC_GATED;
    config.stages = config.stages ? config.stages : 1;
    config.capabilities |= config.filters ? RC_CAP_MARKS : 0;
    HOLDS(rc_map_anonymous(&map, &config) == RC_OK && rc_open(&ring, map.memory, map.bytes) == RC_OK);
    HOLDS(rc_producer_attach(&producer, &ring) == RC_OK);
    for (uint32_t i = 0; i < config.stages; i++) HOLDS(rc_consumer_attach(&consumers[i], &ring, i) == RC_OK);
}

static void publish(uint64_t count, const char *text, size_t length) {
    HOLDS(rc_try_claim(&producer, count) == (int64_t)count);
    for (uint64_t i = 0; i < count; i++) rc_put(&ring, producer.claimed - count + 1 + i, text, (uint32_t)length);
    rc_publish(&producer, count);
}

static rs_stage started(uint32_t op) {
    rs_stage stage;
    HOLDS(rs_init(&stage, op) == RC_OK);
    return stage;
}

static rs_stage filter(const char *path, const char *value) {
    rs_stage stage = started(RS_FILTER);
    HOLDS(rs_filter(&stage, path, strlen(path), value, strlen(value)) == RC_OK);
    return stage;
}

static uint64_t soon(void) { return rc_now_ns() + 10000000000u; }

static bool stopped(uint32_t at, uint32_t why, uint64_t where) {
    uint32_t stage, code;
    uint64_t sequence;
    return rc_stop_read(&ring, &stage, &code, &sequence) == 2 && stage == at && code == why && sequence == where;
}

static void refusals(void) {
    rs_stage stage;
    HOLDS(rs_init(&stage, 0) == RC_INVALID && rs_init(&stage, RS_FILTER + 1) == RC_INVALID);
    make((rc_config){.capacity = 4, .slot_bytes = 8, .stages = 2, .filters = 1});
    HOLDS(rs_check(&stage, &consumers[0]) == RC_INVALID); /* never started */
    stage = started(RS_COUNT);
    HOLDS(rs_check(&stage, &consumers[0]) == RC_OK);
    HOLDS(rs_filter(&stage, "a", 1, "b", 1) == RC_INVALID);
    stage = started(RS_FILTER);
    HOLDS(rs_check(&stage, &consumers[0]) == RC_INVALID); /* no question */
    HOLDS(rs_filter(&stage, "", 0, "b", 1) == RC_INVALID && rs_filter(&stage, "a..b", 4, "b", 1) == RC_INVALID);
    HOLDS(rs_filter(&stage, "a.", 2, "b", 1) == RC_INVALID && rs_filter(&stage, "a", 1, "\xff", 1) == RC_INVALID);
    HOLDS(rs_filter(&stage, "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q", 33, "", 0) == RC_INVALID); /* 17 names */
    HOLDS(rs_check(&stage, &consumers[0]) == RC_INVALID);
    HOLDS(rs_filter(&stage, "a.b", 3, "", 0) == RC_OK);
    HOLDS(rs_check(&stage, &consumers[0]) == RC_OK && rs_check(&stage, &consumers[1]) == RC_INVALID); /* nobody would honour it */
    rf_feeder feeder;
    uint8_t buffer[9];
    HOLDS(rf_init(&feeder, &producer, buffer, 8, 0) == RC_INVALID && rf_init(&feeder, &producer, NULL, 9, 0) == RC_INVALID);
    HOLDS(rf_init(&feeder, &producer, buffer, 9, 0) == RC_OK);
}

static void broadcast(void) {
    make((rc_config){.kind = RC_BROADCAST, .capacity = 4, .slot_bytes = 8});
    rs_stage stage = started(RS_COUNT);
    HOLDS(rs_check(&stage, &consumers[0]) == RC_INVALID);
}

/* Releases at least every 4096 messages; what reads nothing takes all at once. */
static void batch_messages(void) {
    make((rc_config){.capacity = 16384, .slot_bytes = 8, .stages = 3});
    publish(10000, "x", 1);
    rc_end(&ring, 10000);
    rs_stage digest = started(RS_DIGEST), count = started(RS_COUNT), forward = started(RS_FORWARD);
    HOLDS(rs_run(&digest, &consumers[0], soon()) == RC_ENDED && consumers[0].tuple.batches == 3);
    HOLDS(rs_run(&count, &consumers[1], soon()) == RC_ENDED && consumers[1].tuple.batches == 3);
    HOLDS(rs_run(&forward, &consumers[2], soon()) == RC_ENDED && consumers[2].tuple.batches == 1);
    HOLDS(count.messages == 10000 && count.bytes == 10000 && forward.messages == 10000 && forward.bytes == 0 && digest.taken == 10000);
}

static void batch_fixed(void) {
    make((rc_config){.capacity = 16384, .slot_bytes = 8, .capabilities = RC_CAP_FIXED});
    publish(10000, "12345678", 8);
    rc_end(&ring, 10000);
    rs_stage count = started(RS_COUNT);
    HOLDS(rs_run(&count, &consumers[0], soon()) == RC_ENDED && consumers[0].tuple.batches == 1);
    HOLDS(count.messages == 10000 && count.bytes == 80000);
}

static void batch_bytes(void) {
    static char text[1 << 18];
    make((rc_config){.capacity = 16, .slot_bytes = sizeof text});
    publish(16, text, sizeof text);
    rc_end(&ring, 16);
    rs_stage digest = started(RS_DIGEST);
    HOLDS(rs_run(&digest, &consumers[0], soon()) == RC_ENDED && consumers[0].tuple.batches == 4);
    HOLDS(digest.bytes == 16 * sizeof text);
}

static void deadline(void) {
    make((rc_config){.capacity = 16384, .slot_bytes = 8});
    rs_stage digest = started(RS_DIGEST);
    HOLDS(rs_run(&digest, &consumers[0], 0) == RC_TIMEOUT && digest.taken == 0);
    publish(10000, "x", 1);
    HOLDS(rs_run(&digest, &consumers[0], 0) == RC_TIMEOUT && digest.taken == 4096); /* late, but one batch */
    uint64_t version = atomic_load(&consumers[0].cell->version);
    HOLDS(rs_run(&digest, &consumers[0], 0) == RC_TIMEOUT && digest.taken == 8192);
    HOLDS(atomic_load(&consumers[0].cell->version) > version); /* it beats though it never waited */
}

static void length_corrupt(void) {
    make((rc_config){.capacity = 16, .slot_bytes = 8, .stages = 2, .deps = {0, 1}});
    publish(10, "x", 1);
    *(uint32_t *)(void *)rc_slot(&ring, 7) = 9;
    rs_stage digest = started(RS_DIGEST), count = started(RS_COUNT);
    HOLDS(rs_run(&digest, &consumers[0], soon()) == RC_STOPPED && digest.code == RS_LENGTH_CORRUPT && digest.sequence == 7);
    HOLDS(digest.taken == 6 && digest.messages == 6 && consumers[0].at == 6 && stopped(0, RS_LENGTH_CORRUPT, 7));
    HOLDS(rs_run(&digest, &consumers[0], soon()) == RC_STOPPED && digest.taken == 6); /* for good */
    HOLDS(rs_run(&count, &consumers[1], soon()) == RC_STOPPED && count.code == 0 && count.taken <= 6);
}

static void first_message_fails(void) {
    make((rc_config){.capacity = 16, .slot_bytes = 8, .filters = 1});
    publish(1, "[]", 2);
    rs_stage one = filter("a", "b");
    HOLDS(rs_run(&one, &consumers[0], soon()) == RC_STOPPED && one.code == RS_JSON_OBJECT && one.taken == 0);
    HOLDS(consumers[0].tuple.batches == 0 && stopped(0, RS_JSON_OBJECT, 1));
}

static void sequence_corrupt(void) {
    make((rc_config){.capacity = 16, .slot_bytes = 8});
    atomic_store(&ring.at->cells[0].seq, 17);
    rs_stage count = started(RS_COUNT);
    HOLDS(rs_run(&count, &consumers[0], soon()) == RC_CORRUPT && count.code == RS_SEQUENCE_CORRUPT && count.taken == 0);
    HOLDS(stopped(0, RS_SEQUENCE_CORRUPT, 1));
}

/* The first of several errors wins the ring; a later one still names itself. */
static void two_errors(void) {
    make((rc_config){.capacity = 16, .slot_bytes = 8, .stages = 2, .filters = 3});
    publish(2, "{", 1);
    HOLDS(rc_available(&consumers[1]) == 2); /* it has them before the stop */
    rs_stage one = filter("a", "b"), two = filter("a", "b");
    HOLDS(rs_run(&one, &consumers[0], soon()) == RC_STOPPED && rs_run(&two, &consumers[1], soon()) == RC_STOPPED);
    HOLDS(one.code == RS_JSON_SYNTAX && two.code == RS_JSON_SYNTAX && stopped(0, RS_JSON_SYNTAX, 1));
}

/* Every mark is written on every lap: nothing of the last one stands. */
static void marks_of_the_last_lap(void) {
    static const char *const laps[] = {"{\"k\":1,\"j\":1}", "{\"k\":0,\"j\":1}", "{\"k\":1,\"j\":0}", "{\"k\":1,\"j\":1}"};
    static const uint8_t first[] = {0, 1, 0, 0}, second[] = {0, 1, 1, 0}; /* rejected upstream stays rejected */
    make((rc_config){.capacity = 4, .slot_bytes = 32, .stages = 3, .filters = 3, .deps = {0, 1, 2}});
    rs_stage k = filter("k", "1"), j = filter("j", "1"), count = started(RS_COUNT);
    for (uint64_t lap = 0; lap < 4; lap++) {
        publish(4, laps[lap], strlen(laps[lap]));
        if (lap == 3) rc_end(&ring, 16);
        int expected = lap == 3 ? RC_ENDED : RC_TIMEOUT;
        HOLDS(rs_run(&k, &consumers[0], 0) == expected && rs_run(&j, &consumers[1], 0) == expected);
        HOLDS(rs_run(&count, &consumers[2], 0) == expected);
        for (uint64_t i = 0; i < 4; i++) HOLDS(ring.marks[i] == first[lap] && ring.marks[ring.capacity + i] == second[lap]);
    }
    HOLDS(count.messages == 8 && count.taken == 16 && k.rejected == 4 && j.messages == 12 && j.rejected == 4);
}

static void apply(void) {
    rs_stage one = filter("a.b", "x"), digest = started(RS_DIGEST), forward = started(RS_FORWARD);
    uint8_t expected[32], found[32];
    HOLDS(rs_apply(&one, (const uint8_t *)"{\"a\":{\"b\":\"x\"}}", 15) == 1 && rs_apply(&one, (const uint8_t *)"{}", 2) == 0);
    HOLDS(rs_apply(&one, (const uint8_t *)"{", 1) == -RS_JSON_SYNTAX && one.messages == 2 && one.rejected == 1 && one.bytes == 17);
    HOLDS(rs_apply(&digest, (const uint8_t *)"abc", 3) == 1 && rs_apply(&digest, (const uint8_t *)"", 0) == 1);
    HOLDS(rs_apply(&forward, NULL, 3) == 1 && forward.messages == 1 && forward.bytes == 0); /* it does not look */
    sha256 hash;
    sha256_start(&hash, 1);
    sha256_add(&hash, "abc\n\n", 5);
    sha256_read(&hash, expected);
    rs_digest(&digest, found);
    HOLDS(memcmp(expected, found, 32) == 0);
}

static bool message(uint64_t sequence, const char *text) {
    const uint8_t *payload;
    int64_t length = rc_get(&ring, sequence, &payload);
    return length == (int64_t)strlen(text) && memcmp(payload, text, strlen(text)) == 0;
}

/* A part of a line waits over calls; a call ends at its deadline; the feeder beats while it waits. */
static void slow_pipe(void) {
    int ends[2];
    uint8_t buffer[16];
    rf_feeder feeder;
    make((rc_config){.capacity = 16, .slot_bytes = 8});
    HOLDS(pipe(ends) == 0 && rf_init(&feeder, &producer, buffer, sizeof buffer, 100) == RC_OK);
    HOLDS(write(ends[1], "one\ntw", 6) == 6);
    uint64_t began = rc_now_ns(), version = atomic_load(&producer.cell->version);
    HOLDS(rf_feed(&feeder, &producer, ends[0], began + 120000000) == RC_TIMEOUT);
    uint64_t took = rc_now_ns() - began;
    HOLDS(took >= 120000000 && took < 2000000000 && atomic_load(&producer.cell->version) >= version + 3);
    HOLDS(producer.claimed == 1 && message(1, "one") && feeder.lines == 1 && feeder.offset == 104 && feeder.bytes == 3);
    HOLDS(write(ends[1], "o\n\nthree", 8) == 8);
    HOLDS(rf_feed(&feeder, &producer, ends[0], 0) == RC_TIMEOUT); /* late, but one reading */
    HOLDS(producer.claimed == 3 && message(2, "two") && message(3, "") && feeder.offset == 109 && !feeder.unterminated);
    HOLDS(close(ends[1]) == 0 && rf_feed(&feeder, &producer, ends[0], soon()) == RC_ENDED);
    HOLDS(message(4, "three") && feeder.offset == 114 && feeder.unterminated && feeder.lines == 4 && feeder.bytes == 11);
    HOLDS(rf_feed(&feeder, &producer, ends[0], soon()) == RC_ENDED && producer.claimed == 4);
}

/* A full ring ends the call at its deadline; the lines that wait come later, once each. */
static void full_ring(void) {
    int ends[2];
    uint8_t buffer[64];
    rf_feeder feeder;
    make((rc_config){.capacity = 2, .slot_bytes = 8});
    HOLDS(pipe(ends) == 0 && rf_init(&feeder, &producer, buffer, sizeof buffer, 0) == RC_OK);
    HOLDS(write(ends[1], "1\n2\n3\n4\n5\nlonger than 8\n7\n", 26) == 26 && close(ends[1]) == 0);
    for (uint64_t seen = 0; seen < 4; seen += 2) {
        HOLDS(rf_feed(&feeder, &producer, ends[0], rc_now_ns() + 5000000) == RC_TIMEOUT);
        HOLDS(feeder.lines == seen + 2 && feeder.code == 0 && rc_available(&consumers[0]) == 2);
        rc_release(&consumers[0], 2);
    }
    HOLDS(rf_feed(&feeder, &producer, ends[0], soon()) == RC_INVALID && feeder.code == RF_LINE_LONG);
    HOLDS(feeder.error_line == 6 && feeder.error_offset == 10 && producer.claimed == 5 && message(5, "5"));
    HOLDS(rf_feed(&feeder, &producer, ends[0], soon()) == RC_INVALID && producer.claimed == 5);
}

static void stop_while_waiting(void) {
    int ends[2];
    uint8_t buffer[16];
    rf_feeder feeder;
    make((rc_config){.capacity = 2, .slot_bytes = 8});
    HOLDS(pipe(ends) == 0 && rf_init(&feeder, &producer, buffer, sizeof buffer, 0) == RC_OK);
    HOLDS(rf_feed(&feeder, &producer, ends[0], 0) == RC_TIMEOUT && rc_stop(&ring, 0, 40, 1));
    HOLDS(rf_feed(&feeder, &producer, ends[0], soon()) == RC_STOPPED);
}

int main(int count, char **argv) {
    static const struct { const char *name; void (*run)(void); } cases[] = {
        {"refusals", refusals}, {"broadcast", broadcast}, {"batch_messages", batch_messages}, {"batch_fixed", batch_fixed},
        {"batch_bytes", batch_bytes}, {"deadline", deadline}, {"length_corrupt", length_corrupt},
        {"first_message_fails", first_message_fails}, {"sequence_corrupt", sequence_corrupt}, {"two_errors", two_errors},
        {"marks_of_the_last_lap", marks_of_the_last_lap}, {"apply", apply}, {"slow_pipe", slow_pipe}, {"full_ring", full_ring},
        {"stop_while_waiting", stop_while_waiting}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (count == 1) printf("%s\n", cases[i].name);
        if (count != 2 || strcmp(argv[1], cases[i].name) != 0) continue;
        cases[i].run();
        return 0;
    }
    return count == 1 ? 0 : 2;
}
