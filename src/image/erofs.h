/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing EROFS metadata [Linux Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h of 6.1].
 *
 * The disk is [metadata][data of layer 1][data of layer 2]…; only the metadata is made here. Plain inodes in it
 * point (startblk) into the layers' ranges behind it.
 */
#ifndef IMAGE_EROFS_H
#define IMAGE_EROFS_H

#include <stddef.h>
#include <stdint.h>

#include "image/sink.h"
#include "image/tree.h"
#include "vial/error.h"

/* On-disk sizes and values; all integers little-endian. */
#define EROFS_BLOCK_BITS       12
#define EROFS_BLOCK	       (1u << EROFS_BLOCK_BITS)
#define EROFS_SUPER_OFFSET     1024
#define EROFS_SUPER_SIZE       128
#define EROFS_SUPER_MAGIC      0xE0F5E1E2u
#define EROFS_COMPAT_SB_CHKSUM 0x1u
#define EROFS_COMPAT_MTIME     0x2u
#define EROFS_SLOT	       32 /* inodes start at multiples: the nid counts these */
#define EROFS_COMPACT_SIZE     32
#define EROFS_EXTENDED_SIZE    64
#define EROFS_FLAT_PLAIN       0
#define EROFS_FLAT_INLINE      2
#define EROFS_DIRENT_SIZE      12
#define EROFS_XATTR_HEADER     12
#define EROFS_XATTR_ENTRY      4

static inline uint16_t erofs_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void erofs_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void erofs_put32(uint8_t *p, uint32_t v)
{
	erofs_put16(p, (uint16_t)v);
	erofs_put16(p + 2, (uint16_t)(v >> 16));
}

static inline void erofs_put64(uint8_t *p, uint64_t v)
{
	erofs_put32(p, (uint32_t)v);
	erofs_put32(p + 4, (uint32_t)(v >> 32));
}

/* struct erofs_layer - @blobs: the layer's tree file, where tails are; @data_bytes: multiple of 4096 */
struct erofs_layer {
	const uint8_t *blobs;
	uint64_t blobs_len;
	uint64_t data_bytes;
};

/**
 * erofs_write() - metadata of @t, whose inodes' @layer indexes @layers
 * @uuid:	16 bytes
 * The output's length is a multiple of 4096; the first layer's data follows it on the disk.
 */
int erofs_write(struct tree *t, const struct erofs_layer *layers, size_t n_layers, const uint8_t uuid[16],
		struct sink *out, struct vial_err *err);

/* erofs_rdev() - device number as Linux stores it; -ERANGE if it does not fit */
int erofs_rdev(uint64_t major, uint64_t minor, uint32_t *ret);

#endif
