/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, device side [virtio-1.2 2.7].
 *
 * Trust: descriptors, rings and what they point to are the guest's; it may write them while we read. Each shared field is read
 * once, checked, and only the copy is used. Nothing here allocates or blocks.
 * Threads: the I/O thread only, between activate() and reset().
 * Dirty pages: every device-writable span that vq_pop() returns counts as written, so a device must have given
 * back all chains (vq_push(), vq_unpop()) by the end of its quiesce().
 */
#ifndef VMM_VIRTIO_VQ_H
#define VMM_VIRTIO_VQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/mem.h"

#define VQ_NUM_MAX   1024 /* largest queue any device offers */
#define VQ_CHAIN_MAX 1024 /* most descriptors in one chain, those of an indirect table included */

/**
 * struct vq_layout - where the driver put a queue; all hostile
 * @num:	size the driver chose
 */
struct vq_layout {
	uint16_t num;
	struct gpa desc;
	struct gpa avail;
	struct gpa used;
};

/**
 * struct vq - one queue
 * @num:	0 while not ready; otherwise a power of two, checked
 * @desc, @avail, @used: checked host addresses of the three parts
 * @last_avail:	index of the next chain to pop
 * @used_idx:	index of the next used entry
 * @in_flight:	chains popped and not yet given back; never above @num
 * @notified:	@used_idx at the last vq_notify_needed()
 * @broken:	the guest broke the rules; nothing is popped until reset
 */
struct vq {
	struct gmem *mem;
	uint16_t num;
	bool event_idx;
	bool indirect;
	bool broken;
	uint16_t last_avail;
	uint16_t used_idx;
	uint16_t notified;
	uint16_t in_flight;
	const uint8_t *desc;
	uint8_t *avail;
	uint8_t *used;
	struct vq_layout layout;
};

/**
 * struct vq_chain - what vq_pop() found
 * @head:	give it back with vq_push()
 * @n_out:	entries of iov the device reads (the first ones); @n_in: entries it writes (behind them)
 * @out_bytes, @in_bytes: their sums; each entry is at most 4 GiB, each sum below 2^42
 * Entries of length 0 are left out.
 */
struct vq_chain {
	uint16_t head;
	uint16_t n_out;
	uint16_t n_in;
	uint64_t out_bytes;
	uint64_t in_bytes;
};

/**
 * vq_enable() - make a queue ready
 * @max:	the device's largest size, a power of two up to VQ_NUM_MAX
 * @features:	negotiated; VIRTIO_RING_F_EVENT_IDX and VIRTIO_RING_F_INDIRECT_DESC matter
 * Return: 0; -EINVAL for a size or alignment the standard forbids, -EFAULT if a part is not all RAM.
 */
int vq_enable(struct vq *vq, struct gmem *mem, const struct vq_layout *l, uint16_t max, uint64_t features);
/* vq_disable() - forget everything; popped chains are void */
void vq_disable(struct vq *vq);

/**
 * vq_pop() - take the next available descriptor chain
 * @vq:		ready queue
 * @iov:	caller's array, filled with checked host spans, device-readable before device-writable
 * @n:		capacity of @iov, 1..UINT16_MAX
 * @ret:	set when the result is 1
 *
 * Kicks need no thought: finding the queue empty asks the driver to kick for the next chain, and until then it
 * stays quiet (EVENT_IDX). So serve until 0; a device that stops earlier comes back by itself.
 * The guest may offer one head twice: index nothing by it without a check.
 *
 * Return: 1 with a chain (which may have no entries at all), 0 if empty or not ready or broken;
 *	   -E2BIG if the chain is longer than @n or VQ_CHAIN_MAX or cyclic, -EFAULT if a span leaves guest RAM, -EBADMSG for
 *	   anything else the standard forbids (index beyond the table, readable after writable, nested or
 *	   malformed indirect table, more chains than the queue has). After an error the queue is broken: call
 *	   virtio_fail(). [virtio-1.2 2.7.4-2.7.6, 2.7.13]
 */
int vq_pop(struct vq *vq, struct iovec *iov, size_t n, struct vq_chain *ret);

/* vq_unpop() - put back the chain popped last, untouched: the next vq_pop() returns it. Only before its vq_push() */
void vq_unpop(struct vq *vq);

/* vq_empty() - is there nothing to pop? One guest read; true if not ready or broken */
bool vq_empty(const struct vq *vq);

/**
 * vq_push() - give a chain back to the driver
 * @head:	from vq_chain.head, each once
 * @written:	bytes the device wrote from the first writable byte on [virtio-1.2 2.7.8]
 * In any order. Interrupts nothing: see vq_notify_needed(), virtio_irq_queue(). On a disabled queue nothing happens.
 */
void vq_push(struct vq *vq, uint16_t head, uint32_t written);

/**
 * vq_notify_needed() - does the driver want an interrupt for what was pushed since the last call?
 * Call once after a batch of pushes; true: raise one. [virtio-1.2 2.7.7, 2.7.10]
 */
bool vq_notify_needed(struct vq *vq);

/* iov_copy_out() - gather up to @n bytes, skipping @skip, out of @iov into @to; bytes copied */
size_t iov_copy_out(const struct iovec *iov, size_t n_iov, uint64_t skip, void *to, size_t n);
/* iov_copy_in() - scatter up to @n bytes of @from into @iov, skipping @skip of it; bytes copied */
size_t iov_copy_in(const struct iovec *iov, size_t n_iov, uint64_t skip, const void *from, size_t n);

#endif
