/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A link between two QEMUs that is no faster than one wants: vfio-mig-link.h
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vfio-mig-link.h"

#define BLOCK (64 * KiB)

/*
 * Microseconds: so far it may be ahead, and so much it makes up for when it is
 * behind.  In the rig a sleep is long, and a long one even longer.
 */
#define AHEAD   20000
#define BEHIND  500000

/* One direction */
typedef struct Pipe {
    int in, out;
    uint64_t rate;          /* bytes per second; 0 is no limit */
    GThread *thread;
} Pipe;

struct VFIOMigLink {
    char *path;             /* of the socket that the sender connects to */
    Pipe there, back;
};

/* A block takes its time, from when the one before was done. */
static void wait_for(size_t size, uint64_t rate, int64_t *done)
{
    int64_t now = g_get_monotonic_time();

    *done = MAX(*done, now - BEHIND) + size * G_USEC_PER_SEC / rate;
    if (*done > now + AHEAD) {
        g_usleep(*done - now);
    }
}

static void *carry(void *opaque)
{
    Pipe *pipe = opaque;
    g_autofree char *block = g_malloc(BLOCK);
    int64_t done = 0;
    ssize_t size;

    while ((size = read(pipe->in, block, BLOCK)) > 0) {
        if (pipe->rate) {
            wait_for(size, pipe->rate, &done);
        }
        if (qemu_write_full(pipe->out, block, size) != size) {
            break;
        }
    }
    shutdown(pipe->out, SHUT_WR);
    return NULL;
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    *address = (struct sockaddr_un) { .sun_family = AF_UNIX };
    g_assert_cmpuint(g_strlcpy(address->sun_path, path,
                               sizeof(address->sun_path)),
                     <, sizeof(address->sun_path));
    return fd;
}

VFIOMigLink *vfio_mig_link_begin(VFIOMigSide *from, VFIOMigSide *to,
                                 uint64_t rate)
{
    VFIOMigLink *link = g_new0(VFIOMigLink, 1);
    struct sockaddr_un address;
    g_autofree char *receiver = vfio_mig_listen(to);
    int listener, sender_fd, receiver_fd;

    link->path = g_build_filename(from->folder, "link", NULL);
    listener = unix_socket(link->path, &address);
    g_assert_cmpint(bind(listener, (void *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_null(vfio_mig_begin_to(from, link->path));
    sender_fd = accept(listener, NULL, NULL);
    g_assert_cmpint(sender_fd, >=, 0);
    close(listener);

    receiver_fd = unix_socket(receiver, &address);
    g_assert_cmpint(connect(receiver_fd, (void *)&address, sizeof(address)),
                    ==, 0);
    link->there = (Pipe) { sender_fd, receiver_fd, rate };
    link->back = (Pipe) { receiver_fd, sender_fd };
    link->there.thread = g_thread_new("there", carry, &link->there);
    link->back.thread = g_thread_new("back", carry, &link->back);
    return link;
}

void vfio_mig_link_end(VFIOMigLink *link)
{
    g_thread_join(link->there.thread);
    g_thread_join(link->back.thread);
    close(link->there.in);
    close(link->there.out);
    g_unlink(link->path);
    g_free(link->path);
    g_free(link);
}
