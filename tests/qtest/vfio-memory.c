/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small steps that change the memory map of a running guest
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "libqos/malloc-pc.h"
#include "qapi/qmp/qdict.h"
#include "qemu/bitmap.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_mem.h"
#include "vfio-acpi.h"
#include "vfio-memory.h"

#define BALLOON_PAGE_BITS   12
#define BALLOON_INFLATE     0
#define BALLOON_DEFLATE     1

#define VIRTIO_TIMEOUT      (30 * G_USEC_PER_SEC)

/* DIMMs */

/* Returns NULL, or what is wrong, to be freed. */
static char *object_add(VFIOMachine *m, const char *object, const char *id,
                        uint64_t size)
{
    char *reply = qtest_hmp(m->qts, "object_add %s,id=%s,size=%" PRIu64 "B",
                            object, id, size);

    if (*reply) {
        return reply;
    }
    g_free(reply);
    return NULL;
}

char *vfio_memory_plug(VFIOMachine *m, const char *driver, int slot,
                       const char *backend, uint64_t size)
{
    g_autofree char *memory = g_strdup_printf("mem%d", slot);
    g_autofree char *device =
        g_strdup_printf("%s,id=dimm%d,slot=%d,memdev=mem%d", driver, slot,
                        slot, slot);
    char *error = object_add(m, backend, memory, size);

    return error ?: vfio_machine_device_add(m, device);
}

static char *ask_for(VFIOMachine *m, const char *command, const char *what,
                     int slot)
{
    g_autofree char *id = g_strdup_printf("id=%s%d", what, slot);

    return vfio_machine_qmp_error(m, command, id);
}

char *vfio_memory_ask_back(VFIOMachine *m, int slot)
{
    return ask_for(m, "device_del", "dimm", slot);
}

void vfio_memory_eject(VFIOMachine *m, int slot)
{
    vfio_acpi_eject_dimm(m, slot);
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
}

char *vfio_memory_drop(VFIOMachine *m, int slot)
{
    return ask_for(m, "object-del", "mem", slot);
}

/* A block that was removed has no name until nobody uses it any more. */
static bool has_unnamed_block(VFIOMachine *m, uint64_t size)
{
    g_autofree char *blocks = qtest_hmp(m->qts, "info ramblock");
    g_autofree char *block = g_strdup_printf("^ {24} .* 0x%016" PRIx64 "\\s*$",
                                             size);

    return g_regex_match_simple(block, blocks, G_REGEX_MULTILINE, 0);
}

void vfio_memory_wait_freed(VFIOMachine *m, uint64_t size)
{
    g_assert_true(vfio_rig_wait(!has_unnamed_block(m, size)));
}

/* PCI configuration */

static QPCIDevice *find(VFIOMachine *m, int slot)
{
    QPCIDevice *dev = qpci_device_find(m->pci, QPCI_DEVFN(slot, 0));

    g_assert_nonnull(dev);
    return dev;
}

void vfio_memory_config_byte(VFIOMachine *m, int slot, uint8_t reg,
                             uint8_t value)
{
    g_autofree QPCIDevice *dev = find(m, slot);

    qpci_config_writeb(dev, reg, value);
}

void vfio_memory_command(VFIOMachine *m, int slot, uint16_t command)
{
    g_autofree QPCIDevice *dev = find(m, slot);

    qpci_config_writew(dev, PCI_COMMAND, command);
}

void vfio_memory_bar(VFIOMachine *m, int slot, uint8_t reg, uint32_t value)
{
    g_autofree QPCIDevice *dev = find(m, slot);

    qpci_config_writel(dev, reg, value);
}

void vfio_memory_bar64(VFIOMachine *m, int slot, uint8_t reg, uint64_t value)
{
    vfio_memory_bar(m, slot, reg, value);
    vfio_memory_bar(m, slot, reg + 4, value >> 32);
}

/* Virtio devices */

static void set_features(QVirtioDevice *dev)
{
    uint64_t unwanted = QVIRTIO_F_BAD_FEATURE |
                        BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |
                        BIT_ULL(VIRTIO_RING_F_EVENT_IDX);

    qvirtio_set_features(dev, qvirtio_get_features(dev) & ~unwanted);
}

VFIOVirtio *vfio_virtio_new(VFIOMachine *m, int slot, int num_queues)
{
    VFIOVirtio *v = g_new0(VFIOVirtio, 1);
    QPCIAddress address = { .devfn = QPCI_DEVFN(slot, 0) };

    g_assert_cmpint(num_queues, <=, ARRAY_SIZE(v->queues));
    v->machine = m;
    v->pci = virtio_pci_new(m->pci, &address);
    g_assert_nonnull(v->pci);
    pc_alloc_init(&v->alloc, m->qts, ALLOC_NO_FLAGS);

    qvirtio_pci_device_enable(v->pci);
    qvirtio_start_device(&v->pci->vdev);
    set_features(&v->pci->vdev);
    for (v->num_queues = 0; v->num_queues < num_queues; v->num_queues++) {
        v->queues[v->num_queues] = qvirtqueue_setup(&v->pci->vdev, &v->alloc,
                                                    v->num_queues);
    }
    qvirtio_set_driver_ok(&v->pci->vdev);
    return v;
}

void vfio_virtio_free(VFIOVirtio *v)
{
    for (int i = 0; i < v->num_queues; i++) {
        qvirtqueue_cleanup(v->pci->vdev.bus, v->queues[i], &v->alloc);
    }
    alloc_destroy(&v->alloc);
    qvirtio_pci_destructor(&v->pci->obj);
    g_free(v->pci);
    g_free(v);
}

void vfio_virtio_request(VFIOVirtio *v, int queue, const void *out,
                         size_t out_size, void *in, size_t in_size)
{
    QTestState *qts = v->machine->qts;
    QVirtQueue *vq = v->queues[queue];
    uint64_t addr = guest_alloc(&v->alloc, out_size + in_size);
    uint32_t head;

    qtest_memwrite(qts, addr, out, out_size);
    head = qvirtqueue_add(qts, vq, addr, out_size, false, in_size > 0);
    if (in_size) {
        qvirtqueue_add(qts, vq, addr + out_size, in_size, true, false);
    }
    qvirtqueue_kick(qts, &v->pci->vdev, vq, head);
    qvirtio_wait_used_elem(qts, &v->pci->vdev, vq, head, NULL,
                           VIRTIO_TIMEOUT);
    qtest_memread(qts, addr + out_size, in, in_size);
    guest_free(&v->alloc, addr);

    /* libqos never takes a descriptor back, and none is in use now. */
    vq->free_head = 0;
    vq->num_free = vq->size;
}

/* virtio-mem */

static uint64_t read_config(VFIOVirtio *v, size_t offset)
{
    return qvirtio_config_readq(&v->pci->vdev, offset);
}

VFIOVirtioMem *vfio_virtio_mem_new(VFIOMachine *m, int slot)
{
    VFIOVirtioMem *mem = g_new0(VFIOVirtioMem, 1);
    VFIOVirtio *v = vfio_virtio_new(m, slot, 1);

    mem->virtio = v;
    mem->addr = read_config(v, offsetof(struct virtio_mem_config, addr));
    mem->block_size = read_config(v, offsetof(struct virtio_mem_config,
                                              block_size));
    mem->num_blocks = read_config(v, offsetof(struct virtio_mem_config,
                                              region_size)) / mem->block_size;
    mem->plugged = bitmap_new(mem->num_blocks);
    return mem;
}

void vfio_virtio_mem_free(VFIOVirtioMem *mem)
{
    vfio_virtio_free(mem->virtio);
    g_free(mem->plugged);
    g_free(mem);
}

void vfio_virtio_mem_offer(VFIOVirtioMem *mem, const char *id, uint64_t size)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", id);

    qtest_qmp_assert_success(mem->virtio->machine->qts,
        "{ 'execute': 'qom-set', 'arguments': { 'path': %s, "
        "'property': 'requested-size', 'value': %" PRId64 " } }",
        path, (int64_t)size);
}

static int ask(VFIOVirtioMem *mem, uint16_t type, uint64_t block,
               uint16_t count)
{
    struct virtio_mem_req request = {
        .type = cpu_to_le16(type),
        .u.plug.addr = cpu_to_le64(mem->addr + block * mem->block_size),
        .u.plug.nb_blocks = cpu_to_le16(count),
    };
    struct virtio_mem_resp response = {};

    vfio_virtio_request(mem->virtio, 0, &request, sizeof(request), &response,
                        sizeof(response));
    return le16_to_cpu(response.type);
}

/* The device counts what is plugged, and the driver counts it too. */
static void check_plugged_size(VFIOVirtioMem *mem)
{
    uint64_t size = read_config(mem->virtio,
                                offsetof(struct virtio_mem_config,
                                         plugged_size));

    g_assert_cmphex(size, ==, mem->block_size *
                    bitmap_count_one(mem->plugged, mem->num_blocks));
}

int vfio_virtio_mem_plug(VFIOVirtioMem *mem, uint64_t block, uint16_t count)
{
    int response = ask(mem, VIRTIO_MEM_REQ_PLUG, block, count);

    if (response == VIRTIO_MEM_RESP_ACK) {
        bitmap_set(mem->plugged, block, count);
    }
    check_plugged_size(mem);
    return response;
}

int vfio_virtio_mem_unplug(VFIOVirtioMem *mem, uint64_t block,
                           uint16_t count)
{
    int response = ask(mem, VIRTIO_MEM_REQ_UNPLUG, block, count);

    if (response == VIRTIO_MEM_RESP_ACK) {
        bitmap_clear(mem->plugged, block, count);
    }
    check_plugged_size(mem);
    return response;
}

int vfio_virtio_mem_unplug_all(VFIOVirtioMem *mem)
{
    int response = ask(mem, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);

    if (response == VIRTIO_MEM_RESP_ACK) {
        bitmap_zero(mem->plugged, mem->num_blocks);
    }
    check_plugged_size(mem);
    return response;
}

/* Balloon */

static void send_page(VFIOVirtio *v, int queue, uint64_t addr)
{
    uint32_t number = cpu_to_le32(addr >> BALLOON_PAGE_BITS);

    vfio_virtio_request(v, queue, &number, sizeof(number), NULL, 0);
}

void vfio_balloon_inflate(VFIOVirtio *v, uint64_t addr)
{
    send_page(v, BALLOON_INFLATE, addr);
}

void vfio_balloon_deflate(VFIOVirtio *v, uint64_t addr)
{
    send_page(v, BALLOON_DEFLATE, addr);
}
