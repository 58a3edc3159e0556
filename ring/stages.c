#include "stages.h"

#include <string.h>

#define RS_LOOK_BATCHES 16u /* the clock costs 18 ns: it is read after so many batches, */
#define RS_LOOK_MESSAGES RS_BATCH_MESSAGES /* or so many messages, or one batch that was cut by its bytes */

int rs_init(rs_stage *stage, uint32_t op) {
    memset(stage, 0, sizeof *stage);
    if (op < RS_FORWARD || op > RS_FILTER) return RC_INVALID;
    stage->op = op;
    sha256_start(&stage->hash, 0);
    return RC_OK;
}

int rs_filter(rs_stage *stage, const char *path, size_t path_length, const char *value, size_t value_length) {
    if (stage->op != RS_FILTER) return RC_INVALID;
    return js_query_set(&stage->query, path, path_length, value, value_length) ? RC_INVALID : RC_OK;
}

int rs_check(const rs_stage *stage, const rc_consumer *consumer) {
    const rc_ring *ring = consumer->ring;
    if (ring->kind != RC_GATED) return RC_INVALID;
    if (stage->op != RS_FILTER) return stage->op ? RC_OK : RC_INVALID;
    return ring->filters >> consumer->stage & 1 && stage->query.names ? RC_OK : RC_INVALID;
}

void rs_digest(const rs_stage *stage, uint8_t digest[32]) { sha256_read(&stage->hash, digest); }

/* One message: 1 goes on, 0 rejected, negative: an RS_ code. `op` is a constant in the loops, so one arm remains. */
static inline __attribute__((always_inline)) int rs_one(rs_stage *stage, uint32_t op, const uint8_t *payload, uint32_t length) {
    static const uint8_t line_end = '\n';
    int answer = 1;
    if (op == RS_DIGEST) {
        sha256_add(&stage->hash, payload, length);
        sha256_add(&stage->hash, &line_end, 1);
    } else if (op == RS_FILTER) {
        answer = js_match(&stage->query, payload, length);
        if (answer < 0) return answer; /* JS_ codes are the negative RS_ codes */
        stage->rejected += !answer;
    }
    return answer;
}

_Static_assert(RS_JSON_SYNTAX == -JS_SYNTAX && RS_JSON_OBJECT == -JS_OBJECT && RS_JSON_DUPLICATE == -JS_DUPLICATE, "one list");
_Static_assert(RS_JSON_NESTING == -JS_NESTING && RS_JSON_UTF8 == -JS_UTF8, "one list");

int rs_apply(rs_stage *stage, const uint8_t *payload, uint32_t length) {
    uint32_t op = stage->op;
    int answer = rs_one(stage, op, payload, length);
    if (answer < 0) return answer;
    stage->messages++;
    stage->bytes += op == RS_FORWARD ? 0 : length;
    return answer;
}

/* Messages one by one, until `n`, the bound of bytes or an error (stage->code): how many are done. */
static inline __attribute__((always_inline)) uint64_t rs_walk(rs_stage *stage, const rc_consumer *consumer, uint64_t n, uint32_t op) {
    rc_ring *ring = consumer->ring;
    const bool marks = ring->above[consumer->stage];
    uint64_t done = 0, messages = 0, bytes = 0;
    for (; done < n && bytes < RS_BATCH_BYTES; done++) {
        uint64_t sequence = consumer->at + done + 1;
        if (marks && rc_marked(ring, consumer->stage, sequence)) {
            if (op == RS_FILTER) rc_mark(ring, consumer->stage, sequence, true); /* not the mark of the last lap */
            continue;
        }
        const uint8_t *payload;
        int64_t length = rc_get(ring, sequence, &payload);
        int answer = length < 0 ? -RS_LENGTH_CORRUPT : rs_one(stage, op, payload, (uint32_t)length);
        if (answer < 0) {
            stage->code = (uint32_t)-answer;
            stage->sequence = sequence;
            break;
        }
        messages++;
        bytes += (uint64_t)length;
        if (op == RS_FILTER) rc_mark(ring, consumer->stage, sequence, !answer);
    }
    stage->messages += messages;
    stage->bytes += bytes;
    return done;
}

/* As many of `n` as belong in one batch. */
static uint64_t rs_batch(rs_stage *stage, const rc_consumer *consumer, uint64_t n) {
    const rc_ring *ring = consumer->ring;
    uint64_t cut = n < RS_BATCH_MESSAGES ? n : RS_BATCH_MESSAGES;
    switch (stage->op) {
    case RS_FORWARD: stage->messages += n; return n;
    case RS_COUNT:
        if (ring->above[consumer->stage] || !(ring->capabilities & RC_CAP_FIXED)) return rs_walk(stage, consumer, cut, RS_COUNT);
        stage->messages += n;
        stage->bytes += n * ring->slot_bytes;
        return n;
    case RS_DIGEST: return rs_walk(stage, consumer, cut, RS_DIGEST);
    default: return rs_walk(stage, consumer, cut, RS_FILTER);
    }
}

int rs_run(rs_stage *stage, rc_consumer *consumer, uint64_t deadline_ns) {
    uint64_t batches = 0, messages = 0;
    int answer = RC_OK;
    while (!answer) {
        int64_t n = rc_wait_available(consumer, deadline_ns);
        if (n < 0) {
            answer = (int)n;
            if (n == RC_CORRUPT) {
                stage->code = RS_SEQUENCE_CORRUPT;
                stage->sequence = consumer->at + 1;
                rc_stop(consumer->ring, consumer->stage, stage->code, stage->sequence);
            }
            break;
        }
        uint64_t done = rs_batch(stage, consumer, (uint64_t)n);
        if (done) rc_release(consumer, done);
        stage->taken += done;
        messages += done;
        if (stage->code) {
            rc_stop(consumer->ring, consumer->stage, stage->code, stage->sequence);
            answer = RC_STOPPED;
        } else if (++batches >= RS_LOOK_BATCHES || messages >= RS_LOOK_MESSAGES || done < (uint64_t)n) {
            batches = messages = 0;
            rc_consumer_beat(consumer); /* who never waits beats here */
            if (rc_now_ns() >= deadline_ns) answer = RC_TIMEOUT;
        }
    }
    rc_consumer_beat(consumer);
    return answer;
}
