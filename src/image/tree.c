// SPDX-License-Identifier: Apache-2.0
// A file tree in memory. See tree.h for the theory of operation.
#include "image/tree.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/limits.h"

#define DIR_MODE_DEFAULT (S_IFDIR | 0755)

int tree_name_cmp(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int c = memcmp(a, b, MIN(a_len, b_len));

	if (c != 0)
		return c;
	return a_len < b_len ? -1 : a_len > b_len;
}

static int node_cmp(const void *pa, const void *pb)
{
	const struct tree_node *a = pa, *b = pb;

	return tree_name_cmp(a->name, a->name_len, b->name, b->name_len);
}

struct tree_inode *tree_inode_new(uint32_t mode)
{
	struct tree_inode *i = calloc(1, sizeof(*i));

	if (i) {
		i->refs = 1;
		i->mode = mode;
	}
	return i;
}

struct tree_inode *tree_inode_ref(struct tree_inode *i)
{
	i->refs++;
	return i;
}

void tree_inode_unref(struct tree_inode *i)
{
	if (!i || --i->refs > 0)
		return;
	free(i->target);
	free(i->xattrs);
	free(i);
}

int tree_inode_set_target(struct tree_inode *i, const char *target, size_t len, struct vial_err *err)
{
	if (len == 0 || memchr(target, '\0', len))
		return err_set(err, VIAL_E_CORRUPT, "symbolic link with an empty target");
	if (len > IMAGE_TARGET_MAX)
		return err_set(err, VIAL_E_LIMIT, "target of a symbolic link is longer than %u bytes",
			       IMAGE_TARGET_MAX);
	i->target = strndup(target, len);
	if (!i->target)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	i->size = len;
	return 0;
}

struct tree_node *tree_child(const struct tree_node *dir, const char *name, size_t len)
{
	struct tree_node key = { .name = name, .name_len = (uint16_t)len };

	if (len > IMAGE_NAME_MAX)
		return NULL;
	void *found = tfind(&key, (void *const *)&dir->children, node_cmp);
	return found ? *(struct tree_node **)found : NULL;
}

static int charge(struct tree *t, size_t bytes, struct vial_err *err)
{
	if (++t->entries > IMAGE_ENTRIES_MAX)
		return err_set(err, VIAL_E_LIMIT, "more than %u entries", IMAGE_ENTRIES_MAX);
	t->meta_bytes += bytes;
	if (t->meta_bytes > IMAGE_META_BYTES_MAX)
		return err_set(err, VIAL_E_LIMIT, "names and attributes take more than %zu MiB",
			       IMAGE_META_BYTES_MAX / MIB(1));
	return 0;
}

static int name_check(const char *name, size_t len, struct vial_err *err)
{
	if (len > IMAGE_NAME_MAX)
		return err_set(err, VIAL_E_LIMIT, "name '%.32s…' is longer than %u bytes", name,
			       IMAGE_NAME_MAX);
	if (len == 0 || memchr(name, '/', len) || memchr(name, '\0', len) || (name[0] == '.' && len == 1) ||
	    (name[0] == '.' && name[1] == '.' && len == 2))
		return err_set(err, VIAL_E_CORRUPT, "'%.*s' is not a file name", (int)len, name);
	return 0;
}

/* A new name in @dir that stands for nothing yet: the caller sets kind and inode at once. */
static int node_add(struct tree *t, struct tree_node *dir, const char *name, size_t len,
		    struct tree_node **ret, struct vial_err *err)
{
	int r = name_check(name, len, err);

	if (r == 0)
		r = charge(t, len, err);
	if (r < 0)
		return r;
	if (dir->depth >= IMAGE_DEPTH_MAX)
		return err_set(err, VIAL_E_LIMIT, "directories are nested deeper than %u", IMAGE_DEPTH_MAX);
	struct tree_node *n = calloc(1, sizeof(*n) + len + 1);
	if (!n)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	memcpy(n + 1, name, len);
	n->name = (const char *)(n + 1);
	n->name_len = (uint16_t)len;
	n->parent = dir;
	n->depth = dir->depth + 1;
	if (!tsearch(n, &dir->children, node_cmp)) {
		free(n);
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	}
	dir->n_children++;
	*ret = n;
	return 0;
}

static void node_free(void *p)
{
	struct tree_node *n = p;

	/* Depth is bounded by IMAGE_DEPTH_MAX, so is this recursion. */
	tdestroy(n->children, node_free);
	tree_inode_unref(n->inode);
	free(n->link);
	free(n);
}

static void bury(struct tree *t, struct tree_node *n)
{
	n->next_dead = t->dead;
	t->dead = n;
}

static void bury_child(const void *nodep, VISIT which, void *data)
{
	if (which == postorder || which == leaf)
		bury(data, *(struct tree_node *const *)nodep);
}

static void keep(void *p _unused_)
{
}

void tree_clear(struct tree *t, struct tree_node *dir)
{
	twalk_r(dir->children, bury_child, t);
	tdestroy(dir->children, keep);
	dir->children = NULL;
	dir->n_children = 0;
}

void tree_remove(struct tree *t, struct tree_node *n)
{
	tdelete(n, &n->parent->children, node_cmp);
	n->parent->n_children--;
	bury(t, n);
}

void tree_reap(struct tree *t)
{
	while (t->dead) {
		struct tree_node *n = t->dead;
		t->dead = n->next_dead;
		node_free(n);
	}
}

/* Take away what @n, no directory, stands for; its name stays. */
static void node_blank(struct tree_node *n)
{
	tree_inode_unref(n->inode);
	n->inode = NULL;
	free(n->link);
	n->link = NULL;
}

/*
 * The node that stands for @name from now on, blank unless it is a directory and is to stay one. A node never turns from a
 * directory into anything else or back.
 */
static int node_take(struct tree *t, struct tree_node *dir, const char *name, size_t len, bool want_dir,
		     struct tree_node **ret, struct vial_err *err)
{
	struct tree_node *n = tree_child(dir, name, len);

	if (!tree_is_dir(dir))
		return err_set(err, VIAL_E_CORRUPT, "'%s' is not a directory", dir->name);
	if (n && tree_is_dir(n) != want_dir && n->kind == TREE_INODE) {
		tree_remove(t, n);
		n = NULL;
	}
	if (!n)
		return node_add(t, dir, name, len, ret, err);
	if (!tree_is_dir(n))
		node_blank(n);
	*ret = n;
	return charge(t, 0, err);
}

int tree_init(struct tree *t, struct vial_err *err)
{
	*t = (struct tree){ 0 };
	t->root = calloc(1, sizeof(*t->root));
	if (t->root)
		t->root->inode = tree_inode_new(DIR_MODE_DEFAULT);
	if (!t->root || !t->root->inode)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	t->root->name = "";
	t->root->implicit = true;
	return 0;
}

void tree_done(struct tree *t)
{
	tree_reap(t);
	if (t->root)
		node_free(t->root);
	*t = (struct tree){ 0 };
}

static int put_implicit(struct tree *t, struct tree_node *dir, const char *name, size_t len,
			struct tree_node **ret, struct vial_err *err)
{
	_cleanup_(tree_inode_unrefp) struct tree_inode *i = tree_inode_new(DIR_MODE_DEFAULT);
	int r;

	if (!i)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	r = tree_put(t, dir, name, len, i, ret, err);
	if (r == 0)
		(*ret)->implicit = true;
	return r;
}

/* struct walk - one path being followed; @make: missing directories are made */
struct walk {
	struct tree *t;
	unsigned int links_left;
	bool make;
};

static int walk_path(struct walk *w, struct tree_node *from, const char *p, size_t len,
		     struct tree_node **ret, struct vial_err *err);

static int walk_name(struct walk *w, struct tree_node *dir, const char *name, size_t len,
		     struct tree_node **ret, struct vial_err *err)
{
	struct tree_node *n = tree_child(dir, name, len);

	if (n && tree_is_dir(n)) {
		*ret = n;
		return 0;
	}
	if (n && n->kind == TREE_INODE && S_ISLNK(n->inode->mode)) {
		if (w->links_left-- == 0)
			return err_set(err, VIAL_E_CORRUPT, "too many symbolic links at '%.*s'", (int)len,
				       name);
		return walk_path(w, dir, n->inode->target, n->inode->size, ret, err);
	}
	if (n && n->kind != TREE_WHITEOUT)
		return err_set(err, VIAL_E_CORRUPT, "'%.*s' on the way is not a directory", (int)len, name);
	if (!w->make)
		return err_set(err, VIAL_E_NOT_FOUND, "'%.*s' on the way does not exist", (int)len, name);
	return put_implicit(w->t, dir, name, len, ret, err);
}

/* Recursion: once per symlink followed, so at most IMAGE_SYMLINKS_MAX deep. */
static int walk_path(struct walk *w, struct tree_node *from, const char *p, size_t len,
		     struct tree_node **ret, struct vial_err *err)
{
	struct tree_node *cur = len > 0 && p[0] == '/' ? w->t->root : from;
	const char *end = p + len;

	while (p < end) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		size_t n = slash ? (size_t)(slash - p) : (size_t)(end - p);
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			cur = cur->parent ? cur->parent : cur;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			int r = walk_name(w, cur, p, n, &cur, err);
			if (r < 0)
				return r;
		}
		p += n + (slash ? 1 : 0);
	}
	*ret = cur;
	return 0;
}

static bool has_dotdot(const char *p, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++)
		if (p[i] == '.' && p[i + 1] == '.' && (i == 0 || p[i - 1] == '/') &&
		    (i + 2 == len || p[i + 2] == '/'))
			return true;
	return false;
}

/* Cut trailing slashes and "." components; what is left ends in the last component. */
static size_t trim(const char *p, size_t len)
{
	for (;;) {
		if (len > 0 && p[len - 1] == '/')
			len--;
		else if (len > 0 && p[len - 1] == '.' && (len == 1 || p[len - 2] == '/'))
			len--;
		else
			return len;
	}
}

static int path_check(const char *path, size_t len, struct vial_err *err)
{
	if (len > IMAGE_PATH_MAX)
		return err_set(err, VIAL_E_LIMIT, "path is longer than %u bytes", IMAGE_PATH_MAX);
	if (memchr(path, '\0', len))
		return err_set(err, VIAL_E_CORRUPT, "path with a NUL byte");
	if (has_dotdot(path, len))
		return err_set(err, VIAL_E_CORRUPT, "path contains '..'");
	return 0;
}

int tree_parent(struct tree *t, const char *path, size_t len, struct tree_node **ret_dir,
		const char **ret_leaf, size_t *ret_leaf_len, struct vial_err *err)
{
	struct walk w = { .t = t, .links_left = IMAGE_SYMLINKS_MAX, .make = true };
	int r = path_check(path, len, err);

	if (r < 0)
		return r;
	len = trim(path, len);
	size_t start = len;
	while (start > 0 && path[start - 1] != '/')
		start--;
	*ret_leaf = path + start;
	*ret_leaf_len = len - start;
	return walk_path(&w, t->root, path, start, ret_dir, err);
}

struct tree_node *tree_find(struct tree *t, const char *path, size_t len)
{
	struct walk w = { .t = t, .links_left = IMAGE_SYMLINKS_MAX, .make = false };
	struct tree_node *dir;

	if (path_check(path, len, NULL) < 0)
		return NULL;
	len = trim(path, len);
	size_t start = len;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (walk_path(&w, t->root, path, start, &dir, NULL) < 0)
		return NULL;
	return len == start ? dir : tree_child(dir, path + start, len - start);
}

int tree_resolve_dir(struct tree *t, struct tree_node *n, struct tree_node **ret, struct vial_err *err)
{
	struct walk w = { .t = t, .links_left = IMAGE_SYMLINKS_MAX, .make = true };

	return walk_path(&w, n->parent, n->inode->target, n->inode->size, ret, err);
}

int tree_put(struct tree *t, struct tree_node *dir, const char *name, size_t len, struct tree_inode *inode,
	     struct tree_node **ret, struct vial_err *err)
{
	_cleanup_(tree_inode_unrefp) struct tree_inode *ref =
		tree_inode_ref(inode); /* the old one may be the same */
	struct tree_node *n;
	int r = node_take(t, dir, name, len, S_ISDIR(inode->mode), &n, err);

	if (r < 0)
		return r;
	t->meta_bytes += (inode->target ? inode->size : 0) + inode->xattr_len;
	/* A whiteout of this name in the same layer hides the lower one first [OCI layer spec, Whiteouts]. */
	if (n->kind == TREE_WHITEOUT && S_ISDIR(inode->mode))
		n->opaque = true;
	tree_inode_unref(n->inode);
	n->inode = take_ptr(ref);
	n->kind = TREE_INODE;
	n->implicit = false;
	*ret = n;
	return 0;
}

int tree_put_whiteout(struct tree *t, struct tree_node *dir, const char *name, size_t len,
		      struct vial_err *err)
{
	struct tree_node *n = tree_child(dir, name, len);
	int r;

	if (n) {
		/* Whiteouts concern lower layers only, whatever their place in the archive. */
		n->opaque = n->opaque || tree_is_dir(n);
		return 0;
	}
	r = node_take(t, dir, name, len, false, &n, err);
	if (r == 0)
		n->kind = TREE_WHITEOUT;
	return r;
}

int tree_put_link(struct tree *t, struct tree_node *dir, const char *name, size_t len, const char *target,
		  size_t target_len, struct vial_err *err)
{
	_cleanup_free_ char *link = NULL;
	struct tree_node *n;
	int r = path_check(target, target_len, err);

	if (r < 0)
		return r;
	link = strndup(target, target_len);
	if (!link)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	r = node_take(t, dir, name, len, false, &n, err);
	if (r < 0)
		return r;
	n->kind = TREE_LINK;
	n->link = take_ptr(link);
	t->meta_bytes += target_len;
	return 0;
}

static void list_push(const void *nodep, VISIT which, void *data)
{
	struct tree_list *l = data;

	if (which != postorder && which != leaf)
		return;
	struct tree_node *n = *(struct tree_node *const *)nodep;
	n->index = l->n;
	l->v[l->n++] = n;
}

int tree_flatten(struct tree *t, struct tree_list *ret, struct vial_err *err)
{
	/* Every node was charged to @entries once, so that many places (and the root's) are enough. */
	struct tree_list l = { .v = calloc((size_t)t->entries + 1, sizeof(*l.v)) };

	if (!l.v)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	l.v[l.n++] = t->root;
	t->root->index = 0;
	for (uint32_t i = 0; i < l.n; i++) {
		l.v[i]->first_child = l.n;
		twalk_r(l.v[i]->children, list_push, &l);
	}
	*ret = l;
	return 0;
}

void tree_list_done(struct tree_list *l)
{
	free(l->v);
	*l = (struct tree_list){ 0 };
}
