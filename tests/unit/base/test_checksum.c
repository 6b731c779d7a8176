// SPDX-License-Identifier: Apache-2.0
// The checksum against damage.
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/fd.h"
#include "base/mem.h"

static void sum_of(const void *p, size_t n, char ret[CHECKSUM_HEX])
{
	struct checksum c;

	checksum_init(&c);
	checksum_update(&c, p, n);
	checksum_final(&c, ret);
}

static void test_every_bit_counts(void **state _unused_)
{
	uint8_t data[128] = { 0 };
	char want[CHECKSUM_HEX], got[CHECKSUM_HEX];

	sum_of(data, sizeof(data), want);
	for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
		data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		sum_of(data, sizeof(data), got);
		assert_string_not_equal(got, want);
		data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	sum_of(data, sizeof(data), got);
	assert_string_equal(got, want);
}

static void test_parts_are_the_whole(void **state _unused_)
{
	uint8_t data[96];
	char want[CHECKSUM_HEX], got[CHECKSUM_HEX];
	struct checksum c;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	sum_of(data, sizeof(data), want);
	checksum_init(&c);
	checksum_update(&c, data, 32);
	checksum_update(&c, data + 32, 64);
	checksum_final(&c, got);
	assert_string_equal(got, want);
}

static void test_holes_do_not_matter(void **state _unused_)
{
	_cleanup_fd_ int holes = memfd_create("h", 0), full = memfd_create("f", 0);
	_cleanup_free_ char *zero = calloc(1, MIB(3));
	char a[CHECKSUM_HEX], b[CHECKSUM_HEX];

	assert_non_null(zero);
	assert_int_equal(fd_write_full(full, zero, MIB(3)), 0);
	assert_int_equal(ftruncate(holes, MIB(3)), 0);
	assert_int_equal(pwrite(holes, "word", 4, MIB(2) + 5000), 4);
	assert_int_equal(pwrite(full, "word", 4, MIB(2) + 5000), 4);
	assert_int_equal(checksum_sparse(holes, a), 0);
	assert_int_equal(checksum_sparse(full, b), 0);
	assert_string_equal(a, b);
	/* The same bytes elsewhere are another file. */
	assert_int_equal(pwrite(full, "\0\0\0\0", 4, MIB(2) + 5000), 4);
	assert_int_equal(pwrite(full, "word", 4, MIB(2) + 5000 + 4096), 4);
	assert_int_equal(checksum_sparse(full, b), 0);
	assert_string_not_equal(a, b);
}

static void test_length_counts(void **state _unused_)
{
	_cleanup_fd_ int fd = memfd_create("l", 0);
	char a[CHECKSUM_HEX], b[CHECKSUM_HEX], none[CHECKSUM_HEX];

	assert_int_equal(checksum_sparse(-1, none), 0);
	assert_int_equal(checksum_sparse(fd, a), 0);
	assert_string_equal(a, none);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	assert_int_equal(checksum_sparse(fd, a), 0);
	assert_int_equal(ftruncate(fd, 2), 0);
	assert_int_equal(checksum_sparse(fd, b), 0);
	assert_string_not_equal(a, b);
	/* A last page that is not whole. */
	assert_int_equal(ftruncate(fd, MIB(1) + 4097), 0);
	assert_int_equal(pwrite(fd, "y", 1, MIB(1) + 4096), 1);
	assert_int_equal(checksum_sparse(fd, a), 0);
	assert_int_equal(pwrite(fd, "z", 1, MIB(1) + 4096), 1);
	assert_int_equal(checksum_sparse(fd, b), 0);
	assert_string_not_equal(a, b);
}

static void test_not_a_file(void **state _unused_)
{
	char sum[CHECKSUM_HEX];
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(checksum_sparse(p[0], sum), -ESPIPE);
	close(p[0]);
	close(p[1]);
	assert_int_equal(checksum_sparse(p[0], sum), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_bit_counts),    cmocka_unit_test(test_parts_are_the_whole),
		cmocka_unit_test(test_holes_do_not_matter), cmocka_unit_test(test_length_counts),
		cmocka_unit_test(test_not_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
