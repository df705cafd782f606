/*
 * Prints the rate of this machine's time stamp counter in kHz, and nothing if
 * there is none.
 *
 * A machine in software emulation sees the host's counter. Its kernel measures
 * the rate twice, and on a busy host the first, early figure is off by one in a
 * thousand. KVM in that machine then keeps the early figure (kvm_timer_init,
 * for a processor without constant_tsc) while the kernel goes on with the
 * second, and a guest's timers stop when the guest reboots. So the rate is
 * measured here and given to the kernel as tsc_early_khz.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>

#define INTERVAL_NS (100 * 1000 * 1000)
#define TRIES 100

typedef struct Moment {
    uint64_t tsc;
    int64_t ns;
} Moment;

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* The counter and the clock at the same time, as close as TRIES tries get */
static Moment take_moment(void)
{
    Moment best = { 0 };
    int64_t nearest = INT64_MAX;

    for (int i = 0; i < TRIES; i++) {
        int64_t before = now_ns();
        uint64_t tsc = __rdtsc();
        int64_t after = now_ns();

        if (after - before < nearest) {
            nearest = after - before;
            best = (Moment) { .tsc = tsc, .ns = before + nearest / 2 };
        }
    }
    return best;
}

int main(void)
{
    const struct timespec interval = { .tv_nsec = INTERVAL_NS };
    Moment first = take_moment();
    Moment last;

    nanosleep(&interval, NULL);
    last = take_moment();
    printf("%.0f\n", (double)(last.tsc - first.tsc) * 1000000 /
                     (last.ns - first.ns));
    return 0;
}
#else
int main(void)
{
    return 0;
}
#endif
