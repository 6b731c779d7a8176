// SPDX-License-Identifier: Apache-2.0
// Streams over real pipes: credit, room, the end, readers that go away.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/stream.h"
#include "base/fd.h"

struct seen {
	struct loop *loop;
	struct buf got;
	size_t credited;
	bool room, ended, reader_gone;
};

static bool room(void *user)
{
	return ((struct seen *)user)->room;
}

static bool got(void *user, uint32_t number, const uint8_t *p, size_t n)
{
	assert_int_equal(number, AGENT_STDOUT);
	buf_append(&((struct seen *)user)->got, p, n);
	return true;
}

static void ended(void *user)
{
	((struct seen *)user)->ended = true;
}

static void taken(void *user, size_t n)
{
	((struct seen *)user)->credited += n;
}

static void reader_gone(void *user)
{
	((struct seen *)user)->reader_gone = true;
}

static struct out_stream out_of(struct seen *s, int *ret_writer)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	*ret_writer = p[1];
	return (struct out_stream){ .loop = s->loop,
				    .fd = p[0],
				    .number = AGENT_STDOUT,
				    .room = room,
				    .send = got,
				    .ended = ended,
				    .user = s };
}

static void out_credit(void **state)
{
	struct seen s = { .room = true };
	int w;

	(void)state;
	assert_int_equal(loop_new(&s.loop), 0);
	struct out_stream o = out_of(&s, &w);
	assert_int_equal(write(w, "0123456789", 10), 10);
	out_pump(&o); /* no credit */
	assert_int_equal(s.got.len, 0);
	assert_null(o.src);
	assert_int_equal(out_grant(&o, 4), 0);
	out_pump(&o);
	assert_int_equal(s.got.len, 4);
	s.room = false;
	assert_int_equal(out_grant(&o, 100), 0);
	out_pump(&o); /* no room */
	assert_int_equal(s.got.len, 4);
	s.room = true;
	out_pump(&o);
	assert_memory_equal(s.got.data, "0123456789", 10);
	assert_int_equal(o.credit, 94);
	assert_int_equal(write(w, "ab", 2), 2);
	assert_int_equal(loop_turn(s.loop, 1000), 0); /* watched now */
	assert_int_equal(s.got.len, 12);
	close(w);
	assert_int_equal(loop_turn(s.loop, 1000), 0);
	assert_true(s.ended);
	assert_int_equal(o.fd, -1);
	o.credit = (1ULL << 40) - 1;
	assert_int_equal(out_grant(&o, UINT32_MAX), -EPROTO);
	out_done(&o);
	buf_done(&s.got);
	loop_free(s.loop);
}

/* The command is over and an orphan holds the pipe: what is there leaves, nothing is waited for. */
static void out_orphan(void **state)
{
	struct seen s = { .room = true };
	int w;

	(void)state;
	assert_int_equal(loop_new(&s.loop), 0);
	struct out_stream o = out_of(&s, &w);
	assert_int_equal(write(w, "left", 4), 4);
	o.credit = 3;
	out_drain(&o);
	assert_false(s.ended); /* still one byte without credit */
	assert_int_equal(write(w, "orphan's", 8), 8);
	assert_int_equal(out_grant(&o, 100), 0);
	out_pump(&o);
	assert_true(s.ended);
	assert_int_equal(s.got.len, 4);
	assert_memory_equal(s.got.data, "left", 4);
	close(w);
	buf_done(&s.got);
	loop_free(s.loop);
}

static struct in_stream in_of(struct seen *s, int *ret_reader)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	*ret_reader = p[0];
	return (struct in_stream){ .loop = s->loop,
				   .fd = p[1],
				   .window = 200000,
				   .taken = taken,
				   .reader_gone = reader_gone,
				   .user = s };
}

static void in_order_and_end(void **state)
{
	static uint8_t data[150000], back[150000];
	struct seen s = { 0 };
	size_t n = 0;
	int rd;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(loop_new(&s.loop), 0);
	struct in_stream in = in_of(&s, &rd);
	assert_int_equal(in_push(&in, data, sizeof(data)), 0);
	assert_true(in.queue.len > 0); /* a pipe holds 64 KiB */
	assert_int_equal(in_push(&in, data, 150001), -EPROTO);
	in_end(&in);
	assert_int_equal(in_push(&in, data, 1), -EPROTO);
	for (;;) {
		ssize_t r = read(rd, back + n, sizeof(back) - n);
		if (r == 0)
			break;
		if (r < 0) {
			assert_int_equal(errno, EAGAIN);
			assert_int_equal(loop_turn(s.loop, 1000), 0);
			continue;
		}
		n += (size_t)r;
		if (n == sizeof(back))
			assert_int_equal(loop_turn(s.loop, 0), 0);
	}
	assert_int_equal(n, sizeof(data));
	assert_memory_equal(data, back, n);
	assert_int_equal(s.credited, sizeof(data));
	assert_int_equal(in.window, 200000);
	close(rd);
	in_done(&in);
	loop_free(s.loop);
}

static void in_reader_gone(void **state)
{
	static uint8_t data[100000];
	struct seen s = { 0 };
	int rd;

	(void)state;
	assert_int_equal(loop_new(&s.loop), 0);
	struct in_stream in = in_of(&s, &rd);
	in_watch(&in);
	close(rd);
	assert_int_equal(loop_turn(s.loop, 1000), 0); /* noticed without a write */
	assert_true(s.reader_gone);
	assert_int_equal(in_push(&in, data, sizeof(data)), 0); /* dropped, credited */
	assert_int_equal(s.credited, sizeof(data));
	assert_int_equal(in.window, 200000);

	struct seen t = { .loop = s.loop };
	struct in_stream late = in_of(&t, &rd);
	assert_int_equal(in_push(&late, data, sizeof(data)), 0);
	size_t queued = late.queue.len;
	assert_true(queued > 0);
	close(rd);
	assert_int_equal(loop_turn(t.loop, 1000), 0);
	assert_true(t.reader_gone);
	assert_int_equal(t.credited, sizeof(data));
	assert_int_equal(late.window, 200000);
	in_done(&late);
	in_done(&in);
	loop_free(s.loop);
}

/* Nobody will read it: the writer is never held up, and none of it is sent. */
static void out_discarded(void **state)
{
	struct seen s = { .room = false };
	static uint8_t data[4096];
	int w;

	(void)state;
	assert_int_equal(loop_new(&s.loop), 0);
	struct out_stream o = out_of(&s, &w);
	assert_int_equal(write(w, data, sizeof(data)), sizeof(data));
	out_pump(&o);
	assert_null(o.src);
	out_discard(&o);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(write(w, data, sizeof(data)), sizeof(data));
		assert_int_equal(loop_turn(s.loop, 1000), 0);
	}
	assert_int_equal(s.got.len, 0);
	close(w);
	assert_int_equal(loop_turn(s.loop, 1000), 0);
	assert_true(s.ended);
	out_done(&o);
	loop_free(s.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(out_credit),	  cmocka_unit_test(out_orphan),
		cmocka_unit_test(out_discarded),  cmocka_unit_test(in_order_and_end),
		cmocka_unit_test(in_reader_gone),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
