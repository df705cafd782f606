/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's mtty sample, for tests: a mediated device, and its driver
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-mtty.h"

#define TYPE "/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-2"

#define MTTY_ID     0x32534348  /* vendor 4348, device 3253 */

/* A 16550's registers, and the bits that are used here */
#define UART_DATA   0
#define UART_FCR    2
#define UART_LSR    5
#define FCR_FIFO    0x01
#define LSR_RECEIVED 0x01

char *vfio_mtty_sysfs(const char *uuid)
{
    return g_strdup_printf("/sys/bus/mdev/devices/%s", uuid);
}

void vfio_mtty_create(const char *uuid)
{
    vfio_rig_write(TYPE "/create", uuid);
}

void vfio_mtty_remove(const char *uuid)
{
    g_autofree char *file = g_strdup_printf("/sys/bus/mdev/devices/%s/remove",
                                            uuid);

    vfio_rig_write(file, "1");
}

VFIOMtty *vfio_mtty_new(VFIOMachine *m, int slot)
{
    VFIOMtty *mtty = g_new0(VFIOMtty, 1);

    mtty->pci = qpci_device_find(m->pci, QPCI_DEVFN(slot, 0));
    g_assert_nonnull(mtty->pci);
    g_assert_cmphex(qpci_config_readl(mtty->pci, PCI_VENDOR_ID), ==, MTTY_ID);

    for (int i = 0; i < VFIO_MTTY_PORTS; i++) {
        mtty->ports[i] = qpci_iomap(mtty->pci, i, NULL);
    }
    qpci_config_writew(mtty->pci, PCI_COMMAND, PCI_COMMAND_IO);
    return mtty;
}

void vfio_mtty_free(VFIOMtty *mtty)
{
    g_free(mtty->pci);
    g_free(mtty);
}

void vfio_mtty_moved(VFIOMtty *mtty, VFIOMachine *m)
{
    QPCIDevice *pci = qpci_device_find(m->pci, mtty->pci->devfn);

    g_assert_nonnull(pci);
    g_assert_cmphex(qpci_config_readl(pci, PCI_VENDOR_ID), ==, MTTY_ID);
    g_assert_cmphex(qpci_config_readw(pci, PCI_COMMAND), ==, PCI_COMMAND_IO);
    for (int i = 0; i < VFIO_MTTY_PORTS; i++) {
        g_assert_cmphex(qpci_config_readl(pci, PCI_BASE_ADDRESS_0 + 4 * i) &
                        PCI_BASE_ADDRESS_IO_MASK, ==, mtty->ports[i].addr);
    }
    g_free(mtty->pci);
    mtty->pci = pci;
}

static bool has_received(VFIOMtty *mtty, int port)
{
    return qpci_io_readb(mtty->pci, mtty->ports[port], UART_LSR) &
           LSR_RECEIVED;
}

void vfio_mtty_send(VFIOMtty *mtty, int port, const char *text)
{
    g_assert_cmpuint(strlen(text), <=, VFIO_MTTY_FIFO);
    qpci_io_writeb(mtty->pci, mtty->ports[port], UART_FCR, FCR_FIFO);
    for (; *text; text++) {
        qpci_io_writeb(mtty->pci, mtty->ports[port], UART_DATA, *text);
    }
}

void vfio_mtty_check_received(VFIOMtty *mtty, int port, const char *text)
{
    g_autoptr(GString) received = g_string_new(NULL);

    while (has_received(mtty, port) && received->len <= VFIO_MTTY_FIFO) {
        g_string_append_c(received, qpci_io_readb(mtty->pci, mtty->ports[port],
                                                  UART_DATA));
    }
    g_assert_cmpstr(received->str, ==, text);
}

void vfio_mtty_check(VFIOMtty *mtty)
{
    vfio_mtty_send(mtty, 0, "first port");
    vfio_mtty_send(mtty, 1, "the second");
    vfio_mtty_check_received(mtty, 0, "first port");
    vfio_mtty_check_received(mtty, 1, "the second");
}
