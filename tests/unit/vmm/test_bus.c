// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "vmm/bus.h"

static struct {
	int calls;
	uint64_t off;
	uint32_t n;
	bool write;
} seen;

static void device(void *data, uint64_t off, void *p, uint32_t n, bool write)
{
	assert_ptr_equal(data, &seen);
	seen.calls++;
	seen.off = off;
	seen.n = n;
	seen.write = write;
	if (!write)
		assert_int_equal(*(uint8_t *)p, 0); /* zeroed for us */
}

static void test_dispatch(void **state)
{
	struct bus b = { 0 };
	uint64_t v = 7;

	(void)state;
	assert_int_equal(bus_add(&b, 0x1000, 0x10, device, &seen), 0);
	bus_access(&b, 0x1008, &v, 8, true);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.off, 8);
	assert_true(seen.write);
	bus_access(&b, 0x100f, &v, 1, false);
	assert_int_equal(seen.calls, 2);
	assert_int_equal(v & 0xff, 0);
}

static void test_nobody(void **state)
{
	struct bus b = { 0 };
	uint32_t v = 0;

	(void)state;
	seen.calls = 0;
	assert_int_equal(bus_add(&b, 0x1000, 0x10, device, &seen), 0);
	bus_access(&b, 0xfff, &v, 1, false);
	assert_int_equal(v, 0xff);
	v = 0;
	bus_access(&b, 0x100e, &v, 4, false); /* leaves the region */
	assert_int_equal(v, 0xffffffff);
	bus_access(&b, 0x1010, &v, 4, true);
	bus_access(&b, UINT64_MAX, &v, 4, true);
	assert_int_equal(seen.calls, 0);
}

static void test_full(void **state)
{
	struct bus b = { 0 };

	(void)state;
	for (uint64_t i = 0; i < BUS_REGIONS_MAX; i++)
		assert_int_equal(bus_add(&b, i * 16, 16, device, &seen), 0);
	assert_int_equal(bus_add(&b, 0x100000, 16, device, &seen), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
