// SPDX-License-Identifier: Apache-2.0
/*
 * Writing EROFS metadata.
 *
 * Theory of operation
 *
 * Two passes over the flattened tree. plan_*() gives every inode its place: block 0 holds the superblock, then
 * come the inodes (each with its xattrs and inline tail), then whole blocks that belong to directories and to
 * symlinks too long to be inline. After this the length of the metadata is known, so the first block of each
 * layer's data is, too. emit_*() then writes strictly forwards.
 *
 * Rules kept here [Linux 6.1 fs/erofs: inode.c, data.c, namei.c]: an inline tail lies in one block with its inode; the
 * root's nid fits 16 bits (it is the first inode); the superblock's checksum covers the rest of block 0.
 *
 * Input: a tree whose limits tree.c has enforced, so sizes here cannot overflow 64 bits; offsets of a tree read from a
 * file were checked when it was loaded. Block numbers are 32 bits on disk: checked once the plan is made.
 */
#include "image/erofs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/erofs_dir.h"
#include "image/limits.h"

struct writer {
	const struct erofs_layer *layers;
	size_t n_layers;
	uint64_t *layer_block; /* first block of each layer's data on the disk */
	struct tree_list list;
	struct tree_inode **inodes; /* each once, in order of first sight */
	uint32_t n_inodes;
	int64_t mtime; /* what compact inodes have */
	uint32_t mtime_ns;
	uint64_t at; /* plan: next free byte */
	uint64_t disk_blocks;
	struct sink *out;
};

static void writer_done(struct writer *w)
{
	tree_list_done(&w->list);
	free(w->inodes);
	free(w->layer_block);
}

int erofs_rdev(uint64_t major, uint64_t minor, uint32_t *ret)
{
	if (major > 0xfff || minor > 0xfffff)
		return -ERANGE;
	*ret = (uint32_t)((minor & 0xff) | major << 8 | (minor & ~0xffULL) << 12);
	return 0;
}

/* crc32c without the final inversion, as the kernel's crc32c() */
static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
	while (n--) {
		crc ^= *p++;
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
	}
	return crc;
}

static int collect_inodes(struct writer *w, struct vial_err *err)
{
	w->inodes = calloc(w->list.n, sizeof(*w->inodes));
	if (!w->inodes)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	for (uint32_t k = 0; k < w->list.n; k++) {
		w->list.v[k]->inode->nlink = 0;
		w->list.v[k]->inode->index = UINT32_MAX;
	}
	for (uint32_t k = 0; k < w->list.n; k++) {
		struct tree_node *n = w->list.v[k];
		struct tree_inode *i = n->inode;
		if (i->index == UINT32_MAX) {
			i->index = w->n_inodes;
			w->inodes[w->n_inodes++] = i;
		}
		i->nlink++;
		if (S_ISDIR(i->mode)) {
			i->nlink++; /* its own "." */
			if (n->parent)
				n->parent->inode->nlink++;
		}
	}
	/* The root has no name of its own, but its ".." is itself. */
	return 0;
}

/* The time most inodes have (if more than half do) saves them the extended form [Boyer and Moore's vote]. */
static void choose_mtime(struct writer *w)
{
	uint32_t votes = 0;

	for (uint32_t k = 0; k < w->n_inodes; k++) {
		struct tree_inode *i = w->inodes[k];
		bool same = i->mtime == w->mtime && i->mtime_ns == w->mtime_ns;
		if (votes == 0 && i->mtime >= 0) {
			w->mtime = i->mtime;
			w->mtime_ns = i->mtime_ns;
			votes = 1;
		} else if (votes > 0) {
			votes = same ? votes + 1 : votes - 1;
		}
	}
}

static bool is_compact(const struct writer *w, const struct tree_inode *i)
{
	return i->uid <= UINT16_MAX && i->gid <= UINT16_MAX && i->nlink <= UINT16_MAX &&
	       i->size <= UINT32_MAX && i->mtime == w->mtime && i->mtime_ns == w->mtime_ns;
}

static uint32_t xattr_space(const struct tree_inode *i)
{
	return i->xattr_len ? EROFS_XATTR_HEADER + i->xattr_len : 0;
}

/* Bytes that want to stand behind the inode. */
static uint32_t tail_wanted(const struct tree_inode *i)
{
	if (S_ISREG(i->mode))
		return i->tail_len;
	if (S_ISDIR(i->mode) || S_ISLNK(i->mode))
		return (uint32_t)(i->size % EROFS_BLOCK);
	return 0;
}

static void plan_inode(struct writer *w, struct tree_inode *i)
{
	uint32_t head = is_compact(w, i) ? EROFS_COMPACT_SIZE : EROFS_EXTENDED_SIZE;
	uint32_t fixed = head + xattr_space(i);
	uint32_t tail = tail_wanted(i);

	i->meta_size = head;
	i->tail_inline = fixed + tail <= EROFS_BLOCK ? tail : 0;
	/* The inode proper and its tail never straddle blocks; xattrs may, but only when they exceed one. */
	uint32_t together = fixed + i->tail_inline <= EROFS_BLOCK ? fixed + i->tail_inline : head;
	if (w->at % EROFS_BLOCK + together > EROFS_BLOCK)
		w->at = ALIGN_UP(w->at, (uint64_t)EROFS_BLOCK);
	i->meta_off = w->at;
	w->at = ALIGN_UP(w->at + fixed + i->tail_inline, (uint64_t)EROFS_SLOT);
}

/* Blocks of directories and long symlinks follow all inodes. */
static void plan_blocks(struct writer *w, struct tree_inode *i)
{
	if (S_ISREG(i->mode)) {
		i->blocks_at = w->layer_block[i->layer] + i->data_off / EROFS_BLOCK;
		return;
	}
	if (!S_ISDIR(i->mode) && !S_ISLNK(i->mode))
		return;
	i->blocks_at = w->at / EROFS_BLOCK;
	w->at += ALIGN_UP(i->size - i->tail_inline, (uint64_t)EROFS_BLOCK);
}

static int plan(struct writer *w, struct vial_err *err)
{
	for (uint32_t k = 0; k < w->list.n; k++)
		if (S_ISDIR(w->list.v[k]->inode->mode))
			w->list.v[k]->inode->size = erofs_dir_size(&w->list, w->list.v[k]);
	choose_mtime(w);
	w->at = EROFS_BLOCK;
	for (uint32_t k = 0; k < w->n_inodes; k++)
		plan_inode(w, w->inodes[k]);
	w->at = ALIGN_UP(w->at, (uint64_t)EROFS_BLOCK);
	for (uint32_t k = 0; k < w->n_inodes; k++)
		if (!S_ISREG(w->inodes[k]->mode))
			plan_blocks(w, w->inodes[k]);
	w->disk_blocks = w->at / EROFS_BLOCK;
	for (size_t l = 0; l < w->n_layers; l++) {
		w->layer_block[l] = w->disk_blocks;
		w->disk_blocks += w->layers[l].data_bytes / EROFS_BLOCK;
	}
	if (w->disk_blocks >= UINT32_MAX)
		return err_set(err, VIAL_E_LIMIT, "the image is larger than EROFS can address (16 TiB)");
	for (uint32_t k = 0; k < w->n_inodes; k++)
		if (S_ISREG(w->inodes[k]->mode))
			plan_blocks(w, w->inodes[k]);
	return 0;
}

static void emit_super(struct writer *w, const uint8_t uuid[16])
{
	uint8_t block[EROFS_BLOCK] = { 0 };
	uint8_t *s = block + EROFS_SUPER_OFFSET;

	erofs_put32(s, EROFS_SUPER_MAGIC);
	erofs_put32(s + 8, EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME);
	s[12] = EROFS_BLOCK_BITS;
	erofs_put16(s + 14, (uint16_t)(w->list.v[0]->inode->meta_off / EROFS_SLOT));
	erofs_put64(s + 16, w->n_inodes);
	erofs_put64(s + 24, (uint64_t)w->mtime);
	erofs_put32(s + 32, w->mtime_ns);
	erofs_put32(s + 36, (uint32_t)w->disk_blocks);
	memcpy(s + 48, uuid, 16);
	memcpy(s + 64, "vial", 4);
	erofs_put32(s + 4, crc32c(~0u, s, EROFS_BLOCK - EROFS_SUPER_OFFSET));
	sink_write(w->out, block, sizeof(block));
}

static uint32_t union_word(const struct tree_inode *i)
{
	if (S_ISCHR(i->mode) || S_ISBLK(i->mode))
		return i->rdev;
	if (S_ISREG(i->mode) || S_ISDIR(i->mode) || S_ISLNK(i->mode))
		return (uint32_t)i->blocks_at;
	return 0;
}

static void encode_inode(const struct tree_inode *i, uint8_t p[EROFS_EXTENDED_SIZE])
{
	bool extended = i->meta_size == EROFS_EXTENDED_SIZE;
	uint16_t layout = i->tail_inline ? EROFS_FLAT_INLINE : EROFS_FLAT_PLAIN;

	memset(p, 0, EROFS_EXTENDED_SIZE);
	erofs_put16(p, (uint16_t)(extended | layout << 1));
	if (i->xattr_len) /* in words of 4 bytes, the header's first one not counted beyond the first word */
		erofs_put16(p + 2, (uint16_t)(1 + i->xattr_len / 4));
	erofs_put16(p + 4, (uint16_t)i->mode);
	erofs_put32(p + 16, union_word(i));
	erofs_put32(p + 20, i->index + 1);
	if (!extended) {
		erofs_put16(p + 6, (uint16_t)i->nlink);
		erofs_put32(p + 8, (uint32_t)i->size);
		erofs_put16(p + 24, (uint16_t)i->uid);
		erofs_put16(p + 26, (uint16_t)i->gid);
		return;
	}
	erofs_put64(p + 8, i->size);
	erofs_put32(p + 24, i->uid);
	erofs_put32(p + 28, i->gid);
	erofs_put64(p + 32, (uint64_t)i->mtime);
	erofs_put32(p + 40, i->mtime_ns);
	erofs_put32(p + 44, i->nlink);
}

static void emit_xattrs(struct writer *w, const struct tree_inode *i)
{
	static const uint8_t header[EROFS_XATTR_HEADER];

	if (!i->xattr_len)
		return;
	sink_write(w->out, header, sizeof(header));
	sink_write(w->out, i->xattrs, i->xattr_len);
}

/* All blocks of directory @n, or only the last one. */
static void emit_dir(struct writer *w, const struct tree_node *n, bool tail)
{
	uint64_t whole = n->inode->size - n->inode->tail_inline, done = 0;
	struct erofs_dir_iter it;
	uint8_t block[EROFS_BLOCK];
	uint32_t used;

	erofs_dir_begin(&it, &w->list, n);
	while ((used = erofs_dir_block(&it, block)) > 0) {
		bool last = done >= whole;
		if (last == tail)
			sink_write(w->out, block, tail ? used : EROFS_BLOCK);
		done += EROFS_BLOCK;
	}
}

static void emit_tail(struct writer *w, const struct tree_node *n)
{
	const struct tree_inode *i = n->inode;

	if (!i->tail_inline)
		return;
	if (S_ISDIR(i->mode))
		emit_dir(w, n, true);
	else if (S_ISLNK(i->mode))
		sink_write(w->out, i->target, i->tail_inline);
	else
		sink_write(w->out, w->layers[i->layer].blobs + i->tail_off, i->tail_inline);
}

static void emit_inode(struct writer *w, const struct tree_node *n)
{
	uint8_t p[EROFS_EXTENDED_SIZE];

	sink_zero(w->out, n->inode->meta_off - w->out->pos);
	encode_inode(n->inode, p);
	sink_write(w->out, p, n->inode->meta_size);
	emit_xattrs(w, n->inode);
	emit_tail(w, n);
}

static void emit_blocks(struct writer *w, const struct tree_node *n)
{
	const struct tree_inode *i = n->inode;

	if (S_ISDIR(i->mode)) {
		emit_dir(w, n, false);
	} else if (S_ISLNK(i->mode) && !i->tail_inline) {
		sink_write(w->out, i->target, i->size);
		sink_align(w->out, EROFS_BLOCK);
	}
}

/* Call @fn for the first name of every inode: that is the order of the plan. */
static void emit_each(struct writer *w, void (*fn)(struct writer *, const struct tree_node *))
{
	uint32_t next = 0;

	for (uint32_t k = 0; k < w->list.n && !w->out->error; k++)
		if (w->list.v[k]->inode->index == next) {
			fn(w, w->list.v[k]);
			next++;
		}
}

int erofs_write(struct tree *t, const struct erofs_layer *layers, size_t n_layers, const uint8_t uuid[16],
		struct sink *out, struct vial_err *err)
{
	_cleanup_(writer_done) struct writer w = { .layers = layers, .n_layers = n_layers, .out = out };
	int r;

	w.layer_block = calloc(n_layers + 1, sizeof(*w.layer_block));
	if (!w.layer_block)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	r = tree_flatten(t, &w.list, err);
	if (r == 0)
		r = collect_inodes(&w, err);
	if (r == 0)
		r = plan(&w, err);
	if (r < 0)
		return r;
	emit_super(&w, uuid);
	emit_each(&w, emit_inode);
	sink_align(out, EROFS_BLOCK);
	emit_each(&w, emit_blocks);
	r = sink_finish(out);
	return r < 0 ? err_sys(err, r, "write the root's metadata") : 0;
}
