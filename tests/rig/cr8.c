/*
 * Has a guest write CR8 while an interrupt waits for it. TAP.
 *
 * KVM has a virtual interrupt wait then, and does not intercept the write. An
 * emulated processor looks anew at what waits, for which it needs QEMU's big lock:
 * see tests/rig/patches. Guests with OVMF do so when an interrupt's handler is late.
 *
 * It says something of the rig, and nothing of the QEMU under test: without the
 * rig's own QEMU the rig ends here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MEMORY_SIZE 0x10000
#define CODE 0x1000
#define HANDLER 0x1100
#define OTHER_HANDLER 0x1200
#define STACK 0x2000

#define VECTOR 0x40
#define APIC_SPURIOUS 0xf0      /* Intel SDM, volume 3, table 11-1 */
#define APIC_ENABLED 0x100
#define MSI_ADDRESS 0xfee00000

/* What the guest tells, as the port that it writes to */
#define READY 0x10
#define INTERRUPTED 0x11
#define FAULT 0x12
#define LOST 0x13

/* Real mode. A processor of AMD's takes MOV to CR0 with LOCK for one to CR8. */
static const uint8_t code[] = {
    0xfa,                       /* cli */
    0xe6, READY,                /* out %al, $READY */
    0xf0, 0x0f, 0x22, 0xc0,     /* lock mov %eax, %cr0 */
    0xfb,                       /* sti */
    0x90,                       /* nop */
    0xe6, LOST,                 /* out %al, $LOST */
};
static const uint8_t handler[] = { 0xe6, INTERRUPTED };
static const uint8_t other_handler[] = { 0xe6, FAULT };

static int vm, vcpu;
static struct kvm_run *state;

static int call(int fd, unsigned long request, void *argument, const char *name)
{
    int result = ioctl(fd, request, argument);

    if (result < 0) {
        err(1, "%s", name);
    }
    return result;
}
#define CALL(fd, request, argument) \
    call(fd, request, (void *)(argument), #request)

static void make_memory(void)
{
    uint8_t *memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint16_t *vectors = (uint16_t *)memory;
    struct kvm_userspace_memory_region region = {
        .memory_size = MEMORY_SIZE, .userspace_addr = (uintptr_t)memory,
    };

    if (memory == MAP_FAILED) {
        err(1, "mmap");
    }
    for (int i = 0; i < 256; i++) {
        vectors[2 * i] = i == VECTOR ? HANDLER : OTHER_HANDLER;
    }
    memcpy(memory + CODE, code, sizeof(code));
    memcpy(memory + HANDLER, handler, sizeof(handler));
    memcpy(memory + OTHER_HANDLER, other_handler, sizeof(other_handler));
    CALL(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void make_guest(void)
{
    int kvm = open("/dev/kvm", O_RDWR);
    struct kvm_regs regs = { .rip = CODE, .rsp = STACK, .rflags = 2 };
    struct kvm_lapic_state apic;
    struct kvm_sregs sregs;
    uint32_t *spurious = (uint32_t *)(apic.regs + APIC_SPURIOUS);

    if (kvm < 0) {
        err(1, "/dev/kvm");
    }
    vm = CALL(kvm, KVM_CREATE_VM, 0);
    make_memory();
    CALL(vm, KVM_CREATE_IRQCHIP, 0);
    vcpu = CALL(vm, KVM_CREATE_VCPU, 0);
    state = mmap(NULL, CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
                 PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (state == MAP_FAILED) {
        err(1, "mmap");
    }

    CALL(vcpu, KVM_GET_SREGS, &sregs);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    CALL(vcpu, KVM_SET_SREGS, &sregs);
    CALL(vcpu, KVM_SET_REGS, &regs);
    CALL(vcpu, KVM_GET_LAPIC, &apic);
    *spurious |= APIC_ENABLED;
    CALL(vcpu, KVM_SET_LAPIC, &apic);
}

/* Returns what the guest tells next. */
static int run(void)
{
    CALL(vcpu, KVM_RUN, 0);
    if (state->exit_reason != KVM_EXIT_IO) {
        errx(1, "the guest ended for reason %u", state->exit_reason);
    }
    return state->io.port;
}

int main(void)
{
    struct kvm_msi msi = { .address_lo = MSI_ADDRESS, .data = VECTOR };
    int told;

    make_guest();
    told = run();
    if (told != READY) {
        errx(1, "the guest is not ready: %#x", told);
    }
    CALL(vm, KVM_SIGNAL_MSI, &msi);

    told = run();
    printf("1..1\n%sok 1 - an interrupt waits until its guest has written CR8%s\n",
           told == INTERRUPTED || told == FAULT ? "" : "not ",
           told == FAULT ? " # SKIP no processor of AMD's" : "");
    return told != INTERRUPTED && told != FAULT;
}
