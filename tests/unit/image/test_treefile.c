// SPDX-License-Identifier: Apache-2.0
#include "helpers.h"

#include <stdlib.h>

#include "image/layer.h"
#include "image/treefile.h"

/* A layer with one of everything, written to memory. */
static void make(struct layer *l)
{
	struct layer_file f;
	struct tree_node *n;

	assert_int_equal(layer_init(l, -1, -1, NULL), 0);
	n = put_file(&l->tree, "d/f");
	n->inode->size = 4096 + 10;
	assert_int_equal(layer_file_begin(&f, l, n->inode, NULL), 0);
	assert_int_equal(layer_file_write(&f, 4100, "tail", 4, NULL), 0);
	assert_int_equal(layer_file_end(&f, NULL), 0);
	tree_put(&l->tree, l->tree.root, "hard", 4, n->inode, &n, NULL);
	put_symlink(&l->tree, "s", "d/f");
	put_link(&l->tree, "lower", "some/where");
	put_whiteout(&l->tree, "d", "gone");
	find(&l->tree, "d")->opaque = true;
	assert_int_equal(layer_finish(l, NULL), 0);
}

static void there_and_back(void **state _unused_)
{
	struct layer l;
	struct tree t;
	uint64_t data;

	make(&l);
	const uint8_t *p = (const uint8_t *)l.blobs.mem.data;
	assert_int_equal(treefile_load(p, l.blobs.mem.len, 7, &t, &data, NULL), 0);
	assert_int_equal(data, 4096);
	struct tree_inode *i = find(&t, "d/f")->inode;
	assert_ptr_equal(find(&t, "hard")->inode, i);
	assert_int_equal(i->layer, 7);
	assert_int_equal(i->size, 4106);
	assert_int_equal(i->tail_len, 10);
	assert_memory_equal(p + i->tail_off, "\0\0\0\0tail\0\0", 10);
	assert_string_equal(find(&t, "s")->inode->target, "d/f");
	assert_string_equal(find(&t, "lower")->link, "some/where");
	assert_int_equal(find(&t, "d/gone")->kind, TREE_WHITEOUT);
	assert_true(find(&t, "d")->opaque && find(&t, "d")->implicit);
	tree_done(&t);
	layer_done(&l);
}

/* Every single damaged byte is either refused or gives a tree that is still sound. */
static void damage(void **state _unused_)
{
	struct layer l;
	unsigned int refused = 0;

	make(&l);
	size_t n = l.blobs.mem.len;
	for (size_t at = 0; at < n; at++)
		for (int bit = 0; bit < 8; bit += 7) {
			/* A copy of exact length: reading past it is seen by the sanitizer. */
			uint8_t *copy = malloc(n);
			struct tree_list list;
			struct tree t;
			uint64_t data;
			assert_non_null(copy);
			memcpy(copy, l.blobs.mem.data, n);
			copy[at] ^= (uint8_t)(1 << bit);
			if (treefile_load(copy, n, 0, &t, &data, NULL) < 0) {
				refused++;
			} else {
				assert_int_equal(tree_flatten(&t, &list, NULL), 0);
				tree_list_done(&list);
			}
			tree_done(&t);
			free(copy);
		}
	assert_true(refused > 200);
	layer_done(&l);
}

static void cuts(void **state _unused_)
{
	struct layer l;

	make(&l);
	for (size_t n = 0; n < l.blobs.mem.len; n++) {
		uint8_t *copy = malloc(n + !n);
		struct tree t;
		uint64_t data;
		assert_non_null(copy);
		memcpy(copy, l.blobs.mem.data, n);
		assert_int_equal(treefile_load(copy, n, 0, &t, &data, NULL), VIAL_E_CORRUPT);
		tree_done(&t);
		free(copy);
	}
	layer_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(damage),
		cmocka_unit_test(cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
