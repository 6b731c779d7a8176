// SPDX-License-Identifier: Apache-2.0
// All of memory written, and that a machine made of it sees the same bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory_fixture.h"

static void test_all(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd = file();
	struct gmem m;
	struct stat st;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, SIZE), 0);
	memmap_add(&map, PAGES, 0);
	m.base[5 * GMEM_PAGE + 7] = 1;
	m.base[SIZE - 1] = 2;
	assert_int_equal(memory_write_all(&m, &map, fd, &out), 0);
	assert_int_equal(fstat(fd, &st), 0); /* before reading: that may fill holes of a memfd */
	assert_int_equal(st.st_size, SIZE);
	assert_true(st.st_blocks * 512 <= 64 * 1024); /* two pages of data, the rest holes */
	expect_same(&m, &out, &fd);
	assert_int_equal(memmap_layer(&out, 600), 0); /* nothing in that chunk: anonymous */
	assert_int_equal(memmap_layer(&out, 6), 1);
	gmem_done(&m);
}

static long page_faults(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return u.ru_minflt;
}

static void test_punch(void **state)
{
	_cleanup_(memmap_done) struct memmap out = { 0 };
	_cleanup_fd_ int fd = file();
	struct gmem m;
	struct stat st;
	long faults;

	(void)state;
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(gmem_new_file(&m, SIZE, fd, true), 0);
	memset(m.base, 1, MIB(4));
	memset(m.base + GMEM_PAGE, 0, MIB(4) - 2 * GMEM_PAGE); /* freed again */
	m.base[MIB(33)] = 3;
	m.base[SIZE - 1] = 4;
	faults = page_faults();
	assert_int_equal(memory_punch(&m, fd, &out), 0);
	assert_in_range(page_faults() - faults, 0, PAGES / 4); /* holes were not read */
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 <= 64 * 1024);
	assert_int_equal(memmap_layer(&out, 1), 1);
	assert_int_equal(memmap_layer(&out, MIB(4) / GMEM_PAGE), 0);
	assert_int_equal(memmap_layer(&out, MIB(33) / GMEM_PAGE), 1);
	assert_int_equal(memmap_layer(&out, PAGES - 1), 1);
	expect_same(&m, &out, &fd);
	gmem_done(&m);
}

static void test_slots(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 };
	struct gmem m = { .size = 6ULL << 30 };
	struct vm_slot s[VM_SLOTS_MAX];
	uint64_t total = 0;

	(void)state;
	for (int i = 0; i < 40; i++) {
		memmap_add(&map, 512, 1);
		memmap_add(&map, 16384, 0); /* 64 MiB of nothing */
	}
	memmap_add(&map, m.size / GMEM_PAGE - 40 * (512 + 16384), 0);
	size_t n = memory_slots(&map, &m, true, s);
	assert_true(n <= VM_SLOTS_MAX);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(s[i].off, total);
		assert_true(s[i].off >= GMEM_LOW_MAX || s[i].off + s[i].len <= GMEM_LOW_MAX);
		for (uint64_t p = s[i].off; !s[i].log && p < s[i].off + s[i].len; p += MIB(2))
			assert_int_equal(memmap_layer(&map, p / GMEM_PAGE), 0);
		total += s[i].len;
	}
	assert_int_equal(total, m.size);
	assert_int_equal(memory_slots(&map, &m, false, s), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_punch),
		cmocka_unit_test(test_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
