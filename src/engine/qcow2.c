// SPDX-License-Identifier: Apache-2.0
// Writing an empty qcow2 image.
#include "engine/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"

#define CLUSTER_BITS 16
#define CLUSTER	     (1ULL << CLUSTER_BITS)
#define L1_COVERS    (CLUSTER * (CLUSTER / 8)) /* guest bytes one L1 entry stands for: 512 MiB */

struct header {
	uint32_t magic;
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_size;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt;
	uint32_t l1_size;
	uint64_t l1_offset;
	uint64_t refcount_offset;
	uint32_t refcount_clusters;
	uint32_t snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;
	uint32_t header_length;
} __attribute__((packed));

static int put(int fd, const void *p, size_t n, uint64_t at)
{
	ssize_t r = pwrite(fd, p, n, (off_t)at);

	return r == (ssize_t)n ? 0 : r < 0 ? -errno : -EIO;
}

int qcow2_init(int fd, uint64_t bytes)
{
	/* Clusters: 0 header, 1 refcount table, 2 refcount block, 3… L1 table (all zero: nothing allocated). */
	uint64_t l1_entries = (bytes + L1_COVERS - 1) / L1_COVERS;
	uint64_t l1_clusters = (l1_entries * 8 + CLUSTER - 1) / CLUSTER;
	uint64_t used = 3 + l1_clusters;
	const struct header h = {
		.magic = htobe32(0x514649fb),
		.version = htobe32(3),
		.cluster_bits = htobe32(CLUSTER_BITS),
		.size = htobe64(bytes),
		.l1_size = htobe32((uint32_t)l1_entries),
		.l1_offset = htobe64(3 * CLUSTER),
		.refcount_offset = htobe64(CLUSTER),
		.refcount_clusters = htobe32(1),
		.refcount_order = htobe32(4),
		.header_length = htobe32(sizeof(struct header)),
	};
	uint64_t block = htobe64(2 * CLUSTER);
	uint16_t one[64];
	int r;

	if (bytes == 0 || bytes % 512 || bytes > 1ULL << 44 || used > ARRAY_SIZE(one))
		return -EINVAL;
	for (size_t i = 0; i < used; i++)
		one[i] = htobe16(1);
	r = put(fd, &h, sizeof(h), 0);
	r = r ?: put(fd, &block, sizeof(block), CLUSTER);
	r = r ?: put(fd, one, used * sizeof(one[0]), 2 * CLUSTER);
	if (r == 0 && ftruncate(fd, (off_t)(used * CLUSTER)) < 0)
		r = -errno;
	return r;
}

/* Whether @n bytes at @at, a cluster's beginning, lie in a file of @file bytes. */
static bool lies_in(uint64_t at, uint64_t n, uint64_t file)
{
	return at % CLUSTER == 0 && at >= CLUSTER && at <= file && n <= file - at;
}

int qcow2_check(int fd, uint64_t bytes)
{
	uint64_t l1_entries = (bytes + L1_COVERS - 1) / L1_COVERS;
	struct header h;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	ssize_t n = pread(fd, &h, sizeof(h), 0);
	if (n != (ssize_t)sizeof(h))
		return n < 0 ? -errno : -EBADMSG;
	if (be32toh(h.magic) != 0x514649fb || be32toh(h.version) != 3 || h.backing_offset || h.backing_size ||
	    be32toh(h.cluster_bits) != CLUSTER_BITS || be64toh(h.size) != bytes)
		return -EBADMSG;
	if (h.crypt || h.snapshots || h.incompatible || be32toh(h.refcount_order) != 4)
		return -EBADMSG;
	uint64_t file = (uint64_t)st.st_size, l1_size = be32toh(h.l1_size);
	if (l1_size < l1_entries || l1_size > CLUSTER || !lies_in(be64toh(h.l1_offset), l1_size * 8, file) ||
	    !lies_in(be64toh(h.refcount_offset), be32toh(h.refcount_clusters) * CLUSTER, file))
		return -EBADMSG;
	return 0;
}
