// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How a device shall behave, as files in its folder of sysfs
 */
#include "edu.h"

#define EDU_DEFAULT(name, value) .name = (value),
const struct edu_settings edu_default_settings = { EDU_SETTINGS(EDU_DEFAULT) };

struct edu_setting {
	struct device_attribute attr;
	size_t offset;
};

static u64 *edu_setting_of(struct device *dev, struct device_attribute *attr)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(dev);
	struct edu_device *edu = container_of(core, struct edu_device, core);
	struct edu_setting *setting = container_of(attr, struct edu_setting, attr);

	return (void *)&edu->settings + setting->offset;
}

static ssize_t edu_setting_show(struct device *dev, struct device_attribute *attr,
				char *buf)
{
	return sysfs_emit(buf, "%llu\n", READ_ONCE(*edu_setting_of(dev, attr)));
}

static ssize_t edu_setting_store(struct device *dev, struct device_attribute *attr,
				 const char *buf, size_t count)
{
	u64 value;
	int ret = kstrtou64(buf, 0, &value);

	if (ret)
		return ret;
	WRITE_ONCE(*edu_setting_of(dev, attr), value);
	return count;
}

#define EDU_FILE(name, value)							\
	static struct edu_setting edu_setting_##name = {			\
		__ATTR(name, 0644, edu_setting_show, edu_setting_store),	\
		offsetof(struct edu_settings, name),				\
	};
EDU_SETTINGS(EDU_FILE)

/* The state that the device is in now, which is no setting */
static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(dev);
	struct edu_device *edu = container_of(core, struct edu_device, core);

	return sysfs_emit(buf, "%u\n", READ_ONCE(edu->state));
}
static DEVICE_ATTR_RO(state);

#define EDU_ATTR(name, value) &edu_setting_##name.attr.attr,
static struct attribute *edu_settings_attrs[] = {
	EDU_SETTINGS(EDU_ATTR)
	&dev_attr_state.attr,
	NULL,
};

const struct attribute_group edu_settings_group = {
	.name = "migration",
	.attrs = edu_settings_attrs,
};
