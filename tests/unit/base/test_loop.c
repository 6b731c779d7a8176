// SPDX-License-Identifier: Apache-2.0
// Tests of base/loop.c.
#include "test.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"

struct seen {
	struct loop *loop;
	struct loop_src *other;
	int calls;
	uint32_t events;
};

static void pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void on_io(struct loop_src *src, uint32_t events, void *data)
{
	struct seen *s = data;

	(void)src;
	s->calls++;
	s->events = events;
}

static void quit_io(struct loop_src *src, uint32_t events, void *data)
{
	struct seen *s = data;

	on_io(src, events, data);
	loop_quit(s->loop, 42);
}

static void serves_what_is_ready(void **state)
{
	struct seen s = { 0 };
	struct loop_src *src = NULL;
	int fds[2];

	(void)state;
	pair(fds);
	assert_int_equal(loop_new(&s.loop), 0);
	assert_int_equal(loop_add_fd(s.loop, fds[0], EPOLLIN, on_io, &s, &src), 0);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(s.calls, 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(s.calls, 2); /* level-triggered: nobody read it */
	assert_true(s.events & EPOLLIN);
	assert_int_equal(loop_src_set_events(src, 0), 0);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(s.calls, 2);
	close(fds[1]);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(s.calls, 3); /* a hang-up is told even if nothing is watched */
	assert_true(s.events & EPOLLHUP);
	loop_src_free(src);
	loop_free(s.loop);
	close(fds[0]);
}

static void runs_until_quit(void **state)
{
	struct seen s = { 0 };
	struct loop_src *src = NULL;
	int fds[2];

	(void)state;
	pair(fds);
	assert_int_equal(loop_new(&s.loop), 0);
	assert_int_equal(loop_add_fd(s.loop, fds[0], EPOLLIN, quit_io, &s, &src), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_run(s.loop), 42);
	assert_int_equal(s.calls, 1);
	loop_free(s.loop); /* frees the source, too */
	close(fds[0]);
	close(fds[1]);
}

static void free_other(struct loop_src *src, uint32_t events, void *data)
{
	struct seen *s = data;

	on_io(src, events, data);
	loop_src_free(s->other);
	s->other = NULL;
	loop_src_free(src);
}

/* Two sources are ready in one turn; the first frees both: the second's event must be dropped. */
static void freed_sources_are_not_called(void **state)
{
	struct seen a = { 0 }, b = { 0 };
	struct loop_src *src_a = NULL, *src_b = NULL;
	struct loop *loop = NULL;
	int one[2], two[2];

	(void)state;
	pair(one);
	pair(two);
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(loop_add_fd(loop, one[0], EPOLLIN, free_other, &a, &src_a), 0);
	assert_int_equal(loop_add_fd(loop, two[0], EPOLLIN, free_other, &b, &src_b), 0);
	a.other = src_b;
	b.other = src_a;
	assert_int_equal(write(one[1], "x", 1), 1);
	assert_int_equal(write(two[1], "x", 1), 1);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(a.calls + b.calls, 1);
	loop_free(loop);
	for (int i = 0; i < 2; i++) {
		close(one[i]);
		close(two[i]);
	}
}

static void on_timer(struct loop_src *timer, void *data)
{
	struct seen *s = data;

	(void)timer;
	s->calls++;
	loop_quit(s->loop, 7);
}

static void timer_fires_once_and_not_early(void **state)
{
	struct seen s = { 0 };
	struct loop_src *timer = NULL;

	(void)state;
	assert_int_equal(loop_new(&s.loop), 0);
	assert_int_equal(loop_add_timer(s.loop, on_timer, &s, &timer), 0);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(s.calls, 0); /* disarmed at first */
	uint64_t due = clock_mono_ns() + 20 * NS_PER_MS;
	loop_timer_set(timer, due);
	assert_int_equal(loop_run(s.loop), 7);
	assert_true(clock_mono_ns() >= due);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(s.calls, 1);
	loop_timer_set(timer, 1);
	loop_timer_set(timer, 0);
	assert_int_equal(loop_turn(s.loop, 0), 0);
	assert_int_equal(s.calls, 1);
	loop_src_free(timer);
	loop_free(s.loop);
}

/* A timer that is always due: a device whose guest never lets its queue run empty. */
static void rearm(struct loop_src *timer, void *data)
{
	struct seen *s = data;

	if (++s->calls < 1000)
		loop_timer_set(timer, 1);
}

/* Other sources have their turn between two calls of it. */
static void timer_that_is_always_due_starves_nobody(void **state)
{
	struct seen s = { 0 }, io = { 0 };
	struct loop_src *timer = NULL, *src = NULL;
	int fds[2];

	(void)state;
	pair(fds);
	assert_int_equal(loop_new(&s.loop), 0);
	assert_int_equal(loop_add_timer(s.loop, rearm, &s, &timer), 0);
	assert_int_equal(loop_add_fd(s.loop, fds[0], EPOLLIN, on_io, &io, &src), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	loop_timer_set(timer, 1);
	for (int turn = 1; turn <= 3; turn++) {
		assert_int_equal(loop_turn(s.loop, 0), 0);
		assert_int_equal(s.calls, turn);
		assert_int_equal(io.calls, turn);
	}
	loop_free(s.loop);
	close(fds[0]);
	close(fds[1]);
}

static void null_is_accepted(void **state)
{
	(void)state;
	loop_free(NULL);
	loop_src_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serves_what_is_ready),
		cmocka_unit_test(runs_until_quit),
		cmocka_unit_test(freed_sources_are_not_called),
		cmocka_unit_test(timer_fires_once_and_not_early),
		cmocka_unit_test(timer_that_is_always_due_starves_nobody),
		cmocka_unit_test(null_is_accepted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
