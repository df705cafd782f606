/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors that a test gives to a QEMU under test
 */
#include "qemu/osdep.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/kvm.h>

#include "qapi/qmp/qdict.h"
#include "vfio-descriptor.h"

static int make_pipe(void)
{
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    close(fds[1]);
    return fds[0];
}

static int make_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int make_eventfd(void)
{
    return eventfd(0, 0);
}

static int make_memfd(void)
{
    return memfd_create("foreign", 0);
}

static int make_vm(void)
{
    int kvm = open("/dev/kvm", O_RDWR);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

    if (kvm >= 0) {
        close(kvm);
    }
    return vm;
}

static int make_terminal(void)
{
    return posix_openpt(O_RDWR | O_NOCTTY);
}

const VFIODescriptor vfio_foreign_descriptors[] = {
    { "null", .path = "/dev/null" },
    { "kvm", .path = "/dev/kvm" },
    { "vm", .make = make_vm },
    { "terminal", .make = make_terminal },
    { "vfio", .path = "/dev/vfio/vfio" },
    { "directory", .path = "/dev", .flags = O_RDONLY | O_DIRECTORY },
    { "pipe", .make = make_pipe },
    { "socket", .make = make_socket },
    { "eventfd", .make = make_eventfd },
    { "memfd", .make = make_memfd },
    { NULL },
};

int vfio_descriptor_open(const VFIODescriptor *descriptor)
{
    return descriptor->make ? descriptor->make()
                            : open(descriptor->path,
                                   descriptor->flags ?: O_RDWR);
}

void vfio_descriptor_pass(QTestState *qts, int fd, const char *name)
{
    QDict *reply = qtest_qmp_fds(qts, &fd, 1, "{ 'execute': 'getfd',"
                                 " 'arguments': { 'fdname': %s } }", name);

    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
}
