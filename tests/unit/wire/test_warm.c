// SPDX-License-Identifier: Apache-2.0
#include "test.h"

#include "wire/warm.h"

#define PAGES 65536

static struct warm_run room[WARM_RUNS_MAX];

static int decode_of(const struct warm_run *runs, size_t n)
{
	_cleanup_buf_ struct buf b = { 0 };

	assert_int_equal(warm_encode(runs, n, &b), 0);
	return warm_decode(b.data, b.len, PAGES, room);
}

static void test_round_trip(void **state _unused_)
{
	const struct warm_run runs[] = { { 0, 3, WARM_WRITTEN },
					 { 512, 1024, WARM_DENSE },
					 { 1536, 1, WARM_WRITTEN },
					 { PAGES - 1, 1, WARM_WRITTEN } };

	assert_int_equal(decode_of(runs, ARRAY_SIZE(runs)), ARRAY_SIZE(runs));
	assert_memory_equal(room, runs, sizeof(runs));
	assert_int_equal(decode_of(NULL, 0), 0);
}

static void test_runs_that_cannot_be(void **state _unused_)
{
	const struct warm_run bad[][2] = {
		{ { 0, 0, WARM_WRITTEN } },
		{ { PAGES, 1, WARM_WRITTEN } },
		{ { PAGES - 1, 2, WARM_WRITTEN } },
		{ { UINT64_MAX, 2, WARM_WRITTEN } },
		{ { 1, 512, WARM_DENSE } },
		{ { 512, 511, WARM_DENSE } },
		{ { 0, 1, 3 } },
		{ { 5, 2, WARM_WRITTEN }, { 6, 1, WARM_WRITTEN } },
		{ { 5, 2, WARM_WRITTEN }, { 4, 1, WARM_WRITTEN } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(decode_of(bad[i], bad[i][1].n ? 2 : 1), -EBADMSG);
}

static void test_damage(void **state _unused_)
{
	_cleanup_buf_ struct buf b = { 0 };

	assert_int_equal(warm_encode(&(struct warm_run){ 7, 1, WARM_WRITTEN }, 1, &b), 0);
	for (size_t n = 0; n < b.len; n++)
		assert_int_equal(warm_decode(b.data, n, PAGES, room), -EBADMSG);
	b.data[8]++;
	assert_int_equal(warm_decode(b.data, b.len, PAGES, room), -EPROTONOSUPPORT);
	b.data[8]--;
	b.data[12] = 2;
	assert_int_equal(warm_decode(b.data, b.len, PAGES, room), -EBADMSG);
	memset(b.data + 12, 0xff, 4);
	assert_int_equal(warm_decode(b.data, b.len, PAGES, room), -EBADMSG);
	b.data[0] = 'v';
	assert_int_equal(warm_decode(b.data, b.len, PAGES, room), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_runs_that_cannot_be),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
