// SPDX-License-Identifier: Apache-2.0
/*
 * Directories of the host into layers.
 *
 * Theory of operation
 *
 * The records (image/walk.h) come from the library, which is trusted, but names, targets and attributes in them are whatever
 * someone put into the directory: they pass the same checks of tree.c as those of an archive.
 */
#include "image/dirstream.h"

#include <endian.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/erofs.h"
#include "image/limits.h"
#include "image/walk.h"
#include "image/xattr.h"
#include "wire/tlv.h"

#define CHUNK KIB(256)

struct reader {
	int fd;
	struct layer *layer;
	EVP_MD_CTX *md;
	struct vial_err *err;
	char *chunk; /* CHUNK bytes */
	char *record; /* WALK_RECORD_MAX bytes */
};

static void reader_done(struct reader *r)
{
	EVP_MD_CTX_free(r->md);
	free(r->chunk);
	free(r->record);
}

/* struct entry - one decoded record */
struct entry {
	char *path, *link, *target;
	uint32_t mode, uid, gid, mtime_ns, major, minor;
	uint64_t mtime, size;
	struct xattr_set xattrs; /* borrows the record's bytes */
};

static void entry_done(struct entry *e)
{
	free(e->path);
	free(e->link);
	free(e->target);
	xattr_set_done(&e->xattrs);
}

static int take_bytes(struct reader *r, void *p, size_t n)
{
	ssize_t got = fd_read_full(r->fd, p, n);

	if (got < 0)
		return err_sys(r->err, (int)got, "read the directory's stream");
	if ((size_t)got != n)
		return err_set(r->err, VIAL_E_CORRUPT, "the directory's stream ends early");
	EVP_DigestUpdate(r->md, p, n);
	return 0;
}

static int get_xattr(const struct tlv *t, struct entry *e, struct vial_err *err)
{
	const uint8_t *nul = memchr(t->p, '\0', t->n);

	if (!nul)
		return err_set(err, VIAL_E_PROTOCOL, "bad attribute record");
	return xattr_set_add(&e->xattrs, (const char *)t->p, nul + 1, t->n - (size_t)(nul + 1 - t->p), err);
}

static int get_string(const struct tlv *t, char **s)
{
	return *s ? -1 : tlv_str(t, IMAGE_PATH_MAX, s);
}

static int get_field(const struct tlv *t, struct entry *e)
{
	switch (t->tag) {
	case WALK_PATH:
		return get_string(t, &e->path);
	case WALK_LINK:
		return get_string(t, &e->link);
	case WALK_TARGET:
		return get_string(t, &e->target);
	case WALK_MODE:
		return tlv_u32(t, &e->mode);
	case WALK_UID:
		return tlv_u32(t, &e->uid);
	case WALK_GID:
		return tlv_u32(t, &e->gid);
	case WALK_MTIME:
		return tlv_u64(t, &e->mtime);
	case WALK_MTIME_NS:
		return tlv_u32(t, &e->mtime_ns);
	case WALK_SIZE:
		return tlv_u64(t, &e->size);
	case WALK_MAJOR:
		return tlv_u32(t, &e->major);
	case WALK_MINOR:
		return tlv_u32(t, &e->minor);
	default:
		return 0;
	}
}

static int decode(struct reader *r, size_t n, struct entry *e)
{
	struct tlv_in in = { (const uint8_t *)r->record, n };
	struct tlv t;
	int k;

	while ((k = tlv_next(&in, &t)) > 0) {
		if (t.tag == WALK_XATTR) {
			int x = get_xattr(&t, e, r->err);
			if (x < 0)
				return err_prefix(r->err, "'%s'", e->path ? e->path : "");
		} else if (get_field(&t, e) < 0) {
			k = -1;
			break;
		}
	}
	if (k < 0 || !e->path || e->mtime_ns >= 1000000000)
		return err_set(r->err, VIAL_E_PROTOCOL, "bad record in the directory's stream");
	return 0;
}

static int make_inode(struct reader *r, struct entry *e, struct tree_inode **ret)
{
	_cleanup_(tree_inode_unrefp) struct tree_inode *i = tree_inode_new(e->mode & (S_IFMT | 07777));
	int k = 0;

	if (!i)
		return err_set(r->err, VIAL_E_NO_MEMORY, "out of memory");
	i->uid = e->uid;
	i->gid = e->gid;
	i->mtime = (int64_t)e->mtime;
	i->mtime_ns = e->mtime_ns;
	if (S_ISREG(i->mode))
		i->size = e->size;
	if (S_ISLNK(i->mode))
		k = tree_inode_set_target(i, e->target ? e->target : "", e->target ? strlen(e->target) : 0, r->err);
	if ((S_ISCHR(i->mode) || S_ISBLK(i->mode)) && erofs_rdev(e->major, e->minor, &i->rdev) < 0)
		k = err_set(r->err, VIAL_E_CORRUPT, "device number %u:%u is out of range", e->major, e->minor);
	if (k == 0)
		k = xattr_set_encode(&e->xattrs, &i->xattrs, &i->xattr_len, r->err);
	if (k == 0)
		*ret = take_ptr(i);
	return k;
}

static int put_contents(struct reader *r, struct tree_inode *i)
{
	struct layer_file f;
	int k = layer_file_begin(&f, r->layer, i, r->err);

	for (uint64_t at = 0; at < i->size && k == 0;) {
		size_t n = (size_t)MIN(i->size - at, (uint64_t)CHUNK);
		k = take_bytes(r, r->chunk, n);
		if (k == 0)
			k = layer_file_write(&f, at, r->chunk, n, r->err);
		at += n;
	}
	return k < 0 ? k : layer_file_end(&f, r->err);
}

static int put_link(struct reader *r, struct tree_node *dir, const char *name, size_t len, const char *target)
{
	struct tree_node *to = tree_find(&r->layer->tree, target, strlen(target)), *n;

	if (!to || to->kind != TREE_INODE || tree_is_dir(to))
		return err_set(r->err, VIAL_E_PROTOCOL, "bad link in the directory's stream");
	return tree_put(&r->layer->tree, dir, name, len, to->inode, &n, r->err);
}

static int put_root(struct reader *r, struct tree_inode *i)
{
	struct tree_node *root = r->layer->tree.root;

	if (!S_ISDIR(i->mode))
		return err_set(r->err, VIAL_E_PROTOCOL, "the root is not a directory");
	tree_inode_unref(root->inode);
	root->inode = tree_inode_ref(i);
	root->implicit = false;
	return 0;
}

static int put_entry(struct reader *r, struct entry *e)
{
	_cleanup_(tree_inode_unrefp) struct tree_inode *i = NULL;
	struct tree *t = &r->layer->tree;
	struct tree_node *dir, *n;
	const char *leaf;
	size_t len;
	int k = tree_parent(t, e->path, strlen(e->path), &dir, &leaf, &len, r->err);

	if (k < 0)
		return k;
	if (e->link)
		return put_link(r, dir, leaf, len, e->link);
	k = make_inode(r, e, &i);
	if (k < 0)
		return k;
	if (len == 0)
		return put_root(r, i);
	if (S_ISREG(i->mode))
		k = put_contents(r, i);
	return k < 0 ? k : tree_put(t, dir, leaf, len, i, &n, r->err);
}

/* Return: 1 after an entry, 0 at the end, or an error. */
static int read_one(struct reader *r)
{
	_cleanup_(entry_done) struct entry e = { 0 };
	uint32_t len_le;
	int k = take_bytes(r, &len_le, sizeof(len_le));

	if (k < 0 || len_le == 0)
		return k;
	size_t n = le32toh(len_le);
	if (n > WALK_RECORD_MAX)
		return err_set(r->err, VIAL_E_PROTOCOL, "bad record in the directory's stream");
	k = take_bytes(r, r->record, n);
	if (k == 0)
		k = decode(r, n, &e);
	if (k < 0)
		return k;
	k = put_entry(r, &e);
	return k < 0 ? err_prefix(r->err, "'%.200s'", e.path) : 1;
}

int dirstream_read(int fd, struct layer *l, uint8_t ret_digest[SHA256_SIZE], struct vial_err *err)
{
	_cleanup_(reader_done) struct reader r = {
		.fd = fd, .layer = l, .err = err,
		.md = EVP_MD_CTX_new(), .chunk = malloc(CHUNK), .record = malloc(WALK_RECORD_MAX),
	};
	int k;

	if (!r.md || !r.chunk || !r.record || !EVP_DigestInit_ex(r.md, EVP_sha256(), NULL))
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	do
		k = read_one(&r);
	while (k > 0);
	if (k == 0)
		EVP_DigestFinal_ex(r.md, ret_digest, NULL);
	return k;
}
