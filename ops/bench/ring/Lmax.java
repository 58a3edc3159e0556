import com.lmax.disruptor.BatchEventProcessor;
import com.lmax.disruptor.BlockingWaitStrategy;
import com.lmax.disruptor.BusySpinWaitStrategy;
import com.lmax.disruptor.EventHandler;
import com.lmax.disruptor.RingBuffer;
import com.lmax.disruptor.Sequence;
import com.lmax.disruptor.SequenceBarrier;
import com.lmax.disruptor.WaitStrategy;
import com.lmax.disruptor.YieldingWaitStrategy;
import java.util.Scanner;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;

/**
 * The LMAX Disruptor in the shape of its own throughput tests (OneToOneSequenced, …Batch, Pipeline, Diamond, ThreeToOne): event
 * processors on threads of their own, a producer that claims, writes and publishes.
 *
 * Arguments: shape=one|chain|diamond payload=8|64 batch=N capacity=N wait=spin|yield|block producers=N. Then each line of standard
 * input is a count; the answer is one line `rate N`. Threads are named producer* and consumer*, so that they can be pinned from outside.
 */
public final class Lmax {
    static final class Narrow {
        long value;
    }

    static final class Wide {
        long a, b, c, d, e, f, g, h;
    }

    /** One slot's work, per payload: the two kinds never meet in one process, so calls stay monomorphic. */
    abstract static class Taker<T> implements EventHandler<T> {
        long sum;
        long p1, p2, p3, p4, p5, p6, p7; // the sum's line is its own
        long until;
        CountDownLatch done;

        void reset(long last, CountDownLatch latch) {
            sum = 0;
            until = last;
            done = latch;
        }
    }

    static final class TakesNarrow extends Taker<Narrow> {
        @Override
        public void onEvent(Narrow event, long sequence, boolean endOfBatch) {
            sum += event.value;
            if (sequence == until) done.countDown();
        }
    }

    static final class TakesWide extends Taker<Wide> {
        @Override
        public void onEvent(Wide event, long sequence, boolean endOfBatch) {
            sum += event.a + event.b + event.c + event.d + event.e + event.f + event.g + event.h;
            if (sequence == until) done.countDown();
        }
    }

    static void narrow(RingBuffer<Narrow> ring, long first, long count, int batch) {
        long end = first + count;
        if (batch == 1) {
            for (long s = first; s < end; s++) {
                long next = ring.next();
                ring.get(next).value = s;
                ring.publish(next);
            }
            return;
        }
        for (long s = first; s < end; ) {
            int n = (int) Math.min(batch, end - s);
            long hi = ring.next(n), lo = hi - (n - 1);
            for (long l = lo; l <= hi; l++) ring.get(l).value = s++;
            ring.publish(lo, hi);
        }
    }

    static void set(Wide w, long s) {
        w.a = s;
        w.b = s + 1;
        w.c = s + 2;
        w.d = s + 3;
        w.e = s + 4;
        w.f = s + 5;
        w.g = s + 6;
        w.h = s + 7;
    }

    static void wide(RingBuffer<Wide> ring, long first, long count, int batch) {
        long end = first + count;
        if (batch == 1) {
            for (long s = first; s < end; s++) {
                long next = ring.next();
                set(ring.get(next), s);
                ring.publish(next);
            }
            return;
        }
        for (long s = first; s < end; ) {
            int n = (int) Math.min(batch, end - s);
            long hi = ring.next(n), lo = hi - (n - 1);
            for (long l = lo; l <= hi; l++) set(ring.get(l), s++);
            ring.publish(lo, hi);
        }
    }

    @SuppressWarnings("unchecked")
    static <T> void serve(RingBuffer<T> ring, String shape, int batch, int producers, boolean isWide) throws Exception {
        int stages = shape.equals("one") ? 1 : 3;
        Taker<T>[] takers = new Taker[stages];
        BatchEventProcessor<T>[] processors = new BatchEventProcessor[stages];
        for (int i = 0; i < stages; i++) {
            Sequence[] above = {};
            if (shape.equals("chain") && i > 0) above = new Sequence[] {processors[i - 1].getSequence()};
            if (shape.equals("diamond") && i == 2) above = new Sequence[] {processors[0].getSequence(), processors[1].getSequence()};
            SequenceBarrier barrier = ring.newBarrier(above);
            takers[i] = (Taker<T>) (isWide ? new TakesWide() : new TakesNarrow());
            processors[i] = new BatchEventProcessor<>(ring, barrier, takers[i]);
        }
        ring.addGatingSequences(processors[stages - 1].getSequence());
        // Threads live as long as the process, asleep between readings: pinned once, and no load beside the others' readings.
        CyclicBarrier begin = new CyclicBarrier(stages + producers + 1);
        CyclicBarrier end = new CyclicBarrier(stages + producers + 1);
        long[] shares = new long[2 * producers];
        for (int i = 0; i < stages; i++) {
            BatchEventProcessor<T> processor = processors[i];
            thread("consumer" + i, begin, end, processor::run);
        }
        for (int i = 0; i < producers; i++) {
            int me = i;
            thread("producer" + i, begin, end, () -> {
                if (isWide) wide((RingBuffer<Wide>) ring, shares[2 * me], shares[2 * me + 1], batch);
                else narrow((RingBuffer<Narrow>) ring, shares[2 * me], shares[2 * me + 1], batch);
            });
        }
        long words = isWide ? 8 : 1;
        Scanner asked = new Scanner(System.in);
        while (asked.hasNextLong()) {
            long count = asked.nextLong(), first = 1;
            for (int i = 0; i < producers; i++) {
                shares[2 * i] = first;
                shares[2 * i + 1] = count / producers + (i < count % producers ? 1 : 0);
                first += shares[2 * i + 1];
            }
            CountDownLatch done = new CountDownLatch(stages);
            for (Taker<T> taker : takers) taker.reset(ring.getCursor() + count, done);
            long start = System.nanoTime();
            begin.await();
            done.await();
            long taken = System.nanoTime() - start;
            for (BatchEventProcessor<T> processor : processors) {
                while (!processor.isRunning()) Thread.onSpinWait(); // halt before run is lost
                processor.halt();
            }
            end.await();
            long expected = words * (count * (count + 1) / 2) + words * (words - 1) / 2 * count;
            for (Taker<T> taker : takers)
                if (taker.sum != expected) throw new IllegalStateException("other values came out than went in");
            System.out.printf("rate %.0f%n", count / (taken * 1e-9));
            System.out.flush();
        }
        System.exit(0);
    }

    static void thread(String name, CyclicBarrier begin, CyclicBarrier end, Runnable work) {
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    begin.await();
                    work.run();
                    end.await();
                }
            } catch (Exception error) {
                error.printStackTrace();
                System.exit(1);
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
    }

    static <T> RingBuffer<T> ring(com.lmax.disruptor.EventFactory<T> make, int capacity, WaitStrategy wait, int producers) {
        return producers > 1
            ? RingBuffer.createMultiProducer(make, capacity, wait)
            : RingBuffer.createSingleProducer(make, capacity, wait);
    }

    public static void main(String[] args) throws Exception {
        String shape = "one", wait = "yield";
        int payload = 8, batch = 1, capacity = 65536, producers = 1;
        for (String arg : args) {
            String value = arg.substring(arg.indexOf('=') + 1);
            switch (arg.substring(0, arg.indexOf('='))) {
                case "shape": shape = value; break;
                case "wait": wait = value; break;
                case "payload": payload = Integer.parseInt(value); break;
                case "batch": batch = Integer.parseInt(value); break;
                case "capacity": capacity = Integer.parseInt(value); break;
                case "producers": producers = Integer.parseInt(value); break;
                default: throw new IllegalArgumentException(arg);
            }
        }
        WaitStrategy strategy = wait.equals("spin") ? new BusySpinWaitStrategy()
            : wait.equals("yield") ? new YieldingWaitStrategy() : new BlockingWaitStrategy();
        if (payload == 64) serve(ring(Wide::new, capacity, strategy, producers), shape, batch, producers, true);
        else serve(ring(Narrow::new, capacity, strategy, producers), shape, batch, producers, false);
    }
}
