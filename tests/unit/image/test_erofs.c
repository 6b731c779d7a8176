// SPDX-License-Identifier: Apache-2.0
#include "helpers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "erofs_check.h"
#include "image/erofs.h"
#include "image/erofs_dir.h"
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

/* Write, check, return the bytes (in @out) and the number of names. */
static uint64_t written(struct tree *t, struct sink *out)
{
	static const uint8_t uuid[16] = "0123456789abcde";
	static const uint8_t blobs[8192];
	struct erofs_layer layer = { .blobs = blobs, .blobs_len = sizeof(blobs), .data_bytes = 1 << 20 };
	uint64_t names = 0;

	sink_init(out, -1);
	assert_int_equal(erofs_write(t, &layer, 1, uuid, out, NULL), 0);
	const char *wrong = erofs_check((uint8_t *)out->mem.data, out->mem.len, layer.data_bytes, &names);
	if (wrong)
		fail_msg("%s", wrong);
	return names;
}

static uint8_t *inode_bytes(struct sink *out, const struct tree_node *n)
{
	return (uint8_t *)out->mem.data + n->inode->meta_off;
}

static void empty_root(void **state)
{
	struct sink out;

	assert_int_equal(written(*state, &out), 1);
	assert_int_equal(out.mem.len, 2 * EROFS_BLOCK);
	sink_done(&out);
}

static void compact_and_extended(void **state)
{
	struct tree *t = *state;
	struct tree_node *plain = put_file(t, "plain"), *owner = put_file(t, "owner"),
			 *when = put_file(t, "when");
	struct sink out;

	put_file(t, "another");
	owner->inode->uid = 65536;
	when->inode->mtime = -1;
	when->inode->mtime_ns = 999999999;
	written(t, &out);
	assert_int_equal(inode_bytes(&out, plain)[0] & 1, 0);
	assert_int_equal(inode_bytes(&out, owner)[0] & 1, 1);
	assert_memory_equal(inode_bytes(&out, owner) + 24, "\0\0\1\0", 4);
	assert_memory_equal(inode_bytes(&out, when) + 32, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xc9\x9a\x3b",
			    12);
	sink_done(&out);
}

static void majority_time_is_compact(void **state)
{
	struct tree *t = *state;
	struct tree_node *n = NULL;
	struct sink out;

	for (int i = 0; i < 9; i++) {
		char name[] = { 'a' + (char)i, 0 };
		n = put_file(t, name);
		n->inode->mtime = i < 4 ? i : 77;
		n->inode->mtime_ns = 5;
	}
	t->root->inode->mtime = 77;
	t->root->inode->mtime_ns = 5;
	written(t, &out);
	assert_int_equal(inode_bytes(&out, n)[0] & 1, 0);
	assert_int_equal(((uint8_t *)out.mem.data)[EROFS_SUPER_OFFSET + 24], 77);
	sink_done(&out);
}

static void tails_at_each_size(void **state)
{
	struct tree *t = *state;
	struct sink out;
	uint32_t n = 0;

	for (uint32_t tail = 1; tail <= IMAGE_TAIL_MAX; tail += 37, n++) {
		char name[16];
		snprintf(name, sizeof(name), "t%u", tail);
		struct tree_inode *i = put_file(t, name)->inode;
		i->size = i->tail_len = tail;
		i->tail_off = 64;
		i->mtime = tail; /* both forms */
	}
	assert_int_equal(written(t, &out), n + 1);
	sink_done(&out);
}

static void symlinks_of_each_length(void **state)
{
	static char target[IMAGE_TARGET_MAX + 1];
	struct tree *t = *state;
	struct sink out;
	uint32_t n = 0;

	memset(target, 't', IMAGE_TARGET_MAX);
	for (size_t len = 1; len <= IMAGE_TARGET_MAX; len += len < 4000 ? 123 : 1, n++) {
		char name[16];
		snprintf(name, sizeof(name), "s%zu", len);
		struct tree_node *s = put_mode(t, name, S_IFLNK | 0777);
		assert_int_equal(tree_inode_set_target(s->inode, target, len, NULL), 0);
	}
	assert_int_equal(written(t, &out), n + 1);
	sink_done(&out);
}

static void directory_sizes(void **state)
{
	struct tree *t = *state;
	char name[300];
	struct sink out;

	/* Entries of all lengths, so that blocks end everywhere; some names sort before "." and between "." and "..". */
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "d/%s%03d%.*s",
			 i % 3 == 0   ? ""
			 : i % 3 == 1 ? "!"
				      : ".-",
			 i, i % 240,
			 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
			 "nnnnn"
			 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
			 "nnnnn"
			 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn");
		put_file(t, name);
	}
	assert_int_equal(written(t, &out), 602);
	sink_done(&out);
}

static void hard_links_count(void **state)
{
	struct tree *t = *state;
	struct tree_node *f = put_file(t, "f"), *n;
	struct sink out;

	for (int i = 0; i < 70000; i++) {
		char name[16];
		int len = snprintf(name, sizeof(name), "l%d", i);
		assert_int_equal(tree_put(t, t->root, name, (size_t)len, f->inode, &n, NULL), 0);
	}
	assert_int_equal(written(t, &out), 70002);
	/* More than 16 bits: extended. */
	assert_int_equal(inode_bytes(&out, f)[0] & 1, 1);
	sink_done(&out);
}

static void xattrs_larger_than_a_block(void **state)
{
	struct tree *t = *state;
	struct tree_inode *i = put_file(t, "x")->inode;
	struct sink out;

	put_file(t, "after");
	i->xattr_len = 60000;
	i->xattrs = calloc(1, i->xattr_len);
	assert_non_null(i->xattrs);
	i->xattrs[0] = 1; /* user.<one byte>, the rest value */
	i->xattrs[1] = 1;
	erofs_put16(i->xattrs + 2, 59995);
	assert_int_equal(written(t, &out), 3);
	sink_done(&out);
}

static void device_numbers(void **state _unused_)
{
	uint32_t dev;

	assert_int_equal(erofs_rdev(1, 3, &dev), 0);
	assert_int_equal(dev, 0x103);
	assert_int_equal(erofs_rdev(0xfff, 0xfffff, &dev), 0);
	assert_int_equal(dev, 0xffffffff);
	assert_int_equal(erofs_rdev(259, 70000, &dev), 0);
	assert_int_equal(dev, (70000 & 0xff) | 259 << 8 | (70000u & ~0xffu) << 12);
	assert_int_equal(erofs_rdev(0x1000, 0, &dev), -ERANGE);
	assert_int_equal(erofs_rdev(0, 0x100000, &dev), -ERANGE);
}

static void too_large_for_block_numbers(void **state)
{
	struct erofs_layer layer = { .data_bytes = (uint64_t)UINT32_MAX * EROFS_BLOCK };
	static const uint8_t uuid[16];
	struct sink out;

	sink_init(&out, -1);
	assert_int_equal(erofs_write(*state, &layer, 1, uuid, &out, NULL), VIAL_E_LIMIT);
	assert_int_equal(out.pos, 0);
	sink_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(empty_root, setup, teardown),
		cmocka_unit_test_setup_teardown(compact_and_extended, setup, teardown),
		cmocka_unit_test_setup_teardown(majority_time_is_compact, setup, teardown),
		cmocka_unit_test_setup_teardown(tails_at_each_size, setup, teardown),
		cmocka_unit_test_setup_teardown(symlinks_of_each_length, setup, teardown),
		cmocka_unit_test_setup_teardown(directory_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(hard_links_count, setup, teardown),
		cmocka_unit_test_setup_teardown(xattrs_larger_than_a_block, setup, teardown),
		cmocka_unit_test(device_numbers),
		cmocka_unit_test_setup_teardown(too_large_for_block_numbers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
