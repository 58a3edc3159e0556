#include "stages.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define RF_LINES 256u          /* lines put and published at once */
#define RF_SLICE_NS 50000000ull /* between two beats of a feeder that waits for input */
#define RF_MINIMUM (1u << 20)

size_t rf_buffer_bytes(uint32_t slot_bytes) { return 2 * (size_t)slot_bytes > RF_MINIMUM ? 2 * (size_t)slot_bytes : RF_MINIMUM; }

int rf_init(rf_feeder *feeder, const rc_producer *producer, uint8_t *buffer, size_t room, uint64_t offset) {
    memset(feeder, 0, sizeof *feeder);
    if (!buffer || room <= producer->ring->slot_bytes) return RC_INVALID; /* a line is known to be too long one byte later */
    feeder->buffer = buffer;
    feeder->room = room;
    feeder->offset = offset;
    return RC_OK;
}

/* The whole lines at the front of the buffer that fit, up to RF_LINES of them: where each ends. At a line that does not fit it
 * stops and says why in `code`. */
static uint32_t rf_scan(rf_feeder *feeder, const rc_ring *ring, size_t *ends, uint32_t *code) {
    uint32_t count = 0, slot = ring->slot_bytes;
    size_t first = feeder->from;
    *code = 0;
    while (count < RF_LINES && first < feeder->to) {
        size_t known = feeder->searched > first ? feeder->searched : first;
        const uint8_t *found = memchr(feeder->buffer + known, '\n', feeder->to - known);
        size_t end = found ? (size_t)(found - feeder->buffer) : feeder->to;
        if (!found && !count) feeder->searched = end;
        if (end - first > slot) *code = RF_LINE_LONG;
        else if (!found && !feeder->eof) break;
        else if (end - first < slot && ring->capabilities & RC_CAP_FIXED) *code = RF_LINE_SHORT;
        if (*code) break;
        ends[count++] = end;
        first = end + 1;
    }
    return count;
}

/* The lines ending at ends[0..count) are taken from the input. */
static void rf_took(rf_feeder *feeder, const size_t *ends, uint32_t count) {
    if (!count) return;
    size_t end = ends[count - 1];
    feeder->unterminated = end == feeder->to; /* there is no line end to skip */
    size_t taken = end + !feeder->unterminated - feeder->from;
    feeder->lines += count;
    feeder->bytes += taken - count + feeder->unterminated;
    feeder->offset += taken;
    feeder->from += taken;
}

/* Put lines into the ring: RC_OK: all are published or lost; else why not, and those published are taken. */
static int rf_publish(rf_feeder *feeder, rc_producer *producer, const size_t *ends, uint32_t count, uint64_t deadline_ns) {
    rc_ring *ring = producer->ring;
    for (uint32_t done = 0; done < count;) {
        int64_t n = rc_try_claim(producer, count - done);
        if (n < 0) return (int)n;
        uint64_t sequence = producer->claimed - (uint64_t)n;
        size_t first = feeder->from;
        for (uint32_t i = 0; i < n; first = ends[done + i++] + 1)
            rc_put(ring, ++sequence, feeder->buffer + first, (uint32_t)(ends[done + i] - first));
        if (n) rc_publish(producer, (uint64_t)n);
        rf_took(feeder, ends + done, (uint32_t)n);
        done += (uint32_t)n;
        if (done == count) break;
        if (ring->capabilities & RC_CAP_DROP) {
            rc_refuse(producer, count - done);
            rf_took(feeder, ends + done, count - done);
            break;
        }
        int answer = rc_wait_space(producer, deadline_ns);
        if (answer) return answer;
    }
    return RC_OK;
}

/* Everything whole in the buffer goes into the ring. RC_OK: more input is needed. */
static int rf_drain(rf_feeder *feeder, rc_producer *producer, uint64_t deadline_ns) {
    size_t ends[RF_LINES];
    for (;;) {
        uint32_t code, count = rf_scan(feeder, producer->ring, ends, &code);
        int answer = rf_publish(feeder, producer, ends, count, deadline_ns);
        if (answer) return answer;
        if (code) {
            feeder->code = code;
            feeder->error_line = feeder->lines + 1;
            feeder->error_offset = feeder->offset;
            return RC_INVALID;
        }
        if (count < RF_LINES) return feeder->eof ? RC_ENDED : RC_OK;
    }
}

/* Read once what is there: RC_OK; RC_TIMEOUT: nothing within the slice; RC_SYSTEM: feeder->system. */
static int rf_fill(rf_feeder *feeder, int fd, uint64_t deadline_ns) {
    if (feeder->from == feeder->to) feeder->from = feeder->to = feeder->searched = 0;
    if (feeder->to == feeder->room) { /* a part of a line is left, at most slot_bytes of it */
        size_t left = feeder->to - feeder->from;
        memmove(feeder->buffer, feeder->buffer + feeder->from, left);
        feeder->searched = feeder->from = 0;
        feeder->to = left;
    }
    uint64_t now = rc_now_ns(), wait = now < deadline_ns ? deadline_ns - now : 0;
    if (wait > RF_SLICE_NS) wait = RF_SLICE_NS;
    struct pollfd input = {.fd = fd, .events = POLLIN};
    int ready = poll(&input, 1, (int)((wait + 999999) / 1000000));
    if (ready == 0) return RC_TIMEOUT;
    ssize_t got = ready < 0 ? -1 : read(fd, feeder->buffer + feeder->to, feeder->room - feeder->to);
    if (got < 0) {
        feeder->system = errno;
        return RC_SYSTEM;
    }
    feeder->eof = got == 0;
    feeder->to += (size_t)got;
    return RC_OK;
}

int rf_feed(rf_feeder *feeder, rc_producer *producer, int fd, uint64_t deadline_ns) {
    int answer = feeder->final;
    bool late = false; /* looked at after a reading, so that each call makes one */
    while (!answer) {
        uint32_t stage, code;
        uint64_t sequence;
        answer = rf_drain(feeder, producer, deadline_ns);
        if (!answer && rc_stop_read(producer->ring, &stage, &code, &sequence)) answer = RC_STOPPED;
        if (!answer && late) answer = RC_TIMEOUT;
        if (answer) break;
        answer = rf_fill(feeder, fd, deadline_ns);
        if (answer == RC_TIMEOUT) answer = RC_OK;
        if (answer == RC_SYSTEM && feeder->system == EAGAIN) answer = RC_OK; /* somebody else's read was faster */
        if (answer == RC_SYSTEM && feeder->system == EINTR) answer = RC_TIMEOUT; /* the caller looks at its signals */
        if (answer != RC_SYSTEM) feeder->system = 0;
        late = rc_now_ns() >= deadline_ns;
        rc_producer_beat(producer);
    }
    rc_producer_beat(producer);
    if (answer != RC_TIMEOUT) feeder->final = answer;
    return answer;
}
