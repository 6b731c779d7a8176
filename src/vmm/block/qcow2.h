/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the qcow2 format share; everybody else includes block.h. */
#ifndef VMM_BLOCK_QCOW2_H
#define VMM_BLOCK_QCOW2_H

#include <sys/types.h>

#include "vmm/block/block.h"

#define QCOW2_BITS_MIN	   9
#define QCOW2_BITS_MAX	   21
#define QCOW2_L1_BYTES_MAX MIB(32)
#define QCOW2_REFTABLE_MAX MIB(8)
#define QCOW2_FILE_MAX	   (1ULL << 28) /* host clusters; also what bitmaps of them may take: 32 MiB each */
#define QCOW2_SLICE	   512		/* L2 entries that are cached together, at most */
#define QCOW2_SLICES	   64		/* slices cached: 2 GiB of a disk with 64 KiB clusters */

#define QCOW2_COPIED	 (1ULL << 63)
#define QCOW2_COMPRESSED (1ULL << 62)
#define QCOW2_ZERO	 1ULL
#define QCOW2_OFFSET	 0x00fffffffffffe00ULL

/**
 * struct qcow2_header - checked header; native byte order, offsets and lengths in bytes
 * @bits:	of a cluster; @cluster: its bytes
 * @has_zero:	version 3: clusters may be marked as zeros
 * @dirty:	refcounts may be wrong (lazy refcounts, the machine crashed)
 * @read_only_why: a feature for which we cannot write to it, NULL if we can
 */
struct qcow2_header {
	uint32_t version;
	uint32_t bits;
	uint64_t cluster;
	uint64_t size;
	uint64_t l1_at;
	uint64_t l1_n;
	uint64_t reftable_at;
	uint64_t reftable_n;
	bool names_backing;
	bool has_zero;
	bool dirty;
	const char *read_only_why;
};

/**
 * struct qcow2_slice - a cached piece of an L2 table, native byte order
 * @index:	which: number of its first guest cluster / slice entries, plus 1; 0: empty
 */
struct qcow2_slice {
	uint64_t index;
	uint64_t at; /* in the file */
	uint64_t e[QCOW2_SLICE];
};

/**
 * struct qcow2_refs - which host clusters are in use; only of a writable image
 * Each cluster in use is referenced once (internal snapshots are refused), so one bit says it all.
 * @table:	file offsets of refcount blocks, 0: there is none
 * @used:	bitmap of @limit bits; what the file says
 * @freed:	bitmap: no longer referenced, but @used until the next flush
 * @limit:	clusters the file may ever have
 * @hint:	no cluster below is free
 * @freed_low, @freed_high: range of @freed that has bits set
 */
struct qcow2_refs {
	uint64_t *table;
	uint64_t *used;
	uint64_t *freed;
	uint64_t limit;
	uint64_t hint;
	uint64_t freed_low;
	uint64_t freed_high;
};

/**
 * struct qcow2 - an open image
 * @end:	host clusters in the file: the first that was never used
 * @l1:		active L1 table, native byte order; entries are checked when they are used
 * @buf:	one cluster, for whoever needs it
 * @stale:	something was written that no flush has brought to the disk
 */
struct qcow2 {
	struct block b;
	int fd;
	bool sync;
	bool stale;
	struct block *backing;
	struct qcow2_header h;
	uint64_t end;
	uint64_t *l1;
	uint64_t slice_n;
	struct qcow2_slice *slices;
	struct qcow2_refs refs;
	char *buf;
};

/* qcow2_header.c */

/**
 * qcow2_header_read() - read and check the header
 * @file_size:	bytes of the file; tables must lie in it
 * Return: 0 or a VIAL_E_*.
 */
int qcow2_header_read(int fd, uint64_t file_size, struct qcow2_header *ret, struct vial_err *err);
/* qcow2_header_clean() - take the dirty bit away; 0 or -errno */
int qcow2_header_clean(int fd);

/* qcow2_map.c: from the guest's clusters to the file's */

enum qcow2_kind {
	QCOW2_UNALLOCATED, /* what the backing has, zeros without one */
	QCOW2_ZEROS,
	QCOW2_DATA,
};

/**
 * struct qcow2_run - guest bytes of one kind that lie together in the file, too
 * @host:	QCOW2_DATA: file offset of the first
 */
struct qcow2_run {
	enum qcow2_kind kind;
	uint64_t host;
	uint64_t len;
};

/**
 * qcow2_entry() - decode an L2 entry, which is hostile
 * @ret_host:	host cluster's file offset, 0 if there is none; QCOW2_ZEROS may have one, too
 * Return: 0, -ENOTSUP (compressed), -EUCLEAN.
 */
int qcow2_entry(const struct qcow2 *q, uint64_t entry, enum qcow2_kind *ret_kind, uint64_t *ret_host);
/* qcow2_l2_at() - file offset of an L2 table, 0 if there is none; 0 or -EUCLEAN */
int qcow2_l2_at(const struct qcow2 *q, uint64_t l1_index, uint64_t *ret_at);
/* qcow2_map() - the run at guest byte @at, at most @len bytes, never beyond a slice of the L2 table; 0 or -errno */
int qcow2_map(struct qcow2 *q, uint64_t at, uint64_t len, struct qcow2_run *ret);
/* qcow2_l2_need() - make sure that there is an L2 table for guest cluster @gc; 0 or -errno */
int qcow2_l2_need(struct qcow2 *q, uint64_t gc);
/* qcow2_slice_get() - the slice with @gc, whose L2 table exists: valid until the next call. *@ret_i: @gc's place in it */
int qcow2_slice_get(struct qcow2 *q, uint64_t gc, struct qcow2_slice **ret, uint64_t *ret_i);
/* qcow2_slice_put() - write @n entries of @s from @i on to the file; 0 or -errno, and then they are as before */
int qcow2_slice_put(struct qcow2 *q, struct qcow2_slice *s, uint64_t i, const uint64_t *entries, uint64_t n);

/* qcow2_refs.c: host clusters */

/**
 * qcow2_refs_alloc() - take host clusters that lie together, and count them in the file
 * @want:	>= 1
 * @ret_first:	cluster number; *@ret_n of them, 1..@want
 * Their content is undefined below what q->end was before, zeros from there on.
 * Return: 0, -ENOSPC, -errno.
 */
int qcow2_refs_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_n);
/* qcow2_refs_undo() - give back what nothing points to yet; what cannot be counted out is lost, not wrong */
void qcow2_refs_undo(struct qcow2 *q, uint64_t first, uint64_t n);
/* qcow2_refs_free() - nothing points to this cluster any more; reused only after the next flush */
void qcow2_refs_free(struct qcow2 *q, uint64_t cluster);
/**
 * qcow2_refs_reap() - count the freed ones out and give their space back, once the host's disk has the tables without them
 * One that cannot be counted out stays for the next time.
 * Return: whether any cluster came free.
 */
bool qcow2_refs_reap(struct qcow2 *q);
void qcow2_refs_done(struct qcow2_refs *r);

/* qcow2_check.c */

/**
 * qcow2_check_all() - walk through all tables of an image that was just opened
 * A writable one gets its refs: each cluster must be referenced once and lie in the file; refcounts that
 * differ are put right in the file (leaks after a kill, the dirty bit).
 * Return: 0 or a VIAL_E_*.
 */
int qcow2_check_all(struct qcow2 *q, struct vial_err *err);

/* qcow2.c */

/* qcow2_put_over() - give an image that was opened without one a backing, which it takes over */
void qcow2_put_over(struct block *top, struct block *backing);
/* qcow2_sync() - what was written is on the host's disk; nothing else happens; 0 or -errno */
int qcow2_sync(struct qcow2 *q);

static inline struct qcow2 *qcow2_of(struct block *b)
{
	return container_of(b, struct qcow2, b);
}

static inline uint64_t qcow2_clusters(const struct qcow2_header *h, uint64_t bytes)
{
	return bytes / h->cluster + (bytes % h->cluster != 0);
}

/* Entries of an L2 table; of a refcount block with 16 bits each it is four times as many */
static inline uint64_t qcow2_l2_n(const struct qcow2_header *h)
{
	return h->cluster / 8;
}

static inline uint64_t qcow2_block_n(const struct qcow2_header *h)
{
	return h->cluster / 2;
}

#endif
