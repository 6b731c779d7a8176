// SPDX-License-Identifier: Apache-2.0
// One layer being made: its tree, its data and its tails.
#include "image/layer.h"

#include <string.h>

#include "base/err.h"
#include "image/erofs.h"
#include "image/limits.h"
#include "image/treefile.h"

int layer_init(struct layer *l, int data_fd, int tree_fd, struct vial_err *err)
{
	*l = (struct layer){ 0 };
	sink_init(&l->data, data_fd);
	sink_init(&l->blobs, tree_fd);
	treefile_begin(&l->blobs);
	return tree_init(&l->tree, err);
}

void layer_done(struct layer *l)
{
	tree_done(&l->tree);
	sink_done(&l->data);
	sink_done(&l->blobs);
}

int layer_finish(struct layer *l, struct vial_err *err)
{
	int r = sink_finish(&l->data);

	if (r < 0)
		return err_sys(err, r, "write a layer's data");
	return treefile_end(&l->blobs, &l->tree, l->data.pos, err);
}

int layer_file_begin(struct layer_file *f, struct layer *l, struct tree_inode *i, struct vial_err *err)
{
	uint32_t tail = (uint32_t)(i->size % IMAGE_BLOCK);
	uint32_t fixed = EROFS_EXTENDED_SIZE + EROFS_XATTR_HEADER + i->xattr_len;

	if (i->size > IMAGE_FILE_BYTES_MAX || l->data.pos + i->size > IMAGE_DATA_BYTES_MAX)
		return err_set(err, VIAL_E_LIMIT,
			       "file of %llu bytes is too large (limits: %zu GiB a file, %zu in all)",
			       (unsigned long long)i->size, IMAGE_FILE_BYTES_MAX / MIB(1024),
			       IMAGE_DATA_BYTES_MAX / MIB(1024));
	if (tail > IMAGE_TAIL_MAX || fixed + tail > EROFS_BLOCK)
		tail = 0;
	f->layer = l;
	f->inode = i;
	f->at = 0;
	f->tail_have = 0;
	f->in_data = i->size - tail;
	i->tail_len = tail;
	i->data_off = l->data.pos;
	i->tail_off = l->blobs.pos;
	return 0;
}

/* The next @n bytes of the file, @p NULL: zeros. */
static void put(struct layer_file *f, const uint8_t *p, uint64_t n)
{
	uint64_t k = f->at < f->in_data ? MIN(n, f->in_data - f->at) : 0;

	if (p)
		sink_write(&f->layer->data, p, (size_t)k);
	else
		sink_zero(&f->layer->data, k);
	f->at += n;
	n -= k;
	if (p)
		memcpy(f->tail + f->tail_have, p + k, (size_t)n);
	else
		memset(f->tail + f->tail_have, 0, (size_t)n);
	f->tail_have += (uint32_t)n;
}

int layer_file_write(struct layer_file *f, uint64_t off, const void *p, size_t n, struct vial_err *err)
{
	if (off < f->at || off > f->inode->size || n > f->inode->size - off)
		return err_set(err, VIAL_E_CORRUPT, "contents leave the file's size");
	put(f, NULL, off - f->at);
	put(f, p, n);
	return f->layer->data.error ? err_sys(err, f->layer->data.error, "write a layer's data") : 0;
}

int layer_file_end(struct layer_file *f, struct vial_err *err)
{
	put(f, NULL, f->inode->size - f->at);
	sink_align(&f->layer->data, IMAGE_BLOCK);
	sink_write(&f->layer->blobs, f->tail, f->tail_have);
	return f->layer->data.error ? err_sys(err, f->layer->data.error, "write a layer's data") : 0;
}
