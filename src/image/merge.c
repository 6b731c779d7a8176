// SPDX-License-Identifier: Apache-2.0
// Laying one layer's tree over what the lower ones made.
#include "image/merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/limits.h"

#define LINK_PASSES_MAX 16 /* a link to a link to a link … each resolved in its own pass at worst */

/* struct pending - a hard link whose target is looked up once the layer is laid */
struct pending {
	struct tree_node *dir; /* stays valid memory until tree_reap() */
	const struct tree_node *from;
	bool done;
};

struct merge {
	struct tree *base;
	const struct tree_list *layer;
	struct pending *links;
	uint32_t n_links;
};

static int merge_dir(struct merge *m, struct tree_node *to, const struct tree_node *from,
		     struct vial_err *err);

/* Directory in @dir that the layer's directory @from is laid over. */
static int enter_dir(struct merge *m, struct tree_node *dir, const struct tree_node *from,
		     struct tree_node **ret, struct vial_err *err)
{
	struct tree_node *old = tree_child(dir, from->name, from->name_len);
	int r;

	if (old && from->opaque) {
		tree_remove(m->base, old);
		old = NULL;
	}
	if (old && from->implicit && tree_is_dir(old)) {
		*ret = old;
		return 0;
	}
	/* The layer has a path through what is a symlink below: it means the directory behind it. */
	if (old && from->implicit && S_ISLNK(old->inode->mode))
		return tree_resolve_dir(m->base, old, ret, err);
	r = tree_put(m->base, dir, from->name, from->name_len, from->inode, ret, err);
	return r;
}

static int merge_child(struct merge *m, struct tree_node *to, const struct tree_node *c, struct vial_err *err)
{
	struct tree_node *old = tree_child(to, c->name, c->name_len), *n;

	if (c->kind == TREE_WHITEOUT) {
		if (old)
			tree_remove(m->base, old);
		return 0;
	}
	if (c->kind == TREE_LINK) {
		m->links[m->n_links++] = (struct pending){ .dir = to, .from = c };
		return 0;
	}
	if (!S_ISDIR(c->inode->mode))
		return tree_put(m->base, to, c->name, c->name_len, c->inode, &n, err);
	int r = enter_dir(m, to, c, &n, err);
	return r < 0 ? r : merge_dir(m, n, c, err);
}

/* Recursion is bounded by IMAGE_DEPTH_MAX. */
static int merge_dir(struct merge *m, struct tree_node *to, const struct tree_node *from,
		     struct vial_err *err)
{
	for (uint32_t k = 0; k < from->n_children; k++) {
		const struct tree_node *c = m->layer->v[from->first_child + k];
		int r = merge_child(m, to, c, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Return: 1 resolved, 0 target not there (yet), or an error. */
static int resolve_link(struct merge *m, struct pending *p, struct vial_err *err)
{
	struct tree_node *target = tree_find(m->base, p->from->link, strlen(p->from->link)), *n;
	int r;

	if (!target)
		return 0;
	if (tree_is_dir(target))
		return err_set(err, VIAL_E_CORRUPT, "hard link '%s' leads to a directory ('%s')",
			       p->from->name, p->from->link);
	r = tree_put(m->base, p->dir, p->from->name, p->from->name_len, target->inode, &n, err);
	p->done = true;
	return r < 0 ? r : 1;
}

static int resolve_links(struct merge *m, struct vial_err *err)
{
	uint32_t left = m->n_links;

	for (unsigned int pass = 0; left > 0 && pass < LINK_PASSES_MAX; pass++)
		for (uint32_t k = 0; k < m->n_links; k++) {
			int r = m->links[k].done ? 0 : resolve_link(m, &m->links[k], err);
			if (r < 0)
				return r;
			left -= (uint32_t)r;
		}
	for (uint32_t k = 0; k < m->n_links; k++)
		if (!m->links[k].done)
			return err_set(err, VIAL_E_CORRUPT,
				       "hard link '%s' leads to '%s', which does not exist",
				       m->links[k].from->name, m->links[k].from->link);
	return 0;
}

static uint32_t count_links(const struct tree_list *l)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < l->n; k++)
		n += l->v[k]->kind == TREE_LINK;
	return n;
}

int merge_layer(struct tree *base, struct tree *layer, struct vial_err *err)
{
	_cleanup_(tree_list_done) struct tree_list list = { 0 };
	_cleanup_free_ struct pending *links = NULL;
	int r = tree_flatten(layer, &list, err);

	if (r < 0)
		return r;
	links = calloc((size_t)count_links(&list) + 1, sizeof(*links));
	if (!links)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	struct merge m = { .base = base, .layer = &list, .links = links };
	if (layer->root->opaque)
		tree_clear(base, base->root);
	if (!layer->root->implicit) {
		tree_inode_unref(base->root->inode);
		base->root->inode = tree_inode_ref(layer->root->inode);
		base->root->implicit = false;
	}
	r = merge_dir(&m, base->root, layer->root, err);
	if (r == 0)
		r = resolve_links(&m, err);
	tree_reap(base);
	return r;
}
