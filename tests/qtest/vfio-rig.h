/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO tests in the rig: what the rig offers, and a QEMU that uses it
 *
 * The rig is a machine with an IOMMU, a kernel with VFIO and iommufd, and
 * devices bound to vfio-pci.  It says so in the environment:
 *
 *   VFIO_TEST_MODE      legacy or iommufd: how QEMU shall use the devices;
 *                       both: in turn, for a program that compares them;
 *                       fd: with descriptors, for a program that passes them
 *   VFIO_TEST_BACKGROUND
 *                       if it is set, memory is mapped in the background for
 *                       devices with iommufd=
 *   VFIO_TEST_<NAME>    PCI address of the device called NAME, such as EDU0
 *   VFIO_TEST_KERNEL    plain; nocdev: without VFIO_DEVICE_CDEV; nogroup:
 *                       without VFIO_GROUP; noremap: without interrupt
 *                       remapping; faults: with FAULT_INJECTION
 *   VFIO_TEST_IOMMU     intel, amd or virtio: the IOMMU that the rig has
 *
 * If VFIO_TEST_MODE is not set there is no rig, and the tests are skipped.
 */
#ifndef TESTS_VFIO_RIG_H
#define TESTS_VFIO_RIG_H

#include "qemu/units.h"
#include "libqtest.h"
#include "libqos/pci.h"

/* The object that vfio_rig_device() makes devices use in the iommufd mode */
#define VFIO_RIG_IOMMUFD "iommufd0"

/* The memory of a VFIOMachine, in bytes: all that an edu's 28 bits reach */
#define VFIO_MACHINE_MEMORY (256 * MiB)

typedef enum VFIORigModes {
    VFIO_RIG_BOTH,
    VFIO_RIG_LEGACY_ONLY,
    VFIO_RIG_IOMMUFD_ONLY,
} VFIORigModes;

/* The rig's IOMMU, and what of it a test can notice */
typedef struct VFIORigIommu {
    const char *name;
    const char *type;       /* how query-iommufd names it */

    /* The first address from 4 GiB on that it does not map; 0: there is none */
    uint64_t far;
    uint64_t behind_far;    /* the next one that it maps; 0: there is none */

    bool all_sizes;         /* pages of each power of two from 4 KiB on */
} VFIORigIommu;

/*
 * A QEMU under test.  It is an i440fx: there a device comes and goes by two
 * port accesses, without a guest and without a root port.
 */
typedef struct VFIOMachine {
    QTestState *qts;
    QPCIBus *pci;
    pid_t pid;
    char *dir;              /* holds the files pid and trace, and hmp */
    int monitor;            /* the socket hmp; -1 until it is used */
} VFIOMachine;

/**
 * vfio_rig_init: g_test_init() for a program of the rig
 *
 * Outside the rig it adds only one test, which says why it is skipped.
 */
void vfio_rig_init(int *argc, char ***argv, const char *program);

/**
 * vfio_rig_add: add a test if @modes has the rig's mode
 *
 * Its path is /ARCH/vfio/PROGRAM/MODE/@name; @name is what the test promises.
 */
void vfio_rig_add(const char *name, VFIORigModes modes, void (*fn)(void));
void vfio_rig_add_data(const char *name, VFIORigModes modes,
                       void (*fn)(const void *data), const void *data);

/* Set how a program for both modes uses devices from now on. */
void vfio_rig_use(const char *mode);

/* What VFIO_TEST_MODE (or vfio_rig_use()) and VFIO_TEST_KERNEL say */
bool vfio_rig_iommufd(void);
bool vfio_rig_later(void);  /* VFIO_TEST_BACKGROUND is set */
bool vfio_rig_kernel_is(const char *kernel);

/* Whether the kernel is Linux @major.@minor or newer */
bool vfio_rig_linux_since(int major, int minor);

/* Whether devices reach each other's BARs: by the group, or by dma-bufs */
bool vfio_rig_reaches_bars(void);

/* What VFIO_TEST_IOMMU says */
const VFIORigIommu *vfio_rig_iommu(void);

/* A number in the environment, or a default if it is not set */
uint64_t vfio_rig_number(const char *name, uint64_t otherwise);

/* PCI address of a device of the rig; the test fails if there is none. */
const char *vfio_rig_address(const char *name);

/**
 * vfio_rig_device: "vfio-pci,host=ADDRESS", and the iommufd in that mode
 *
 * This is for -device and vfio_machine_device_add(); the caller appends
 * "addr=5", an "id=" and whatever else is wanted.  Not to be freed.
 */
const char *vfio_rig_device(const char *name);

/* A file in the device's sysfs folder; to be freed */
char *vfio_rig_sysfs(const char *name, const char *file);

/* PCI_COMMAND as the kernel sees it: what the device itself has */
uint16_t vfio_rig_command(const char *name);

/* The device's node: "/dev/vfio/12", or its character device */
char *vfio_rig_group_node(const char *name);
char *vfio_rig_cdev_node(const char *name);

/* The monitor of the rig's machine, which one at a time opens; to be freed */
char *vfio_rig_monitor_node(void);

/* open(), or write() to a file of sysfs; if that fails, so does the test. */
int vfio_rig_open(const char *path, int flags);
void vfio_rig_write(const char *path, const char *text);

/* Hide the node at @path until it is shown again. */
void vfio_rig_hide(const char *path);
void vfio_rig_show(const char *path);

/* Take the device from the driver that has it, if any. */
void vfio_rig_unbind(const char *name);

/* Give the device to @driver. */
void vfio_rig_bind(const char *name, const char *driver);

/* The host's driver nvme, which has the device now, can read from its disk. */
void vfio_rig_check_nvme_reads(const char *name);

/**
 * vfio_rig_wait_for: whether @condition becomes true within @seconds
 *
 * Looks often at first, because many things take almost no time.
 */
#define vfio_rig_wait_for(seconds, condition)                           \
    ({                                                                  \
        int64_t end_ = g_get_monotonic_time() +                         \
                       (seconds) * G_USEC_PER_SEC;                      \
        int pause_ = 250;                                               \
        bool done_;                                                     \
        while (!(done_ = (condition)) &&                                \
               g_get_monotonic_time() < end_) {                         \
            g_usleep(pause_);                                           \
            pause_ = MIN(2 * pause_, 10 * 1000);                        \
        }                                                               \
        done_;                                                          \
    })

/* ... within half a minute: the rig is emulated in software, and slow. */
#define vfio_rig_wait(condition) vfio_rig_wait_for(30, condition)

/**
 * vfio_rig_log_new: a new empty file, for what a QEMU writes: "2>>PATH"
 *
 * Returns its path, for vfio_rig_log_free(), which removes the file.
 */
char *vfio_rig_log_new(void);
void vfio_rig_log_free(char *path);

/* What was written to it so far, and is forgotten then; to be freed */
char *vfio_rig_log_take(const char *path);

/* How many lines such a text has */
int vfio_rig_count_lines(const char *text);

/**
 * vfio_rig_be_ordinary: run QEMUs that are started from now on as an ordinary
 * user without any privilege, until vfio_rig_be_root()
 */
void vfio_rig_be_ordinary(void);
void vfio_rig_be_root(void);

/**
 * vfio_rig_run_qemu: run QEMU to its end, with @options as for a shell, the
 * qtest accelerator and no display
 *
 * The test's descriptors stay open in it.  @out and @err may be NULL.  Returns
 * its exit status, or -1 if a signal ended it; after a minute one does.
 */
int vfio_rig_run_qemu(const char *options, char **out, char **err);

/**
 * vfio_rig_check_refusal: QEMU ended with status 1 and one message
 *
 * @status, @err: from vfio_rig_run_qemu().  The lines after the message are
 * hints for the user, and belong to it.
 */
void vfio_rig_check_refusal(int status, const char *err);

/**
 * vfio_machine_start: start QEMU, with options formatted like printf()
 *
 * In the iommufd mode it has an object VFIO_RIG_IOMMUFD.
 */
VFIOMachine *vfio_machine_start(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void vfio_machine_stop(VFIOMachine *m);

/**
 * vfio_machine_abandon: end QEMU, which may end by itself with status 1
 *
 * It does if it waits for a guest of which only a part comes.  To be followed
 * by vfio_machine_stop().
 */
void vfio_machine_abandon(VFIOMachine *m);

/* The error in @reply, to be freed; NULL if there is none.  Frees @reply. */
char *vfio_reply_error(QDict *reply);

/**
 * vfio_machine_qmp_error: the error of @command, whose arguments are
 * "key=value,..." of strings; NULL if it succeeds.  To be freed.
 */
char *vfio_machine_qmp_error(VFIOMachine *m, const char *command,
                             const char *arguments);

/**
 * vfio_machine_device_add: plug @device, written as for -device
 *
 * Returns NULL, or QEMU's reason to refuse it, to be freed.
 */
char *vfio_machine_device_add(VFIOMachine *m, const char *device);

/* Ask for device @id in @slot to be unplugged, and let it go as the guest. */
void vfio_machine_device_del(VFIOMachine *m, const char *id, int slot);

/* Reset the machine, and its devices with it. */
void vfio_machine_reset(VFIOMachine *m);

/* The machine is in run state @state, as query-status reports it. */
bool vfio_machine_has_run_state(VFIOMachine *m, const char *state);
void vfio_machine_check_run_state(VFIOMachine *m, const char *state);

/* The data of the next event IOMMUFD_MAP_ERROR, to be unreferenced */
QDict *vfio_machine_map_error(VFIOMachine *m);

/* A number in it, of 64 bits */
uint64_t vfio_map_error_number(QDict *data, const char *name);

/**
 * vfio_machine_wait_map_error: wait until memory at @iova could not be mapped
 * for devices of iommufd @object
 *
 * The machine was running, and is stopped afterwards.  The event must contain
 * @reason.
 */
void vfio_machine_wait_map_error(VFIOMachine *m, const char *object,
                                 uint64_t iova, const char *reason);

/* The machine goes on, and all of its memory is mapped. */
void vfio_machine_cont(VFIOMachine *m);

/**
 * vfio_machine_monitor: the human monitor's answer to @command, with an echo of
 * the command before it and the prompt after it; to be freed
 *
 * For long answers: libqtest reads answers of QMP one byte at a time.
 */
char *vfio_machine_monitor(VFIOMachine *m, const char *command);

/* How many descriptors a process, or QEMU, has open on @path */
int vfio_rig_holds(pid_t pid, const char *path);
int vfio_machine_holds(VFIOMachine *m, const char *path);

/* The number of such a descriptor, to be freed; NULL if there is none */
char *vfio_machine_number(VFIOMachine *m, const char *path);

/**
 * vfio_machine_state: what a request that failed must not change, as text: the
 * devices and objects that exist, and QEMU's descriptors.  To be freed.
 */
char *vfio_machine_state(VFIOMachine *m);

/* KiB that /proc/PID/status has in line @name, for instance VmPin */
uint64_t vfio_machine_status(VFIOMachine *m, const char *name);

/**
 * vfio_machine_trace: the lines that QEMU has traced of events vfio_* and
 * iommufd_*; to be freed with g_strfreev()
 */
char **vfio_machine_trace(VFIOMachine *m);

/* Nothing waits any more to be mapped in the background. */
void vfio_machine_wait_mapped(VFIOMachine *m);

/* Whether @line is of @event, and how many lines are */
bool vfio_trace_is(const char *line, const char *event);
int vfio_trace_count(char **lines, const char *event);

/* The number after "@name=" in @line, decimal or 0x; else the test fails */
uint64_t vfio_trace_value(const char *line, const char *name);

/* The sum of the numbers @name in all lines of @event so far */
uint64_t vfio_machine_trace_sum(VFIOMachine *m, const char *event,
                                const char *name);

#endif /* TESTS_VFIO_RIG_H */
