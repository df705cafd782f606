// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The states of the migration
 *
 * vfio finds the way from one state to another; here is what each step of it does.
 */
#include <linux/delay.h>
#include <linux/file.h>

#include "edu.h"

static struct file *edu_step_nothing(struct edu_device *edu)
{
	return NULL;
}

static struct file *edu_step_stop(struct edu_device *edu)
{
	return ERR_PTR(edu_transfers_stop(edu));
}

static struct file *edu_step_go_on(struct edu_device *edu)
{
	edu_transfers_go_on(edu);
	return NULL;
}

static struct file *edu_step_finish(struct edu_device *edu)
{
	return ERR_PTR(edu_stream_finish_saving(edu));
}

static struct file *edu_step_stop_and_finish(struct edu_device *edu)
{
	int ret = edu_transfers_stop(edu);

	return ret ? ERR_PTR(ret) : edu_step_finish(edu);
}

static struct file *edu_step_save(struct edu_device *edu)
{
	struct file *filp = edu_stream_open_saving(edu);
	int ret;

	if (IS_ERR(filp))
		return filp;
	ret = edu_stream_finish_saving(edu);
	if (ret) {
		edu_stream_end(edu);
		fput(filp);
		return ERR_PTR(ret);
	}
	return filp;
}

static struct file *edu_step_end(struct edu_device *edu)
{
	edu_stream_end(edu);
	return NULL;
}

static struct file *edu_step_load(struct edu_device *edu)
{
	int ret = edu_stream_load(edu);

	if (ret)
		return ERR_PTR(ret);
	return edu_step_end(edu);
}

/* Those that vfio_mig_get_next_state() knows. What returns a file opens a session. */
static const struct {
	enum vfio_device_mig_state from;
	enum vfio_device_mig_state to;
	struct file *(*step)(struct edu_device *edu);
} edu_steps[] = {
#define STEP(from, to, what) \
	{ VFIO_DEVICE_STATE_##from, VFIO_DEVICE_STATE_##to, what }
	STEP(RUNNING, RUNNING_P2P, edu_step_stop),
	STEP(RUNNING, STOP, edu_step_stop),
	STEP(RUNNING_P2P, STOP, edu_step_nothing),
	STEP(STOP, RUNNING_P2P, edu_step_nothing),
	STEP(STOP, RUNNING, edu_step_go_on),
	STEP(RUNNING_P2P, RUNNING, edu_step_go_on),

	STEP(RUNNING, PRE_COPY, edu_stream_open_saving),
	STEP(RUNNING_P2P, PRE_COPY_P2P, edu_stream_open_saving),
	STEP(PRE_COPY, PRE_COPY_P2P, edu_step_stop),
	STEP(PRE_COPY_P2P, PRE_COPY, edu_step_go_on),
	STEP(PRE_COPY, RUNNING, edu_step_end),
	STEP(PRE_COPY_P2P, RUNNING_P2P, edu_step_end),

	STEP(PRE_COPY, STOP_COPY, edu_step_stop_and_finish),
	STEP(PRE_COPY_P2P, STOP_COPY, edu_step_finish),
	STEP(STOP, STOP_COPY, edu_step_save),
	STEP(STOP_COPY, STOP, edu_step_end),

	STEP(STOP, RESUMING, edu_stream_open_resuming),
	STEP(RESUMING, STOP, edu_step_load),
#undef STEP
};

/* The failure that is set for a step to @state; 0 is none */
static int edu_step_failure(struct edu_device *edu, enum vfio_device_mig_state state)
{
	u64 times = edu_setting(edu, fail_times);

	if (!state || edu_setting(edu, fail_state) != state)
		return 0;
	if (times) {
		WRITE_ONCE(edu->settings.fail_times, times - 1);
		if (times == 1)
			WRITE_ONCE(edu->settings.fail_state, 0);
	}
	if (edu_setting(edu, fail_to_error)) {
		edu_stream_end(edu);
		edu->state = VFIO_DEVICE_STATE_ERROR;
	}
	return -EIO;
}

static struct file *edu_step(struct edu_device *edu, enum vfio_device_mig_state to)
{
	int ret;

	if (edu_setting(edu, delay_state) == to)
		msleep(edu_setting(edu, delay_ms));
	ret = edu_step_failure(edu, to);
	if (ret)
		return ERR_PTR(ret);
	for (int i = 0; i < ARRAY_SIZE(edu_steps); i++) {
		if (edu_steps[i].from == edu->state && edu_steps[i].to == to)
			return edu_steps[i].step(edu);
	}
	WARN_ON(true);
	return ERR_PTR(-EINVAL);
}

/* Only the last step of a way opens a session. There is none out of ERROR. */
static struct file *edu_set_state(struct vfio_device *vdev,
				  enum vfio_device_mig_state state)
{
	struct edu_device *edu = edu_of(vdev);
	enum vfio_device_mig_state next;
	struct file *filp = NULL;
	int ret;

	edu_state_lock(edu);
	while (edu->state != state && !filp) {
		ret = edu->state == VFIO_DEVICE_STATE_ERROR ? -EINVAL :
		      vfio_mig_get_next_state(vdev, edu->state, state, &next);
		filp = ret ? ERR_PTR(ret) : edu_step(edu, next);
		if (!IS_ERR(filp))
			edu->state = next;
	}
	edu_state_unlock(edu);
	return filp;
}

static int edu_get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct edu_device *edu = edu_of(vdev);

	edu_state_lock(edu);
	*state = edu->state;
	edu_state_unlock(edu);
	return -edu_setting(edu, fail_get_state);
}

static int edu_get_data_size(struct vfio_device *vdev, unsigned long *size)
{
	struct edu_device *edu = edu_of(vdev);

	*size = edu_stream_stop_copy_size(edu);
	return -edu_setting(edu, fail_data_size);
}

const struct vfio_migration_ops edu_migration_ops = {
	.migration_set_state = edu_set_state,
	.migration_get_state = edu_get_state,
	.migration_get_data_size = edu_get_data_size,
};

bool edu_state_has_registers(struct edu_device *edu)
{
	switch (READ_ONCE(edu->state)) {
	case VFIO_DEVICE_STATE_STOP:
	case VFIO_DEVICE_STATE_STOP_COPY:
	case VFIO_DEVICE_STATE_RESUMING:
		return false;
	default:
		return true;
	}
}

void edu_state_lock(struct edu_device *edu)
{
	mutex_lock(&edu->state_mutex);
}

/* Whoever has the mutex sees to a reset that came meanwhile. */
void edu_state_unlock(struct edu_device *edu)
{
	spin_lock(&edu->reset_lock);
	while (edu->was_reset) {
		edu->was_reset = false;
		spin_unlock(&edu->reset_lock);
		edu->state = VFIO_DEVICE_STATE_RUNNING;
		edu_stream_end(edu);
		spin_lock(&edu->reset_lock);
	}
	mutex_unlock(&edu->state_mutex);
	spin_unlock(&edu->reset_lock);
}

/*
 * The caller has memory_lock, which comes after state_mutex: so it must not wait for
 * that.
 */
void edu_state_reset(struct edu_device *edu)
{
	spin_lock(&edu->reset_lock);
	edu->was_reset = true;
	if (!mutex_trylock(&edu->state_mutex)) {
		spin_unlock(&edu->reset_lock);
		return;
	}
	spin_unlock(&edu->reset_lock);
	edu_state_unlock(edu);
}
