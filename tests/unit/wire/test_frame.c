// SPDX-License-Identifier: Apache-2.0
// Tests of wire/frame.c.
#include "test.h"

#include "wire/frame.h"

static void assert_frame(struct frame_in *f, const void *want, size_t n)
{
	const uint8_t *p = NULL;
	size_t len = 0;

	assert_int_equal(frame_in_next(f, &p, &len), 1);
	assert_int_equal(len, n);
	assert_memory_equal(p, want, n);
}

static void assert_no_frame(struct frame_in *f)
{
	const uint8_t *p;
	size_t len;

	assert_int_equal(frame_in_next(f, &p, &len), 0);
}

static void put_is_length_and_payload(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	frame_put(&b, "abc", 3);
	frame_put(&b, NULL, 0);
	assert_true(buf_ok(&b));
	assert_int_equal(b.len, 11);
	assert_memory_equal(b.data, "\0\0\0\3abc\0\0\0\0", 11);
}

static void put_is_all_or_nothing(void **state)
{
	_cleanup_buf_ struct buf b = { .limit = 10 };

	(void)state;
	frame_put(&b, "abcdefg", 7);
	assert_false(buf_ok(&b));
	assert_int_equal(b.len, 0);
}

static void every_cut_gives_the_same_frames(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	frame_put(&b, "hello", 5);
	frame_put(&b, "", 0);
	frame_put(&b, "world!", 6);
	for (size_t cut = 0; cut <= b.len; cut++) {
		_cleanup_(frame_in_done) struct frame_in f = { .max = 6 };
		size_t got = 0, len;
		const uint8_t *p;

		assert_int_equal(frame_in_push(&f, b.data, cut), 0);
		while (frame_in_next(&f, &p, &len) == 1)
			got += len + FRAME_HEADER;
		assert_true(got <= cut);
		assert_int_equal(frame_in_push(&f, b.data + cut, b.len - cut), 0);
		while (frame_in_next(&f, &p, &len) == 1)
			got += len + FRAME_HEADER;
		assert_int_equal(got, b.len);
	}
}

static void byte_by_byte(void **state)
{
	_cleanup_(frame_in_done) struct frame_in f = { .max = 3 };
	const char bytes[] = "\0\0\0\3abc\0\0\0\1x";

	(void)state;
	for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
		assert_int_equal(frame_in_push(&f, bytes + i, 1), 0);
		if (i == 6)
			assert_frame(&f, "abc", 3);
		else if (i == 11)
			assert_frame(&f, "x", 1);
		else
			assert_no_frame(&f);
	}
}

static void too_long_is_told_at_the_header(void **state)
{
	const uint8_t *p;
	size_t len;

	(void)state;
	_cleanup_(frame_in_done) struct frame_in f = { .max = 3 };
	assert_int_equal(frame_in_push(&f, "\0\0\0", 3), 0);
	assert_int_equal(frame_in_push(&f, "\4", 1), -EMSGSIZE);
	assert_int_equal(frame_in_next(&f, &p, &len), -EMSGSIZE);

	_cleanup_(frame_in_done) struct frame_in g = { .max = FRAME_MAX };
	assert_int_equal(frame_in_push(&g, "\xff\xff\xff\xff", 4), -EMSGSIZE);
}

static void too_long_after_a_good_one(void **state)
{
	_cleanup_(frame_in_done) struct frame_in f = { .max = 3 };
	const uint8_t *p;
	size_t len;

	(void)state;
	assert_int_equal(frame_in_push(&f, "\0\0\0\1a\0\0\0\4", 9), 0);
	assert_frame(&f, "a", 1);
	assert_int_equal(frame_in_next(&f, &p, &len), -EMSGSIZE);
}

static void max_may_grow_between_frames(void **state)
{
	_cleanup_(frame_in_done) struct frame_in f = { .max = 1 };

	(void)state;
	assert_int_equal(frame_in_push(&f, "\0\0\0\1a\0\0\0\4four", 13), 0);
	assert_frame(&f, "a", 1);
	f.max = 4;
	assert_frame(&f, "four", 4);
	assert_no_frame(&f);
}

static void memory_stays_bounded(void **state)
{
	_cleanup_(frame_in_done) struct frame_in f = { .max = KIB(32) };
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_free_ uint8_t *payload = calloc(1, KIB(32));
	const uint8_t *p;
	size_t len, frames = 0;

	(void)state;
	for (int i = 0; i < 64; i++)
		frame_put(&b, payload, KIB(32) - (size_t)i);
	/* Pieces that never end where a frame does. */
	for (size_t at = 0; at < b.len; at += 5003) {
		assert_int_equal(frame_in_push(&f, b.data + at, MIN(b.len - at, (size_t)5003)), 0);
		while (frame_in_next(&f, &p, &len) == 1)
			frames++;
	}
	assert_int_equal(frames, 64);
	assert_true(f.buf.cap <= 4 * (KIB(32) + 5003));
}

static void a_large_buffer_is_given_back(void **state)
{
	_cleanup_(frame_in_done) struct frame_in f = { .max = MIB(2) };
	_cleanup_free_ uint8_t *big = calloc(1, MIB(2));
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	frame_put(&b, big, MIB(2));
	assert_int_equal(frame_in_push(&f, b.data, b.len), 0);
	assert_frame(&f, big, MIB(2));
	assert_int_equal(frame_in_push(&f, "\0\0\0\1x", 5), 0);
	assert_true(f.buf.cap < MIB(1));
	assert_frame(&f, "x", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_is_length_and_payload),
		cmocka_unit_test(put_is_all_or_nothing),
		cmocka_unit_test(every_cut_gives_the_same_frames),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(too_long_is_told_at_the_header),
		cmocka_unit_test(too_long_after_a_good_one),
		cmocka_unit_test(max_may_grow_between_frames),
		cmocka_unit_test(memory_stays_bounded),
		cmocka_unit_test(a_large_buffer_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
