// SPDX-License-Identifier: Apache-2.0
// From two files of memory to the list of what a start touches.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/warm.h"

#define CHUNK  (WARM_HUGE * (uint64_t)WARM_PAGE)
#define CHUNKS 8

static struct warm_run runs[WARM_RUNS_MAX];

struct pair {
	int mem, delta;
};

static struct pair make(void)
{
	struct pair p = { memfd_create("mem", MFD_CLOEXEC), memfd_create("delta", MFD_CLOEXEC) };

	assert_true(p.mem >= 0 && p.delta >= 0);
	assert_int_equal(ftruncate(p.mem, CHUNKS * CHUNK), 0);
	assert_int_equal(ftruncate(p.delta, CHUNKS * CHUNK), 0);
	return p;
}

static void done(struct pair p)
{
	close(p.mem);
	close(p.delta);
}

/* @n pages of @value from @page on. */
static void fill(int fd, uint64_t page, size_t n, int value)
{
	uint8_t bytes[WARM_PAGE];

	memset(bytes, value, sizeof(bytes));
	for (size_t i = 0; i < n; i++)
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes), (off_t)((page + i) * WARM_PAGE)),
				 sizeof(bytes));
}

static void expect(struct pair p, uint64_t text, const struct warm_run *want, int n)
{
	assert_int_equal(warm_compare(p.mem, p.delta, CHUNKS * CHUNK, text, runs), n);
	if (n > 0)
		assert_memory_equal(runs, want, (size_t)n * sizeof(*want));
}

static void test_written(void **state _unused_)
{
	const struct warm_run want[] = { { 5, 2, WARM_WRITTEN },
					 { WARM_HUGE - 1, 2, WARM_WRITTEN },
					 { 3 * WARM_HUGE + 9, 1, WARM_WRITTEN } };
	struct pair p = make();

	expect(p, 0, NULL, 0);
	fill(p.mem, 0, 2 * WARM_HUGE, 1);
	fill(p.delta, 5, 3, 2);
	fill(p.delta, 7, 1, 1); /* written along: as it was */
	fill(p.delta, WARM_HUGE - 1, 2, 3);
	/* A hole between pages of the file is the file's, too; chunks of which it has nothing are not. */
	fill(p.mem, 3 * WARM_HUGE, 1, 1);
	fill(p.delta, 3 * WARM_HUGE + 9, 1, 4);
	fill(p.delta, 5 * WARM_HUGE, 4, 5);
	expect(p, 0, want, ARRAY_SIZE(want));
	done(p);
}

static void test_dense(void **state _unused_)
{
	const struct warm_run both[] = { { WARM_HUGE, WARM_HUGE * WARM_DENSE_CHUNKS, WARM_DENSE } };
	const struct warm_run one[] = { { WARM_HUGE, WARM_HUGE, WARM_DENSE },
					{ 2 * WARM_HUGE + 1, 1, WARM_WRITTEN } };
	struct pair p = make();

	fill(p.mem, WARM_HUGE, WARM_HUGE * 5, 1);
	expect(p, CHUNK, both, 1);
	expect(p, 0, NULL, 0);
	/* Where something is written huge pages would be copied for it. */
	fill(p.delta, 2 * WARM_HUGE + 1, 1, 9);
	expect(p, CHUNK, one, 2);
	/* Hardly anything there. */
	fill(p.mem, 6 * WARM_HUGE, 10, 1);
	expect(p, 6 * CHUNK, one + 1, 1);
	done(p);
}

static void test_scattered(void **state _unused_)
{
	struct pair p = make();

	fill(p.mem, 0, CHUNKS * WARM_HUGE, 1);
	for (uint64_t page = 0; page < CHUNKS * WARM_HUGE; page += 2)
		fill(p.delta, page, 1, 2);
	assert_int_equal(warm_compare(p.mem, p.delta, CHUNKS * CHUNK, 0, runs), CHUNKS * WARM_HUGE / 2);
	done(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_dense),
		cmocka_unit_test(test_scattered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
