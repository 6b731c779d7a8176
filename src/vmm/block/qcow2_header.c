// SPDX-License-Identifier: Apache-2.0
// The header of a qcow2 image. Hostile: every number is checked before it is used or stored.
#include "vmm/block/qcow2.h"

#include <endian.h>
#include <string.h>

#include "base/err.h"
#include "vmm/block/hostio.h"

#define MAGIC	  0x514649fb
#define V2_LENGTH 72
#define V3_LENGTH 104

#define INCOMPATIBLE_DIRTY   (1ULL << 0)
#define INCOMPATIBLE_CORRUPT (1ULL << 1)
#define INCOMPATIBLE_AT	     72

/* As it stands in the file, big-endian; version 2 ends before @incompatible */
struct disk_header {
	uint32_t magic;
	uint32_t version;
	uint64_t backing_at;
	uint32_t backing_len;
	uint32_t bits;
	uint64_t size;
	uint32_t crypt;
	uint32_t l1_n;
	uint64_t l1_at;
	uint64_t reftable_at;
	uint32_t reftable_clusters;
	uint32_t snapshots;
	uint64_t snapshots_at;
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;
	uint32_t length;
} __attribute__((packed));

_Static_assert(sizeof(struct disk_header) == V3_LENGTH, "layout of the header");

static void to_native(struct disk_header *d)
{
	d->magic = be32toh(d->magic);
	d->version = be32toh(d->version);
	d->backing_at = be64toh(d->backing_at);
	d->bits = be32toh(d->bits);
	d->size = be64toh(d->size);
	d->crypt = be32toh(d->crypt);
	d->l1_n = be32toh(d->l1_n);
	d->l1_at = be64toh(d->l1_at);
	d->reftable_at = be64toh(d->reftable_at);
	d->reftable_clusters = be32toh(d->reftable_clusters);
	d->snapshots = be32toh(d->snapshots);
	d->incompatible = be64toh(d->incompatible);
	d->autoclear = be64toh(d->autoclear);
	d->refcount_order = be32toh(d->refcount_order);
	d->length = be32toh(d->length);
}

/* Version 2 has the fields behind its end by definition. */
static void fill_v2(struct disk_header *d)
{
	memset((char *)d + V2_LENGTH, 0, V3_LENGTH - V2_LENGTH);
	d->refcount_order = 4;
	d->length = V2_LENGTH;
}

/* What we could not read right */
static const char *unreadable(const struct disk_header *d)
{
	if (d->crypt != 0)
		return "it is encrypted";
	if (d->incompatible & INCOMPATIBLE_CORRUPT)
		return "it is marked as corrupt: try qemu-img check -r all";
	if (d->incompatible & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT))
		return "it uses features that are not supported (data in another file, compression, "
		       "subclusters)";
	return NULL;
}

/* What we could not keep right while writing */
static const char *unwritable(const struct disk_header *d)
{
	if (d->snapshots != 0)
		return "it holds internal snapshots";
	if (d->autoclear != 0)
		return "it holds bitmaps";
	if (d->refcount_order != 4)
		return "its refcounts are not 16 bits wide";
	return NULL;
}

/* A table of @bytes at @at: aligned to a cluster, behind the header, in the file */
static bool table_ok(const struct qcow2_header *h, uint64_t file_size, uint64_t at, uint64_t bytes)
{
	uint64_t file = qcow2_clusters(h, file_size) * h->cluster;

	return at % h->cluster == 0 && at >= h->cluster && at <= file && bytes <= file - at;
}

static int check_tables(const struct qcow2_header *h, uint64_t file_size, struct vial_err *err)
{
	uint64_t covers = h->cluster * qcow2_l2_n(h);

	if (h->l1_n > QCOW2_L1_BYTES_MAX / 8 || h->reftable_n > QCOW2_REFTABLE_MAX / 8)
		return err_set(err, VIAL_E_LIMIT, "qcow2 image: its tables are too large");
	if (h->l1_n < h->size / covers + (h->size % covers != 0))
		return err_set(err, VIAL_E_CORRUPT, "qcow2 image: L1 table too short for %llu bytes",
			       (unsigned long long)h->size);
	if (!table_ok(h, file_size, h->l1_at, h->l1_n * 8) ||
	    (!h->read_only_why && !table_ok(h, file_size, h->reftable_at, h->reftable_n * 8)))
		return err_set(err, VIAL_E_CORRUPT, "qcow2 image: a table lies outside the file");
	return 0;
}

static int check(const struct disk_header *d, uint64_t file_size, struct qcow2_header *ret,
		 struct vial_err *err)
{
	const char *why = unreadable(d);

	if (why)
		return err_set(err, VIAL_E_UNSUPPORTED, "qcow2 image: %s", why);
	if (d->bits < QCOW2_BITS_MIN || d->bits > QCOW2_BITS_MAX)
		return err_set(err, VIAL_E_CORRUPT, "qcow2 image: clusters of 2^%u bytes", d->bits);
	if (d->length < V3_LENGTH && d->version != 2)
		return err_set(err, VIAL_E_CORRUPT, "qcow2 image: a header of %u bytes", d->length);
	if (d->size == 0 || d->size % BLOCK_SECTOR || d->size > BLOCK_SIZE_MAX)
		return err_set(err, VIAL_E_INVALID, "qcow2 image: a disk of %llu bytes",
			       (unsigned long long)d->size);
	if (file_size >> d->bits >= QCOW2_FILE_MAX)
		return err_set(err, VIAL_E_LIMIT, "qcow2 image: a file of %llu bytes is too large",
			       (unsigned long long)file_size);
	*ret = (struct qcow2_header){
		.version = d->version,
		.bits = d->bits,
		.cluster = 1ULL << d->bits,
		.size = d->size,
		.l1_at = d->l1_at,
		.l1_n = d->l1_n,
		.reftable_at = d->reftable_at,
		.reftable_n = ((uint64_t)d->reftable_clusters << d->bits) / 8,
		.names_backing = d->backing_at != 0,
		.has_zero = d->version > 2,
		.dirty = d->incompatible & INCOMPATIBLE_DIRTY,
		.read_only_why = unwritable(d),
	};
	return check_tables(ret, file_size, err);
}

int qcow2_header_read(int fd, uint64_t file_size, struct qcow2_header *ret, struct vial_err *err)
{
	struct disk_header d = { 0 };
	int r = hostio_read(fd, &d, sizeof(d), 0, HOSTIO_EOF_ZEROS);

	if (r < 0)
		return err_sys(err, r, "read a qcow2 image");
	to_native(&d);
	if (d.magic != MAGIC)
		return err_set(err, VIAL_E_INVALID, "not a qcow2 image");
	if (d.version != 2 && d.version != 3)
		return err_set(err, VIAL_E_UNSUPPORTED, "qcow2 image: version %u", d.version);
	if (d.version == 2)
		fill_v2(&d);
	return check(&d, file_size, ret, err);
}

int qcow2_header_clean(int fd)
{
	uint64_t features = 0;
	int r = hostio_read(fd, &features, sizeof(features), INCOMPATIBLE_AT, HOSTIO_EOF_FAILS);

	if (r < 0)
		return r;
	features &= htobe64(~INCOMPATIBLE_DIRTY);
	return hostio_write(fd, &features, sizeof(features), INCOMPATIBLE_AT);
}
