/* Native stages and the line feeder: loops that run without the GIL on a ring of `core.h`. No Python here.
 *
 * Use of a stage, on its own thread (nothing here is shared; results are read by the thread that calls rs_run):
 *
 *     rs_stage stage;
 *     if (rs_init(&stage, RS_DIGEST) != RC_OK) ...
 *     if (rs_check(&stage, consumer) != RC_OK) ...               once, after rc_consumer_attach
 *     do answer = rs_run(&stage, consumer, rc_now_ns() + slice); while (answer == RC_TIMEOUT);   signals are looked at between
 *     RC_ENDED: done.  RC_STOPPED, RC_CORRUPT: stage.code != 0 says that this stage did it, and stage.sequence where.
 *
 * Use of the feeder, on the producer's thread:
 *
 *     rf_feeder feeder;
 *     if (rf_init(&feeder, producer, buffer, rf_buffer_bytes(slot_bytes), offset) != RC_OK) ...   fd already stands at `offset`
 *     do answer = rf_feed(&feeder, producer, fd, rc_now_ns() + slice); while (answer == RC_TIMEOUT);
 *     RC_ENDED: end of input, everything is published: rc_end(ring, producer->claimed).
 *     RC_INVALID: a line does not fit: feeder.code, .error_line, .error_offset. Everything before it is published, nothing after.
 *         The caller still ends the ring, so that the stages work off what is there, and reports the run as failed.
 *     RC_SYSTEM: feeder.system is the errno.  RC_STOPPED, RC_CORRUPT: of the ring.  All but RC_TIMEOUT are final.
 */
#ifndef MUNIMENT_RING_STAGES_H
#define MUNIMENT_RING_STAGES_H

#include "core.h"
#include "json_scan.h"
#include "sha256.h"

/* Operations. */
enum {
    RS_FORWARD = 1, /* identity: reads nothing */
    RS_COUNT = 2,   /* messages and bytes */
    RS_DIGEST = 3,  /* SHA-256 over every message and one 0x0A after it: of a file of lines, what sha256sum says */
    RS_FILTER = 4   /* marks what does not match; only at a stage of `rc_ring.filters` */
};

/* Why a native stage stopped the ring (`stop_code`). 1..31 are ours; stages in Python take theirs above. */
enum {
    RS_JSON_SYNTAX = 1,
    RS_JSON_OBJECT = 2,
    RS_JSON_DUPLICATE = 3,
    RS_JSON_NESTING = 4,
    RS_JSON_UTF8 = 5,
    RS_LENGTH_CORRUPT = 6,  /* the slot's length word is over slot_bytes */
    RS_SEQUENCE_CORRUPT = 7 /* an upstream sequence says something impossible */
};

/* A stage that reads messages releases at least this often: what is downstream gets going, the producer gets its slots. */
#define RS_BATCH_MESSAGES 4096u
#define RS_BATCH_BYTES (1u << 20)

typedef struct rs_stage {
    uint32_t op;
    uint32_t code;     /* RS_* above if this stage stopped the ring; 0 */
    uint64_t sequence; /* of the message it stopped at */
    uint64_t taken;    /* messages released, also those a filter upstream had rejected */
    uint64_t messages; /* of these not rejected upstream; RS_FORWARD does not look, it counts all */
    uint64_t bytes;    /* payload of `messages`, no line ends; 0 for RS_FORWARD */
    uint64_t rejected; /* RS_FILTER: of `messages`, those that this filter marked */
    js_query query;
    sha256 hash;
} rs_stage;

/* Start an operation: RC_OK; RC_INVALID: no such one. */
int rs_init(rs_stage *stage, uint32_t op);
/* RS_FILTER's question, before the first rs_run: RC_OK; RC_INVALID: path or value are not usable (see js_query_set). */
int rs_filter(rs_stage *stage, const char *path, size_t path_length, const char *value, size_t value_length);
/* Can it run there? RC_INVALID: a broadcast ring (its readers copy: rs_apply), or a filter where the ring has none, or without question. */
int rs_check(const rs_stage *stage, const rc_consumer *consumer);
/* Work until `deadline_ns` (CLOCK_MONOTONIC; RC_TIMEOUT), the end (RC_ENDED) or a stop (RC_STOPPED, RC_CORRUPT). Waits in
 * rc_wait_available, which beats. A message that fails stops the ring: everything before it is released, it is not. */
int rs_run(rs_stage *stage, rc_consumer *consumer, uint64_t deadline_ns);
/* The same operation on one message outside a ring (a lane's role): 1 goes on, 0 rejected by the filter, < 0 minus an RS_ code. */
int rs_apply(rs_stage *stage, const uint8_t *payload, uint32_t length);
/* RS_DIGEST: SHA-256 of everything so far, at any time between two calls of rs_run. */
void rs_digest(const rs_stage *stage, uint8_t digest[32]);

/* Why the feeder does not go on (`rf_feeder.code`). */
enum {
    RF_LINE_LONG = 1, /* over slot_bytes */
    RF_LINE_SHORT = 2 /* RC_CAP_FIXED: under slot_bytes */
};

/* Lines of a file, a pipe or a terminal as messages.
 *
 * 1. A line ends at 0x0A, which is not part of the message; every other byte is kept, also 0x0D and 0x00. What follows the last
 *    0x0A is a line at the end of the file only, if it is not empty (`unterminated` says so).
 * 2. An empty line is an empty message: then message i is line i, and what a line must hold is the sink's rule, not the feeder's.
 * 3. A message has no field for its place in the input. The sink of a single shard knows it: messages come in order, so the offset
 *    after message i is the start offset plus length + 1 of every message up to i, and at the end not more than the file's size
 *    (`offset` says it, for an unterminated last line). Under RC_CAP_DROP the sum is not the offset: nothing is acknowledged there.
 * 4. Under RC_CAP_DROP a line that finds no space is counted in the producer's tuple (`lost`), and in `lines` and `offset`.
 */
typedef struct rf_feeder {
    uint8_t *buffer;
    size_t room, from, to, searched; /* unread bytes are [from, to); no line end in [from, searched) */
    uint64_t lines;                  /* taken from the input: published or lost */
    uint64_t bytes;                  /* of these lines, without line ends */
    uint64_t offset;                 /* in the input, after the last of these lines with its line end */
    uint64_t error_line, error_offset; /* the first line that does not fit: number (from 1, of this feeder) and where it begins */
    uint32_t code;
    int system;  /* errno of RC_SYSTEM */
    int final;   /* the answer once there is a last one; RC_OK before */
    bool eof;    /* read() said so; lines may still wait in the buffer */
    bool unterminated;
} rf_feeder;

/* Bytes the caller allocates: 1 MiB, or twice the longest line if that is more. */
size_t rf_buffer_bytes(uint32_t slot_bytes);
/* RC_INVALID: `room` is under slot_bytes + 1. `offset`: where `fd` stands, what `offset` goes on from. */
int rf_init(rf_feeder *feeder, const rc_producer *producer, uint8_t *buffer, size_t room, uint64_t offset);
/* Feed until `deadline_ns` (RC_TIMEOUT), the end of input (RC_ENDED), a bad line (RC_INVALID), an error of read (RC_SYSTEM) or a
 * stop of the ring. Also RC_TIMEOUT before the deadline when a signal came. Never waits in read(): it polls, at most 50 ms at once, and
 * beats between. With a deadline in the past it takes what is there and does not wait. */
int rf_feed(rf_feeder *feeder, rc_producer *producer, int fd, uint64_t deadline_ns);

#endif
