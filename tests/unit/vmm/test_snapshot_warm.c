// SPDX-License-Identifier: Apache-2.0
// Memory that is ready before the guest touches it.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vmm/snapshot/warm.h"
#include "wire/warm.h"

#define PAGES (MIB(16) / GMEM_PAGE)

struct fixture {
	int file, list;
	struct memmap map;
	struct gmem mem;
};

static void fill(int fd, char c)
{
	char page[GMEM_PAGE];

	memset(page, c, sizeof(page));
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(pwrite(fd, page, sizeof(page), (off_t)(i * GMEM_PAGE)), sizeof(page));
}

static void start(struct fixture *f, const struct warm_run *runs, size_t n)
{
	_cleanup_buf_ struct buf b = { 0 };

	*f = (struct fixture){ .file = memfd_create("mem", MFD_CLOEXEC) };
	fill(f->file, 'a');
	assert_int_equal(warm_encode(runs, n, &b), 0);
	f->list = fd_memfd("warm", b.data, b.len);
	assert_true(f->list >= 0);
	assert_int_equal(memmap_add(&f->map, PAGES, 1), 0);
	f->map.layers = 1;
	assert_int_equal(gmem_new_anon(&f->mem, MIB(16)), 0);
}

static void done(struct fixture *f)
{
	memmap_done(&f->map);
	gmem_done(&f->mem);
	close(f->file);
	close(f->list);
}

static char at(const struct fixture *f, uint64_t page)
{
	return (char)f->mem.base[page * GMEM_PAGE + 77];
}

static void test_ready(void **state)
{
	const struct warm_run runs[] = { { 3, 2, WARM_WRITTEN },
					 { 1024, 512, WARM_DENSE },
					 { PAGES - 1, 1, WARM_WRITTEN } };
	struct fixture f;

	(void)state;
	start(&f, runs, ARRAY_SIZE(runs));
	assert_int_equal(warm_map(&f.map, &f.mem, &f.file, f.list), 0);
	assert_int_equal(memmap_layer(&f.map, 1023), 1);
	assert_int_equal(memmap_layer(&f.map, 1024), 0);
	assert_int_equal(memmap_layer(&f.map, 1535), 0);
	assert_int_equal(memmap_layer(&f.map, 1536), 1);
	/* What was made ready is a copy already; all else is still the file's. */
	fill(f.file, 'z');
	const uint64_t copies[] = { 3, 4, 1024, 1300, 1535, PAGES - 1 }, shared[] = { 0, 2, 5, 1023, 1536 };
	for (size_t i = 0; i < ARRAY_SIZE(copies); i++)
		assert_int_equal(at(&f, copies[i]), 'a');
	for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
		assert_int_equal(at(&f, shared[i]), 'z');
	done(&f);
}

static void test_no_use(void **state)
{
	const struct warm_run outside = { PAGES, 1, WARM_WRITTEN };
	struct fixture f;

	(void)state;
	start(&f, &outside, 1);
	assert_int_equal(warm_map(&f.map, &f.mem, &f.file, f.list), 0);
	assert_int_equal(at(&f, PAGES - 1), 'a');
	done(&f);
	/* None at all, and an empty one. */
	start(&f, NULL, 0);
	assert_int_equal(warm_map(&f.map, &f.mem, &f.file, -1), 0);
	assert_int_equal(warm_map(&f.map, &f.mem, &f.file, f.list), 0);
	assert_int_equal(at(&f, 0), 'a');
	assert_int_equal(memmap_layer(&f.map, 0), 1);
	done(&f);
}

static void test_short_file(void **state)
{
	const struct warm_run dense = { 0, 512, WARM_DENSE };
	struct fixture f;

	(void)state;
	start(&f, &dense, 1);
	assert_int_equal(ftruncate(f.file, MIB(1)), 0);
	assert_int_equal(warm_map(&f.map, &f.mem, &f.file, f.list), -ENODATA);
	done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready),
		cmocka_unit_test(test_no_use),
		cmocka_unit_test(test_short_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
