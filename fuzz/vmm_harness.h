/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine for fuzzing virtio devices: a little guest memory between guard pages, a loop, one device behind virtio-mmio, and a driver
 * that does what the input says, in any order: registers, well-formed and malformed chains, kicks, resets, snapshots, memory that changes
 * while it is read.
 *
 * Checked after each operation: a byte that the device wrote lies in a page that it said it would write (the dirty bitmap), and
 * queues keep their bounds. What a device does on the host is its target's to check (@check).
 *
 * An input is a list of operations: a byte that says which, and its arguments; see enum harness_op. Numbers are two
 * bytes, little-endian. Bytes that are missing at the end are zeros.
 */
#ifndef FUZZ_VMM_HARNESS_H
#define FUZZ_VMM_HARNESS_H

#include <stdbool.h>

#include "fuzz.h"
#include "vmm/virtio/mmio.h"

#define HARNESS_MEM	 0x20000u /* bytes of guest memory, from address 0 */
#define HARNESS_DATA	 0x8000u  /* from here on: buffers; below: a page for each queue's rings */
#define HARNESS_QUEUE	 64	  /* the driver's usual queue size, or the device's if that is smaller */
#define HARNESS_OPS_MAX	 300
#define HARNESS_SEND_MAX 1024

struct harness;

/**
 * struct harness_device - a device under test
 * @data:	the target's own
 * @make:	make the device; called again, after @gone, when a snapshot is loaded. Must work
 * @gone:	the device was freed; may be NULL
 * @host:	something happens on the host's side: bytes come, a peer closes. May be NULL
 * @check:	after each operation; may be NULL
 * @finish:	after the last one: shows with harness_do() that the device still works. May be NULL
 */
struct harness_device {
	void *data;
	void (*make)(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret);
	void (*gone)(struct harness *h);
	void (*host)(struct harness *h, uint8_t what, uint16_t arg);
	void (*check)(struct harness *h);
	void (*finish)(struct harness *h);
};

/* What the first byte of an operation means; the arguments are told in vmm_harness.c */
enum harness_op {
	HARNESS_SETUP,
	HARNESS_CHAIN,
	HARNESS_KICK,
	HARNESS_MEMORY,
	HARNESS_FILL,
	HARNESS_DESC,
	HARNESS_OFFER,
	HARNESS_RING,
	HARNESS_HOST,
	HARNESS_TURN,
	HARNESS_RESET,
	HARNESS_REG,
	HARNESS_ACCESS,
	HARNESS_SNAPSHOT,
	HARNESS_RACE,
	HARNESS_OP_COUNT,
};

/* struct harness - @irqs: interrupts raised so far */
struct harness {
	const struct harness_device *device;
	void *data; /* device->data */
	struct gmem mem;
	uint8_t *shadow;
	struct loop *loop;
	struct virtio_dev *dev;
	struct mmio mmio;
	struct mmio_host host;
	uint32_t irqs;
	/* the driver's view */
	uint16_t num[VIRTIO_QUEUES_MAX];
	uint16_t avail_idx[VIRTIO_QUEUES_MAX];
	uint16_t next_desc[VIRTIO_QUEUES_MAX];
	/* what changes during the next kick: 0: nothing */
	uint32_t race_at;
	uint8_t race_bits;
	const uint8_t *in;
	size_t left;
};

/* harness_run() - carry out one input. A target calls it from LLVMFuzzerTestOneInput() and returns 0 */
void harness_run(const struct harness_device *device, const uint8_t *data, size_t size);
/* harness_do() - carry out more operations; from @finish */
void harness_do(struct harness *h, const uint8_t *ops, size_t n);

#endif
