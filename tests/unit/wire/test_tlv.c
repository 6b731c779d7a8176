// SPDX-License-Identifier: Apache-2.0
// Tests of wire/tlv.c.
#include "test.h"

#include "wire/tlv.h"

static void entries_survive(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_free_ char *s = NULL;
	struct tlv t;
	uint32_t u32;
	uint64_t u64;

	(void)state;
	tlv_put_str(&b, 1, "text");
	tlv_put_str(&b, 2, NULL);
	tlv_put_str(&b, 3, "");
	tlv_put_u32(&b, 0xffff, 0x01020304);
	tlv_put_u64(&b, 5, UINT64_MAX - 1);
	assert_true(buf_ok(&b));
	struct tlv_in in = { (const uint8_t *)b.data, b.len };
	assert_int_equal(tlv_next(&in, &t), 1);
	assert_int_equal(t.tag, 1);
	assert_int_equal(tlv_str(&t, 4, &s), 0);
	assert_string_equal(s, "text");
	assert_int_equal(tlv_next(&in, &t), 1);
	assert_int_equal(t.tag, 3);
	assert_int_equal(t.n, 0);
	assert_int_equal(tlv_next(&in, &t), 1);
	assert_int_equal(t.tag, 0xffff);
	assert_int_equal(tlv_u32(&t, &u32), 0);
	assert_int_equal(u32, 0x01020304);
	assert_int_equal(tlv_u64(&t, &u64), -EBADMSG);
	assert_int_equal(tlv_next(&in, &t), 1);
	assert_int_equal(tlv_u64(&t, &u64), 0);
	assert_int_equal(u64, UINT64_MAX - 1);
	assert_int_equal(tlv_u32(&t, &u32), -EBADMSG);
	assert_int_equal(tlv_next(&in, &t), 0);
}

static void layout_is_little_endian(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	tlv_put_u32(&b, 0x0102, 0x03040506);
	assert_int_equal(b.len, 12);
	assert_memory_equal(b.data, "\x02\x01\0\0\4\0\0\0\6\5\4\3", 12);
}

static void every_truncation_is_refused(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	tlv_put_str(&b, 1, "four");
	for (size_t n = 1; n < b.len; n++) {
		_cleanup_free_ uint8_t *cut = exact_copy(b.data, n);
		struct tlv_in in = { cut, n };
		struct tlv t;

		assert_int_equal(tlv_next(&in, &t), -EBADMSG);
	}
}

static void bad_headers_are_refused(void **state)
{
	struct tlv t;

	(void)state;
	struct tlv_in reserved = { (const uint8_t *)"\1\0\1\0\0\0\0\0", 8 };
	assert_int_equal(tlv_next(&reserved, &t), -EBADMSG);
	struct tlv_in huge = { (const uint8_t *)"\1\0\0\0\xff\xff\xff\xff", 8 };
	assert_int_equal(tlv_next(&huge, &t), -EBADMSG);
}

static void strings_are_checked(void **state)
{
	char *s = NULL;
	struct tlv nul = { 1, (const uint8_t *)"a\0b", 3 }, longer = { 1, (const uint8_t *)"abc", 3 };

	(void)state;
	assert_int_equal(tlv_str(&nul, 10, &s), -EBADMSG);
	assert_int_equal(tlv_str(&longer, 2, &s), -E2BIG);
	assert_null(s);
	assert_int_equal(tlv_str(&longer, 3, &s), 0);
	assert_string_equal(s, "abc");
	free(s);
}

static void put_is_all_or_nothing(void **state)
{
	_cleanup_buf_ struct buf b = { .limit = 12 };

	(void)state;
	tlv_put(&b, 1, "12345", 5);
	assert_false(buf_ok(&b));
	assert_int_equal(b.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_survive),
		cmocka_unit_test(layout_is_little_endian),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(bad_headers_are_refused),
		cmocka_unit_test(strings_are_checked),
		cmocka_unit_test(put_is_all_or_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
