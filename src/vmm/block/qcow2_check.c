// SPDX-License-Identifier: Apache-2.0
/*
 * The walk through a qcow2 image that was just opened.
 *
 * Purpose: refuse at once, with a reason, what would fail in the middle of a box's life; know for a writable image which clusters are in
 * use. The file is hostile: a cluster that two tables claim, or one outside the file, ends the walk. Everything that is read is
 * bounded by the file's clusters (QCOW2_FILE_MAX) and the L1 table's size; an image read-only is not marked, and is
 * only searched for what cannot be read.
 */
#include "vmm/block/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "vmm/block/bits.h"
#include "vmm/block/hostio.h"

#define TABLES_MAX (1ULL << 32) /* bytes of L2 tables that are read: a sparse hostile file is cheap to make */

static bool writable(const struct qcow2 *q)
{
	return !q->b.read_only;
}

static int corrupt(struct vial_err *err, const char *what, uint64_t cluster)
{
	return err_set(err, VIAL_E_CORRUPT, "qcow2 image: %s, cluster %llu: try qemu-img check -r all", what,
		       (unsigned long long)cluster);
}

/* Claims @n clusters from file offset @at on. */
static int claim(struct qcow2 *q, uint64_t at, uint64_t n, struct vial_err *err)
{
	uint64_t first = at >> q->h.bits;

	if (!writable(q))
		return 0;
	for (uint64_t c = first; c < first + n; c++) {
		if (c >= q->end)
			return corrupt(err, "a table points outside the file", c);
		if (bits_get(q->refs.used, c))
			return corrupt(err, "two tables point to the same place", c);
		bits_set(q->refs.used, c);
	}
	return 0;
}

/* An L2 table of ours has COPIED set in each entry that has a cluster: the refcount is one. */
static bool lacks_copied(struct qcow2 *q, uint64_t entry)
{
	return writable(q) && (entry & QCOW2_OFFSET) && !(entry & QCOW2_COPIED);
}

static int check_l2(struct qcow2 *q, uint64_t table, struct vial_err *err)
{
	uint64_t *entries = (uint64_t *)(void *)q->buf, n = qcow2_l2_n(&q->h), host;
	enum qcow2_kind kind;
	bool changed = false;
	int r = hostio_read(q->fd, entries, q->h.cluster, table, HOSTIO_EOF_ZEROS);

	if (r < 0)
		return err_sys(err, r, "read a qcow2 image");
	for (uint64_t i = 0; i < n; i++) {
		uint64_t entry = be64toh(entries[i]);

		r = entry ? qcow2_entry(q, entry, &kind, &host) : 0;
		if (r == -ENOTSUP)
			return err_set(err, VIAL_E_UNSUPPORTED,
				       "qcow2 image: it has compressed clusters: use qemu-img convert");
		if (r < 0)
			return corrupt(err, "bad entry in the L2 table", table >> q->h.bits);
		r = entry && host ? claim(q, host, 1, err) : 0;
		if (r < 0)
			return r;
		if (lacks_copied(q, entry)) {
			entries[i] = htobe64(entry | QCOW2_COPIED);
			changed = true;
		}
	}
	r = changed ? hostio_write(q->fd, entries, q->h.cluster, table) : 0;
	return r < 0 ? err_sys(err, r, "repair a qcow2 image") : 0;
}

static int check_l1(struct qcow2 *q, struct vial_err *err)
{
	uint64_t tables = 0, table;

	for (uint64_t i = 0; i < q->h.l1_n; i++) {
		int r = qcow2_l2_at(q, i, &table);

		if (r < 0)
			return corrupt(err, "bad entry in the L1 table", q->h.l1_at >> q->h.bits);
		if (table == 0)
			continue;
		if (++tables > TABLES_MAX >> q->h.bits)
			return err_set(err, VIAL_E_LIMIT, "qcow2 image: too many tables");
		r = claim(q, table, 1, err);
		if (r == 0 && writable(q) && !(q->l1[i] & QCOW2_COPIED)) {
			uint64_t be = htobe64(q->l1[i] |= QCOW2_COPIED);
			r = hostio_write(q->fd, &be, 8, q->h.l1_at + i * 8);
			r = r < 0 ? err_sys(err, r, "repair a qcow2 image") : 0;
		}
		r = r ?: check_l2(q, table, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Makes refcount block @i say what the walk found. */
static int check_block(struct qcow2 *q, uint64_t i, struct vial_err *err)
{
	uint64_t n = qcow2_block_n(&q->h), first = i * n, stop = MIN(first + n, q->refs.limit);
	uint16_t *counts = (uint16_t *)(void *)q->buf;
	bool changed = false;

	if (q->refs.table[i] == 0) {
		uint64_t c = bits_next(q->refs.used, MIN(first, stop), stop, true);
		return c < stop ? corrupt(err, "in use, but nowhere counted", c) : 0;
	}
	int r = hostio_read(q->fd, counts, q->h.cluster, q->refs.table[i], HOSTIO_EOF_ZEROS);
	for (uint64_t k = 0; r == 0 && k < n; k++) {
		bool used = first + k < stop && bits_get(q->refs.used, first + k);

		if (counts[k] == htobe16(used))
			continue;
		counts[k] = htobe16(used);
		changed = true;
	}
	if (r == 0 && changed)
		r = hostio_write(q->fd, counts, q->h.cluster, q->refs.table[i]);
	return r < 0 ? err_sys(err, r, "repair a qcow2 image") : 0;
}

static int check_refcounts(struct qcow2 *q, struct vial_err *err)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < q->h.reftable_n; i++)
		r = check_block(q, i, err);
	if (r == 0 && q->h.dirty) {
		r = qcow2_header_clean(q->fd);
		r = r < 0 ? err_sys(err, r, "repair a qcow2 image") : 0;
	}
	return r;
}

/* The most clusters the file may ever have: all of the disk and its tables, beside what is there now */
static uint64_t clusters_limit(const struct qcow2 *q)
{
	uint64_t data = qcow2_clusters(&q->h, q->h.size);
	uint64_t most = q->end + data + q->h.l1_n;

	most += most / qcow2_block_n(&q->h) * 2 + 2;
	return MIN(most, q->h.reftable_n * qcow2_block_n(&q->h));
}

static int load_reftable(struct qcow2 *q, struct vial_err *err)
{
	struct qcow2_refs *refs = &q->refs;

	refs->limit = clusters_limit(q);
	refs->table = calloc(q->h.reftable_n + 1, sizeof(refs->table[0]));
	refs->used = calloc(BITS_WORDS(refs->limit) + 1, 8);
	refs->freed = calloc(BITS_WORDS(refs->limit) + 1, 8);
	if (!refs->table || !refs->used || !refs->freed)
		return err_sys(err, -ENOMEM, "open a qcow2 image");
	/* It is not made longer here. QEMU's default covers 16 TiB; small clusters on a large disk are not covered. */
	if (refs->limit < MAX(q->end, qcow2_clusters(&q->h, q->h.size)))
		return err_set(
			err, VIAL_E_UNSUPPORTED,
			"qcow2 image: its refcount table is too short for a full disk: use larger clusters");
	int r = hostio_read(q->fd, refs->table, q->h.reftable_n * 8, q->h.reftable_at, HOSTIO_EOF_ZEROS);
	if (r < 0)
		return err_sys(err, r, "read a qcow2 image");
	for (uint64_t i = 0; i < q->h.reftable_n; i++) {
		uint64_t at = refs->table[i] = be64toh(refs->table[i]);

		if (at % q->h.cluster)
			return corrupt(err, "bad entry in the refcount table", at >> q->h.bits);
		int c = at ? claim(q, at, 1, err) : 0;
		if (c < 0)
			return c;
	}
	return 0;
}

int qcow2_check_all(struct qcow2 *q, struct vial_err *err)
{
	int r = 0;

	if (!writable(q))
		return check_l1(q, err);
	r = load_reftable(q, err);
	r = r ?: claim(q, 0, 1, err);
	r = r ?: claim(q, q->h.l1_at, qcow2_clusters(&q->h, q->h.l1_n * 8), err);
	r = r ?: claim(q, q->h.reftable_at, qcow2_clusters(&q->h, q->h.reftable_n * 8), err);
	r = r ?: check_l1(q, err);
	return r ?: check_refcounts(q, err);
}
