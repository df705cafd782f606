/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest of its own will, for tests: the rig's Linux, under KVM
 */
#include "qemu/osdep.h"

#include "vfio-guest.h"
#include "vfio-rig.h"

/* The NVMe has so many blocks. */
#define ALIVE "guest: alive 1048576 "

int vfio_guest_alive_lines(const char *path, uint64_t *memory_kib)
{
    g_autofree char *text = NULL;
    const char *line;
    int count = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (line = text; (line = strstr(line, ALIVE)); count++) {
        line += strlen(ALIVE);
        *memory_kib = strchr(line, '\n') ? g_ascii_strtoull(line, NULL, 10)
                                         : *memory_kib;
    }
    return count;
}

uint64_t vfio_guest_wait_alive(const char *path)
{
    uint64_t memory_kib = 0;
    int before = vfio_guest_alive_lines(path, &memory_kib);

    /* the one that was being written, and one that begins after this */
    g_assert_true(vfio_rig_wait_for(
        120, vfio_guest_alive_lines(path, &memory_kib) >= before + 2));
    return memory_kib;
}

bool vfio_guest_says(const char *path, const char *text)
{
    g_autofree char *console = NULL;

    g_assert_true(g_file_get_contents(path, &console, NULL, NULL));
    return strstr(console, text);
}
