// SPDX-License-Identifier: Apache-2.0
/*
 * Tar archives into layers.
 *
 * Theory of operation
 *
 * libarchive decodes headers (ustar, GNU, pax); each entry then becomes nodes and inodes of the tree, contents go to the
 * layer's data. Nothing here touches a file system, so a hostile path can at worst name a wrong node: "..", is refused,
 * leading slashes are dropped, symlinks on the way are followed inside the tree (tree.h).
 * Order matters as in tar: later entries replace earlier ones of the same name.
 */
#include "image/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/erofs.h"
#include "image/limits.h"
#include "image/xattr.h"

#define WHITEOUT	".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_META	".wh..wh." /* aufs's own files */

struct reader {
	struct stream *in;
	struct layer *layer;
	bool whiteouts;
	struct vial_err *err; /* where read_cb() puts why it failed */
	struct archive *a;
};

static void archive_freep(struct archive **a)
{
	archive_read_free(*a);
}

static la_ssize_t read_cb(struct archive *a, void *data, const void **ret)
{
	struct reader *r = data;
	ssize_t n = stream_next(r->in, ret, r->err);

	if (n < 0) {
		archive_set_error(a, EIO, "input");
		return ARCHIVE_FATAL;
	}
	return n;
}

/* Why libarchive failed, unless the input itself did. */
static int archive_err(struct reader *r)
{
	const char *text = archive_error_string(r->a);

	if (r->err && r->err->code)
		return r->err->code;
	if (!text || strstr(text, "Unrecognized archive format"))
		return err_set(r->err, VIAL_E_CORRUPT, "not a tar archive (or damaged at its start)");
	if (strstr(text, "runcated"))
		return err_set(r->err, VIAL_E_CORRUPT, "truncated archive (%s)", text);
	return err_set(r->err, VIAL_E_CORRUPT, "damaged archive: %s", text);
}

static int put_xattrs(struct archive_entry *e, struct tree_inode *i, struct vial_err *err)
{
	_cleanup_(xattr_set_done) struct xattr_set set = { 0 };
	const char *name;
	const void *value;
	size_t len;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
		int r = name ? xattr_set_add(&set, name, value, len, err) : 0;
		if (r < 0)
			return r;
	}
	return xattr_set_encode(&set, &i->xattrs, &i->xattr_len, err);
}

static int put_ids(struct archive_entry *e, struct tree_inode *i, struct vial_err *err)
{
	int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);

	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return err_set(err, VIAL_E_CORRUPT, "owner %lld:%lld is out of range", (long long)uid,
			       (long long)gid);
	i->uid = (uint32_t)uid;
	i->gid = (uint32_t)gid;
	i->mtime = archive_entry_mtime(e);
	long ns = archive_entry_mtime_nsec(e);
	i->mtime_ns = ns >= 0 && ns < 1000000000 ? (uint32_t)ns : 0;
	return 0;
}

static int put_device(struct archive_entry *e, struct tree_inode *i, struct vial_err *err)
{
	uint64_t major = archive_entry_rdevmajor(e), minor = archive_entry_rdevminor(e);

	if (erofs_rdev(major, minor, &i->rdev) < 0)
		return err_set(err, VIAL_E_CORRUPT, "device number %llu:%llu is out of range",
			       (unsigned long long)major, (unsigned long long)minor);
	return 0;
}

/* The inode an entry describes, without contents. */
static int make_inode(struct archive_entry *e, struct tree_inode **ret, struct vial_err *err)
{
	uint32_t type = archive_entry_filetype(e), mode = archive_entry_perm(e) & 07777;
	_cleanup_(tree_inode_unrefp) struct tree_inode *i = tree_inode_new(type | mode);
	const char *target;
	int r;

	if (!i)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	r = put_ids(e, i, err);
	if (r == 0)
		r = put_xattrs(e, i, err);
	if (r < 0)
		return r;
	switch (type) {
	case S_IFREG:
		i->size = archive_entry_size(e) > 0 ? (uint64_t)archive_entry_size(e) : 0;
		break;
	case S_IFLNK:
		target = archive_entry_symlink(e);
		r = tree_inode_set_target(i, target ? target : "", target ? strlen(target) : 0, err);
		break;
	case S_IFCHR:
	case S_IFBLK:
		r = put_device(e, i, err);
		break;
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		r = err_set(err, VIAL_E_CORRUPT, "unknown type of entry");
	}
	if (r == 0)
		*ret = take_ptr(i);
	return r;
}

static int put_contents(struct reader *r, struct tree_inode *i)
{
	struct layer_file f;
	const void *p;
	size_t n;
	la_int64_t off;
	int e = layer_file_begin(&f, r->layer, i, r->err);

	while (e == 0) {
		int got = archive_read_data_block(r->a, &p, &n, &off);
		if (got == ARCHIVE_EOF)
			return layer_file_end(&f, r->err);
		if (got < ARCHIVE_WARN)
			return archive_err(r);
		e = off < 0 ? err_set(r->err, VIAL_E_CORRUPT, "negative offset in a sparse file")
			    : layer_file_write(&f, (uint64_t)off, p, n, r->err);
	}
	return e;
}

static int put_hardlink(struct reader *r, struct tree_node *dir, const char *name, size_t len,
			const char *target)
{
	struct tree *t = &r->layer->tree;
	struct tree_node *to = tree_find(t, target, strlen(target)), *n;

	if (to && to->kind == TREE_INODE) {
		if (tree_is_dir(to))
			return err_set(r->err, VIAL_E_CORRUPT, "hard link to directory '%s'", target);
		return to == tree_child(dir, name, len) ? 0
							: tree_put(t, dir, name, len, to->inode, &n, r->err);
	}
	if (to && to->kind == TREE_LINK)
		target = to->link;
	return tree_put_link(t, dir, name, len, target, strlen(target), r->err);
}

/* Return: 1 if the entry was one of a layer's marks, 0 if it is an ordinary one, or an error. */
static int put_whiteout(struct reader *r, struct tree_node *dir, const char *name, size_t len)
{
	if (!r->whiteouts || len < strlen(WHITEOUT) || memcmp(name, WHITEOUT, strlen(WHITEOUT)) != 0)
		return 0;
	if (len == strlen(WHITEOUT_OPAQUE) && memcmp(name, WHITEOUT_OPAQUE, len) == 0) {
		dir->opaque = true;
		return 1;
	}
	if (len >= strlen(WHITEOUT_META) && memcmp(name, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
		return 1;
	name += strlen(WHITEOUT);
	len -= strlen(WHITEOUT);
	int e = tree_put_whiteout(&r->layer->tree, dir, name, len, r->err);
	return e < 0 ? e : 1;
}

static int put_root(struct reader *r, struct archive_entry *entry)
{
	struct tree_node *root = r->layer->tree.root;
	struct tree_inode *i;
	int e = make_inode(entry, &i, r->err);

	if (e < 0)
		return e;
	if (!S_ISDIR(i->mode)) {
		tree_inode_unref(i);
		return err_set(r->err, VIAL_E_CORRUPT, "the root is not a directory");
	}
	tree_inode_unref(root->inode);
	root->inode = i;
	root->implicit = false;
	return 0;
}

static int put_entry(struct reader *r, struct archive_entry *entry, const char *path)
{
	_cleanup_(tree_inode_unrefp) struct tree_inode *i = NULL;
	struct tree_node *dir, *n;
	const char *leaf;
	size_t len;
	int e = tree_parent(&r->layer->tree, path, strlen(path), &dir, &leaf, &len, r->err);

	if (e < 0)
		return e;
	if (len == 0)
		return put_root(r, entry);
	e = put_whiteout(r, dir, leaf, len);
	if (e != 0)
		return e < 0 ? e : 0;
	if (archive_entry_hardlink(entry))
		return put_hardlink(r, dir, leaf, len, archive_entry_hardlink(entry));
	e = make_inode(entry, &i, r->err);
	if (e == 0 && S_ISREG(i->mode))
		e = put_contents(r, i);
	return e < 0 ? e : tree_put(&r->layer->tree, dir, leaf, len, i, &n, r->err);
}

static int read_entries(struct reader *r)
{
	struct archive_entry *entry;

	for (;;) {
		int got = archive_read_next_header(r->a, &entry);
		if (got == ARCHIVE_EOF)
			return 0;
		/* ARCHIVE_WARN: a name that is no UTF-8, say; libarchive then gives the raw bytes. */
		if (got < ARCHIVE_WARN)
			return archive_err(r);
		const char *path = archive_entry_pathname(entry);
		if (!path || !*path)
			return err_set(r->err, VIAL_E_CORRUPT, "entry without a name");
		int e = put_entry(r, entry, path);
		if (e < 0)
			return err_prefix(r->err, "entry '%.200s'", path);
		tree_reap(&r->layer->tree);
	}
}

int tar_read(struct stream *in, struct layer *l, bool whiteouts, struct vial_err *err)
{
	_cleanup_(archive_freep) struct archive *a = archive_read_new();
	struct vial_err local = VIAL_ERR_INIT;
	struct reader r = { .in = in, .layer = l, .whiteouts = whiteouts, .err = err ? err : &local, .a = a };
	int e;

	if (!a)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	archive_read_support_format_tar(a);
	if (archive_read_open(a, &r, NULL, read_cb, NULL) != ARCHIVE_OK)
		return archive_err(&r);
	e = read_entries(&r);
	return e < 0 ? e : stream_drain(in, r.err);
}
