/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtual disk is made of: one struct of operations, and a format behind it in each file.
 *
 * Theory of operation
 *
 * A block is a disk or a layer of one. block_open_*() of a format takes over descriptors that vial-vmm inherited: nothing here opens a
 * file by name, and no name in a file is ever followed. Whether a block can be written is decided by its descriptor's
 * access mode alone. Files are hostile: another machine's guest may have had them written.
 *
 * Threads: a block belongs to one thread at a time: the disk's worker, or the I/O thread while that is quiesced.
 * Errors: -errno; the guest is told "I/O error". A failed write leaves each of its sectors old or new.
 */
#ifndef VMM_BLOCK_BLOCK_H
#define VMM_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "vial/error.h"

#define BLOCK_SECTOR	512
#define BLOCK_SIZE_MAX	(1ULL << 44) /* bytes of a disk */
#define BLOCK_DEPTH_MAX 64	     /* layers of a disk: reads recurse through them */

struct block;

/**
 * struct block_ops - a format
 * Called through block_*(), which have checked alignment, range and read_only; those marked + may be NULL.
 * @name:	for messages
 * @readv:	@len bytes, all of the @n entries, at byte @at. A layer above calls it with any alignment, in range
 * @writev: +
 * @discard: +	the guest no longer needs this: later reads give the old bytes or zeros
 * @write_zeroes: + later reads give zeros; @unmap: space may be given back
 * @flush: +	what was written before is on the host's disk when this returns
 * @freeze: +	no more writes come: bring the file into the form in which others may read it
 * @close:	frees the block, its descriptors and the layers below
 */
struct block_ops {
	const char *name;
	int (*readv)(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t at);
	int (*writev)(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t at);
	int (*discard)(struct block *b, uint64_t at, uint64_t len);
	int (*write_zeroes)(struct block *b, uint64_t at, uint64_t len, bool unmap);
	int (*flush)(struct block *b);
	int (*freeze)(struct block *b);
	void (*close)(struct block *b);
};

/**
 * struct block - head of each format's own struct
 * @size:	bytes, a multiple of BLOCK_SECTOR, at most BLOCK_SIZE_MAX
 * @depth:	layers, this one and those below
 */
struct block {
	const struct block_ops *ops;
	uint64_t size;
	unsigned int depth;
	bool read_only;
};

/**
 * block_readv() - read from a disk
 * @v, @n:	where to; together a multiple of BLOCK_SECTOR bytes
 * @at:		byte offset, a multiple of BLOCK_SECTOR
 * Return: 0, -EINVAL (unaligned), -ERANGE (leaves the disk), or -errno.
 */
int block_readv(struct block *b, const struct iovec *v, size_t n, uint64_t at);
/* block_writev() - as block_readv(); -EROFS on a read-only disk */
int block_writev(struct block *b, const struct iovec *v, size_t n, uint64_t at);
/* block_discard(), block_write_zeroes() - as block_writev(); see struct block_ops */
int block_discard(struct block *b, uint64_t at, uint64_t len);
int block_write_zeroes(struct block *b, uint64_t at, uint64_t len, bool unmap);
/* block_flush() - 0 or -errno; nothing to do on a read-only disk */
int block_flush(struct block *b);
/* block_freeze() - flush, then make the disk read-only for good; 0 or -errno, and then it is as it was */
int block_freeze(struct block *b);
/* block_close() - NULL is fine. Does not flush: that can fail, and its result matters */
void block_close(struct block *b);
DEFINE_CLEANUP(struct block, block_close)

/* enum block_sync - whether a flush reaches the host's disk: a box that does not outlive a host's crash needs none */
enum block_sync { BLOCK_SYNC, BLOCK_NO_SYNC };

/**
 * raw_open() - a file or block device as it is
 * @fd:		taken over on success; read-only if its access mode is
 * A writable one must be a multiple of BLOCK_SECTOR long; a read-only one is padded with zeros to one.
 * Return: 0 or a VIAL_E_*.
 */
int raw_open(int fd, enum block_sync sync, struct block **ret, struct vial_err *err);

/**
 * struct extent - a part of a disk
 * @fd:		read-only
 * @len:	bytes, > 0, a multiple of BLOCK_SECTOR; the file is at least so long, but for less than a sector
 */
struct extent {
	int fd;
	uint64_t len;
};

#define EXTENTS_MAX 128

/**
 * extents_open() - several files, one after the other, as one read-only disk
 * @e, @n:	1..EXTENTS_MAX; on success the descriptors are taken over
 * Return: 0 or a VIAL_E_*.
 */
int extents_open(const struct extent *e, size_t n, struct block **ret, struct vial_err *err);

/**
 * qcow2_open() - a qcow2 image [QEMU docs/interop/qcow2], versions 2 and 3
 * @fd:		taken over on success; writable if its access mode is O_RDWR: then refcounts are put right first
 * @backing:	what is below, or NULL; taken over on success; read-only; may be shorter than the image
 *
 * Refused: encryption, compressed clusters, data in other files, subclusters; for writing also internal
 * snapshots, bitmaps, refcounts that are not 16 bits wide. A backing file's name in the header is not looked at, but then @backing must be given.
 * Return: 0 or a VIAL_E_* (VIAL_E_CORRUPT, VIAL_E_UNSUPPORTED, VIAL_E_LIMIT, …).
 */
int qcow2_open(int fd, struct block *backing, enum block_sync sync, struct block **ret, struct vial_err *err);

/**
 * block_fork() - freeze a disk and go on writing in a new image above it
 * @b:		writable; replaced by the new image, which owns it
 * @fd:		an empty qcow2 image of the same size, read-write; taken over whatever the result
 * Return: 0, or a VIAL_E_* and then *@b is as it was.
 */
int block_fork(struct block **b, int fd, enum block_sync sync, struct vial_err *err);

#endif
