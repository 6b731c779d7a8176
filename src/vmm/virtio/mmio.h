/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mmio, version 2: the registers between a driver and a device [virtio-1.2 4.2].
 *
 * Theory of operation
 *
 * Trust: every access is the guest's: any register, width, order, from several vCPUs at once. Registers are
 * plain values under dev->lock until the driver sets DRIVER_OK; only then are queue addresses checked and
 * turned into queues, on the I/O thread. What is written to them afterwards changes values nobody reads again.
 * Threads: mmio_access() on vCPU threads. Writing DRIVER_OK and resetting are carried out on the I/O thread while the
 * vCPU waits (host->on_io), without dev->lock. Kicks come by an eventfd (host->kick_at registers it with KVM) into
 * the loop and never pass a vCPU thread.
 * Interrupts: InterruptStatus bits are set before the line is raised; the line is an edge, raised each time.
 */
#ifndef VMM_VIRTIO_MMIO_H
#define VMM_VIRTIO_MMIO_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/virtio.h"

#define MMIO_BASE 0xd0000000ULL /* of window 0 */
#define MMIO_LEN  0x1000ULL	/* of each */
#define MMIO_GSI  5u		/* of window 0, then counting up */
#define MMIO_MAX  16		/* windows: GSIs end with the I/O APIC's pins */

/**
 * struct mmio_host - what the transport needs of the machine; tests give their own
 * @irq:	raise GSI; any thread
 * @on_io:	run @fn on the I/O thread and wait; vCPU threads
 * @kick_at:	signal @event when the guest writes 4 bytes to @at; 0 or -errno
 */
struct mmio_host {
	void *data;
	void (*irq)(void *data, uint32_t gsi);
	void (*on_io)(void *data, void (*fn)(void *), void *arg);
	int (*kick_at)(void *data, uint64_t at, int event);
};

struct mmio_queue {
	uint32_t num;
	bool ready;
	uint64_t desc, avail, used;
};

/**
 * struct mmio - one window
 * @int_status:	VIRTIO_INT_*; atomic
 * @driver_features: what the driver accepted so far
 * @kick:	eventfd of QueueNotify
 */
struct mmio {
	struct virtio_dev *dev;
	const struct mmio_host *host;
	uint64_t base;
	uint32_t gsi;
	uint32_t int_status;
	uint32_t status;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	struct mmio_queue queues[VIRTIO_QUEUES_MAX];
	int kick;
	struct loop_src *kick_src;
};

/* mmio_irq() - the virtio_env.irq of devices on this transport */
void mmio_irq(struct virtio_dev *dev, uint32_t why);

/**
 * mmio_attach() - put @dev into window @n; its kicks go to dev->env.loop from now on
 * @m:		zeroed; must not move until mmio_detach(), which dev->ops->free() must follow, not precede
 * @dev:	stays the caller's
 * Return: 0 or -errno.
 */
int mmio_attach(struct mmio *m, struct virtio_dev *dev, uint32_t n, const struct mmio_host *host);
void mmio_detach(struct mmio *m);

/* mmio_access() - a bus_fn of MMIO_LEN bytes; @mmio: struct mmio * */
void mmio_access(void *mmio, uint64_t off, void *p, uint32_t n, bool write);

/* mmio_quiesce() - the device gives all chains back; vCPUs are parked; 0 or -errno */
int mmio_quiesce(struct mmio *m);
/* mmio_save() - append registers, queues and the device's own state to @out; after mmio_quiesce(); 0 or -errno */
int mmio_save(struct mmio *m, struct buf *out);
/**
 * mmio_load() - take them back, on a fresh window; before the vCPUs run
 * @p:		@n hostile bytes
 * Return: 0, -EBADMSG if they cannot be such a device's state, or the device's -errno.
 */
int mmio_load(struct mmio *m, const void *p, size_t n);
/* mmio_poke() - look into all queues, as if the driver had kicked: after a restore or a resume; I/O thread */
void mmio_poke(struct mmio *m);

#endif
