/* SPDX-License-Identifier: Apache-2.0 */
/* One layer being made: its tree, its data and its tails. */
#ifndef IMAGE_LAYER_H
#define IMAGE_LAYER_H

#include "image/sink.h"
#include "image/tree.h"

/**
 * struct layer - output of an import
 * @data:	contents of files, each beginning at a multiple of 4096
 * @blobs:	becomes the tree file; tails are appended while reading
 */
struct layer {
	struct tree tree;
	struct sink data;
	struct sink blobs;
};

int layer_init(struct layer *l, int data_fd, int tree_fd, struct vial_err *err);
void layer_done(struct layer *l);
/* layer_finish() - write the tree file and all that is buffered */
int layer_finish(struct layer *l, struct vial_err *err);

/* struct layer_file - contents of one regular file on their way; @tail collects what will be inline */
struct layer_file {
	struct layer *layer;
	struct tree_inode *inode;
	uint64_t at;
	uint64_t in_data;
	uint32_t tail_have;
	uint8_t tail[4096];
};

/* layer_file_begin() - @i->size and xattrs are set; gives it its place */
int layer_file_begin(struct layer_file *f, struct layer *l, struct tree_inode *i, struct vial_err *err);
/* layer_file_write() - bytes at @off, at or behind what came before; a gap is a hole; past the size is an error */
int layer_file_write(struct layer_file *f, uint64_t off, const void *p, size_t n, struct vial_err *err);
int layer_file_end(struct layer_file *f, struct vial_err *err);

#endif
