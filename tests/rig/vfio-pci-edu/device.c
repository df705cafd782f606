// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device as vfio has it
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/version.h>

#include "edu.h"

#define EDU_VENDOR_ID	0x1234
#define EDU_DEVICE_ID	0x11e8

static int edu_init(struct vfio_device *vdev)
{
	struct edu_device *edu = edu_of(vdev);

	mutex_init(&edu->state_mutex);
	spin_lock_init(&edu->reset_lock);
	xa_init(&edu->log.pages);
	edu->settings = edu_default_settings;
	edu->state = VFIO_DEVICE_STATE_RUNNING;
	vdev->mig_ops = &edu_migration_ops;
	vdev->migration_flags = VFIO_MIGRATION_STOP_COPY;
	return vfio_pci_core_init_dev(vdev);
}

/* What the settings say that it can; nobody has the device open yet. */
static void edu_set_features(struct edu_device *edu)
{
	struct vfio_device *vdev = &edu->core.vdev;

	vdev->migration_flags = VFIO_MIGRATION_STOP_COPY |
		(edu_setting(edu, p2p) ? VFIO_MIGRATION_P2P : 0) |
		(edu_setting(edu, pre_copy) ? VFIO_MIGRATION_PRE_COPY : 0);
	vdev->log_ops = edu_setting(edu, log) ? &edu_log_ops : NULL;
}

/* Since Linux 7.3 all BARs are mapped when a device is enabled. */
static int edu_map_bar(struct edu_device *edu)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
	int ret = vfio_pci_core_setup_barmap(&edu->core, 0);

	if (ret)
		return ret;
#endif
	if (IS_ERR(edu->core.barmap[0]))
		return PTR_ERR(edu->core.barmap[0]);

	edu->bar = edu->core.barmap[0];
	return 0;
}

static int edu_open_device(struct vfio_device *vdev)
{
	struct edu_device *edu = edu_of(vdev);
	u16 command;
	int ret;

	ret = vfio_pci_core_enable(&edu->core);
	if (ret)
		return ret;
	ret = edu_map_bar(edu);
	if (ret) {
		vfio_pci_core_disable(&edu->core);
		return ret;
	}

	edu_set_features(edu);
	command = edu_registers_take(edu, true);
	edu_registers_clear(edu);
	edu_registers_return(edu, command);
	edu->state = VFIO_DEVICE_STATE_RUNNING;

	vfio_pci_core_finish_enable(&edu->core);
	/* each access to the registers has to come by edu_read() and edu_write() */
	edu->core.bar_mmap_supported[0] = false;
	return 0;
}

static void edu_close_device(struct vfio_device *vdev)
{
	struct edu_device *edu = edu_of(vdev);

	edu_state_lock(edu);
	edu_stream_end(edu);
	edu_log_end(edu);
	down_write(&edu->core.memory_lock);
	edu->bar = NULL;
	up_write(&edu->core.memory_lock);
	edu_state_unlock(edu);
	vfio_pci_core_close_device(vdev);
}

static bool edu_is_bar(loff_t pos)
{
	return VFIO_PCI_OFFSET_TO_INDEX(pos) == VFIO_PCI_BAR0_REGION_INDEX;
}

static ssize_t edu_read(struct vfio_device *vdev, char __user *buf, size_t count,
			loff_t *ppos)
{
	return edu_is_bar(*ppos) ? edu_bar_read(edu_of(vdev), buf, count, ppos) :
				   vfio_pci_core_read(vdev, buf, count, ppos);
}

static ssize_t edu_write(struct vfio_device *vdev, const char __user *buf,
			 size_t count, loff_t *ppos)
{
	return edu_is_bar(*ppos) ? edu_bar_write(edu_of(vdev), buf, count, ppos) :
				   vfio_pci_core_write(vdev, buf, count, ppos);
}

static long edu_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	u64 failure = edu_setting(edu_of(vdev), fail_reset);

	if (failure && (cmd == VFIO_DEVICE_RESET || cmd == VFIO_DEVICE_PCI_HOT_RESET))
		return -failure;
	return vfio_pci_core_ioctl(vdev, cmd, arg);
}

static const struct vfio_device_ops edu_ops = {
	.name		= "vfio-pci-edu",
	.init		= edu_init,
	.release	= vfio_pci_core_release_dev,
	.open_device	= edu_open_device,
	.close_device	= edu_close_device,
	.ioctl		= edu_ioctl,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
	.get_region_info_caps = vfio_pci_ioctl_get_region_info,
#endif
	.device_feature	= vfio_pci_core_ioctl_feature,
	.read		= edu_read,
	.write		= edu_write,
	.mmap		= vfio_pci_core_mmap,
	.request	= vfio_pci_core_request,
	.match		= vfio_pci_core_match,
	.bind_iommufd	= vfio_iommufd_physical_bind,
	.unbind_iommufd	= vfio_iommufd_physical_unbind,
	.attach_ioas	= vfio_iommufd_physical_attach_ioas,
	.detach_ioas	= vfio_iommufd_physical_detach_ioas,
};

/*
 * vfio-pci-core resets with memory_lock held. edu itself does not know of resets, so
 * its registers are cleared here.
 */
static void edu_reset_done(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);
	struct edu_device *edu = container_of(core, struct edu_device, core);
	u16 command;

	if (edu->bar) {
		pci_read_config_word(pdev, PCI_COMMAND, &command);
		pci_write_config_word(pdev, PCI_COMMAND,
				      (command | PCI_COMMAND_MEMORY) &
				      ~PCI_COMMAND_MASTER);
		edu_registers_clear(edu);
		pci_write_config_word(pdev, PCI_COMMAND, command);
	}
	edu_state_reset(edu);
}

static const struct pci_error_handlers edu_err_handlers = {
	.error_detected = vfio_pci_core_aer_err_detected,
	.reset_done = edu_reset_done,
};

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu_device *edu;
	int ret;

	edu = vfio_alloc_device(edu_device, core.vdev, &pdev->dev, &edu_ops);
	if (IS_ERR(edu))
		return PTR_ERR(edu);

	dev_set_drvdata(&pdev->dev, &edu->core);
	ret = vfio_pci_core_register_device(&edu->core);
	if (ret)
		vfio_put_device(&edu->core.vdev);
	return ret;
}

static void edu_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	vfio_pci_core_unregister_device(core);
	vfio_put_device(&core->vdev);
}

/* Only by driver_override, as for each driver of vfio's */
static const struct pci_device_id edu_table[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(EDU_VENDOR_ID, EDU_DEVICE_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, edu_table);

static const struct attribute_group *edu_groups[] = {
	&edu_settings_group,
	NULL,
};

static struct pci_driver edu_driver = {
	.name = "vfio-pci-edu",
	.id_table = edu_table,
	.probe = edu_probe,
	.remove = edu_remove,
	.dev_groups = edu_groups,
	.err_handler = &edu_err_handlers,
	.driver_managed_dma = true,
};

static int __init edu_module_init(void)
{
	edu_stream_init();
	return pci_register_driver(&edu_driver);
}
module_init(edu_module_init);

static void __exit edu_module_exit(void)
{
	pci_unregister_driver(&edu_driver);
}
module_exit(edu_module_exit);

/* What MODULE_IMPORT_NS() is, which takes a string since Linux 6.13 */
MODULE_INFO(import_ns, "IOMMUFD");
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VFIO support for QEMU's edu device, with migration");
