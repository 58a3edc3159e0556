/* The same messages through the queues of others, one producer to one consumer, or several producers to one.
 *
 *     peers queue=NAME payload=8|64 batch=N count=N producers=N cpus=A,B
 *
 * Exit 3 and a line on standard error: this queue is not here (its header is missing, or it has no such form).
 */
#include "common.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#if __has_include(<boost/lockfree/spsc_queue.hpp>)
#include <boost/lockfree/spsc_queue.hpp>
#include <boost/version.hpp>
#define HAVE_BOOST 1
#endif
#if __has_include(<readerwriterqueue/readerwriterqueue.h>)
#include <readerwriterqueue/readerwriterqueue.h>
#define HAVE_READERWRITER 1
#endif
#if __has_include(<atomic_queue/atomic_queue.h>)
#include <atomic_queue/atomic_queue.h>
#define HAVE_ATOMIC_QUEUE 1
#endif

namespace {

constexpr unsigned SLOTS = 65536;

struct wide {
    std::uint64_t word[8];
};

struct plan {
    std::uint64_t count, batch, producers;
    int64_t cpus[2];
};

[[noreturn]] void absent(const char *why) {
    std::fprintf(stderr, "%s\n", why);
    std::exit(3);
}

inline void fill(std::uint64_t &to, std::uint64_t s) { to = s; }
inline void fill(wide &to, std::uint64_t s) {
    for (std::uint64_t w = 0; w < 8; w++) to.word[w] = s + w;
}
inline std::uint64_t read(const std::uint64_t &from) { return from; }
inline std::uint64_t read(const wide &from) {
    std::uint64_t sum = 0;
    for (std::uint64_t word : from.word) sum += word;
    return sum;
}

/* `push(first, n)` gives messages first .. first + n - 1; `take(sum)` adds up what is there and says how many. */
template <class Push, class Take> void measure(const plan &p, std::uint64_t words, Push push, Take take) {
    std::atomic<bool> ready{false}, go{false};
    std::uint64_t sum = 0;
    std::thread consumer([&] {
        pin(p.cpus[1]);
        std::uint64_t got = 0, local = 0;
        ready = true;
        while (got < p.count) {
            std::uint64_t n = take(local, p.count - got);
            if (!n) relax();
            got += n;
        }
        sum = local;
    });
    while (!ready) std::this_thread::yield();
    std::uint64_t start = bench_ns();
    std::vector<std::thread> threads;
    std::uint64_t first = 1;
    for (std::uint64_t k = 0; k < p.producers; k++) {
        std::uint64_t share = p.count / p.producers + (k < p.count % p.producers);
        threads.emplace_back([&, first, share] {
            pin(p.cpus[0]);
            std::uint64_t s = first, end = first + share;
            while (s < end) {
                std::uint64_t n = push(s, end - s < p.batch ? end - s : p.batch);
                if (!n) relax();
                s += n;
            }
        });
        first += share;
    }
    for (auto &thread : threads) thread.join();
    consumer.join();
    double taken = double(bench_ns() - start) * 1e-9;
    if (sum != checksum(p.count, words)) fail("other bytes came out than went in");
    std::printf("rate %.0f\n", double(p.count) / taken);
}

#ifdef HAVE_BOOST
/* all: consume_all, else pop one at a time. */
template <class T> void boost_spsc(const plan &p, bool all) {
    auto *queue = new boost::lockfree::spsc_queue<T, boost::lockfree::capacity<SLOTS>>;
    std::vector<T> block(p.batch);
    auto push = [&](std::uint64_t s, std::uint64_t n) -> std::uint64_t {
        if (p.batch == 1) {
            T item;
            fill(item, s);
            return queue->push(item);
        }
        for (std::uint64_t k = 0; k < n; k++) fill(block[k], s + k);
        std::uint64_t sent = queue->push(block.data(), n);
        while (sent < n) {
            relax();
            sent += queue->push(block.data() + sent, n - sent);
        }
        return n;
    };
    auto take = [&](std::uint64_t &sum, std::uint64_t) -> std::uint64_t {
        if (all) return queue->consume_all([&](const T &item) { sum += read(item); });
        T item;
        if (!queue->pop(item)) return 0;
        sum += read(item);
        return 1;
    };
    measure(p, sizeof(T) / 8, push, take);
    delete queue;
}
#endif

#ifdef HAVE_READERWRITER
template <class T> void reader_writer(const plan &p) {
    moodycamel::ReaderWriterQueue<T> queue(SLOTS);
    measure(
        p, sizeof(T) / 8,
        [&](std::uint64_t s, std::uint64_t) -> std::uint64_t {
            T item;
            fill(item, s);
            return queue.try_enqueue(item);
        },
        [&](std::uint64_t &sum, std::uint64_t) -> std::uint64_t {
            T item;
            if (!queue.try_dequeue(item)) return 0;
            sum += read(item);
            return 1;
        });
}
#endif

#ifdef HAVE_ATOMIC_QUEUE
/* push and pop wait inside, as its own benchmarks do. */
template <class T, class Queue> void atomic_one(const plan &p) {
    auto *queue = new Queue;
    measure(
        p, sizeof(T) / 8,
        [&](std::uint64_t s, std::uint64_t) -> std::uint64_t {
            T item;
            fill(item, s);
            queue->push(item);
            return 1;
        },
        [&](std::uint64_t &sum, std::uint64_t) -> std::uint64_t {
            sum += read(queue->pop());
            return 1;
        });
    delete queue;
}
#endif

} // namespace

int main(int, char **argv) {
    plan p{std::uint64_t(number(argv, "count", 10000000)), std::uint64_t(number(argv, "batch", 1)),
           std::uint64_t(number(argv, "producers", 1)), {-1, -1}};
    bool narrow = number(argv, "payload", 8) == 8;
    long a, b;
    if (std::sscanf(word(argv, "cpus", ""), "%ld,%ld", &a, &b) == 2) p.cpus[0] = a, p.cpus[1] = b;
    std::string queue = word(argv, "queue", "");
    if (queue == "boost" || queue == "boost-all") {
#ifdef HAVE_BOOST
        if (p.producers > 1) absent("spsc_queue has one producer");
        narrow ? boost_spsc<std::uint64_t>(p, queue == "boost-all") : boost_spsc<wide>(p, queue == "boost-all");
        std::printf("version boost %s\n", BOOST_LIB_VERSION);
#else
        absent("boost/lockfree/spsc_queue.hpp is missing (libboost-dev)");
#endif
    } else if (queue == "readerwriterqueue") {
#ifdef HAVE_READERWRITER
        if (p.producers > 1 || p.batch > 1) absent("readerwriterqueue has one producer and no batches");
        narrow ? reader_writer<std::uint64_t>(p) : reader_writer<wide>(p);
#else
        absent("readerwriterqueue/readerwriterqueue.h is missing (libreaderwriterqueue-dev)");
#endif
    } else if (queue == "atomic_queue") {
#ifdef HAVE_ATOMIC_QUEUE
        using namespace atomic_queue;
        if (p.batch > 1) absent("atomic_queue has no batches");
        if (!narrow) atomic_one<wide, AtomicQueue2<wide, SLOTS, true, true, false, true>>(p);
        else if (p.producers > 1) atomic_one<std::uint64_t, AtomicQueue<std::uint64_t, SLOTS>>(p);
        else atomic_one<std::uint64_t, AtomicQueue<std::uint64_t, SLOTS, 0, true, true, false, true>>(p);
#else
        absent("atomic_queue/atomic_queue.h is missing (libatomic-queue-dev)");
#endif
    } else {
        fail("queue=boost|boost-all|readerwriterqueue|atomic_queue");
    }
    return 0;
}
