/* What core.c and consume.c lean on: the orders by name, pausing, sleeping and waking, owner words. */
#ifndef MUNIMENT_RING_CORE_INNER_H
#define MUNIMENT_RING_CORE_INNER_H

#include "core.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef RC_ORDER_AVAILABLE
#define RC_ORDER_AVAILABLE memory_order_acquire /* cursor or upstream, read by a stage */
#endif
#ifndef RC_ORDER_RELEASE
#define RC_ORDER_RELEASE memory_order_release /* a stage's sequence */
#endif
#ifndef RC_ORDER_GATE
#define RC_ORDER_GATE memory_order_acquire /* final stages, read by the producer */
#endif
#ifndef RC_ORDER_STAMP
#define RC_ORDER_STAMP memory_order_release /* stamp of a slot */
#endif
#ifndef RC_ORDER_SNAPSHOT
#define RC_ORDER_SNAPSHOT memory_order_acquire
#endif

#define PAUSES 8u           /* then it yields: with more threads than cores 1.5 x as fast as after 100, alone no slower */
#define YIELDS 100u         /* about what a wake-up costs (30 us): a pair that answers at once stays awake */
#define BEAT_NS 20000000ull /* a waiting participant says that it lives */

static inline void pause_once(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* tens of cycles; `yield` is a no-op on most cores */
#endif
}

static inline uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- sleeping until a cell's sequence moves (RC_PARK) ---- */

static inline void sleep_on(_Atomic uint32_t *bell, uint32_t value, uint64_t until) {
    uint64_t now = rc_now_ns();
    uint64_t left = now < until ? until - now : 0;
    if (left > BEAT_NS) left = BEAT_NS;
    struct timespec slice = {0, (long)left};
    /* Shared futex (no FUTEX_PRIVATE_FLAG): the other side may be another process. Any return is looked at again. */
    syscall(SYS_futex, (uint32_t *)(void *)bell, FUTEX_WAIT, value, &slice, NULL, 0);
}

/* Called after the store that moved the cell. The fence orders that store before the load of the bell; the sleeper's orders its
 * write of the bell before its look at the cell: one of the two sees the other (Dekker), so no wake-up is lost. */
static inline void ring_bell(const rc_ring *ring, rc_cell *cell) {
    if (ring->wait != RC_PARK) return;
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t value = atomic_load_explicit(&cell->bell, memory_order_relaxed);
    if (!(value & 1)) return;
    /* A new even value: a sleeper that set its bit in between finds another value than it expects and looks again. By
     * compare-and-swap, so that the word never goes back: an exchange with an old value let a sleeper find the value it expected after
     * the wake-up meant for it (tests/ring/model/park.py). Where it fails another one cleared the bit and wakes. Relaxed: the system
     * call orders, and the bit alone carries nothing. */
    atomic_compare_exchange_strong_explicit(&cell->bell, &value, (value + 2) & ~1u, memory_order_relaxed, memory_order_relaxed);
    syscall(SYS_futex, (uint32_t *)(void *)&cell->bell, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Set the sleeper's bit; the value to sleep on. The caller looks again before it sleeps. */
static inline uint32_t take_bell(rc_cell *cell) {
    uint32_t value = atomic_fetch_or_explicit(&cell->bell, 1, memory_order_relaxed) | 1;
    atomic_thread_fence(memory_order_seq_cst); /* see ring_bell */
    return value;
}

static inline void ring_all(const rc_ring *ring) {
    for (uint32_t i = 0; i < 1 + ring->stages; i++) ring_bell(ring, &ring->at->cells[i]);
}

/* One step of waiting. True: sleep now (RC_PARK); the clock is read every 32nd step, `now` is the last reading. */
static inline bool wait_step(const rc_ring *ring, unsigned *step, uint64_t *now) {
    unsigned k = (*step)++;
    if (k < PAUSES || ring->wait == RC_SPIN) {
        pause_once();
        if (k % 32 == PAUSES - 1) *now = rc_now_ns();
        return false;
    }
    if (ring->wait == RC_PARK && k >= PAUSES + YIELDS) {
        *now = rc_now_ns();
        return true;
    }
    if (ring->wait != RC_BACKOFF || k < PAUSES + YIELDS) {
        sched_yield();
    } else {
        unsigned longer = (k - PAUSES - YIELDS) / 16, doubled = longer < 5 ? longer : 5; /* 50 us to 1.6 ms */
        struct timespec nap = {0, 50000l << doubled};
        nanosleep(&nap, NULL);
    }
    *now = rc_now_ns();
    return false;
}

/* ---- owners ---- */

static inline int own(rc_cell *cell) {
    uint64_t self = rc_self(), owner = atomic_load_explicit(&cell->owner, memory_order_relaxed);
    for (;;) {
        if (owner && rc_alive(owner)) return RC_BUSY; /* alive, or not to be told from here: fail closed */
        /* Acquire: what the last owner wrote before it let go (release in disown), or before it died, is seen. */
        if (atomic_compare_exchange_strong_explicit(&cell->owner, &owner, self, memory_order_acquire, memory_order_relaxed))
            return RC_OK;
    }
}

static inline void disown(rc_cell **cell) {
    if (*cell) atomic_store_explicit(&(*cell)->owner, 0, memory_order_release);
    *cell = NULL;
}

/* Relaxed: only whether to go on; the values are read by rc_stop_read. */
static inline bool stopping(const rc_ring *ring) {
    return atomic_load_explicit(&ring->at->control.stop, memory_order_relaxed) != 0;
}

#endif
