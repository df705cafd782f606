/*
 * Does nothing but load the FPU's state, again and again.
 *
 * Each FXRSTOR takes back IGNNE#, which an emulated processor keeps in a word of
 * the first processor's: see tests/rig/patches.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* Intel SDM, volume 1, 10.5.1: 512 bytes, aligned to 16 */
static char area[512] __attribute__((aligned(16)));

int main(void)
{
    asm volatile("fxsave %0" : "=m"(area));
    for (;;) {
        asm volatile("fxrstor %0" : : "m"(area));
    }
}
