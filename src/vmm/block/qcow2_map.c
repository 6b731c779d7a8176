// SPDX-License-Identifier: Apache-2.0
/*
 * From the guest's clusters to the file's: L1 and L2 tables.
 *
 * L1 stays in memory. Of L2 tables, slices of at most QCOW2_SLICE entries are cached, each in the one place that its number gives; changes
 * go to the file at once, so nothing is lost that the kernel was given. Entries are hostile and checked at each use: an offset
 * must be a cluster of the file. Two levels are all there is, so nothing can loop.
 */
#include "vmm/block/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/block/hostio.h"

int qcow2_entry(const struct qcow2 *q, uint64_t entry, enum qcow2_kind *ret_kind, uint64_t *ret_host)
{
	uint64_t host = entry & QCOW2_OFFSET;
	bool zero = q->h.has_zero && (entry & QCOW2_ZERO);

	if (entry & QCOW2_COMPRESSED)
		return -ENOTSUP;
	if (entry & ~(QCOW2_OFFSET | QCOW2_COPIED | (q->h.has_zero ? QCOW2_ZERO : 0)))
		return -EUCLEAN;
	if (host % q->h.cluster || host >> q->h.bits >= q->end || (host == 0 && (entry & QCOW2_COPIED)))
		return -EUCLEAN;
	*ret_host = host;
	*ret_kind = zero ? QCOW2_ZEROS : host ? QCOW2_DATA : QCOW2_UNALLOCATED;
	return 0;
}

int qcow2_l2_at(const struct qcow2 *q, uint64_t l1_index, uint64_t *ret_at)
{
	uint64_t entry = q->l1[l1_index], at = entry & QCOW2_OFFSET;

	if ((entry & ~(QCOW2_OFFSET | QCOW2_COPIED)) || at % q->h.cluster || at >> q->h.bits >= q->end ||
	    (at == 0 && entry != 0))
		return -EUCLEAN;
	*ret_at = at;
	return 0;
}

/* Fills @s, which stands for @index, from L2 table @table. */
static int load(struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t table)
{
	uint64_t in_table = index % (qcow2_l2_n(&q->h) / q->slice_n);
	uint64_t at = table + in_table * q->slice_n * 8;

	s->index = 0;
	int r = hostio_read(q->fd, s->e, q->slice_n * 8, at, HOSTIO_EOF_ZEROS);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < q->slice_n; i++)
		s->e[i] = be64toh(s->e[i]);
	s->at = at;
	s->index = index + 1;
	return 0;
}

int qcow2_slice_get(struct qcow2 *q, uint64_t gc, struct qcow2_slice **ret, uint64_t *ret_i)
{
	uint64_t index = gc / q->slice_n, table;
	struct qcow2_slice *s = &q->slices[index % QCOW2_SLICES];

	*ret_i = gc % q->slice_n;
	*ret = s;
	if (s->index == index + 1)
		return 0;
	int r = qcow2_l2_at(q, gc / qcow2_l2_n(&q->h), &table);
	if (r == 0 && table == 0)
		r = -EUCLEAN;
	return r ?: load(q, s, index, table);
}

int qcow2_slice_put(struct qcow2 *q, struct qcow2_slice *s, uint64_t i, const uint64_t *entries, uint64_t n)
{
	uint64_t be[QCOW2_SLICE];

	for (uint64_t k = 0; k < n; k++)
		be[k] = htobe64(entries[k]);
	int r = hostio_write(q->fd, be, n * 8, s->at + i * 8);
	if (r < 0) {
		s->index = 0; /* some may be written: what the file says is what counts */
		return r;
	}
	memcpy(s->e + i, entries, n * 8);
	return 0;
}

/* Where there is no L2 table, up to the end of the slice */
static void map_nothing(const struct qcow2 *q, uint64_t at, uint64_t len, struct qcow2_run *ret)
{
	uint64_t covers = q->slice_n << q->h.bits;

	*ret = (struct qcow2_run){ QCOW2_UNALLOCATED, 0, MIN(len, covers - at % covers) };
}

int qcow2_map(struct qcow2 *q, uint64_t at, uint64_t len, struct qcow2_run *ret)
{
	uint64_t gc = at >> q->h.bits, in_cluster = at & (q->h.cluster - 1), table, host, i;
	struct qcow2_slice *s;
	enum qcow2_kind kind;
	int r = qcow2_l2_at(q, gc / qcow2_l2_n(&q->h), &table);

	if (r == 0 && table == 0) {
		map_nothing(q, at, len, ret);
		return 0;
	}
	r = r ?: qcow2_slice_get(q, gc, &s, &i);
	r = r ?: qcow2_entry(q, s->e[i], &kind, &host);
	if (r < 0)
		return r;
	struct qcow2_run run = { kind, kind == QCOW2_DATA ? host + in_cluster : 0,
				 q->h.cluster - in_cluster };
	while (run.len < len && ++i < q->slice_n) {
		enum qcow2_kind next;
		uint64_t next_host;

		if (qcow2_entry(q, s->e[i], &next, &next_host) < 0 || next != kind ||
		    (kind == QCOW2_DATA && next_host != run.host + run.len))
			break;
		run.len += q->h.cluster;
	}
	run.len = MIN(run.len, len);
	*ret = run;
	return 0;
}

/* An L2 table must not have what was in its cluster before, and be in the file as a whole. */
static int blank(struct qcow2 *q, uint64_t at)
{
	uint8_t last = 0;
	int r = hostio_zero(q->fd, at, q->h.cluster);

	return r ?: hostio_write(q->fd, &last, 1, at + q->h.cluster - 1);
}

int qcow2_l2_need(struct qcow2 *q, uint64_t gc)
{
	uint64_t l1_index = gc / qcow2_l2_n(&q->h), at, cluster, n;
	int r = qcow2_l2_at(q, l1_index, &at);

	if (r < 0 || at != 0)
		return r;
	r = qcow2_refs_alloc(q, 1, &cluster, &n);
	if (r < 0)
		return r;
	uint64_t entry = cluster << q->h.bits | QCOW2_COPIED, be = htobe64(entry);
	r = blank(q, cluster << q->h.bits);
	if (r < 0) {
		qcow2_refs_undo(q, cluster, 1);
		return r;
	}
	/* If this fails, the entry may be in the file or not: the cluster stays counted. */
	r = hostio_write(q->fd, &be, 8, q->h.l1_at + l1_index * 8);
	if (r == 0)
		q->l1[l1_index] = entry;
	return r;
}
