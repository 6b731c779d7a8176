// SPDX-License-Identifier: Apache-2.0
#include "helpers.h"

#include <stdlib.h>

#include "image/limits.h"

static int setup(void **state)
{
	static struct tree t;

	*state = &t;
	return tree_init(&t, NULL);
}

static int teardown(void **state)
{
	tree_done(*state);
	return 0;
}

static int parent_of(struct tree *t, const char *path, size_t len, struct vial_err *err)
{
	struct tree_node *dir;
	const char *leaf;
	size_t n;

	return tree_parent(t, path, len, &dir, &leaf, &n, err);
}

static void paths_mean_the_same(void **state)
{
	struct tree *t = *state;
	struct tree_node *n = put_file(t, "a/b/c");

	assert_ptr_equal(find(t, "/a//./b/c/"), n);
	assert_ptr_equal(find(t, "./a/b/c/."), n);
	assert_ptr_equal(find(t, ""), t->root);
	assert_ptr_equal(find(t, "././"), t->root);
	assert_null(find(t, "a/b/d"));
	assert_null(find(t, "a/b/c/d"));
	assert_true(find(t, "a/b")->implicit);
}

static void dotdot_is_refused(void **state)
{
	static const char *const bad[] = { "..", "../x", "a/..", "a/../b", "/..", "a/..//" };
	struct vial_err err = VIAL_ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err = (struct vial_err)VIAL_ERR_INIT;
		assert_int_equal(parent_of(*state, bad[i], strlen(bad[i]), &err), VIAL_E_CORRUPT);
		assert_non_null(strstr(err.msg, "'..'"));
	}
	assert_int_equal(parent_of(*state, "..a/b../...", 11, NULL), 0);
	assert_int_equal(parent_of(*state, "a\0b", 3, NULL), VIAL_E_CORRUPT);
}

static void symlinks_stay_inside(void **state)
{
	struct tree *t = *state;

	put_symlink(t, "out", "../../../etc");
	put_file(t, "out/passwd");
	assert_non_null(find(t, "etc/passwd"));
	put_symlink(t, "d/rel", "../e/f");
	put_file(t, "d/rel/x");
	assert_non_null(find(t, "e/f/x"));
	put_symlink(t, "d/abs", "/e");
	assert_ptr_equal(find(t, "d/abs/f/x"), find(t, "e/f/x"));
	/* the link itself is not followed */
	assert_true(S_ISLNK(find(t, "out")->inode->mode));
}

static void loops_end(void **state)
{
	struct tree *t = *state;

	put_symlink(t, "a", "b/c");
	put_symlink(t, "b", "a");
	assert_int_equal(parent_of(t, "a/x", 3, NULL), VIAL_E_CORRUPT);
	put_symlink(t, "self", "self");
	assert_int_equal(parent_of(t, "self/x", 6, NULL), VIAL_E_CORRUPT);
}

static void replacing(void **state)
{
	struct tree *t = *state;
	struct tree_node *d = put_dir(t, "d");

	put_file(t, "d/in");
	assert_ptr_equal(put_mode(t, "d", S_IFDIR | 0700), d);
	assert_non_null(find(t, "d/in"));
	assert_int_equal(d->inode->mode, S_IFDIR | 0700);
	put_file(t, "d");
	assert_false(tree_is_dir(find(t, "d")));
	assert_int_equal(find(t, "d")->n_children, 0);
	put_dir(t, "d");
	assert_null(find(t, "d/in"));
	tree_reap(t);
	assert_int_equal(t->root->n_children, 1);
}

static void removed_nodes_stay_valid_until_reaped(void **state)
{
	struct tree *t = *state;
	struct tree_node *d = put_dir(t, "a/d"), *n;
	struct tree_inode *i = tree_inode_new(S_IFREG | 0644);

	tree_remove(t, find(t, "a"));
	assert_int_equal(tree_put(t, d, "late", 4, i, &n, NULL), 0);
	tree_inode_unref(i);
	tree_reap(t);
	assert_null(find(t, "a"));
	assert_int_equal(t->root->n_children, 0);
}

static void names_are_limited(void **state)
{
	char name[300];
	struct tree *t = *state;

	memset(name, 'n', sizeof(name));
	assert_int_equal(tree_put_whiteout(t, t->root, name, 255, NULL), 0);
	assert_int_equal(tree_put_whiteout(t, t->root, name, 256, NULL), VIAL_E_LIMIT);
	assert_int_equal(tree_put_whiteout(t, t->root, "..", 2, NULL), VIAL_E_CORRUPT);
	assert_int_equal(tree_put_whiteout(t, t->root, ".", 1, NULL), VIAL_E_CORRUPT);
	assert_int_equal(tree_put_whiteout(t, t->root, "", 0, NULL), VIAL_E_CORRUPT);
	assert_int_equal(tree_put_whiteout(t, t->root, "a/b", 3, NULL), VIAL_E_CORRUPT);
}

static void depth_is_limited(void **state)
{
	char path[2 * IMAGE_DEPTH_MAX + 4];
	size_t n = 0;

	for (unsigned int i = 0; i < IMAGE_DEPTH_MAX; i++, n += 2)
		memcpy(path + n, "d/", 2);
	assert_int_equal(parent_of(*state, path, n, NULL), 0);
	memcpy(path + n, "d/x", 3);
	assert_int_equal(parent_of(*state, path, n + 3, NULL), VIAL_E_LIMIT);
}

static void entries_are_limited(void **state)
{
	struct tree *t = *state;
	struct vial_err err = VIAL_ERR_INIT;

	t->entries = IMAGE_ENTRIES_MAX;
	assert_int_equal(tree_put_whiteout(t, t->root, "x", 1, &err), VIAL_E_LIMIT);
	assert_non_null(strstr(err.msg, "2000000"));
	t->entries = 0;
	t->meta_bytes = IMAGE_META_BYTES_MAX;
	assert_int_equal(tree_put_whiteout(t, t->root, "x", 1, NULL), VIAL_E_LIMIT);
}

static void flat_list_is_in_order(void **state)
{
	struct tree *t = *state;
	struct tree_list l;

	put_file(t, "b/2");
	put_file(t, "b/\xff");
	put_file(t, "b/!");
	put_file(t, "a");
	put_file(t, "ab");
	assert_int_equal(tree_flatten(t, &l, NULL), 0);
	assert_int_equal(l.n, 7);
	static const char *const want[] = { "", "a", "ab", "b", "!", "2", "\xff" };
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_string_equal(l.v[i]->name, want[i]);
	assert_int_equal(find(t, "b")->first_child, 4);
	tree_list_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(paths_mean_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(dotdot_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(symlinks_stay_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(loops_end, setup, teardown),
		cmocka_unit_test_setup_teardown(replacing, setup, teardown),
		cmocka_unit_test_setup_teardown(removed_nodes_stay_valid_until_reaped, setup, teardown),
		cmocka_unit_test_setup_teardown(names_are_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(depth_is_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(entries_are_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(flat_list_is_in_order, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
