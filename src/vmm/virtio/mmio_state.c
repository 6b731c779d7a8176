// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio-mmio window in a snapshot.
 *
 * Section: struct saved, then the device's own bytes to the end. The file may be hostile: registers can hold
 * anything (a driver could have written it), indexes too (vq.c bounds them); what is refused is what no running device can
 * be: another device, features never offered, queues that the queue code does not take.
 */
#include <errno.h>
#include <string.h>

#include "vmm/virtio/mmio.h"

struct saved_queue {
	uint64_t desc, avail, used;
	uint32_t num;
	uint16_t ready, live;
	uint16_t last_avail, used_idx, notified, reserved;
};

struct saved {
	uint32_t device_id;
	uint32_t n_queues;
	uint64_t features;
	uint64_t driver_features;
	uint32_t status, int_status;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint32_t config_gen;
	uint16_t active, failed;
	uint32_t reserved;
	struct saved_queue queues[VIRTIO_QUEUES_MAX];
};

_Static_assert(sizeof(struct saved) == 56 + 40 * VIRTIO_QUEUES_MAX, "no padding in the file");

int mmio_quiesce(struct mmio *m)
{
	return m->dev->active && m->dev->ops->quiesce ? m->dev->ops->quiesce(m->dev) : 0;
}

static void save_queue(const struct mmio_queue *q, const struct vq *vq, struct saved_queue *ret)
{
	*ret = (struct saved_queue){
		.desc = q->desc,
		.avail = q->avail,
		.used = q->used,
		.num = q->num,
		.ready = q->ready,
		.live = vq->num != 0,
		.last_avail = vq->last_avail,
		.used_idx = vq->used_idx,
		.notified = vq->notified,
	};
	if (vq->num == 0)
		return;
	/* The driver may have scribbled over the registers since: what counts is what the queue works with. */
	ret->num = vq->num;
	ret->desc = vq->layout.desc.v;
	ret->avail = vq->layout.avail.v;
	ret->used = vq->layout.used.v;
}

int mmio_save(struct mmio *m, struct buf *out)
{
	struct virtio_dev *dev = m->dev;
	struct saved s = {
		.device_id = dev->ops->id,
		.n_queues = dev->ops->n_queues,
		.features = dev->features,
		.driver_features = m->driver_features,
		.status = m->status,
		.int_status = m->int_status,
		.device_features_sel = m->device_features_sel,
		.driver_features_sel = m->driver_features_sel,
		.queue_sel = m->queue_sel,
		.config_gen = dev->config_gen,
		.active = dev->active,
		.failed = dev->failed,
	};

	for (uint32_t i = 0; i < dev->ops->n_queues; i++) {
		if (dev->vq[i].in_flight)
			return -EBUSY;
		save_queue(&m->queues[i], &dev->vq[i], &s.queues[i]);
	}
	buf_append(out, &s, sizeof(s));
	return dev->ops->save ? dev->ops->save(dev, out) : 0;
}

static int load_queue(struct mmio *m, uint32_t i, const struct saved_queue *s)
{
	struct virtio_dev *dev = m->dev;
	struct vq *vq = &dev->vq[i];
	struct vq_layout l = { (uint16_t)s->num, gpa(s->desc), gpa(s->avail), gpa(s->used) };

	m->queues[i] = (struct mmio_queue){ s->num, s->ready, s->desc, s->avail, s->used };
	if (!s->live)
		return 0;
	if (s->num > VQ_NUM_MAX || vq_enable(vq, dev->env.mem, &l, dev->ops->queue_max[i], dev->acked) < 0)
		return -EBADMSG;
	vq->last_avail = s->last_avail;
	vq->used_idx = s->used_idx;
	vq->notified = s->notified;
	vq->broken = dev->failed;
	return 0;
}

static int load_registers(struct mmio *m, const struct saved *s)
{
	struct virtio_dev *dev = m->dev;

	if (s->device_id != dev->ops->id || s->n_queues != dev->ops->n_queues)
		return -EBADMSG;
	/* The driver goes on with what it negotiated, so this device must offer it still. */
	if (s->active && (s->driver_features & ~dev->features))
		return -EBADMSG;
	m->driver_features = s->driver_features;
	m->status = s->status & ~(uint32_t)VIRTIO_CONFIG_S_NEEDS_RESET;
	m->int_status = s->int_status & (VIRTIO_INT_QUEUE | VIRTIO_INT_CONFIG);
	m->device_features_sel = s->device_features_sel;
	m->driver_features_sel = s->driver_features_sel;
	m->queue_sel = s->queue_sel;
	dev->config_gen = s->config_gen;
	dev->active = s->active;
	dev->failed = s->failed;
	dev->acked = s->active ? s->driver_features : 0;
	return 0;
}

int mmio_load(struct mmio *m, const void *p, size_t n)
{
	struct virtio_dev *dev = m->dev;
	struct saved s;

	if (n < sizeof(s))
		return -EBADMSG;
	memcpy(&s, p, sizeof(s));
	int r = load_registers(m, &s);
	for (uint32_t i = 0; r == 0 && dev->active && i < dev->ops->n_queues; i++)
		r = load_queue(m, i, &s.queues[i]);
	if (r < 0) {
		dev->active = false; /* never was: nothing to reset */
		return r;
	}
	if (dev->ops->load)
		return dev->ops->load(dev, (const uint8_t *)p + sizeof(s), n - sizeof(s));
	return dev->active ? dev->ops->activate(dev) : 0;
}
