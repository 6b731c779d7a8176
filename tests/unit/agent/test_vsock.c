// SPDX-License-Identifier: Apache-2.0
// Channels that are connections of their own, over a unix socket in vsock's place.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/port.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "wire/link.h"

#define CHANS_MAX 1100

/* What the owner has heard; a channel is known by its place in @chans. */
struct seen {
	struct chan *chans[CHANS_MAX];
	size_t n, shut, gone, drained;
	bool refuse, close_on_data, abort_on_data;
	char text[64];
	size_t bytes;
};

static int on_opened(void *owner, struct chan *c)
{
	struct seen *s = owner;

	if (s->refuse)
		return -ENOMEM;
	assert_true(s->n < CHANS_MAX);
	s->chans[s->n++] = c;
	return 0;
}

static void on_data(void *owner, struct chan *c, const uint8_t *p, size_t n)
{
	struct seen *s = owner;
	size_t at = strlen(s->text);

	snprintf(s->text + at, sizeof(s->text) - at, "%.*s", (int)n, (const char *)p);
	s->bytes += n;
	if (s->close_on_data)
		chan_close(c);
	if (s->abort_on_data)
		chan_abort(c);
}

static void on_shut(void *owner, struct chan *c)
{
	((struct seen *)owner)->shut++;
	chan_close(c); /* as sessions do */
}

static void on_gone(void *owner, struct chan *c _unused_, bool reset)
{
	assert_false(reset);
	((struct seen *)owner)->gone++;
}

static void on_drained(void *owner)
{
	((struct seen *)owner)->drained++;
}

static const struct chan_events events = { on_opened, on_data, on_shut, on_gone, on_drained };

struct all {
	struct loop *loop;
	struct transport *t;
	struct seen seen;
	struct sockaddr_un addr;
	socklen_t addr_len;
};

static struct all *make(void)
{
	struct all *a = calloc(1, sizeof(*a));
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_non_null(a);
	assert_int_equal(loop_new(&a->loop), 0);
	/* No name given: the kernel makes one up. */
	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 64), 0);
	a->addr_len = sizeof(a->addr);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a->addr, &a->addr_len), 0);
	assert_int_equal(vsock_serve(a->loop, fd, &events, &a->seen, &a->t), 0);
	return a;
}

static void done(struct all *a)
{
	vsock_free(a->t);
	loop_free(a->loop);
	free(a);
}

static void turn(struct all *a)
{
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_turn(a->loop, 0), 0);
}

static int dial(struct all *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a->addr, a->addr_len), 0);
	return fd;
}

static void expect_eof(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
}

static void test_talk(void **state _unused_)
{
	struct all *a = make();
	int first = dial(a), second = dial(a);
	char back[16] = "";

	turn(a);
	assert_int_equal(a->seen.n, 2);
	assert_int_equal(write(first, "hello", 5), 5);
	turn(a);
	assert_string_equal(a->seen.text, "hello");
	assert_int_equal(chan_send(a->seen.chans[1], "answer", 6), 0);
	assert_int_equal(chan_queued(a->seen.chans[1]), 0);
	assert_true(a->t->idle(a->t));
	assert_int_equal(read(second, back, sizeof(back)), 6);
	assert_string_equal(back, "answer");
	close(first);
	turn(a);
	assert_int_equal(a->seen.shut, 1);
	assert_int_equal(chan_send(a->seen.chans[1], "more", 4), 0);
	assert_int_equal(read(second, back, sizeof(back)), 4);
	close(second);
	done(a);
}

/* The owner says no more and then frees it: the host reads all, then the end. */
static void test_shut_and_close(void **state _unused_)
{
	struct all *a = make();
	int fd = dial(a);
	char back[16] = "";

	turn(a);
	assert_int_equal(chan_send(a->seen.chans[0], "last", 4), 0);
	chan_shut(a->seen.chans[0]);
	assert_int_equal(chan_send(a->seen.chans[0], "x", 1), -EPIPE);
	assert_int_equal(read(fd, back, sizeof(back)), 4);
	expect_eof(fd);
	assert_int_equal(write(fd, "still heard", 11), 11);
	turn(a);
	assert_string_equal(a->seen.text, "still heard");
	chan_close(a->seen.chans[0]);
	turn(a);
	assert_int_equal(write(fd, "x", 1) < 0, 1);
	assert_int_equal(a->seen.gone, 0);
	close(fd);
	done(a);
}

static void test_freed_in_callback(void **state _unused_)
{
	struct all *a = make();
	int one = dial(a), two = dial(a);

	turn(a);
	a->seen.close_on_data = true;
	assert_int_equal(write(one, "a", 1), 1);
	turn(a);
	expect_eof(one);
	a->seen.close_on_data = false;
	a->seen.abort_on_data = true;
	assert_int_equal(write(two, "b", 1), 1);
	turn(a);
	expect_eof(two);
	assert_int_equal(a->seen.gone, 0);
	assert_string_equal(a->seen.text, "ab");
	close(one);
	close(two);
	done(a);
}

/* More than the socket takes: the rest is queued, refused past the limit, and all of it arrives. */
static void test_slow_host(void **state _unused_)
{
	char *block = malloc(MIB(1)), *back = malloc(MIB(1));
	struct all *a = make();
	size_t sent = 0, got = 0;
	int fd = dial(a), r;
	ssize_t n;

	turn(a);
	for (r = 0; r == 0; sent += r == 0 ? MIB(1) : 0) {
		memset(block, (int)(sent / MIB(1)), MIB(1));
		r = chan_send(a->seen.chans[0], block, MIB(1));
	}
	assert_int_equal(r, -ENOBUFS);
	assert_true(sent >= LINK_QUEUE_MAX);
	assert_false(a->t->idle(a->t));
	assert_true(chan_queued(a->seen.chans[0]) > 0);
	chan_close(a->seen.chans[0]); /* what is queued still leaves */
	while ((n = recv(fd, back, MIB(1), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (back[i] != (char)((got + (size_t)i) / MIB(1)))
				fail_msg("byte %zu is wrong", got + (size_t)i);
		got += (size_t)n;
		turn(a);
	}
	assert_int_equal(n, 0);
	assert_int_equal(got, sent);
	assert_true(a->t->idle(a->t));
	assert_true(a->seen.drained > 0);
	close(fd);
	free(block);
	free(back);
	done(a);
}

static void test_host_goes_away(void **state _unused_)
{
	char *block = calloc(1, MIB(4));
	struct all *a = make();
	int fd = dial(a);

	turn(a);
	assert_int_equal(chan_send(a->seen.chans[0], block, MIB(4)), 0);
	close(fd);
	turn(a);
	assert_int_equal(a->seen.gone, 1);
	assert_true(a->t->idle(a->t));
	free(block);
	done(a);
}

/* A flush waits for the host as long as it may, and no longer. */
static void test_flush(void **state _unused_)
{
	char *block = calloc(1, MIB(4));
	struct all *a = make();
	int fd = dial(a);
	uint64_t start;
	pid_t pid;

	turn(a);
	assert_int_equal(chan_send(a->seen.chans[0], block, MIB(4)), 0);
	start = clock_mono_ns();
	a->t->flush(a->t, start + 30 * NS_PER_MS);
	assert_true(clock_mono_ns() - start >= 30 * NS_PER_MS);
	assert_false(a->t->idle(a->t));
	pid = fork();
	if (pid == 0) {
		size_t got = 0;
		ssize_t n;
		while (got < MIB(4) && (n = read(fd, block, MIB(1))) > 0)
			got += (size_t)n;
		_exit(got == MIB(4) ? 0 : 1);
	}
	a->t->flush(a->t, clock_mono_ns() + 60 * NS_PER_S);
	assert_true(a->t->idle(a->t));
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
	free(block);
	done(a);
}

static void test_refused(void **state _unused_)
{
	struct all *a = make();

	a->seen.refuse = true;
	int fd = dial(a);
	turn(a);
	expect_eof(fd);
	close(fd);
	done(a);
}

static void test_too_many(void **state _unused_)
{
	static int fds[1030];
	struct all *a = make();

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial(a);
		assert_int_equal(loop_turn(a->loop, 0), 0);
	}
	turn(a);
	assert_int_equal(a->seen.n, 1024);
	expect_eof(fds[1024]);
	assert_int_equal(write(fds[1023], "x", 1), 1);
	turn(a);
	assert_string_equal(a->seen.text, "x");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	for (size_t i = 0; i < ARRAY_SIZE(fds) / LOOP_BATCH; i++)
		turn(a);
	assert_int_equal(a->seen.shut, 1024);
	int fd = dial(a);
	turn(a);
	assert_int_equal(a->seen.n, 1025);
	close(fd);
	done(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_talk),
		cmocka_unit_test(test_shut_and_close),
		cmocka_unit_test(test_freed_in_callback),
		cmocka_unit_test(test_slow_host),
		cmocka_unit_test(test_host_goes_away),
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_many),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
