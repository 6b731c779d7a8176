/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio driver for tests: guest memory, split queues without EVENT_IDX, and a loop for the device. */
#ifndef TEST_VMM_DRIVER_H
#define TEST_VMM_DRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "vmm/virtio/virtio.h"

#define DRV_NUM	    64u	     /* size of each queue; also most descriptors in use at once */
#define DRV_QUEUE   0x10000u /* bytes of guest memory for each queue's rings */
#define DRV_DATA_AT MIB(4)   /* where tests may put buffers */

/* struct drv_seg - one descriptor to be */
struct drv_seg {
	uint64_t at;
	uint32_t len;
	bool in; /* device-writable */
};

struct drv_queue {
	uint16_t avail_idx, used_seen, next_desc;
};

struct drv {
	struct gmem mem;
	struct loop *loop;
	struct virtio_dev *dev;
	struct drv_queue q[VIRTIO_QUEUES_MAX];
	unsigned int irqs, config_irqs;
};

static inline void drv_irq(struct virtio_dev *dev, uint32_t why)
{
	struct drv *d = dev->transport;

	d->irqs += why & VIRTIO_INT_QUEUE ? 1 : 0;
	d->config_irqs += why & VIRTIO_INT_CONFIG ? 1 : 0;
}

/* drv_open() - memory and loop; then make the device with drv_env() and set d->dev */
static inline void drv_open(struct drv *d)
{
	*d = (struct drv){ 0 };
	assert_int_equal(gmem_new_anon(&d->mem, MIB(16)), 0);
	assert_int_equal(loop_new(&d->loop), 0);
}

static inline struct virtio_env drv_env(struct drv *d)
{
	return (struct virtio_env){ &d->mem, d->loop, drv_irq };
}

static inline uint8_t *drv_ram(struct drv *d, uint64_t at)
{
	return d->mem.base + at;
}

/* rings of queue @q: descriptors, then available, then used */
static inline struct vring_desc *drv_desc(struct drv *d, uint32_t q)
{
	return (struct vring_desc *)(void *)drv_ram(d, (q + 1) * DRV_QUEUE);
}
static inline struct vring_avail *drv_avail(struct drv *d, uint32_t q)
{
	return (struct vring_avail *)(void *)drv_ram(d, (q + 1) * DRV_QUEUE + 0x4000);
}
static inline struct vring_used *drv_used_ring(struct drv *d, uint32_t q)
{
	return (struct vring_used *)(void *)drv_ram(d, (q + 1) * DRV_QUEUE + 0x8000);
}

static inline uint16_t drv_num(const struct drv *d, uint32_t q)
{
	return (uint16_t)MIN(DRV_NUM, d->dev->ops->queue_max[q]);
}

/* drv_queues() - what the transport does with DRIVER_OK, but for the call of the device */
static inline void drv_queues(struct drv *d, uint64_t features)
{
	struct virtio_dev *dev = d->dev;

	dev->transport = d;
	dev->acked = features & dev->features & ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
	memset(d->q, 0, sizeof(d->q));
	for (uint32_t q = 0; q < dev->ops->n_queues; q++) {
		uint64_t at = (q + 1) * DRV_QUEUE;
		struct vq_layout l = { drv_num(d, q), gpa(at), gpa(at + 0x4000), gpa(at + 0x8000) };

		memset(drv_ram(d, at), 0, DRV_QUEUE);
		assert_int_equal(vq_enable(&dev->vq[q], &d->mem, &l, dev->ops->queue_max[q], dev->acked), 0);
	}
	dev->active = true;
}

static inline void drv_start(struct drv *d)
{
	drv_queues(d, ~0ULL);
	assert_int_equal(d->dev->ops->activate(d->dev), 0);
	for (uint32_t q = 0; q < d->dev->ops->n_queues; q++)
		d->dev->ops->notify(d->dev, q);
}

static inline void drv_reset(struct drv *d)
{
	d->dev->ops->reset(d->dev);
	d->dev->active = d->dev->failed = false;
	for (uint32_t q = 0; q < VIRTIO_QUEUES_MAX; q++)
		vq_disable(&d->dev->vq[q]);
}

static inline void drv_close(struct drv *d)
{
	if (d->dev && d->dev->active)
		drv_reset(d);
	if (d->dev)
		d->dev->ops->free(d->dev);
	loop_free(d->loop);
	gmem_done(&d->mem);
}

/* drv_put() - offer a chain of @n segments, without a kick; its head */
static inline uint16_t drv_put(struct drv *d, uint32_t q, const struct drv_seg *segs, size_t n)
{
	struct drv_queue *dq = &d->q[q];
	struct vring_avail *avail = drv_avail(d, q);
	uint16_t num = drv_num(d, q), head = dq->next_desc % num;

	for (size_t i = 0; i < n; i++) {
		uint16_t at = dq->next_desc++ % num;
		uint16_t flags = (uint16_t)((segs[i].in ? VRING_DESC_F_WRITE : 0) |
					    (i + 1 < n ? VRING_DESC_F_NEXT : 0));

		drv_desc(d, q)[at] = (struct vring_desc){ segs[i].at, segs[i].len, flags,
							  (uint16_t)(dq->next_desc % num) };
	}
	avail->ring[dq->avail_idx % num] = head;
	__atomic_store_n(&avail->idx, ++dq->avail_idx, __ATOMIC_RELEASE);
	return head;
}

static inline void drv_kick(struct drv *d, uint32_t q)
{
	d->dev->ops->notify(d->dev, q);
}

/* drv_take() - the next used chain; false if there is none */
static inline bool drv_take(struct drv *d, uint32_t q, uint16_t *ret_head, uint32_t *ret_len)
{
	struct drv_queue *dq = &d->q[q];
	const struct vring_used *used = drv_used_ring(d, q);

	if (dq->used_seen == __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE))
		return false;
	const struct vring_used_elem *e = &used->ring[dq->used_seen++ % drv_num(d, q)];
	*ret_head = (uint16_t)e->id;
	*ret_len = e->len;
	return true;
}

/* drv_turn() - let the device serve what is ready on its descriptors, and its timers */
static inline void drv_turn(struct drv *d)
{
	assert_int_equal(loop_turn(d->loop, 0), 0);
}

#endif
