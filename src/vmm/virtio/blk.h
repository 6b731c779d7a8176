/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio block device: a struct block as the guest sees it. [virtio-1.2 5.2] */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include "vmm/block/block.h"
#include "vmm/virtio/virtio.h"

#define BLK_SERIAL_MAX	      20 /* bytes of a serial number; a NUL only if there is room */
#define BLK_SEG_MAX	      126
#define BLK_SEG_BYTES_MAX     KIB(128)
#define BLK_DATA_MAX	      (BLK_SEG_MAX * BLK_SEG_BYTES_MAX) /* bytes of one request: the I/O thread must get on */
#define BLK_ERASE_SEG_MAX     16	 /* ranges of a discard or write-zeroes request */
#define BLK_ERASE_SECTORS_MAX (1U << 22) /* sectors of each */

/* enum blk_worker - which requests a thread of the disk's own serves, while the I/O thread gets on */
enum blk_worker {
	BLK_WORKER_SLOW, /* erases, and those of a kind that took long lately */
	BLK_WORKER_NONE, /* there is no such thread: tests */
	BLK_WORKER_ALL,	 /* tests */
};

/**
 * struct blk_conf - a disk and how it is shown
 * @disk:	taken over on success. Read-only to the guest if it is
 * @serial:	1..BLK_SERIAL_MAX bytes; the guest finds its disks by it
 * @may_differ:	load: another disk than the one that was saved, of any size; the guest's driver will be
 *		bound anew before it uses it (a template's start)
 * @without:	JAIL_NO_* bits to pretend missing: tests
 */
struct blk_conf {
	struct block *disk;
	const char *serial;
	bool may_differ;
	enum blk_worker worker;
	unsigned int without;
};

/**
 * blk_new() - make the device
 * @ret:	freed by its ops->free()
 * Return: 0, -EINVAL, or -errno.
 */
int blk_new(const struct virtio_env *env, const struct blk_conf *conf, struct virtio_dev **ret);

/**
 * blk_disk() - the disk behind a device that blk_new() made
 * For block_fork() and block_flush() while the device is quiesced; I/O thread. It stays the device's.
 */
struct block **blk_disk(struct virtio_dev *dev);

#endif
