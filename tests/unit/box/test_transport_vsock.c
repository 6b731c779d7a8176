// SPDX-License-Identifier: Apache-2.0
// A stream for each connection: when it is handed over, how it ends, what is kept and refused.
#include <fcntl.h>

#include "rig.h"
#include "wire/link.h"

#define FDS_MAX 8

/* What the engine was handed, and what the owner was told. */
struct engine {
	int fds[FDS_MAX];
	size_t n;
	int connect_result;
};

struct seen {
	struct transport *t;
	int ready, broken;
	uint32_t shut, aborted; /* the last connection */
	char text[100];
};

static int take_fd_of(struct engine *e, uint32_t port, int fd)
{
	assert_int_equal(port, AGENT_PORT);
	if (e->connect_result < 0)
		return e->connect_result;
	assert_true(e->n < FDS_MAX);
	e->fds[e->n++] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return 0;
}

static const struct engine_ops fake = { .name = "fake", .connect = take_fd_of };

static void on_ready(void *owner)
{
	((struct seen *)owner)->ready++;
}

static void on_data(void *owner, uint32_t conn _unused_, const uint8_t *p, size_t n)
{
	struct seen *s = owner;
	size_t at = strlen(s->text);

	snprintf(s->text + at, sizeof(s->text) - at, "%.*s", (int)n, (const char *)p);
	if (strstr(s->text, "abort me"))
		transport_abort(s->t, conn);
}

static void on_shut(void *owner, uint32_t conn)
{
	((struct seen *)owner)->shut = conn;
}

static void on_aborted(void *owner, uint32_t conn)
{
	((struct seen *)owner)->aborted = conn;
}

static void on_broken(void *owner)
{
	((struct seen *)owner)->broken++;
}

static const struct transport_events events = { on_ready, on_data, on_shut, on_aborted, on_broken };

struct all {
	struct loop *loop;
	struct engine engine;
	struct seen seen;
	struct transport *t;
};

static void make(struct all *a, bool waiting)
{
	memset(a, 0, sizeof(*a));
	assert_int_equal(loop_new(&a->loop), 0);
	assert_int_equal(transport_vsock_new(waiting, &events, &a->seen, &a->t), 0);
	a->seen.t = a->t;
}

static void attach(struct all *a)
{
	assert_int_equal(transport_attach(a->t, a->loop, &fake, &a->engine), 0);
}

static void done(struct all *a)
{
	transport_free(a->t);
	for (size_t i = 0; i < a->engine.n; i++)
		fd_close(&a->engine.fds[i]);
	loop_free(a->loop);
}

static void turn(struct all *a)
{
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_turn(a->loop, 0), 0);
}

static uint32_t opened(struct all *a)
{
	uint32_t conn = 0;

	assert_int_equal(transport_open(a->t, false, &conn), 0);
	assert_true(conn > 0);
	return conn;
}

static void say(struct all *a, uint32_t conn, const char *text)
{
	assert_int_equal(transport_send(a->t, conn, text, strlen(text)), 0);
}

static void expect_read(int fd, const char *text)
{
	char got[100] = "";

	assert_int_equal(read(fd, got, sizeof(got) - 1), (ssize_t)strlen(text));
	assert_string_equal(got, text);
}

static void expect_eof(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), 0);
}

/* A guest that is resumed has an agent: what was said before is there when the far end is handed over. */
static void test_resumed(void **state _unused_)
{
	struct all a;

	make(&a, true);
	uint32_t first = opened(&a), second = opened(&a);
	assert_true(first != second);
	say(&a, first, "one");
	say(&a, first, " and a half");
	say(&a, second, "two");
	transport_flush(a.t);
	assert_int_equal(a.engine.n, 0);
	attach(&a);
	assert_int_equal(a.seen.ready, 1);
	assert_int_equal(a.engine.n, 2); /* in the order in which they were opened */
	expect_read(a.engine.fds[0], "one and a half");
	expect_read(a.engine.fds[1], "two");
	say(&a, second, "more");
	transport_flush(a.t);
	expect_read(a.engine.fds[1], "more");
	assert_int_equal(opened(&a), second + 1);
	transport_flush(a.t);
	assert_int_equal(a.engine.n, 3);
	done(&a);
}

/* A guest that boots tells when its agent listens. */
static void test_booted(void **state _unused_)
{
	struct all a;

	make(&a, false);
	uint32_t conn = opened(&a);
	attach(&a);
	say(&a, conn, "hello");
	transport_flush(a.t);
	turn(&a);
	assert_int_equal(a.seen.ready, 0);
	assert_int_equal(a.engine.n, 0);
	transport_heard(a.t);
	assert_int_equal(a.seen.ready, 1);
	assert_int_equal(a.engine.n, 1);
	expect_read(a.engine.fds[0], "hello");
	transport_heard(a.t); /* a guest may say it again */
	assert_int_equal(a.seen.ready, 1);
	assert_int_equal(a.engine.n, 1);
	done(&a);
}

static void test_ends(void **state _unused_)
{
	struct all a;

	make(&a, true);
	attach(&a);
	uint32_t refused = opened(&a), shut = opened(&a), ours = opened(&a);
	transport_flush(a.t);
	assert_int_equal(a.engine.n, 3);
	fd_close(&a.engine.fds[0]);
	turn(&a);
	assert_int_equal(a.seen.shut, refused);
	assert_int_equal(a.seen.aborted, refused); /* it has no other direction left */
	a.seen.aborted = 0;
	assert_int_equal(transport_send(a.t, refused, "x", 1), -EPIPE);

	assert_int_equal(write(a.engine.fds[1], "last words", 10), 10);
	assert_int_equal(shutdown(a.engine.fds[1], SHUT_WR), 0);
	turn(&a);
	assert_string_equal(a.seen.text, "last words");
	assert_int_equal(a.seen.shut, shut);
	say(&a, shut, "still heard");
	transport_flush(a.t);
	expect_read(a.engine.fds[1], "still heard");
	transport_shut(a.t, shut);
	expect_eof(a.engine.fds[1]);

	say(&a, ours, "nobody reads this");
	transport_abort(a.t, ours);
	expect_eof(a.engine.fds[2]);
	assert_int_equal(a.seen.aborted, 0);
	assert_int_equal(transport_send(a.t, ours, "x", 1), -EPIPE);
	transport_abort(a.t, ours);
	transport_shut(a.t, ours);
	done(&a);
}

/* We shut first: what is queued leaves before, and the guest's end then takes the connection away. */
static void test_shut_by_us(void **state _unused_)
{
	struct all a;

	make(&a, true);
	attach(&a);
	uint32_t conn = opened(&a);
	say(&a, conn, "bye");
	transport_shut(a.t, conn);
	assert_int_equal(transport_send(a.t, conn, "x", 1), -EPIPE);
	transport_flush(a.t);
	expect_read(a.engine.fds[0], "bye");
	expect_eof(a.engine.fds[0]);
	fd_close(&a.engine.fds[0]);
	turn(&a);
	assert_int_equal(a.seen.shut, conn);
	done(&a);
}

/* The guest's last words are read even if it takes no more of ours. */
static void test_last_words(void **state _unused_)
{
	struct all a;

	make(&a, true);
	attach(&a);
	uint32_t conn = opened(&a);
	transport_flush(a.t);
	assert_int_equal(write(a.engine.fds[0], "exited", 6), 6);
	fd_close(&a.engine.fds[0]);
	say(&a, conn, "stdin");
	transport_flush(a.t);
	turn(&a);
	assert_string_equal(a.seen.text, "exited");
	assert_int_equal(a.seen.shut, conn);
	assert_int_equal(a.seen.aborted, 0);
	done(&a);
}

static void test_aborted_in_callback(void **state _unused_)
{
	struct all a;

	make(&a, true);
	attach(&a);
	(void)opened(&a);
	transport_flush(a.t);
	assert_int_equal(write(a.engine.fds[0], "abort me", 8), 8);
	turn(&a);
	expect_eof(a.engine.fds[0]);
	done(&a);
}

static void test_engine_cannot(void **state _unused_)
{
	struct all a;

	make(&a, true);
	attach(&a);
	a.engine.connect_result = -EAGAIN;
	uint32_t conn = opened(&a);
	transport_flush(a.t);
	assert_int_equal(a.seen.aborted, conn);
	a.engine.connect_result = 0;
	assert_int_equal(opened(&a), conn + 1);
	transport_flush(a.t);
	assert_int_equal(a.engine.n, 1);
	done(&a);
}

/* A guest that does not read: a full queue is refused, then everything arrives, nothing twice. */
static void test_slow_reader(void **state _unused_)
{
	static char block[MIB(1)];
	char *back = malloc(sizeof(block));
	size_t queued = 0, got = 0;
	struct all a;
	ssize_t n;
	int r;

	assert_non_null(back);
	make(&a, true);
	attach(&a);
	uint32_t conn = opened(&a);
	while ((r = transport_send(a.t, conn, block, sizeof(block))) == 0) {
		queued += sizeof(block);
		transport_flush(a.t);
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = (char)(queued / sizeof(block) + i);
	}
	assert_int_equal(r, -ENOBUFS);
	assert_true(queued >= LINK_QUEUE_MAX);
	while (got < queued && (n = read(a.engine.fds[0], back, sizeof(block))) > 0) {
		if (got >= sizeof(block))
			for (ssize_t i = 0; i < n; i++) {
				size_t at = got + (size_t)i;
				if (back[i] != (char)(at / sizeof(block) + at % sizeof(block)))
					fail_msg("byte %zu is wrong", at);
			}
		got += (size_t)n;
		assert_int_equal(loop_turn(a.loop, 0), 0);
	}
	assert_int_equal(got, queued);
	free(back);
	done(&a);
}

static void test_too_many(void **state _unused_)
{
	struct all a;
	uint32_t conn, first = 0;
	int r = 0;

	make(&a, true); /* never attached */
	while ((r = transport_open(a.t, false, &conn)) == 0)
		first = first ?: conn;
	assert_true(r == -EMFILE);
	transport_abort(a.t, first);
	assert_int_equal(transport_open(a.t, false, &conn), 0);
	done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resumed),	      cmocka_unit_test(test_booted),
		cmocka_unit_test(test_ends),	      cmocka_unit_test(test_shut_by_us),
		cmocka_unit_test(test_last_words),    cmocka_unit_test(test_aborted_in_callback),
		cmocka_unit_test(test_engine_cannot), cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
