/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file tree in memory: what one layer holds, or the result of several.
 *
 * Theory of operation
 *
 * Purpose: all path handling of images happens here, on nodes, never on a file system: containment does not
 * depend on checks that could be forgotten.
 * Input: names, targets and attributes are hostile; each limit of image/limits.h is enforced here.
 * Shape: nodes are names, inodes are what hard links share. Children of a directory sit in a balanced tree
 * (tsearch) ordered by bytes, so hostile names cannot make it slow and the order is the one EROFS needs.
 * Layer trees also hold whiteouts, opaque directories, links whose target is in a lower layer, and directories
 * that no entry described (implicit); merged trees hold none of these.
 */
#ifndef IMAGE_TREE_H
#define IMAGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/attr.h"
#include "vial/error.h"

enum tree_kind {
	TREE_INODE,    /* a file, directory, symlink, device, … as its inode's mode says */
	TREE_WHITEOUT, /* removes this name of lower layers */
	TREE_LINK,     /* hard link to @link, not in this layer */
};

/* struct tree_inode - what all names of one file share */
struct tree_inode {
	uint32_t refs; /* names, and whoever else holds it */
	uint32_t mode; /* S_IFMT and permission bits */
	uint32_t uid, gid;
	uint32_t rdev;	   /* as Linux encodes it on disk (new_encode_dev) */
	uint32_t mtime_ns; /* 0..999999999 */
	int64_t mtime;
	uint64_t size;
	uint32_t layer;	   /* whose data and blobs the offsets below mean */
	uint32_t tail_len; /* last bytes, kept in blobs: size % 4096 or 0 */
	uint64_t data_off; /* the rest, in the layer's data; multiple of 4096 */
	uint64_t tail_off;
	char *target;	 /* symlinks: NUL-terminated, size bytes */
	uint8_t *xattrs; /* as xattr_set_encode() makes them */
	uint32_t xattr_len;
	/* For whoever lays the tree out: */
	uint32_t index;
	uint32_t nlink;
	uint32_t meta_size;
	uint32_t tail_inline; /* bytes that follow the inode */
	uint64_t meta_off;
	uint64_t blocks_at; /* first block of what is not inline */
};

struct tree_node {
	struct tree_node *parent; /* NULL: the root */
	struct tree_inode *inode; /* NULL unless TREE_INODE */
	char *link;		  /* TREE_LINK: path of the target */
	void *children;		  /* tsearch root, directories only */
	uint32_t n_children;
	uint32_t depth;
	uint32_t index;	      /* position in struct tree_list */
	uint32_t first_child; /* ditto, of a directory's children */
	enum tree_kind kind;
	bool implicit; /* directory that only a longer path implied */
	bool opaque;   /* directory that hides the lower layers' one */
	uint16_t name_len;
	const char *name; /* also NUL-terminated; follows the node */
	struct tree_node *next_dead;
};

/*
 * struct tree - @dead: removed nodes, until tree_reap(): whoever is in the middle of a directory that hostile symlinks
 * let it remove still holds valid memory, and what it adds there vanishes
 */
struct tree {
	struct tree_node *root;
	struct tree_node *dead;
	uint64_t entries;    /* ever added */
	uint64_t meta_bytes; /* ever added */
};

/* struct tree_list - all nodes, each directory's children side by side in order of bytes, parents first */
struct tree_list {
	struct tree_node **v;
	uint32_t n;
};

int tree_init(struct tree *t, struct vial_err *err);
void tree_done(struct tree *t);

/* tree_inode_new() - @mode with its S_IFMT, one reference; NULL when out of memory */
struct tree_inode *tree_inode_new(uint32_t mode);
struct tree_inode *tree_inode_ref(struct tree_inode *i);
void tree_inode_unref(struct tree_inode *i);
DEFINE_CLEANUP(struct tree_inode, tree_inode_unref)

/* tree_inode_set_target() - make @i a symlink to @target; empty, long ones and ones with NUL are refused */
int tree_inode_set_target(struct tree_inode *i, const char *target, size_t len, struct vial_err *err);

static inline bool tree_is_dir(const struct tree_node *n)
{
	return n->kind == TREE_INODE && S_ISDIR(n->inode->mode);
}

/**
 * tree_parent() - directory that holds the last component of @path, made (implicit) where missing
 * @path:	hostile; leading slashes are ignored, "." and empty components too, ".." is refused.
 *		Symlinks on the way are followed inside the tree, whose root is their "/".
 * @ret_leaf:	last component, within @path; @ret_leaf_len 0 when @path names the root itself
 */
int tree_parent(struct tree *t, const char *path, size_t len, struct tree_node **ret_dir,
		const char **ret_leaf, size_t *ret_leaf_len, struct vial_err *err);

/* tree_child() - NULL if there is none */
struct tree_node *tree_child(const struct tree_node *dir, const char *name, size_t len);

/* tree_find() - node at @path, NULL if there is none; the last component is not followed */
struct tree_node *tree_find(struct tree *t, const char *path, size_t len);

/**
 * tree_put() - make @name in @dir stand for @inode (a reference is taken)
 * A directory over a directory keeps its children; everything else replaces what was there.
 */
int tree_put(struct tree *t, struct tree_node *dir, const char *name, size_t len, struct tree_inode *inode,
	     struct tree_node **ret, struct vial_err *err);
int tree_put_whiteout(struct tree *t, struct tree_node *dir, const char *name, size_t len,
		      struct vial_err *err);
int tree_put_link(struct tree *t, struct tree_node *dir, const char *name, size_t len, const char *target,
		  size_t target_len, struct vial_err *err);
/* tree_remove() - take @n (not the root) and all below away; tree_clear() - all children of @dir */
void tree_remove(struct tree *t, struct tree_node *n);
void tree_clear(struct tree *t, struct tree_node *dir);
/* tree_reap() - free what was removed: no pointer to a node may be held across this */
void tree_reap(struct tree *t);

/* tree_resolve_dir() - directory that symlink @n leads to, made where missing */
int tree_resolve_dir(struct tree *t, struct tree_node *n, struct tree_node **ret, struct vial_err *err);

int tree_flatten(struct tree *t, struct tree_list *ret, struct vial_err *err);
void tree_list_done(struct tree_list *l);

/* tree_name_cmp() - order of bytes, a prefix first */
int tree_name_cmp(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
