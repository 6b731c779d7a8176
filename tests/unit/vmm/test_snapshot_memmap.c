// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/snapshot/memmap.h"

#define PAGES (MIB(16) / GMEM_PAGE)

static void test_add_joins(void **state)
{
	_cleanup_(memmap_done) struct memmap m = { 0 };

	(void)state;
	assert_int_equal(memmap_add(&m, 3, 0), 0);
	assert_int_equal(memmap_add(&m, 4, 0), 0);
	assert_int_equal(memmap_add(&m, 0, 1), 0);
	assert_int_equal(memmap_add(&m, 5, 2), 0);
	assert_int_equal(m.n, 2);
	assert_int_equal(m.e[0].n, 7);
	assert_int_equal(m.e[1].page, 7);
	assert_int_equal(m.layers, 2);
	assert_int_equal(memmap_layer(&m, 6), 0);
	assert_int_equal(memmap_layer(&m, 7), 2);
	assert_int_equal(memmap_layer(&m, 11), 2);
}

static void test_overlay(void **state)
{
	_cleanup_(memmap_done) struct memmap m = { 0 }, o = { 0 };
	static const struct memmap_extent over[] = { { 0, 1, 3 }, { 5, 10, 3 }, { 99, 1, 3 } };

	(void)state;
	memmap_add(&m, 10, 1);
	memmap_add(&m, 90, 2);
	assert_int_equal(memmap_overlay(&m, over, ARRAY_SIZE(over), &o), 0);
	for (uint64_t p = 0; p < 100; p++) {
		uint32_t want = p == 0 || (p >= 5 && p < 15) || p == 99 ? 3 : p < 10 ? 1 : 2;

		assert_int_equal(memmap_layer(&o, p), want);
	}
	assert_int_equal(o.layers, 3);
	_cleanup_(memmap_done) struct memmap same = { 0 };
	assert_int_equal(memmap_overlay(&m, NULL, 0, &same), 0);
	assert_int_equal(same.n, m.n);
	assert_memory_equal(same.e, m.e, m.n * sizeof(*m.e));
}

static void expect_bad(const struct memmap_extent *e, size_t n, uint32_t layers)
{
	struct memmap m = { 0 };

	assert_int_equal(memmap_load(&m, e, n * sizeof(*e), 100, layers), -EBADMSG);
	assert_null(m.e);
}

static void test_hostile(void **state)
{
	static const struct memmap_extent good[] = { { 0, 40, 0 }, { 40, 60, 1 } };
	static const struct memmap_extent gap[] = { { 0, 40, 0 }, { 41, 59, 1 } };
	static const struct memmap_extent overlap[] = { { 0, 40, 0 }, { 39, 61, 1 } };
	static const struct memmap_extent empty[] = { { 0, 0, 0 }, { 0, 100, 1 } };
	static const struct memmap_extent wraps[] = { { 0, 40, 0 }, { 40, UINT32_MAX, 1 } };
	_cleanup_(memmap_done) struct memmap m = { 0 };

	(void)state;
	assert_int_equal(memmap_load(&m, good, sizeof(good), 100, 1), 0);
	expect_bad(good, 2, 0); /* a layer that is not there */
	expect_bad(good, 1, 1); /* does not reach the end */
	expect_bad(good, 0, 1);
	expect_bad(gap, 2, 1);
	expect_bad(overlap, 2, 1);
	expect_bad(empty, 2, 1);
	expect_bad(wraps, 2, 1);
	assert_int_equal(memmap_load(&m, good, sizeof(good) - 1, 100, 1), -EBADMSG);
}

static void test_too_many(void **state)
{
	_cleanup_(memmap_done) struct memmap m = { 0 };
	int r = 0;

	(void)state;
	for (uint32_t i = 0; r == 0 && i <= MEMMAP_EXTENTS_MAX; i++)
		r = memmap_add(&m, 1, i & 1);
	assert_int_equal(r, -E2BIG);
	assert_int_equal(m.n, MEMMAP_EXTENTS_MAX);
}

static int file_of(char c)
{
	_cleanup_fd_ int fd = memfd_create("t", MFD_CLOEXEC);
	char page[GMEM_PAGE];

	memset(page, c, sizeof(page));
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(pwrite(fd, page, sizeof(page), (off_t)(i * GMEM_PAGE)), sizeof(page));
	return take_fd(fd);
}

static void check(struct gmem *m, uint64_t page, char c)
{
	assert_int_equal(m->base[page * GMEM_PAGE], c);
	assert_int_equal(m->base[page * GMEM_PAGE + GMEM_PAGE - 1], c);
}

static void test_apply_and_read(void **state)
{
	_cleanup_fd_ int a = file_of('a'), b = file_of('b');
	int fds[] = { a, b };

	(void)state;
	for (int how = 0; how < 2; how++) {
		_cleanup_(memmap_done) struct memmap m = { 0 };
		struct gmem mem;

		memmap_add(&m, 10, 1);
		memmap_add(&m, 600, 0);
		memmap_add(&m, PAGES - 610, 2);
		assert_int_equal(gmem_new_anon(&mem, MIB(16)), 0);
		assert_int_equal(how ? memmap_read(&m, &mem, fds) : memmap_apply(&m, &mem, fds), 0);
		check(&mem, 9, 'a');
		check(&mem, 10, 0);
		check(&mem, 609, 0);
		check(&mem, 610, 'b');
		check(&mem, PAGES - 1, 'b');
		mem.base[0] = 'x'; /* ours alone */
		gmem_done(&mem);
	}
	char c;
	assert_int_equal(pread(a, &c, 1, 0), 1);
	assert_int_equal(c, 'a');
}

static void test_short_file(void **state)
{
	_cleanup_fd_ int fd = memfd_create("t", MFD_CLOEXEC);
	_cleanup_(memmap_done) struct memmap m = { 0 };
	struct gmem mem;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)MIB(16) - 1), 0);
	memmap_add(&m, PAGES, 1);
	assert_int_equal(gmem_new_anon(&mem, MIB(16)), 0);
	assert_int_equal(memmap_apply(&m, &mem, &fd), -ENODATA);
	assert_int_equal(memmap_read(&m, &mem, &fd), -ENODATA);
	gmem_done(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_joins),      cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_hostile),	       cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_apply_and_read), cmocka_unit_test(test_short_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
