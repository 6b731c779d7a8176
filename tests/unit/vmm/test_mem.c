// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/mem.h"

#define GIB (1ULL << 30)

static void test_span_low(void **state)
{
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, MIB(128)), 0);
	assert_ptr_equal(gmem_span(&m, gpa(0), 1), m.base);
	assert_ptr_equal(gmem_span(&m, gpa(0), MIB(128)), m.base);
	assert_ptr_equal(gmem_span(&m, gpa(MIB(128) - 1), 1), m.base + MIB(128) - 1);
	assert_ptr_equal(gmem_span(&m, gpa(5), 0), m.base + 5);
	assert_null(gmem_span(&m, gpa(0), MIB(128) + 1));
	assert_null(gmem_span(&m, gpa(MIB(128) - 1), 2));
	assert_null(gmem_span(&m, gpa(MIB(128)), 0));
	assert_null(gmem_span(&m, gpa(4 * GIB), 0));
	assert_null(gmem_span(&m, gpa(4 * GIB), 1));
	assert_null(gmem_span(&m, gpa(UINT64_MAX), 1));
	assert_null(gmem_span(&m, gpa(1), UINT64_MAX));
	assert_null(gmem_span(&m, gpa(UINT64_MAX), UINT64_MAX));
	gmem_done(&m);
	assert_null(m.base);
}

static void test_span_over_the_hole(void **state)
{
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, 4 * GIB), 0);
	assert_int_equal(gmem_low_size(&m), 3 * GIB);
	assert_int_equal(gmem_high_size(&m), GIB);
	assert_ptr_equal(gmem_span(&m, gpa(3 * GIB - 1), 1), m.base + 3 * GIB - 1);
	assert_null(gmem_span(&m, gpa(3 * GIB - 1), 2));
	assert_null(gmem_span(&m, gpa(3 * GIB), 1));
	assert_null(gmem_span(&m, gpa(4 * GIB - 1), 2));
	assert_ptr_equal(gmem_span(&m, gpa(4 * GIB), GIB), m.base + 3 * GIB);
	assert_null(gmem_span(&m, gpa(4 * GIB), GIB + 1));
	assert_null(gmem_span(&m, gpa(5 * GIB), 0));
	gmem_done(&m);
}

static void test_sizes(void **state)
{
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, 0), -EINVAL);
	assert_int_equal(gmem_new_anon(&m, MIB(128) + 4096), -EINVAL);
	assert_int_equal(gmem_new_anon(&m, GMEM_SIZE_MAX + MIB(2)), -EINVAL);
}

static void test_private_file(void **state)
{
	_cleanup_fd_ int fd = memfd_create("t", MFD_CLOEXEC);
	struct gmem m;
	char c = 0;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)MIB(16) - 1), 0);
	assert_int_equal(gmem_new_file(&m, MIB(16), fd, false), -ENODATA);
	assert_int_equal(ftruncate(fd, (off_t)MIB(16)), 0);
	assert_int_equal(pwrite(fd, "x", 1, 8192), 1);
	assert_int_equal(gmem_new_file(&m, MIB(16), fd, false), 0);
	assert_int_equal(gmem_write(&m, gpa(8192), "y", 1), 0);
	assert_int_equal(gmem_read(&m, gpa(8192), &c, 1), 0);
	assert_int_equal(c, 'y');
	assert_int_equal(pread(fd, &c, 1, 8192), 1);
	assert_int_equal(c, 'x');
	/* Discarded, the file's byte is back, and the file has no hole. */
	assert_int_equal(gmem_discard(&m, gpa(8192), 4096), 0);
	assert_int_equal(gmem_read(&m, gpa(8192), &c, 1), 0);
	assert_int_equal(c, 'x');
	gmem_done(&m);
}

static void test_shared_file(void **state)
{
	_cleanup_fd_ int fd = memfd_create("t", MFD_CLOEXEC);
	struct gmem m;
	char c = 0;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)MIB(16)), 0);
	assert_int_equal(gmem_new_file(&m, MIB(16), fd, true), 0);
	assert_int_equal(gmem_write(&m, gpa(77), "y", 1), 0);
	assert_int_equal(pread(fd, &c, 1, 77), 1);
	assert_int_equal(c, 'y');
	assert_int_equal(gmem_discard(&m, gpa(0), 4096), -EOPNOTSUPP);
	gmem_done(&m);
}

static void test_discard_rounds_inwards(void **state)
{
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, MIB(16)), 0);
	memset(m.base, 1, 4 * 4096);
	assert_int_equal(gmem_discard(&m, gpa(4095), 4096 + 2), 0);
	assert_int_equal(m.base[4095], 1);
	assert_int_equal(m.base[4096], 0);
	assert_int_equal(m.base[8191], 0);
	assert_int_equal(m.base[8192], 1);
	assert_int_equal(gmem_discard(&m, gpa(1), 4095), 0);
	assert_int_equal(m.base[1], 1);
	assert_int_equal(gmem_discard(&m, gpa(MIB(16) - 1), 2), -EFAULT);
	gmem_done(&m);
}

static void test_dirty(void **state)
{
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, MIB(16)), 0);
	gmem_dirty_mark(&m, m.base, 1); /* nobody asked */
	assert_int_equal(gmem_dirty_start(&m), 0);
	assert_int_equal(m.dirty[0], 0);
	assert_int_equal(gmem_write(&m, gpa(4095), "ab", 2), 0);
	assert_int_equal(m.dirty[0], 3);
	gmem_dirty_mark(&m, m.base + 64 * 4096, 4096);
	assert_int_equal(m.dirty[1], 1);
	gmem_dirty_mark(&m, m.base + 3 * 4096, 0);
	assert_int_equal(m.dirty[0], 3);
	gmem_dirty_clear(&m);
	assert_int_equal(m.dirty[0] | m.dirty[1], 0);
	gmem_done(&m);
}

/* Every page of a span and no other, wherever it begins and ends in the bitmap's words. */
static void test_dirty_spans(void **state)
{
	static const uint64_t edges[] = { 0, 1, 62, 63, 64, 65, 127, 128, 129, 191, 192, 4095 };
	struct gmem m;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, MIB(16)), 0);
	assert_int_equal(gmem_dirty_start(&m), 0);
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		for (size_t k = i; k < ARRAY_SIZE(edges); k++) {
			uint64_t from = edges[i] * GMEM_PAGE + 7, to = edges[k] * GMEM_PAGE + 9;

			gmem_dirty_clear(&m);
			gmem_dirty_mark(&m, m.base + from, to - from);
			for (uint64_t page = 0; page < MIB(16) / GMEM_PAGE; page++)
				assert_int_equal(m.dirty[page / 64] >> page % 64 & 1,
						 page >= edges[i] && page <= edges[k]);
		}
	}
	gmem_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_span_low),    cmocka_unit_test(test_span_over_the_hole),
		cmocka_unit_test(test_sizes),	    cmocka_unit_test(test_private_file),
		cmocka_unit_test(test_shared_file), cmocka_unit_test(test_discard_rounds_inwards),
		cmocka_unit_test(test_dirty),	    cmocka_unit_test(test_dirty_spans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
