/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device is to the rest of the VMM: one struct of operations, one file a device.
 *
 * Theory of operation
 *
 * Threads: a device's queues and descriptors belong to the I/O thread, as do all operations but config_read and
 * config_write. Those two run on a vCPU thread with dev->lock held and must only touch what that lock covers; the
 * I/O thread takes the lock when it changes the same bytes, and never waits for a vCPU while holding it.
 *
 * States of a device and what may be called:
 *	idle	after virtio_init(), reset() or a failed activate(): config_read, config_write, free
 *	active	between activate() (or load()) and reset(): everything; queues with num != 0 are ready
 *	failed	after virtio_fail(): as active, but the driver is told to reset and queues are broken
 * A driver may go through these in any order and at any moment. A reset in mid-request must leave nothing that
 * later touches guest memory or a queue: the device's own completions are cancelled or made void in reset().
 *
 * Snapshot: all vCPUs stand; for each device quiesce() (finish or put back what is in flight), then save(). On
 * restore the transport has set status, features and queues as they were (ready, indexes included), then load()
 * is called instead of activate(), for every device, active or not (dev->active tells); the machine has not run yet.
 */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/str.h"
#include "vmm/mem.h"
#include "vmm/virtio/vq.h"

#define VIRTIO_QUEUES_MAX 6	 /* balloon with reporting has 5, console with multiport would have 6 */
#define VIRTIO_SAVE_MAX	  MIB(4) /* most bytes a device may save */
#define VIRTIO_CONFIG_MAX 256

struct virtio_dev;

/**
 * struct virtio_ops - a kind of device
 * @name:	for messages and snapshot sections: "blk", "net", …
 * @id:		VIRTIO_ID_*
 * @n_queues:	1..VIRTIO_QUEUES_MAX
 * @queue_max:	@n_queues largest sizes, each a power of two up to VQ_NUM_MAX
 * @config_size: bytes of configuration space, 0..VIRTIO_CONFIG_MAX; accesses outside never reach the device (reads give 0)
 * @config_read: fill @n bytes (1, 2, 4 or 8) from @off; little-endian; vCPU thread, under dev->lock
 * @config_write: the same for writes; NULL: ignored
 * @activate:	DRIVER_OK was set with features dev->acked and the queues in dev->vq: start serving. 0 or -errno
 *		(the device then fails). Queues may hold chains already: the transport calls notify() for each ready queue next
 * @notify:	the driver kicked, or may have: look into queue @q (0..n_queues-1). Also called without a reason
 * @reset:	stop serving and forget; queues are still there when it is called and gone afterwards. Called only if active
 * @quiesce:	before a snapshot: no chain stays popped; 0 or -errno. NULL: nothing is ever in flight
 * @save:	append the device's own state (not status, features, queues); NULL: none. 0 or -errno
 * @load:	@p: @n bytes of a hostile file, as save() wrote them, and the device as described above; NULL: none
 *		wanted, and activate() is called instead if dev->active. 0, -EBADMSG or -errno
 * @free:	end of the machine: release everything, @dev itself included. Called in any state
 */
struct virtio_ops {
	const char *name;
	uint32_t id;
	uint32_t n_queues;
	const uint16_t *queue_max;
	uint32_t config_size;
	void (*config_read)(struct virtio_dev *dev, uint32_t off, void *to, uint32_t n);
	void (*config_write)(struct virtio_dev *dev, uint32_t off, const void *from, uint32_t n);
	int (*activate)(struct virtio_dev *dev);
	void (*notify)(struct virtio_dev *dev, uint32_t q);
	void (*reset)(struct virtio_dev *dev);
	int (*quiesce)(struct virtio_dev *dev);
	int (*save)(struct virtio_dev *dev, struct buf *out);
	int (*load)(struct virtio_dev *dev, const void *p, size_t n);
	void (*free)(struct virtio_dev *dev);
};

/* why an interrupt is raised; bits of virtio-mmio's InterruptStatus */
enum { VIRTIO_INT_QUEUE = 1 << 0, VIRTIO_INT_CONFIG = 1 << 1 };

/**
 * struct virtio_env - what the machine gives to a device; unit tests give their own
 * @irq:	tell the guest; @why: VIRTIO_INT_*. Any thread
 */
struct virtio_env {
	struct gmem *mem;
	struct loop *loop;
	void (*irq)(struct virtio_dev *dev, uint32_t why);
};

/**
 * struct virtio_dev - first member of each device's own struct
 * @features:	offered: the device adds its bits after virtio_init() and before the machine starts.
 *		VIRTIO_F_VERSION_1, RING_F_EVENT_IDX and RING_F_INDIRECT_DESC are there already
 * @acked:	negotiated; valid while @active. Always a subset of @features
 * @vq:		queues; num is 0 for one the driver did not set up
 * @active, @failed: state; I/O thread
 * @lock:	guards config bytes and @config_gen
 * @config_gen:	ConfigGeneration
 * @transport:	the transport's own
 */
struct virtio_dev {
	const struct virtio_ops *ops;
	struct virtio_env env;
	uint64_t features;
	uint64_t acked;
	struct vq vq[VIRTIO_QUEUES_MAX];
	bool active;
	bool failed;
	pthread_mutex_t lock;
	uint32_t config_gen;
	void *transport;
};

/* virtio_init() - fill @dev for @ops; undone by virtio_done() in ops->free() */
void virtio_init(struct virtio_dev *dev, const struct virtio_ops *ops, const struct virtio_env *env);
void virtio_done(struct virtio_dev *dev);

/* virtio_has() - is feature bit @bit (VIRTIO_…_F_…) negotiated? */
static inline bool virtio_has(const struct virtio_dev *dev, unsigned int bit)
{
	return dev->acked >> bit & 1;
}

/* virtio_irq_queue() - interrupt for used buffers of queue @q, if the driver wants one now; I/O thread */
void virtio_irq_queue(struct virtio_dev *dev, uint32_t q);
/* virtio_irq_config() - configuration bytes changed (already, under dev->lock): new generation and interrupt */
void virtio_irq_config(struct virtio_dev *dev);
/* virtio_fail() - the driver broke the rules: all queues broken, DEVICE_NEEDS_RESET; I/O thread [virtio-1.2 2.1.1] */
void virtio_fail(struct virtio_dev *dev);

#endif
