/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: virtual functions of a physical function that QEMU has
 *
 * The physical function is the rig's PF0, an NVMe device.  Here vfio-pci has
 * it, and creates the virtual ones.  These stay offline, since the physical one
 * has not been told otherwise by NVMe commands; their CSTS says so.
 *
 * Later kernels than the rig's know VF tokens with iommufd= as well; what
 * vfio-fault.h preloads answers as they do.
 */
#include "qemu/osdep.h"

#include <sys/ioctl.h>

#include "hw/pci/pci_regs.h"
#include "hw/vfio/vfio-abi.h"
#include "qemu/uuid.h"
#include "vfio-edu.h"
#include "vfio-fault.h"
#include "vfio-rig.h"

#define PF_SLOT 4
#define VF_SLOT 5

#define TOKEN       "6f3a1c1e-2f0b-4d6c-9a51-0d9f5a6f2b10"
#define OTHER_TOKEN "0b7c9a44-8a53-4f0e-8a37-5a4a3a0f7c22"

#define ENABLE_SRIOV "/sys/module/vfio_pci/parameters/enable_sriov"

#define NVME_VENDOR_ID  0x1b36
#define NVME_DEVICE_ID  0x0010
#define NVME_CAP        0x00
#define NVME_CAP_MQES   0x7ff   /* queue entries of QEMU's NVMe */
#define NVME_CSTS       0x1c
#define NVME_CSTS_CFS   0x2     /* a virtual function that is offline */

static void write_pf(const char *file, const char *text)
{
    g_autofree char *path = vfio_rig_sysfs("PF0", file);

    vfio_rig_write(path, text);
}

/* "0000:07:00.1", to be freed */
static char *vf_address(void)
{
    g_autofree char *slot = g_strndup(vfio_rig_address("PF0"),
                                      strlen("0000:00:00."));

    return g_strconcat(slot, "1", NULL);
}

/*
 * A QEMU that has the physical function, and virtual ones beside it.  These are
 * created last, since opening the physical one resets it.
 */
static VFIOMachine *start_with(const char *options)
{
    VFIOMachine *m;

    vfio_rig_bind("PF0", "vfio-pci");
    m = vfio_machine_start("-device %s,id=pf,addr=%d%s", vfio_rig_device("PF0"),
                           PF_SLOT, options);
    vfio_rig_write(ENABLE_SRIOV, "1");
    write_pf("sriov_numvfs", "2");
    return m;
}

static VFIOMachine *start(void)
{
    return start_with("");
}

static void stop(VFIOMachine *m)
{
    vfio_machine_stop(m);
    write_pf("sriov_numvfs", "0");
    vfio_rig_bind("PF0", "nvme");
}

/*
 * A VF needs a token if its PF is with vfio-pci: by its group on any kernel, by
 * iommufd on newer ones.
 */
static bool needs_token(void)
{
    return !vfio_rig_iommufd() || vfio_rig_linux_since(6, 17);
}

/* For the PF and its VFs: an option, or "" */
static const char *token_option(void)
{
    return needs_token() ? ",vf-token=" TOKEN : "";
}

/* @options: more of them, or "" */
static char *plug_vf_with(VFIOMachine *m, const char *options)
{
    g_autofree char *address = vf_address();
    g_autofree char *device =
        g_strdup_printf("vfio-pci,host=%s,id=vf,addr=%d%s%s", address, VF_SLOT,
                        vfio_rig_iommufd() ? ",iommufd=" VFIO_RIG_IOMMUFD : "",
                        options);

    return vfio_machine_device_add(m, device);
}

static char *plug_vf(VFIOMachine *m)
{
    return plug_vf_with(m, "");
}

/* One register of the function in @slot; its identity is checked first. */
static uint64_t nvme_read(VFIOMachine *m, int slot, uint64_t reg)
{
    g_autofree QPCIDevice *pci = qpci_device_find(m->pci, QPCI_DEVFN(slot, 0));
    QPCIBar bar;

    g_assert_nonnull(pci);
    g_assert_cmphex(qpci_config_readw(pci, PCI_VENDOR_ID), ==, NVME_VENDOR_ID);
    g_assert_cmphex(qpci_config_readw(pci, PCI_DEVICE_ID), ==, NVME_DEVICE_ID);

    bar = qpci_iomap(pci, 0, NULL);
    qpci_config_writew(pci, PCI_COMMAND, PCI_COMMAND_MEMORY);
    return qpci_io_readl(pci, bar, reg);
}

static void check_pf(VFIOMachine *m)
{
    g_assert_cmphex(nvme_read(m, PF_SLOT, NVME_CAP) & 0xffff, ==,
                    NVME_CAP_MQES);
    g_assert_cmphex(nvme_read(m, PF_SLOT, NVME_CSTS), ==, 0);
}

static void test_vf_beside_its_pf(void)
{
    VFIOMachine *m = start_with(token_option());

    check_pf(m);
    g_assert_null(plug_vf_with(m, token_option()));
    g_assert_cmphex(nvme_read(m, VF_SLOT, NVME_CSTS), ==, NVME_CSTS_CFS);
    check_pf(m);
    stop(m);
}

static void test_vf_in_another_qemu(void)
{
    VFIOMachine *m = start_with(token_option());
    VFIOMachine *other = vfio_machine_start(" ");

    g_assert_null(plug_vf_with(other, token_option()));
    g_assert_cmphex(nvme_read(other, VF_SLOT, NVME_CSTS), ==, NVME_CSTS_CFS);
    check_pf(m);
    vfio_machine_stop(other);
    stop(m);
}

static void check_refused(VFIOMachine *m, const char *options,
                          const char *words)
{
    g_autofree char *reason = plug_vf_with(m, options);

    g_test_message("%s: %s", options, reason);
    g_assert_nonnull(reason);
    g_assert_nonnull(strstr(reason, words));
}

static void test_vf_refused_without_token(void)
{
    VFIOMachine *m = start();

    check_refused(m, "", "Permission denied");
    if (vfio_rig_iommufd()) {
        check_refused(m, "", "VF token, which is not given: Permission denied; "
                      "give the same vf-token= to the PF and to its VFs");
    }
    check_pf(m);
    stop(m);
}

/* The PF's user sets the token, and the VF's user has to know it. */
static void test_token_opens_vf(void)
{
    VFIOMachine *m = start_with(",vf-token=" TOKEN);

    check_refused(m, "", "Permission denied");
    check_refused(m, ",vf-token=" OTHER_TOKEN,
                  vfio_rig_iommufd() ? "VF token, which is not this one"
                                     : "Permission denied");
    g_assert_null(plug_vf_with(m, ",vf-token=" TOKEN));
    check_pf(m);
    stop(m);
}

/* The kernel does not ask for a token; QEMU tells a user who gives one. */
static void test_token_without_effect(void)
{
    g_autofree char *errors = NULL;
    g_autofree char *text = NULL;
    g_autofree char *options = NULL;
    VFIOMachine *m;

    close(g_file_open_tmp("vfio-stderr-XXXXXX", &errors, NULL));
    options = g_strdup_printf(" 2>%s", errors);
    m = start_with(options);
    g_assert_null(plug_vf_with(m, ",vf-token=" TOKEN));
    check_pf(m);
    stop(m);

    g_assert_true(g_file_get_contents(errors, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "vf-token= is without effect"));
    unlink(errors);
}

/* An edu is neither a PF nor a VF. */
static void check_edu_takes_no_token(VFIOMachine *m)
{
    g_autofree char *edu = g_strdup_printf("%s,addr=%d,vf-token=" TOKEN,
                                           vfio_rig_device("EDU0"), VF_SLOT);
    g_autofree char *reason = vfio_machine_device_add(m, edu);

    g_assert_nonnull(reason);
    g_test_message("%s", reason);
    g_assert_nonnull(strstr(reason, "the device takes no VF token"));
    g_assert_nonnull(strstr(reason, "leave it out"));
}

static void test_token_of_no_use(void)
{
    VFIOMachine *m = vfio_machine_start(" ");

    check_edu_takes_no_token(m);
    vfio_machine_stop(m);
}

/* Newer kernels, which tests/rig/fault.c plays */

static VFIOMachine *start_newer(VFIOFaultTokens tokens, const char *token)
{
    VFIOMachine *m = start();
    QemuUUID uuid = {};

    g_assert_true(!token || !qemu_uuid_parse(token, &uuid));
    vfio_fault_tokens(tokens, uuid.data);
    return m;
}

static void stop_newer(VFIOMachine *m)
{
    vfio_fault_tokens(VFIO_FAULT_TOKENS_AS_IT_IS, NULL);
    check_pf(m);
    stop(m);
}

static void test_newer_kernel_asks_for_token(void)
{
    VFIOMachine *m = start_newer(VFIO_FAULT_TOKENS_WANTED, TOKEN);

    check_refused(m, "", "VF token, which is not given: Permission denied; "
                  "give the same vf-token= to the PF and to its VFs");
    check_refused(m, ",vf-token=" OTHER_TOKEN,
                  "VF token, which is not this one: Permission denied");
    g_assert_null(plug_vf_with(m, ",vf-token=" TOKEN));
    stop_newer(m);
}

/* As by the group, a token that opens nothing is an error. */
static void test_newer_kernel_refuses_token(void)
{
    VFIOMachine *m = start_newer(VFIO_FAULT_TOKENS_REFUSED, NULL);

    check_edu_takes_no_token(m);
    check_refused(m, ",vf-token=" TOKEN, "Invalid argument");
    g_assert_null(plug_vf(m));
    stop_newer(m);
}

static void test_kernel_cannot_read_token(void)
{
    VFIOMachine *m = start_newer(VFIO_FAULT_TOKENS_UNREADABLE, NULL);

    check_refused(m, ",vf-token=" TOKEN, "cannot read vf-token=");
    check_refused(m, ",vf-token=" TOKEN, "mended in Linux 6.19");
    check_refused(m, ",vf-token=" TOKEN, "update the host's kernel");
    g_assert_null(plug_vf(m));
    stop_newer(m);
}

/* What hinders the bind is said, not what the kernel thinks of the token. */
static void test_token_hides_no_reason(void)
{
    g_autofree char *node = vfio_rig_group_node("EDU0");
    int group = vfio_rig_open(node, O_RDWR | O_CLOEXEC);
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *edu = g_strdup_printf("%s,vf-token=" TOKEN,
                                           vfio_rig_device("EDU0"));
    g_autofree char *reason = vfio_machine_device_add(m, edu);

    g_assert_nonnull(reason);
    g_test_message("%s", reason);
    g_assert_nonnull(strstr(reason, "its IOMMU group is open"));
    close(group);
    vfio_machine_stop(m);
}

static int try_bind(int cdev, int iommu, uint32_t flags)
{
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .flags = flags,
        .iommufd = iommu,
    };

    return ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind) ? errno : 0;
}

/*
 * Linux 6.12 knows no token here: it refuses the flag that announces one, and
 * binds without a token, whichever path the PF is used by.
 */
static void test_bind_takes_no_token(void)
{
    VFIOMachine *m = start();
    g_autofree char *address = vf_address();
    g_autofree char *folder =
        g_strdup_printf("/sys/bus/pci/devices/%s/vfio-dev", address);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autofree char *node =
        g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(dir));
    int iommu = open("/dev/iommu", O_RDWR);
    int cdev = open(node, O_RDWR);

    g_assert_cmpint(cdev, >=, 0);
    g_assert_cmpint(try_bind(cdev, iommu, 1), ==, EINVAL);
    g_assert_cmpint(try_bind(cdev, iommu, 0), ==, 0);
    close(cdev);
    close(iommu);
    stop(m);
}

/* Many devices: virtual functions, whose physical one stays with the host */

#define MANY 64

/* From 07:00.1 on; to be freed */
static char *many_address(int i)
{
    g_autofree char *bus = g_strndup(vfio_rig_address("PF0"),
                                     strlen("0000:07:"));

    return g_strdup_printf("%s%02x.%x", bus, (i + 1) / 8, (i + 1) % 8);
}

static void make_many(void)
{
    write_pf("sriov_drivers_autoprobe", "0");
    write_pf("sriov_numvfs", stringify(MANY));
    for (int i = 0; i < MANY; i++) {
        g_autofree char *address = many_address(i);
        g_autofree char *override = g_strdup_printf(
            "/sys/bus/pci/devices/%s/driver_override", address);

        vfio_rig_write(override, "vfio-pci");
        vfio_rig_write("/sys/bus/pci/drivers_probe", address);
    }
}

static void remove_many(void)
{
    write_pf("sriov_numvfs", "0");
    write_pf("sriov_drivers_autoprobe", "1");
}

/* Eight to a slot, as the machine has few slots; to be freed */
static char *many_devices(void)
{
    GString *options = g_string_new(NULL);

    for (int i = 0; i < MANY; i++) {
        g_autofree char *address = many_address(i);

        g_string_append_printf(options, " -device vfio-pci,host=%s%s,"
                               "addr=%x.%x,multifunction=on", address,
                               vfio_rig_iommufd() ? ",iommufd="
                               VFIO_RIG_IOMMUFD : "", VF_SLOT + i / 8, i % 8);
    }
    return g_string_free(options, false);
}

static void check_many(VFIOMachine *m)
{
    for (int i = 0; i < MANY; i++) {
        g_autofree QPCIDevice *pci = qpci_device_find(
            m->pci, QPCI_DEVFN(VF_SLOT + i / 8, i % 8));
        QPCIBar bar;

        g_assert_nonnull(pci);
        bar = qpci_iomap(pci, 0, NULL);
        qpci_config_writew(pci, PCI_COMMAND,
                           PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        g_assert_cmphex(qpci_io_readl(pci, bar, NVME_CSTS), ==, NVME_CSTS_CFS);
    }
}

/* For all of them it takes one table, one I/O address space, one line. */
static void check_is_shared(VFIOMachine *m, const char *errors)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    g_autofree char *text = NULL;

    if (vfio_rig_iommufd()) {
        g_assert_cmpint(vfio_trace_count(trace, "vfio_cdev_attach"), ==,
                        MANY + 1);
        g_assert_cmpint(vfio_trace_count(trace, "iommufd_backend_alloc_ioas"),
                        ==, 1);
        g_assert_true(g_file_get_contents(errors, &text, NULL, NULL));
        g_test_message("%s", text);
        g_assert_nonnull(strstr(text, "peer-to-peer"));
        g_assert_true(strchr(text, '\n') == text + strlen(text) - 1);
    }
}

static void test_many_in_one_vm(void)
{
    g_autofree char *errors = g_strdup_printf("/tmp/vfio-many-%d", getpid());
    g_autofree char *devices = NULL;
    VFIOMachine *m;
    VFIOEdu *edu;

    make_many();
    devices = many_devices();
    m = vfio_machine_start("-device %s,id=edu0,addr=%d%s 2>%s",
                           vfio_rig_device("EDU0"), PF_SLOT, devices, errors);
    check_many(m);
    edu = vfio_edu_new(m, PF_SLOT);
    vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
    vfio_machine_reset(m);
    check_many(m);
    vfio_edu_free(edu);
    check_is_shared(m, errors);
    vfio_machine_stop(m);
    unlink(errors);
    remove_many();
    vfio_rig_check_nvme_reads("PF0");
}

/*
 * Before the kernel is newer itself.  The library is not there with sanitizers,
 * which want to be loaded first.
 */
static bool plays_kernels(void)
{
    return vfio_rig_iommufd() && !needs_token() &&
           !g_getenv("VFIO_TEST_SANITIZED");
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "sriov");
    if (plays_kernels()) {
        vfio_fault_init();
    }

    vfio_rig_add("vf-beside-its-pf", VFIO_RIG_IOMMUFD_ONLY,
                 test_vf_beside_its_pf);
    vfio_rig_add("vf-in-another-qemu", VFIO_RIG_IOMMUFD_ONLY,
                 test_vf_in_another_qemu);
    if (needs_token()) {
        vfio_rig_add("vf-refused-without-token", VFIO_RIG_BOTH,
                     test_vf_refused_without_token);
        vfio_rig_add("token-opens-vf", VFIO_RIG_BOTH, test_token_opens_vf);
        vfio_rig_add("token-of-no-use", VFIO_RIG_IOMMUFD_ONLY,
                     test_token_of_no_use);
    } else {
        vfio_rig_add("token-without-effect", VFIO_RIG_IOMMUFD_ONLY,
                     test_token_without_effect);
    }
    if (plays_kernels()) {
        vfio_rig_add("newer-kernel-asks-for-token", VFIO_RIG_IOMMUFD_ONLY,
                     test_newer_kernel_asks_for_token);
        vfio_rig_add("newer-kernel-refuses-token", VFIO_RIG_IOMMUFD_ONLY,
                     test_newer_kernel_refuses_token);
        vfio_rig_add("kernel-cannot-read-token", VFIO_RIG_IOMMUFD_ONLY,
                     test_kernel_cannot_read_token);
    }
    vfio_rig_add("token-hides-no-reason", VFIO_RIG_IOMMUFD_ONLY,
                 test_token_hides_no_reason);
    /* By iommufd whichever path is tested, which Debian's own kernel lacks */
    if (g_file_test("/dev/iommu", G_FILE_TEST_EXISTS) &&
        !vfio_rig_linux_since(6, 17)) {
        vfio_rig_add("bind-takes-no-token", VFIO_RIG_BOTH,
                     test_bind_takes_no_token);
    }
    if (g_test_slow()) {
        vfio_rig_add("many-in-one-vm", VFIO_RIG_BOTH, test_many_in_one_vm);
    }

    return g_test_run();
}
