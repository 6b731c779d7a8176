// SPDX-License-Identifier: Apache-2.0
// Disks of several files: every boundary, and files that are not what was recorded.
#include "disk.h"

/* Part @i is (i + 1) sectors, each byte its own number. */
static void make_parts(struct extent *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char name[16];
		uint8_t bytes[512];

		snprintf(name, sizeof(name), "p%zu", i);
		int fd = new_file(name, 0);
		memset(bytes, (int)i + 1, sizeof(bytes));
		for (size_t k = 0; k <= i; k++)
			assert_int_equal(fd_write_full(fd, bytes, sizeof(bytes)), 0);
		close(fd);
		e[i] = (struct extent){ open_file(name, O_RDONLY), 512 * (i + 1) };
	}
}

static struct block *open_parts(const struct extent *e, size_t n)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b;

	if (extents_open(e, n, &b, &err) < 0)
		fail_msg("%s", err.msg);
	return b;
}

/* Every start and length, against the same bytes in one buffer */
static void test_boundaries(void **state _unused_)
{
	struct extent e[7];
	uint8_t want[28 * 512], got[28 * 512];
	size_t sectors = 0;

	make_parts(e, 7);
	for (int i = 0; i < 7; i++)
		for (int k = 0; k <= i; k++)
			memset(want + 512 * sectors++, i + 1, 512);
	struct block *b = open_parts(e, 7);
	assert_int_equal(b->size, 28 * 512);
	assert_true(b->read_only);
	for (size_t from = 0; from < 28; from++) {
		for (size_t n = 1; n <= 28 - from; n++) {
			memset(got, 0xee, sizeof(got));
			struct iovec v[] = { { got, 700 % (n * 512) },
					     { got + 700 % (n * 512), n * 512 - 700 % (n * 512) } };
			assert_int_equal(block_readv(b, v, 2, from * 512), 0);
			assert_memory_equal(got, want + from * 512, n * 512);
		}
	}
	assert_int_equal(read_at(b, got, 512, 28 * 512), -ERANGE);
	assert_int_equal(write_at(b, got, 512, 0), -EROFS);
	assert_int_equal(block_flush(b), 0);
	block_close(b);
}

/* A file that ends in mid-sector is padded; one that ends before is refused; more than was recorded is not shown. */
static void test_lengths(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct extent e[3];
	uint8_t got[6 * 512];
	struct block *b = NULL;

	make_parts(e, 3);
	assert_int_equal(truncate(at("p1"), 1000), 0);
	assert_int_equal(sh("echo more >>p2"), 0);
	b = open_parts(e, 3);
	assert_int_equal(b->size, 6 * 512);
	assert_int_equal(read_at(b, got, sizeof(got), 0), 0);
	assert_int_equal(got[512 + 999], 2);
	assert_int_equal(got[512 + 1000], 0);
	assert_int_equal(got[512 + 1023], 0);
	assert_int_equal(got[512 + 1024], 3);
	block_close(b);

	make_parts(e, 3);
	assert_int_equal(truncate(at("p1"), 512), 0);
	b = NULL;
	assert_int_equal(extents_open(e, 3, &b, &err), VIAL_E_CORRUPT);
	assert_non_null(strstr(err.msg, "part 1"));
	assert_null(b);
	for (int i = 0; i < 3; i++)
		close(e[i].fd);
}

static void refused(struct extent *e, size_t n, int code)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b = NULL;

	assert_int_equal(extents_open(e, n, &b, &err), code);
	assert_null(b);
}

static void test_refused(void **state _unused_)
{
	struct extent e[2], many[EXTENTS_MAX + 1] = { 0 };

	make_parts(e, 2);
	refused(e, 0, VIAL_E_INVALID);
	refused(many, EXTENTS_MAX + 1, VIAL_E_INVALID);
	e[1].len = 0;
	refused(e, 2, VIAL_E_INVALID);
	e[1].len = 513;
	refused(e, 2, VIAL_E_INVALID);
	e[1].len = UINT64_MAX - 511;
	refused(e, 2, VIAL_E_INVALID);
	e[1].len = 1024;
	close(e[1].fd);
	e[1].fd = open_file("p1", O_RDWR);
	refused(e, 2, VIAL_E_INVALID);
	close(e[0].fd);
	close(e[1].fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boundaries),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
