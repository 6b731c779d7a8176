/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tree as a file: [header][blobs: tails of files][inodes][nodes][strings]; docs/IMAGE.md has the fields.
 * Written by vial-unpack and read by it alone, but every offset is checked again: the file lay in a directory.
 */
#ifndef IMAGE_TREEFILE_H
#define IMAGE_TREEFILE_H

#include "image/sink.h"
#include "image/tree.h"

#define TREEFILE_HEADER 64

/* treefile_begin() - room for the header; blobs may then be appended to @s, their offsets are @s->pos */
void treefile_begin(struct sink *s);
/* treefile_end() - write @t behind the blobs, then the header; @data_bytes: length of the layer's data */
int treefile_end(struct sink *s, struct tree *t, uint64_t data_bytes, struct vial_err *err);

/**
 * treefile_load() - the opposite; @ret is initialised here
 * @p, @n:	whole file; borrowed, and needed by the tree's tails
 * @layer:	number that the inodes get
 */
int treefile_load(const uint8_t *p, size_t n, uint32_t layer, struct tree *ret, uint64_t *ret_data_bytes,
		  struct vial_err *err);

#endif
