// SPDX-License-Identifier: Apache-2.0
// Tests of base/str.c.
#include "test.h"

#include <errno.h>
#include <stdio.h>

#include "base/str.h"

static void buf_grows_and_prints(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	assert_string_equal(buf_cstr(&b), "");
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%03d,", i);
	assert_true(buf_ok(&b));
	assert_int_equal(b.len, 4000);
	assert_memory_equal(buf_cstr(&b) + 3996, "999,", 5);
}

static void buf_stops_at_its_limit(void **state)
{
	_cleanup_buf_ struct buf b = { .limit = 8 };

	(void)state;
	buf_append(&b, "12345678", 8);
	assert_true(buf_ok(&b));
	buf_append(&b, "9", 1);
	assert_false(buf_ok(&b));
	assert_null(buf_cstr(&b));
	assert_int_equal(b.len, 8);
	assert_true(buf_reserve(&b, 1) < 0); /* failed once, failed for good */
}

static void buf_reserve_survives_overflow(void **state)
{
	(void)state;
	for (size_t less = 0; less < 2; less++) {
		_cleanup_buf_ struct buf b = { .limit = SIZE_MAX - 1 };

		buf_puts(&b, "x");
		assert_int_equal(buf_reserve(&b, SIZE_MAX - less), -EFBIG);
		assert_int_equal(b.len, 1);
		assert_false(buf_ok(&b));
	}
}

static void buf_consume_moves_the_rest(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	buf_puts(&b, "abcdef");
	buf_consume(&b, 2);
	assert_string_equal(buf_cstr(&b), "cdef");
	buf_consume(&b, 4);
	assert_string_equal(buf_cstr(&b), "");
}

static void strv_is_terminated(void **state)
{
	_cleanup_strv_ struct strv s = { 0 };
	_cleanup_strv_ struct strv copy = { 0 };

	(void)state;
	assert_int_equal(strv_add(&s, "one"), 0);
	assert_int_equal(strv_addn(&s, "twoXX", 3), 0);
	assert_int_equal(strv_addf(&s, "%d", 3), 0);
	assert_int_equal(strv_copy(&copy, &s), 0);
	assert_int_equal(copy.n, 3);
	assert_string_equal(copy.v[0], "one");
	assert_string_equal(copy.v[1], "two");
	assert_string_equal(copy.v[2], "3");
	assert_null(copy.v[3]);
}

static void strv_environment(void **state)
{
	_cleanup_strv_ struct strv s = { 0 };

	(void)state;
	assert_int_equal(strv_setenv(&s, "A=1"), 0);
	assert_int_equal(strv_setenv(&s, "AB=2"), 0);
	assert_int_equal(strv_setenv(&s, "A=3=4"), 0);
	assert_int_equal(strv_setenv(&s, "none"), -EINVAL);
	assert_int_equal(s.n, 2);
	assert_string_equal(strv_getenv(&s, "A"), "3=4");
	assert_string_equal(strv_getenv(&s, "AB"), "2");
	assert_null(strv_getenv(&s, "B"));
}

static void u64_accepts_digits_only(void **state)
{
	static const char *const bad[] = { "", " 1", "1 ", "+1", "-1", "0x1", "1a", "." };
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(str_u64(bad[i], UINT64_MAX, &v), -EINVAL);
	assert_int_equal(v, 7);
	assert_int_equal(str_u64("18446744073709551615", UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(str_u64("18446744073709551616", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(str_u64("100", 99, &v), -ERANGE);
	assert_int_equal(str_u64("99", 99, &v), 0);
	assert_int_equal(v, 99);
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "1", 1ULL << 20 },	    { "512", 512ULL << 20 },
		{ "3k", 3ULL << 10 },	    { "3K", 3ULL << 10 },
		{ "2M", 2ULL << 20 },	    { "2MiB", 2ULL << 20 },
		{ "2mb", 2ULL << 20 },	    { "1G", 1ULL << 30 },
		{ "1T", 1ULL << 40 },	    { "0", 0 },
		{ "8191G", 8191ULL << 30 },
	};
	static const char *const bad[] = { "", "M", "-1M", "1X", "1 M", "1MM", "0x10", "1e3" };
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(str_size(good[i].text, &v), 0);
		assert_true(v == good[i].bytes);
	}
	v = 7;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(str_size(bad[i], &v), -EINVAL);
	assert_int_equal(str_size("18446744073709551615G", &v), -ERANGE);
	assert_int_equal(v, 7);
}

static void durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{ "1", 1000 },	   { "10ms", 10 },     { "2s", 2000 }, { "5m", 300000 },
		{ "1h", 3600000 }, { "1d", 86400000 }, { "0.5", 500 },
	};
	static const char *const bad[] = { "", "s", "-1", "1x", "1 s", "nan", "inf", "1.", "." };
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(str_duration(good[i].text, &v), 0);
		assert_int_equal(v, good[i].ms);
	}
	v = 7;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (str_duration(bad[i], &v) != -EINVAL)
			fail_msg("'%s' was accepted", bad[i]);
	}
	assert_int_equal(str_duration("18446744073709551615h", &v), -ERANGE);
	assert_int_equal(v, 7);
}

static void hex_both_ways(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x7f, 0xab, 0xff };
	uint8_t back[4] = { 0 };
	char text[9];

	(void)state;
	str_hex(bytes, sizeof(bytes), text);
	assert_string_equal(text, "007fabff");
	assert_int_equal(str_unhex("007FabFF", back, 4), 0);
	assert_memory_equal(back, bytes, 4);
	assert_int_equal(str_unhex("007fabf", back, 4), -EINVAL);
	assert_int_equal(str_unhex("007fabff0", back, 4), -EINVAL);
	assert_int_equal(str_unhex("007fabfg", back, 4), -EINVAL);
}

static void prefix(void **state)
{
	(void)state;
	assert_true(str_has_prefix("abc", "ab"));
	assert_true(str_has_prefix("abc", ""));
	assert_false(str_has_prefix("ab", "abc"));
}

static void defusing(void **state)
{
	static const struct {
		const char *from, *to;
	} t[] = {
		{ "", "" },
		{ "plain 'text', 100 %", "plain 'text', 100 %" },
		{ "gr\u00fc\u00dfe \u20ac \U0001f600", "gr\u00fc\u00dfe \u20ac \U0001f600" },
		{ "\033]0;owned\a\033[2J", "?]0;owned??[2J" },
		{ "a\r\nb\tc\177", "a? b c?" },
		{ "\302\2332J", "??2J" },				/* U+009B, CSI */
		{ "\2332J", "?2J" },					/* the same as one byte */
		{ "\342\200\256txt.exe", "???txt.exe" },		/* U+202E */
		{ "\342\201\247x", "???x" },				/* U+2067 */
		{ "\300\257 \340\200\257 \355\240\200", "?? ??? ???" }, /* overlong, surrogate */
		{ "\364\220\200\200", "????" },
		{ "cut \342\202", "cut ??" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		char s[64];

		strcpy(s, t[i].from);
		str_defuse(s);
		assert_string_equal(s, t[i].to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_grows_and_prints),
		cmocka_unit_test(buf_stops_at_its_limit),
		cmocka_unit_test(buf_reserve_survives_overflow),
		cmocka_unit_test(buf_consume_moves_the_rest),
		cmocka_unit_test(strv_is_terminated),
		cmocka_unit_test(strv_environment),
		cmocka_unit_test(u64_accepts_digits_only),
		cmocka_unit_test(sizes),
		cmocka_unit_test(durations),
		cmocka_unit_test(hex_both_ways),
		cmocka_unit_test(prefix),
		cmocka_unit_test(defusing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
