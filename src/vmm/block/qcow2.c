// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2 images: the writable disk of a box, and the layers below it. [QEMU docs/interop/qcow2]
 *
 * Theory of operation
 *
 * Purpose: read and write through the tables of an image; what it does not hold comes from the layer below, which is never written.
 * Trust: nothing in the file; qcow2_check_all() walks through all of it when it is opened, and entries are checked again when used.
 * Writing: an allocated cluster is written in place. Else clusters are taken (qcow2_refs.c), what the guest does not write of the first and
 * the last of them is copied from below, and then the L2 entries are set, so a kill never shows half of a cluster. Zeros and
 * discards of whole clusters become table entries; with something below, "discarded" is marked as zeros, because what is
 * below must not show again.
 * Limits: no allocation of memory after qcow2_open(). Threads: one at a time, see block.h.
 */
#include "vmm/block/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "vmm/block/hostio.h"
#include "vmm/block/iov.h"

/* Whether a layer below has anything at @at */
static bool below_at(const struct qcow2 *q, uint64_t at)
{
	return q->backing && at < q->backing->size;
}

/* Reads what is below, where this image has nothing. */
static int read_below(struct qcow2 *q, struct iov_cur *c, size_t len, uint64_t at)
{
	size_t there = below_at(q, at) ? MIN(len, q->backing->size - at) : 0, zeros = len - there;
	struct iovec v[64];
	int r = 0;

	while (r == 0 && there > 0) {
		size_t bytes, n = iov_peek(c, there, v, ARRAY_SIZE(v), &bytes);

		r = q->backing->ops->readv(q->backing, v, n, bytes, at);
		iov_advance(c, bytes);
		there -= bytes;
		at += bytes;
	}
	if (r == 0)
		iov_zero(c, zeros);
	return r;
}

static int qcow2_readv(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t at)
{
	struct qcow2 *q = qcow2_of(b);
	struct iov_cur c = { v, n, 0 };
	struct qcow2_run run;

	while (len > 0) {
		int r = qcow2_map(q, at, len, &run);

		if (r == 0 && run.kind == QCOW2_DATA)
			r = hostio_readv(q->fd, &c, run.len, run.host, HOSTIO_EOF_ZEROS);
		else if (r == 0 && run.kind == QCOW2_UNALLOCATED)
			r = read_below(q, &c, run.len, at);
		else if (r == 0)
			iov_zero(&c, run.len);
		if (r < 0)
			return r;
		at += run.len;
		len -= run.len;
	}
	return 0;
}

static bool all_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/**
 * fill() - the part of a new cluster that the guest does not write: what was seen there until now
 * @at:		guest byte; the @len bytes are in one cluster
 * @fresh:	the file had nothing at @host yet
 */
static int fill(struct qcow2 *q, enum qcow2_kind kind, uint64_t at, size_t len, uint64_t host, bool fresh)
{
	struct iovec v = { q->buf, len };
	struct iov_cur c = { &v, 1, 0 };

	if (len == 0)
		return 0;
	if (kind == QCOW2_UNALLOCATED && below_at(q, at)) {
		int r = read_below(q, &c, len, at);

		if (r < 0)
			return r;
		if (!all_zero(q->buf, len))
			return hostio_write(q->fd, q->buf, len, host);
	}
	return fresh ? 0 : hostio_zero(q->fd, host, len);
}

/* Sets @n entries of a slice; clusters that the old ones had are free then. */
static int replace(struct qcow2 *q, struct qcow2_slice *s, uint64_t i, const uint64_t *entries, uint64_t n)
{
	uint64_t old[QCOW2_SLICE], host;
	enum qcow2_kind kind;

	memcpy(old, s->e + i, n * sizeof(old[0]));
	int r = qcow2_slice_put(q, s, i, entries, n);
	for (uint64_t k = 0; r == 0 && k < n; k++)
		if (qcow2_entry(q, old[k], &kind, &host) == 0 && host != 0)
			qcow2_refs_free(q, host >> q->h.bits);
	return r;
}

/* Writes the start of @run, of which nothing can be written in place, into new clusters; *@ret_done bytes of it. */
static int write_new(struct qcow2 *q, struct iov_cur *c, uint64_t at, const struct qcow2_run *run,
		     uint64_t *ret_done)
{
	uint64_t in = at & (q->h.cluster - 1), end = q->end, entries[QCOW2_SLICE], first, n, i;
	struct qcow2_slice *s;
	int r = qcow2_l2_need(q, at >> q->h.bits);

	r = r ?: qcow2_slice_get(q, at >> q->h.bits, &s, &i);
	if (r == 0) {
		end = q->end;
		r = qcow2_refs_alloc(q, qcow2_clusters(&q->h, in + run->len), &first, &n);
	}
	if (r < 0)
		return r;
	uint64_t host = first << q->h.bits, bytes = MIN(run->len, (n << q->h.bits) - in), tail = in + bytes;
	r = fill(q, run->kind, at - in, in, host, first >= end);
	r = r ?: fill(q, run->kind, at + bytes, (n << q->h.bits) - tail, host + tail, first + n - 1 >= end);
	r = r ?: hostio_writev(q->fd, c, bytes, host + in);
	if (r < 0) {
		qcow2_refs_undo(q, first, n);
		return r;
	}
	for (uint64_t k = 0; k < n; k++)
		entries[k] = (host + (k << q->h.bits)) | QCOW2_COPIED;
	*ret_done = bytes;
	return replace(q, s, i, entries, n);
}

/* Writes some bytes, one run at most. */
static int write_step(struct qcow2 *q, struct iov_cur *c, uint64_t at, uint64_t len, uint64_t *ret_done)
{
	struct qcow2_run run;
	int r = qcow2_map(q, at, len, &run);

	if (r < 0)
		return r;
	if (run.kind != QCOW2_DATA)
		return write_new(q, c, at, &run, ret_done);
	*ret_done = run.len;
	return hostio_writev(q->fd, c, run.len, run.host);
}

/* Full: what was discarded since the last flush can make room. */
static bool make_room(struct qcow2 *q)
{
	return q->refs.freed_high > 0 && qcow2_sync(q) == 0 && qcow2_refs_reap(q);
}

static int qcow2_writev(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t at)
{
	struct qcow2 *q = qcow2_of(b);
	struct iov_cur c = { v, n, 0 };
	uint64_t done;

	q->stale = true;
	for (; len > 0; at += done, len -= done) {
		struct iov_cur again = c;
		int r = write_step(q, &c, at, len, &done);

		if (r == -ENOSPC && make_room(q)) {
			c = again;
			r = write_step(q, &c, at, len, &done);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* enum erase - what is wanted of a range */
enum erase {
	ERASE_DISCARD, /* its space; what it reads as does not matter */
	ERASE_UNMAP,   /* zeros and the space */
	ERASE_KEEP,    /* zeros; the space stays */
};

/* Makes a run read as zeros without touching whole clusters' entries; *@ret_done bytes of it. */
static int erase_bytes(struct qcow2 *q, uint64_t at, const struct qcow2_run *run, enum erase how,
		       uint64_t *ret_done)
{
	static char zeros[BLOCK_SECTOR];
	struct iovec v = { zeros, sizeof(zeros) };
	struct iov_cur c = { &v, 1, 0 };

	*ret_done = run->len;
	if (how == ERASE_DISCARD || run->kind == QCOW2_ZEROS)
		return 0;
	if (run->kind == QCOW2_DATA)
		return how == ERASE_KEEP ? hostio_write_zeros(q->fd, run->host, run->len)
					 : hostio_zero(q->fd, run->host, run->len);
	if (!below_at(q, at))
		return 0;
	/* One sector gives it a cluster, and the next step finds that. */
	return write_new(q, &c, at, &(struct qcow2_run){ run->kind, 0, sizeof(zeros) }, ret_done);
}

/* Makes @n whole clusters' entries say that there is nothing, or zeros; *@ret_done bytes of it, up to the slice's end. */
static int erase_clusters(struct qcow2 *q, uint64_t at, uint64_t n, uint64_t *ret_done)
{
	uint64_t entries[QCOW2_SLICE], gc = at >> q->h.bits, table, i;
	uint64_t entry = below_at(q, at) ? QCOW2_ZERO : 0;
	struct qcow2_slice *s;
	int r = qcow2_l2_at(q, gc / qcow2_l2_n(&q->h), &table);

	n = MIN(n, q->slice_n - gc % q->slice_n);
	*ret_done = n << q->h.bits;
	if (r < 0 || (table == 0 && entry == 0))
		return r;
	r = qcow2_l2_need(q, gc);
	r = r ?: qcow2_slice_get(q, gc, &s, &i);
	if (r < 0)
		return r;
	for (uint64_t k = 0; k < n; k++)
		entries[k] = entry;
	return memcmp(entries, s->e + i, n * sizeof(entries[0])) ? replace(q, s, i, entries, n) : 0;
}

static int erase_step(struct qcow2 *q, uint64_t at, uint64_t len, enum erase how, uint64_t *ret_done)
{
	uint64_t in = at & (q->h.cluster - 1);
	/* The disk's last cluster may be a part of one: nobody sees the rest of it. */
	uint64_t whole = in ? 0 : (len + (at + len == q->b.size ? q->h.cluster - 1 : 0)) >> q->h.bits;
	struct qcow2_run run;
	int r = qcow2_map(q, at, whole ? len : MIN(len, q->h.cluster - in), &run);

	if (r < 0)
		return r;
	bool marks = q->h.has_zero || !below_at(q, at);
	if (whole == 0 || !marks || (how == ERASE_KEEP && run.kind == QCOW2_DATA))
		return erase_bytes(q, at, &run, how, ret_done);
	if (how == ERASE_KEEP)
		whole = MIN(whole, qcow2_clusters(&q->h, run.len));
	r = erase_clusters(q, at, whole, ret_done);
	*ret_done = MIN(*ret_done, len);
	return r;
}

static int erase(struct qcow2 *q, uint64_t at, uint64_t len, enum erase how)
{
	uint64_t done;
	int r = 0;

	q->stale = true;
	for (; r == 0 && len > 0; at += done, len -= done) {
		r = erase_step(q, at, len, how, &done);
		if (r == -ENOSPC && make_room(q))
			r = erase_step(q, at, len, how, &done);
	}
	return r;
}

static int qcow2_discard(struct block *b, uint64_t at, uint64_t len)
{
	return erase(qcow2_of(b), at, len, ERASE_DISCARD);
}

static int qcow2_write_zeroes(struct block *b, uint64_t at, uint64_t len, bool unmap)
{
	return erase(qcow2_of(b), at, len, unmap ? ERASE_UNMAP : ERASE_KEEP);
}

int qcow2_sync(struct qcow2 *q)
{
	if (q->sync && q->stale && fdatasync(q->fd) < 0)
		return -errno;
	q->stale = false;
	return 0;
}

static int qcow2_flush(struct block *b)
{
	struct qcow2 *q = qcow2_of(b);
	int r = qcow2_sync(q);

	if (r == 0)
		qcow2_refs_reap(q);
	return r;
}

static int qcow2_freeze(struct block *b)
{
	qcow2_refs_done(&qcow2_of(b)->refs);
	return 0;
}

static void qcow2_free(struct qcow2 *q)
{
	if (!q)
		return;
	qcow2_refs_done(&q->refs);
	free(q->l1);
	free(q->slices);
	free(q->buf);
	free(q);
}
DEFINE_CLEANUP(struct qcow2, qcow2_free)

static void qcow2_close(struct block *b)
{
	struct qcow2 *q = qcow2_of(b);

	block_close(q->backing);
	close(q->fd);
	qcow2_free(q);
}

static const struct block_ops qcow2_ops = {
	.name = "qcow2",
	.readv = qcow2_readv,
	.writev = qcow2_writev,
	.discard = qcow2_discard,
	.write_zeroes = qcow2_write_zeroes,
	.flush = qcow2_flush,
	.freeze = qcow2_freeze,
	.close = qcow2_close,
};

void qcow2_put_over(struct block *top, struct block *backing)
{
	qcow2_of(top)->backing = backing;
	top->depth = backing->depth + 1;
}

static int allocate(struct qcow2 *q, struct vial_err *err)
{
	q->slice_n = MIN(qcow2_l2_n(&q->h), (uint64_t)QCOW2_SLICE);
	q->l1 = calloc(q->h.l1_n, sizeof(q->l1[0]));
	q->slices = calloc(QCOW2_SLICES, sizeof(q->slices[0]));
	q->buf = aligned_alloc(4096, ALIGN_UP(q->h.cluster, 4096ULL));
	if (!q->l1 || !q->slices || !q->buf)
		return err_sys(err, -ENOMEM, "open a qcow2 image");
	int r = hostio_read(q->fd, q->l1, q->h.l1_n * 8, q->h.l1_at, HOSTIO_EOF_ZEROS);
	if (r < 0)
		return err_sys(err, r, "read a qcow2 image");
	for (uint64_t i = 0; i < q->h.l1_n; i++)
		q->l1[i] = be64toh(q->l1[i]);
	return 0;
}

/* Whether this image fits what it is to be used for */
static int check_use(const struct qcow2 *q, const struct block *backing, struct vial_err *err)
{
	if (!q->b.read_only && q->h.read_only_why)
		return err_set(err, VIAL_E_UNSUPPORTED, "qcow2 image: cannot be written: %s",
			       q->h.read_only_why);
	if (q->h.names_backing && !backing)
		return err_set(err, VIAL_E_INVALID, "qcow2 image: it needs the image below it");
	if (backing && !backing->read_only)
		return err_set(err, VIAL_E_INVALID, "qcow2 image: what is below can be written");
	if (backing && backing->depth >= BLOCK_DEPTH_MAX)
		return err_set(err, VIAL_E_LIMIT, "qcow2 image: more than %d layers", BLOCK_DEPTH_MAX);
	return 0;
}

int qcow2_open(int fd, struct block *backing, enum block_sync sync, struct block **ret, struct vial_err *err)
{
	_cleanup_(qcow2_freep) struct qcow2 *q = calloc(1, sizeof(*q));
	uint64_t size;
	int r;

	if (!q)
		return err_sys(err, -ENOMEM, "open a qcow2 image");
	r = hostio_check_fd(fd, &q->b.read_only, &size);
	if (r < 0)
		return err_sys(err, r, "open a qcow2 image");
	r = qcow2_header_read(fd, size, &q->h, err);
	r = r ?: check_use(q, backing, err);
	if (r < 0)
		return r;
	q->fd = fd;
	q->sync = sync == BLOCK_SYNC;
	q->end = qcow2_clusters(&q->h, size);
	q->b.ops = &qcow2_ops;
	q->b.size = q->h.size;
	q->b.depth = 1;
	r = allocate(q, err);
	r = r ?: qcow2_check_all(q, err);
	if (r < 0)
		return r;
	if (backing)
		qcow2_put_over(&q->b, backing);
	*ret = &take_ptr(q)->b;
	return 0;
}
