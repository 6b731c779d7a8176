// SPDX-License-Identifier: Apache-2.0
// A layer's tree as a file. Integers are little-endian; see docs/IMAGE.md.
#include "image/treefile.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/erofs.h"
#include "image/limits.h"
#include "image/xattr.h"

#define MAGIC	   "vialtree"
#define VERSION	   1u
#define INODE_SIZE 80
#define NODE_SIZE  24

enum { FLAG_IMPLICIT = 1, FLAG_OPAQUE = 2 };

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)erofs_get16(p) | (uint32_t)erofs_get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

void treefile_begin(struct sink *s)
{
	sink_zero(s, TREEFILE_HEADER);
}

/* struct out - the three tables while they grow */
struct out {
	struct buf inodes, nodes, strings;
	uint32_t n_inodes;
};

static void out_done(struct out *o)
{
	buf_done(&o->inodes);
	buf_done(&o->nodes);
	buf_done(&o->strings);
}

static uint64_t put_string(struct out *o, const void *p, size_t n)
{
	uint64_t at = o->strings.len;

	buf_append(&o->strings, p, n);
	return at;
}

static void put_inode(struct out *o, struct tree_inode *i)
{
	size_t target_len = i->target ? i->size : 0;
	uint8_t r[INODE_SIZE] = { 0 };

	i->index = o->n_inodes++;
	erofs_put32(r, i->mode);
	erofs_put32(r + 4, i->uid);
	erofs_put32(r + 8, i->gid);
	erofs_put32(r + 12, i->rdev);
	erofs_put64(r + 16, (uint64_t)i->mtime);
	erofs_put32(r + 24, i->mtime_ns);
	erofs_put32(r + 28, i->tail_len);
	erofs_put64(r + 32, i->size);
	erofs_put64(r + 40, i->data_off);
	erofs_put64(r + 48, i->tail_off);
	erofs_put64(r + 56, put_string(o, i->target, target_len));
	erofs_put64(r + 64, put_string(o, i->xattrs, i->xattr_len));
	erofs_put32(r + 72, (uint32_t)target_len);
	erofs_put32(r + 76, i->xattr_len);
	buf_append(&o->inodes, r, sizeof(r));
}

static void put_node(struct out *o, const struct tree_node *n)
{
	size_t link_len = n->link ? strlen(n->link) : 0;
	uint8_t r[NODE_SIZE] = { 0 };

	erofs_put32(r, n->parent ? n->parent->index : 0);
	erofs_put32(r + 4, n->inode ? n->inode->index : UINT32_MAX);
	erofs_put64(r + 8, put_string(o, n->name, n->name_len));
	erofs_put16(r + 16, n->name_len);
	r[18] = (uint8_t)n->kind;
	r[19] = (uint8_t)((n->implicit ? FLAG_IMPLICIT : 0) | (n->opaque ? FLAG_OPAQUE : 0));
	erofs_put32(r + 20, (uint32_t)link_len);
	put_string(o, n->link, link_len); /* right behind the name */
	buf_append(&o->nodes, r, sizeof(r));
}

static void put_header(struct sink *s, const struct out *o, uint64_t inodes_at, uint32_t n_nodes,
		       uint64_t data_bytes)
{
	uint8_t h[TREEFILE_HEADER] = { 0 };

	memcpy(h, MAGIC, 8);
	erofs_put32(h + 8, VERSION);
	erofs_put32(h + 12, o->n_inodes);
	erofs_put32(h + 16, n_nodes);
	erofs_put64(h + 24, inodes_at);
	erofs_put64(h + 32, inodes_at + o->inodes.len);
	erofs_put64(h + 40, inodes_at + o->inodes.len + o->nodes.len);
	erofs_put64(h + 48, o->strings.len);
	erofs_put64(h + 56, data_bytes);
	sink_patch(s, 0, h, sizeof(h));
}

int treefile_end(struct sink *s, struct tree *t, uint64_t data_bytes, struct vial_err *err)
{
	_cleanup_(tree_list_done) struct tree_list l = { 0 };
	_cleanup_(out_done) struct out o = { 0 };
	int r = tree_flatten(t, &l, err);

	if (r < 0)
		return r;
	o.inodes.limit = o.nodes.limit = o.strings.limit = MIB(2048);
	for (uint32_t k = 0; k < l.n; k++)
		if (l.v[k]->inode)
			l.v[k]->inode->index = UINT32_MAX;
	for (uint32_t k = 0; k < l.n; k++) {
		if (l.v[k]->inode && l.v[k]->inode->index == UINT32_MAX)
			put_inode(&o, l.v[k]->inode);
		put_node(&o, l.v[k]);
	}
	if (!buf_ok(&o.inodes) || !buf_ok(&o.nodes) || !buf_ok(&o.strings))
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	uint64_t inodes_at = s->pos;
	sink_write(s, o.inodes.data, o.inodes.len);
	sink_write(s, o.nodes.data, o.nodes.len);
	sink_write(s, o.strings.data, o.strings.len);
	put_header(s, &o, inodes_at, l.n, data_bytes);
	r = sink_finish(s);
	return r < 0 ? err_sys(err, r, "write a layer's tree") : 0;
}

/* struct in - a file being loaded, its tables checked to lie within it */
struct in {
	const uint8_t *inodes, *nodes;
	const char *strings;
	uint64_t blobs_end, strings_len, data_bytes;
	uint32_t n_inodes, n_nodes, layer;
	struct tree_inode **inode;
	struct tree_node **node;
};

static void in_done(struct in *f)
{
	for (uint32_t k = 0; f->inode && k < f->n_inodes; k++)
		tree_inode_unref(f->inode[k]);
	free(f->inode);
	free(f->node);
}

static bool within(uint64_t off, uint64_t len, uint64_t total)
{
	return off <= total && len <= total - off;
}

static bool parse_header(struct in *f, const uint8_t *p, size_t n)
{
	if (n < TREEFILE_HEADER || memcmp(p, MAGIC, 8) != 0 || get32(p + 8) != VERSION)
		return false;
	uint64_t inodes = get64(p + 24), nodes = get64(p + 32), strings = get64(p + 40);
	f->n_inodes = get32(p + 12);
	f->n_nodes = get32(p + 16);
	f->strings_len = get64(p + 48);
	f->data_bytes = get64(p + 56);
	if (f->n_inodes == 0 || f->n_nodes == 0 || f->n_nodes > IMAGE_ENTRIES_MAX + 1 ||
	    f->n_inodes > f->n_nodes || inodes < TREEFILE_HEADER ||
	    !within(inodes, (uint64_t)f->n_inodes * INODE_SIZE, n) ||
	    !within(nodes, (uint64_t)f->n_nodes * NODE_SIZE, n) || !within(strings, f->strings_len, n) ||
	    f->data_bytes % IMAGE_BLOCK != 0 || f->data_bytes > IMAGE_DATA_BYTES_MAX)
		return false;
	f->blobs_end = inodes;
	f->inodes = p + inodes;
	f->nodes = p + nodes;
	f->strings = (const char *)p + strings;
	return true;
}

static bool inode_valid(const struct in *f, const struct tree_inode *i)
{
	uint64_t in_data = i->size - i->tail_len;

	if (i->mtime_ns >= 1000000000u || (i->mode & ~(uint32_t)(S_IFMT | 07777)))
		return false;
	if (!S_ISREG(i->mode))
		return i->tail_len == 0 && (i->size == 0 || S_ISLNK(i->mode));
	if (i->size > IMAGE_FILE_BYTES_MAX || (i->tail_len && i->tail_len != i->size % IMAGE_BLOCK))
		return false;
	if (i->tail_len > IMAGE_TAIL_MAX ||
	    EROFS_EXTENDED_SIZE + EROFS_XATTR_HEADER + i->xattr_len + i->tail_len >
		    (i->tail_len ? EROFS_BLOCK : UINT32_MAX))
		return false;
	return i->data_off % IMAGE_BLOCK == 0 &&
	       within(i->data_off, ALIGN_UP(in_data, (uint64_t)IMAGE_BLOCK), f->data_bytes) &&
	       i->tail_off >= (i->tail_len ? TREEFILE_HEADER : 0) &&
	       within(i->tail_off, i->tail_len, f->blobs_end);
}

static int load_strings(const struct in *f, const uint8_t *r, struct tree_inode *i, struct vial_err *err)
{
	uint64_t target = get64(r + 56), xattrs = get64(r + 64);
	uint32_t target_len = get32(r + 72);

	i->xattr_len = get32(r + 76);
	if (!within(target, target_len, f->strings_len) || !within(xattrs, i->xattr_len, f->strings_len) ||
	    S_ISLNK(i->mode) != (target_len != 0) ||
	    !xattr_body_valid((const uint8_t *)f->strings + xattrs, i->xattr_len))
		return err_set(err, VIAL_E_CORRUPT, "damaged layer tree: strings");
	if (i->xattr_len) {
		i->xattrs = malloc(i->xattr_len);
		if (!i->xattrs)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
		memcpy(i->xattrs, f->strings + xattrs, i->xattr_len);
	}
	return target_len ? tree_inode_set_target(i, f->strings + target, target_len, err) : 0;
}

static int load_inode(struct in *f, uint32_t k, struct vial_err *err)
{
	const uint8_t *r = f->inodes + (size_t)k * INODE_SIZE;
	struct tree_inode *i = f->inode[k] = tree_inode_new(get32(r));

	if (!i)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	i->uid = get32(r + 4);
	i->gid = get32(r + 8);
	i->rdev = get32(r + 12);
	i->mtime = (int64_t)get64(r + 16);
	i->mtime_ns = get32(r + 24);
	i->tail_len = get32(r + 28);
	i->data_off = get64(r + 40);
	i->tail_off = get64(r + 48);
	i->layer = f->layer;
	int e = load_strings(f, r, i, err);
	if (e < 0)
		return e;
	if (S_ISLNK(i->mode) && i->size != get64(r + 32))
		return err_set(err, VIAL_E_CORRUPT, "damaged layer tree: inode %u", k);
	i->size = get64(r + 32);
	if (i->tail_len > i->size || !inode_valid(f, i))
		return err_set(err, VIAL_E_CORRUPT, "damaged layer tree: inode %u", k);
	return 0;
}

static int load_root(struct in *f, struct tree *t, const uint8_t *r, struct vial_err *err)
{
	uint32_t inode = get32(r + 4);

	if (inode >= f->n_inodes || !S_ISDIR(f->inode[inode]->mode) || r[18] != TREE_INODE)
		return err_set(err, VIAL_E_CORRUPT, "damaged layer tree: root");
	tree_inode_unref(t->root->inode);
	t->root->inode = tree_inode_ref(f->inode[inode]);
	t->root->implicit = r[19] & FLAG_IMPLICIT;
	t->root->opaque = r[19] & FLAG_OPAQUE;
	f->node[0] = t->root;
	return 0;
}

static int put_loaded(struct in *f, struct tree *t, uint32_t k, const char *name, struct vial_err *err)
{
	const uint8_t *r = f->nodes + (size_t)k * NODE_SIZE;
	struct tree_node *dir = f->node[get32(r)];
	uint16_t len = erofs_get16(r + 16);
	uint32_t inode = get32(r + 4);

	if (r[18] == TREE_WHITEOUT)
		return tree_put_whiteout(t, dir, name, len, err);
	if (r[18] == TREE_LINK)
		return tree_put_link(t, dir, name, len, name + len, get32(r + 20), err);
	/* A directory has one name only: its inode must be new here. */
	if (r[18] != TREE_INODE || inode >= f->n_inodes ||
	    (S_ISDIR(f->inode[inode]->mode) && f->inode[inode]->refs != 1))
		return err_set(err, VIAL_E_CORRUPT, "damaged layer tree: entry %u", k);
	int e = tree_put(t, dir, name, len, f->inode[inode], &f->node[k], err);
	if (e == 0) {
		f->node[k]->implicit = r[19] & FLAG_IMPLICIT;
		f->node[k]->opaque = r[19] & FLAG_OPAQUE;
	}
	return e;
}

static int load_node(struct in *f, struct tree *t, uint32_t k, struct vial_err *err)
{
	const uint8_t *r = f->nodes + (size_t)k * NODE_SIZE;
	uint32_t parent = get32(r);
	uint64_t name_at = get64(r + 8), len = (uint64_t)erofs_get16(r + 16) + get32(r + 20);

	if (!within(name_at, len, f->strings_len) || parent >= k || !f->node[parent] ||
	    !tree_is_dir(f->node[parent]) ||
	    tree_child(f->node[parent], f->strings + name_at, erofs_get16(r + 16)))
		return err_set(err, VIAL_E_CORRUPT, "damaged layer tree: entry %u", k);
	return put_loaded(f, t, k, f->strings + name_at, err);
}

int treefile_load(const uint8_t *p, size_t n, uint32_t layer, struct tree *ret, uint64_t *ret_data_bytes,
		  struct vial_err *err)
{
	_cleanup_(in_done) struct in f = { .layer = layer };
	int r = tree_init(ret, err);

	if (r < 0)
		return r;
	if (!parse_header(&f, p, n))
		return err_set(err, VIAL_E_CORRUPT, "damaged layer tree: header");
	f.inode = calloc(f.n_inodes, sizeof(*f.inode));
	f.node = calloc(f.n_nodes, sizeof(*f.node));
	if (!f.inode || !f.node)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	for (uint32_t k = 0; k < f.n_inodes && r == 0; k++)
		r = load_inode(&f, k, err);
	if (r == 0)
		r = load_root(&f, ret, f.nodes, err);
	for (uint32_t k = 1; k < f.n_nodes && r == 0; k++)
		r = load_node(&f, ret, k, err);
	if (r == 0)
		*ret_data_bytes = f.data_bytes;
	return r;
}
