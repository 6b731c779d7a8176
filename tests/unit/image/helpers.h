/* SPDX-License-Identifier: Apache-2.0 */
/* Building trees in a line each. */
#ifndef TEST_IMAGE_HELPERS_H
#define TEST_IMAGE_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "image/tree.h"

static inline _unused_ struct tree_node *put_mode(struct tree *t, const char *path, uint32_t mode)
{
	struct tree_inode *i = tree_inode_new(mode);
	struct tree_node *dir, *n;
	const char *leaf;
	size_t len;

	assert_non_null(i);
	assert_int_equal(tree_parent(t, path, strlen(path), &dir, &leaf, &len, NULL), 0);
	assert_int_equal(tree_put(t, dir, leaf, len, i, &n, NULL), 0);
	tree_inode_unref(i);
	return n;
}

static inline _unused_ struct tree_node *put_file(struct tree *t, const char *path)
{
	return put_mode(t, path, S_IFREG | 0644);
}

static inline _unused_ struct tree_node *put_dir(struct tree *t, const char *path)
{
	return put_mode(t, path, S_IFDIR | 0755);
}

static inline _unused_ void put_symlink(struct tree *t, const char *path, const char *target)
{
	struct tree_node *n = put_mode(t, path, S_IFLNK | 0777);

	assert_int_equal(tree_inode_set_target(n->inode, target, strlen(target), NULL), 0);
}

static inline _unused_ void put_whiteout(struct tree *t, const char *dir_path, const char *name)
{
	struct tree_node *dir = tree_find(t, dir_path, strlen(dir_path));

	assert_non_null(dir);
	assert_int_equal(tree_put_whiteout(t, dir, name, strlen(name), NULL), 0);
}

static inline _unused_ void put_link(struct tree *t, const char *path, const char *target)
{
	struct tree_node *dir;
	const char *leaf;
	size_t len;

	assert_int_equal(tree_parent(t, path, strlen(path), &dir, &leaf, &len, NULL), 0);
	assert_int_equal(tree_put_link(t, dir, leaf, len, target, strlen(target), NULL), 0);
}

static inline _unused_ struct tree_node *find(struct tree *t, const char *path)
{
	return tree_find(t, path, strlen(path));
}

#endif
