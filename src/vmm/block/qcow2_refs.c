// SPDX-License-Identifier: Apache-2.0
/*
 * Host clusters of a writable qcow2 image: which are free, and their refcounts in the file.
 *
 * Theory of operation
 *
 * qcow2_check_all() has proved that each cluster in use is referenced once, so the whole truth is a bitmap in memory, and refcount
 * blocks are only ever written. The order of writes makes the file right at any moment for whoever reads it after
 * this process was killed:
 *   taking a cluster:	refcount 1, its content, then the table entry that points to it;
 *   giving it back:	the entry, then (after the next flush) refcount 0, its space, and only then reuse.
 * A kill in between leaves a cluster that is counted and not used. The next qcow2_open() finds it. After a crash of the host, too,
 * no cluster has two owners, because the flush comes before the reuse; refcounts that were lost are put right by qcow2_open().
 */
#include "vmm/block/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "vmm/block/bits.h"
#include "vmm/block/hostio.h"

#define COUNT_ROOM 256 /* refcounts written at once */

/* Sets the refcounts of @n clusters that belong to one refcount block. */
static int put_counts(struct qcow2 *q, uint64_t first, uint64_t n, uint16_t value)
{
	uint64_t block = q->refs.table[first / qcow2_block_n(&q->h)], at = first % qcow2_block_n(&q->h);
	uint16_t be[COUNT_ROOM];
	int r = 0;

	for (uint64_t i = 0; i < COUNT_ROOM; i++)
		be[i] = htobe16(value);
	for (uint64_t k; r == 0 && n > 0; at += k, n -= k) {
		k = MIN(n, COUNT_ROOM);
		r = hostio_write(q->fd, be, k * sizeof(be[0]), block + at * sizeof(be[0]));
	}
	return r;
}

/* Makes free cluster @c, none of whose neighbours is in use either, the refcount block for itself and them. */
static int make_block(struct qcow2 *q, uint64_t c)
{
	uint64_t i = c / qcow2_block_n(&q->h), at = c << q->h.bits, be = htobe64(at);
	const uint16_t one = htobe16(1);

	memset(q->buf, 0, q->h.cluster);
	memcpy(q->buf + c % qcow2_block_n(&q->h) * sizeof(one), &one, sizeof(one));
	int r = hostio_write(q->fd, q->buf, q->h.cluster, at);
	r = r ?: hostio_write(q->fd, &be, sizeof(be), q->h.reftable_at + i * 8);
	if (r < 0)
		return r;
	q->refs.table[i] = at;
	bits_set(q->refs.used, c);
	q->end = MAX(q->end, c + 1);
	return 0;
}

int qcow2_refs_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_n)
{
	struct qcow2_refs *refs = &q->refs;
	uint64_t block_n = qcow2_block_n(&q->h), first, stop;
	int r;

	for (;;) {
		first = refs->hint = bits_next(refs->used, refs->hint, refs->limit, false);
		if (first >= refs->limit)
			return -ENOSPC;
		if (refs->table[first / block_n])
			break;
		r = make_block(q, first);
		if (r < 0)
			return r;
	}
	stop = MIN(MIN(first + want, refs->limit), (first / block_n + 1) * block_n);
	stop = bits_next(refs->used, first, stop, true);
	r = put_counts(q, first, stop - first, 1);
	if (r < 0)
		return r;
	for (uint64_t c = first; c < stop; c++)
		bits_set(refs->used, c);
	refs->hint = stop;
	q->end = MAX(q->end, stop);
	*ret_first = first;
	*ret_n = stop - first;
	return 0;
}

/* Counts out @n clusters of one refcount block; whether that worked. */
static bool release(struct qcow2 *q, uint64_t first, uint64_t n)
{
	if (put_counts(q, first, n, 0) < 0)
		return false;
	for (uint64_t c = first; c < first + n; c++)
		bits_clear(q->refs.used, c);
	q->refs.hint = MIN(q->refs.hint, first);
	/* Only to save space: whoever takes the cluster does not rely on what is in it. */
	hostio_punch(q->fd, first << q->h.bits, n << q->h.bits);
	return true;
}

void qcow2_refs_undo(struct qcow2 *q, uint64_t first, uint64_t n)
{
	release(q, first, n);
}

void qcow2_refs_free(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_refs *refs = &q->refs;

	bits_set(refs->freed, cluster);
	refs->freed_low = refs->freed_high ? MIN(refs->freed_low, cluster) : cluster;
	refs->freed_high = MAX(refs->freed_high, cluster + 1);
}

bool qcow2_refs_reap(struct qcow2 *q)
{
	struct qcow2_refs *refs = &q->refs;
	uint64_t at = refs->freed_low, high = refs->freed_high, block_n = qcow2_block_n(&q->h), stop;
	bool any = false;

	refs->freed_low = refs->freed_high = 0;
	while ((at = bits_next(refs->freed, at, high, true)) < high) {
		stop = bits_next(refs->freed, at, MIN(high, (at / block_n + 1) * block_n), false);
		bool ok = release(q, at, stop - at);
		any |= ok;
		for (; at < stop; at++) {
			bits_clear(refs->freed, at);
			if (!ok)
				qcow2_refs_free(q, at);
		}
	}
	return any;
}

void qcow2_refs_done(struct qcow2_refs *r)
{
	free(r->table);
	free(r->used);
	free(r->freed);
	*r = (struct qcow2_refs){ 0 };
}
