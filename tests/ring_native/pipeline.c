/* A whole pipeline as one process: the feeder on the main thread, a thread a stage. Tests read what it prints.
 *
 *     pipeline CAPACITY SLOT FLAGS WAIT SLICE_US BUFFER INPUT COLLECTED STAGE…
 *
 * FLAGS: letters of f (fixed), d (drop), m (several producers), or -.  INPUT: a file, or - for standard input.
 * BUFFER: bytes, 0 for what the interface says.  STAGE: OP[@DEPS][:PATH=VALUE], DEPS as 0,1; `collect` writes each message that
 * reaches it to COLLECTED: length as u32, bytes.  `slow` waits 200 us a message. */
#include "stages.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t slice_ns;

typedef struct {
    const char *op;
    rc_consumer consumer;
    rs_stage stage;
    FILE *collected;
    int answer;
    pthread_t thread;
} worker;

static int by_hand(worker *w) {
    for (;;) {
        int64_t n = rc_wait_available(&w->consumer, rc_now_ns() + slice_ns);
        if (n == RC_TIMEOUT) continue;
        if (n < 0) return (int)n;
        for (int64_t i = 0; i < n; i++) {
            uint64_t sequence = w->consumer.at + (uint64_t)i + 1;
            const uint8_t *payload;
            if (rc_marked(w->consumer.ring, w->consumer.stage, sequence)) continue;
            int64_t got = rc_get(w->consumer.ring, sequence, &payload);
            if (got < 0) return RC_CORRUPT;
            uint32_t length = (uint32_t)got;
            if (strcmp(w->op, "slow") == 0) nanosleep(&(struct timespec){0, 200000}, NULL);
            else if (fwrite(&length, 4, 1, w->collected) != 1 || fwrite(payload, 1, length, w->collected) != length) abort();
            w->stage.messages++;
        }
        rc_release(&w->consumer, (uint64_t)n);
        w->stage.taken += (uint64_t)n;
    }
}

static void *work(void *of) {
    worker *w = of;
    if (!w->stage.op) {
        w->answer = by_hand(w);
    } else {
        do w->answer = rs_run(&w->stage, &w->consumer, rc_now_ns() + slice_ns);
        while (w->answer == RC_TIMEOUT);
    }
    return NULL;
}

/* OP[@DEPS][:PATH=VALUE] */
static int parse(worker *w, char *text, uint16_t *deps) {
    static const char *const ops[] = {"", "forward", "count", "digest", "filter"};
    char *rule = strchr(text, ':');
    if (rule) *rule++ = 0;
    char *on = strchr(text, '@');
    if (on) *on++ = 0;
    for (*deps = 0; on && *on; on += *on == ',') *deps = (uint16_t)(*deps | 1u << strtoul(on, &on, 10));
    w->op = text;
    if (strcmp(text, "collect") == 0 || strcmp(text, "slow") == 0) return RC_OK;
    for (uint32_t op = RS_FORWARD; op <= RS_FILTER; op++)
        if (strcmp(text, ops[op]) == 0 && rs_init(&w->stage, op)) return RC_INVALID;
    char *value = rule ? strchr(rule, '=') : NULL;
    return value ? rs_filter(&w->stage, rule, (size_t)(value - rule), value + 1, strlen(value + 1)) : w->stage.op ? RC_OK : RC_INVALID;
}

static void report(const worker *w, int index) {
    uint8_t digest[32] = {0};
    if (w->stage.op == RS_DIGEST) rs_digest(&w->stage, digest);
    printf("stage%d answer=%d code=%u sequence=%" PRIu64 " taken=%" PRIu64 " messages=%" PRIu64 " bytes=%" PRIu64 " rejected=%" PRIu64
           " at=%" PRIu64 " digest=", index, w->answer, w->stage.code, w->stage.sequence, w->stage.taken, w->stage.messages,
           w->stage.bytes, w->stage.rejected, w->consumer.at);
    for (int i = 0; i < 32; i++) printf("%02x", digest[i]);
    printf("\n");
}

int main(int count, char **argv) {
    if (count < 10 || count > 9 + (int)RC_STAGES) return 2;
    static const struct { char letter; uint32_t bit; } flags[] = {
        {'f', RC_CAP_FIXED}, {'d', RC_CAP_DROP}, {'m', RC_CAP_MULTI}};
    rc_config config = {.kind = RC_GATED, .stages = (uint32_t)count - 9, .wait = (uint32_t)atoi(argv[4])};
    config.capacity = strtoull(argv[1], NULL, 10);
    config.slot_bytes = (uint32_t)strtoul(argv[2], NULL, 10);
    for (size_t i = 0; i < 3; i++) config.capabilities |= strchr(argv[3], flags[i].letter) ? flags[i].bit : 0;
    slice_ns = strtoull(argv[5], NULL, 10) * 1000;
    static worker workers[RC_STAGES];
    rc_map map;
    rc_ring ring;
    rc_producer producer;
    rf_feeder feeder;
    FILE *collected = fopen(argv[8], "wb");
    for (uint32_t i = 0; i < config.stages; i++) {
        workers[i].collected = collected;
        if (parse(&workers[i], argv[9 + i], &config.deps[i])) return 2;
        config.filters |= (uint32_t)(workers[i].stage.op == RS_FILTER) << i;
    }
    if (config.filters) config.capabilities |= RC_CAP_MARKS;
    if (!collected || rc_map_anonymous(&map, &config) || rc_open(&ring, map.memory, map.bytes)) return 3;
    for (uint32_t i = 0; i < config.stages; i++) {
        if (rc_consumer_attach(&workers[i].consumer, &ring, i)) return 3;
        if (workers[i].stage.op && rs_check(&workers[i].stage, &workers[i].consumer)) return 4;
    }
    size_t room = strtoull(argv[6], NULL, 10);
    if (!room) room = rf_buffer_bytes(config.slot_bytes);
    uint8_t *buffer = malloc(room);
    int fd = strcmp(argv[7], "-") ? open(argv[7], O_RDONLY) : STDIN_FILENO;
    if (!buffer || fd < 0 || rc_producer_attach(&producer, &ring) || rf_init(&feeder, &producer, buffer, room, 0)) return 5;
    for (uint32_t i = 0; i < config.stages; i++) pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    int answer;
    uint64_t calls = 0;
    do {
        answer = rf_feed(&feeder, &producer, fd, rc_now_ns() + slice_ns);
        calls++;
    } while (answer == RC_TIMEOUT);
    if (answer == RC_ENDED || answer == RC_INVALID) rc_end(&ring, producer.claimed);
    if (answer == RC_SYSTEM) rc_stop(&ring, RC_NO_STAGE, 99, producer.claimed);
    for (uint32_t i = 0; i < config.stages; i++) pthread_join(workers[i].thread, NULL);
    printf("feed answer=%d again=%d code=%u lines=%" PRIu64 " bytes=%" PRIu64 " offset=%" PRIu64 " error_line=%" PRIu64 " error_offset=%" PRIu64
           " lost=%" PRIu64 " claimed=%" PRIu64 " unterminated=%d system=%d calls=%" PRIu64 "\n",
           answer, rf_feed(&feeder, &producer, fd, 0), feeder.code, feeder.lines, feeder.bytes, feeder.offset, feeder.error_line,
           feeder.error_offset, producer.tuple.lost, producer.claimed, feeder.unterminated, feeder.system, calls);
    for (uint32_t i = 0; i < config.stages; i++) report(&workers[i], (int)i);
    uint32_t stage, code;
    uint64_t sequence;
    uint32_t state = rc_stop_read(&ring, &stage, &code, &sequence);
    printf("stop state=%u stage=%u code=%u sequence=%" PRIu64 "\n", state, stage, code, sequence);
    for (uint32_t i = 0; i < config.stages; i++) rc_consumer_detach(&workers[i].consumer);
    rc_producer_detach(&producer);
    rc_unmap(&map);
    free(buffer);
    return fclose(collected) ? 6 : 0;
}
