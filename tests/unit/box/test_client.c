// SPDX-License-Identifier: Apache-2.0
// The monitor's clients: order, credit both ways, hostile guests, limits.
#include <sys/resource.h>

#include "base/clock.h"
#include "rig.h"

static struct rig *up(void)
{
	struct rig *r = rig_new(LAUNCH_COLD);

	rig_agent_up(r);
	return r;
}

static void test_commands_wait_and_start_in_order(void **state _unused_)
{
	struct rig *r = rig_new(LAUNCH_COLD);
	struct rig_client a = rig_connect(r), b, c;
	struct mon_msg sig = { .type = MON_SIGNAL, .u32 = 10 }, m;

	rig_pump(r);
	b = rig_connect(r);
	rig_pump(r);
	c = rig_connect(r);
	rig_exec(&c, "third", 1000);
	rig_put(&c, &sig);
	rig_exec(&a, "first", 1000);
	rig_exec(&b, "second", 1000);
	assert_false(rig_next(r, &a, &m));
	assert_int_equal(r->m.state, MON_STARTING);
	rig_agent_up(r);
	assert_int_equal(r->m.state, MON_UP);
	assert_string_equal(rig_find(r, AGENT_HOST_EXEC, 0)->text, "first");
	assert_string_equal(rig_find(r, AGENT_HOST_EXEC, 1)->text, "second");
	assert_string_equal(rig_find(r, AGENT_HOST_EXEC, 2)->text, "third");
	/* Identity and root file system go before all of them; what waited behind a request follows it. */
	assert_true(rig_find(r, AGENT_HOST_SETUP, 0) < rig_find(r, AGENT_HOST_EXEC, 0));
	assert_ptr_equal(rig_find(r, AGENT_HOST_SIGNAL, 0), rig_find(r, AGENT_HOST_EXEC, 2) + 1);
	assert_int_equal(rig_find(r, AGENT_HOST_SIGNAL, 0)->number, 10);
	rig_hang_up(&a);
	rig_hang_up(&b);
	rig_hang_up(&c);
	rig_free(r);
}

static void test_a_command(void **state _unused_)
{
	struct rig *r = up();
	struct agent_guest_msg end = { .type = AGENT_GUEST_EXITED, .exited = { .code = 3, .oom = true } };
	struct mon_msg in = { .type = MON_STDIN, .body = slice_str("hello") }, m;
	struct mon_msg more = { .type = MON_CREDIT, .credit = { AGENT_STDERR, 500 } };
	uint32_t conn;
	struct rig_client c = rig_command(r, "cat", 5, &conn);

	rig_put(&c, &in);
	rig_put(&c, &more);
	rig_put(&c, &(struct mon_msg){ .type = MON_STDIN_END });
	rig_put(&c, &(struct mon_msg){ .type = MON_RESIZE, .resize = { 5, 6 } });
	rig_output(r, conn, AGENT_STDOUT, "out", 3);
	m = rig_expect(r, &c, MON_OUTPUT);
	assert_int_equal(m.output.stream, AGENT_STDOUT);
	assert_memory_equal(m.output.data.p, "out", 3);
	assert_string_equal(rig_find(r, AGENT_HOST_STDIN, 0)->text, "hello");
	assert_int_equal(rig_find(r, AGENT_HOST_CREDIT, 0)->number, 500);
	assert_non_null(rig_find(r, AGENT_HOST_STDIN_END, 0));
	assert_non_null(rig_find(r, AGENT_HOST_RESIZE, 0));
	rig_say_type(r, conn, AGENT_GUEST_STDIN_CLOSED);
	rig_expect(r, &c, MON_STDIN_CLOSED);
	rig_say(r, conn, &end);
	m = rig_expect(r, &c, MON_EXITED);
	assert_int_equal(m.exited.code, 3);
	assert_int_equal(m.exited.flags, MON_F_OOM);
	assert_false(rig_next(r, &c, &m));
	assert_true(c.eof);
	assert_int_equal(r->m.n_clients, 0);
	rig_hang_up(&c);
	rig_free(r);
}

/* Output beyond the credit ends that command only; its connection is aborted, what else it says is dropped. */
static void test_guest_overruns_credit(void **state _unused_)
{
	static char data[AGENT_DATA_MAX];
	struct rig *r = up();
	uint32_t bad, good;
	struct rig_client a = rig_command(r, "bad", 0, &bad), b = rig_command(r, "good", 0, &good);
	struct mon_msg m;

	for (int i = 0; i < AGENT_WINDOW / AGENT_DATA_MAX; i++)
		rig_output(r, bad, AGENT_STDERR, data, sizeof(data));
	rig_output(r, bad, AGENT_STDERR, "!", 1);
	rig_pump(r);
	assert_true(rig_conn(r, bad)->gone);
	for (int i = 0; i < AGENT_WINDOW / AGENT_DATA_MAX; i++)
		rig_expect(r, &a, MON_OUTPUT);
	rig_expect_error(r, &a, VIAL_E_PROTOCOL, "more output than was granted");
	rig_output(r, good, AGENT_STDOUT, "ok", 2);
	m = rig_expect(r, &b, MON_OUTPUT);
	assert_int_equal(m.output.data.n, 2);
	assert_false(rig_ended(r));
	rig_hang_up(&a);
	rig_hang_up(&b);
	rig_free(r);
}

/* A client that does not read, a guest that goes on after the last message: nothing piles up. */
static void test_flood_after_the_end(void **state _unused_)
{
	static char data[AGENT_DATA_MAX];
	struct rig *r = up();
	uint32_t conn;
	struct rig_client a = rig_command(r, "flood", 0, &conn);
	struct agent_guest_msg end = { .type = AGENT_GUEST_EXITED };

	for (int i = 0; i < AGENT_WINDOW / AGENT_DATA_MAX; i++)
		rig_output(r, conn, AGENT_STDOUT, data, sizeof(data));
	rig_say(r, conn, &end);
	rig_pump(r);
	assert_non_null(r->m.clients); /* its last words wait for a reader */
	for (int i = 0; i < 100; i++) {
		rig_output(r, conn, AGENT_STDOUT, data, sizeof(data));
		rig_pump(r);
	}
	assert_true(r->m.clients->guest_in.buf.len < 2 * AGENT_DATA_MAX);
	assert_true(outq_pending(&r->m.clients->out) <= AGENT_WINDOW + KIB(4));
	rig_hang_up(&a);
	rig_free(r);
}

/* Each byte in a message of its own is within the credit, too: the client gets all of it when it reads at last. */
static void test_small_messages_to_a_slow_client(void **state _unused_)
{
	struct rig *r = up();
	struct agent_guest_msg g = { .type = AGENT_GUEST_OUTPUT, .data = { AGENT_STDOUT, slice_str("x") } };
	_cleanup_buf_ struct buf one = { 0 };
	uint32_t conn;
	struct rig_client c = rig_command(r, "yes", 0, &conn);
	struct mon_msg m;
	size_t got = 0;

	assert_int_equal(agent_guest_msg_put(&one, &g), 0);
	for (size_t sent = 0; sent < AGENT_WINDOW; sent += 1024) {
		_cleanup_buf_ struct buf many = { 0 };
		for (int i = 0; i < 1024; i++)
			buf_append(&many, one.data, one.len);
		rig_say_raw(r, conn, many.data, many.len);
		rig_pump(r);
	}
	rig_say_type(r, conn, AGENT_GUEST_EXITED);
	while (rig_next(r, &c, &m) && m.type == MON_OUTPUT)
		got += m.output.data.n;
	assert_int_equal(m.type, MON_EXITED);
	assert_int_equal(got, AGENT_WINDOW);
	rig_hang_up(&c);
	rig_free(r);
}

static void test_slow_client_delays_nobody(void **state _unused_)
{
	static char data[AGENT_DATA_MAX];
	struct rig *r = up();
	uint32_t slow, quick;
	struct rig_client a = rig_command(r, "slow", 0, &slow), b = rig_command(r, "quick", 0, &quick);
	struct mon_msg m;

	for (int i = 0; i < AGENT_WINDOW / AGENT_DATA_MAX; i++)
		rig_output(r, slow, AGENT_STDOUT, data, sizeof(data));
	rig_output(r, quick, AGENT_STDOUT, "now", 3);
	rig_expect(r, &b, MON_OUTPUT);
	assert_true(outq_pending(&r->m.clients->next->out) > 0); /* the other one has not read */
	for (int i = 0; i < AGENT_WINDOW / AGENT_DATA_MAX; i++)
		rig_expect(r, &a, MON_OUTPUT);
	assert_false(rig_next(r, &a, &m));
	assert_false(a.eof);
	rig_hang_up(&a);
	rig_hang_up(&b);
	rig_free(r);
}

static void test_client_overruns_credit(void **state _unused_)
{
	struct rig *r = up();
	struct mon_msg in = { .type = MON_STDIN, .body = slice_str("12345") };
	uint32_t conn;
	struct rig_client c = rig_command(r, "cat", 7, &conn);
	struct agent_guest_msg more = { .type = AGENT_GUEST_CREDIT, .credit = { AGENT_STDIN, 3 } };

	rig_put(&c, &in);
	rig_say(r, conn, &more);
	rig_expect(r, &c, MON_CREDIT);
	rig_put(&c, &in);
	rig_pump(r);
	assert_string_equal(rig_find(r, AGENT_HOST_STDIN, 1)->text, "12345");
	rig_put(&c, &in);
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, "more stdin than was granted");
	rig_pump(r);
	assert_true(rig_conn(r, conn)->gone);
	assert_null(rig_find(r, AGENT_HOST_STDIN, 2));
	rig_hang_up(&c);
	rig_free(r);
}

static void expect_refused(struct mon_msg msg, const char *text)
{
	struct rig *r = up();
	uint32_t conn;
	struct rig_client c = rig_command(r, "x", 0, &conn);

	rig_put(&c, &msg);
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, text);
	rig_hang_up(&c);
	rig_free(r);
}

static void test_client_nonsense(void **state _unused_)
{
	expect_refused((struct mon_msg){ .type = MON_CREDIT, .credit = { AGENT_STDIN, 1 } },
		       "unknown stream");
	expect_refused((struct mon_msg){ .type = MON_CREDIT, .credit = { AGENT_STDOUT, 0xffffffff } },
		       "too much credit");
	expect_refused((struct mon_msg){ .type = MON_EXITED }, "unknown type");

	struct rig *r = up();
	struct rig_client c = rig_connect(r), d = rig_connect(r), e = rig_connect(r);
	rig_put(&c, &(struct mon_msg){ .type = MON_STDIN_END });
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, "before the exec request");
	assert_int_equal(send(d.fd, "\xff\xff\xff\xff", 4, 0), 4);
	rig_expect_error(r, &d, VIAL_E_PROTOCOL, "malformed");
	rig_put(&e, &(struct mon_msg){ .type = MON_PING });
	rig_expect(r, &e, MON_DONE);
	assert_false(rig_ended(r));
	rig_hang_up(&c);
	rig_hang_up(&d);
	rig_hang_up(&e);
	rig_free(r);
}

static void expect_command_ends(struct agent_guest_msg g, const char *text)
{
	struct rig *r = up();
	uint32_t conn;
	struct rig_client c = rig_command(r, "x", 1000, &conn);

	rig_say(r, conn, &g);
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, text);
	assert_false(rig_ended(r));
	rig_hang_up(&c);
	rig_free(r);
}

static void test_guest_nonsense(void **state _unused_)
{
	struct agent_guest_msg credit = { .type = AGENT_GUEST_CREDIT, .credit = { AGENT_STDIN, 1 << 30 } };
	struct agent_guest_msg again = { .type = AGENT_GUEST_STARTED, .started = { 1, 5 } };
	struct rig_client c;
	struct rig *r;
	uint32_t conn;

	expect_command_ends(credit, "too much credit");
	expect_command_ends(again, "started the command twice");
	r = up();
	c = rig_command(r, "x", 0, &conn);
	rig_say_raw(r, conn, "\0\0\0\x02\xff\xff", 6);
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, "malformed");
	assert_false(rig_ended(r));
	rig_hang_up(&c);
	c = rig_command(r, "y", 0, &conn);
	rig_drop(r, conn);
	rig_wait(r);
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, "dropped the command's connection");
	rig_hang_up(&c);
	rig_free(r);
}

static void test_failure_to_start(void **state _unused_)
{
	struct rig *r = up();
	struct agent_guest_msg g = { .type = AGENT_GUEST_FAILED,
				     .failed = { AGENT_FAIL_NOT_FOUND, ENOENT, slice_str("no 'x' here") } };
	struct rig_client c = rig_connect(r);

	rig_exec(&c, "x", 10);
	rig_pump(r);
	rig_say(r, rig_find(r, AGENT_HOST_EXEC, 0)->conn, &g);
	rig_expect_error(r, &c, VIAL_E_CMD_NOT_FOUND, "no 'x' here");
	rig_hang_up(&c);
	rig_free(r);
}

static void test_hang_up_aborts(void **state _unused_)
{
	struct rig *r = up();
	uint32_t conn, other;
	struct rig_client c = rig_command(r, "sleep", 0, &conn), d = rig_command(r, "stay", 0, &other);

	rig_hang_up(&c);
	rig_pump(r);
	assert_true(rig_conn(r, conn)->gone);
	assert_false(rig_conn(r, other)->gone);
	assert_int_equal(r->m.n_clients, 1);
	rig_hang_up(&d);
	rig_free(r);
}

static void test_too_many_clients(void **state _unused_)
{
	struct rlimit files = { 4096, 4096 };
	static struct rig_client c[MON_CLIENTS_MAX];
	struct mon_msg m;

	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		skip();
	struct rig *r = up();
	for (size_t i = 0; i < MON_CLIENTS_MAX; i++) {
		c[i] = rig_connect(r);
		if (i % 20 == 0)
			rig_pump(r);
	}
	rig_pump(r);
	assert_int_equal(r->m.n_clients, MON_CLIENTS_MAX);
	struct rig_client late = rig_connect(r);
	assert_false(rig_next(r, &late, &m));
	assert_true(late.eof);
	rig_hang_up(&late);
	/* One that leaves makes room. */
	rig_hang_up(&c[7]);
	rig_pump(r);
	c[7] = rig_connect(r);
	rig_put(&c[7], &(struct mon_msg){ .type = MON_PING });
	rig_expect(r, &c[7], MON_DONE);
	for (size_t i = 0; i < MON_CLIENTS_MAX; i++)
		rig_hang_up(&c[i]);
	rig_pump(r);
	assert_int_equal(r->m.n_clients, 0);
	rig_free(r);
}

/* No descriptor left for a client: it waits, the monitor does not spin, and it is served when there is one. */
static void test_no_descriptor_for_a_client(void **state _unused_)
{
	struct rig *r = up();
	struct rig_client c = rig_connect(r);
	struct rlimit was, none;
	struct mon_msg m;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	int next = dup(c.fd);
	close(next);
	none = (struct rlimit){ (rlim_t)next, was.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rig_pump(r);
	assert_int_equal(r->m.n_clients, 0);
	uint64_t before = clock_mono_ns();
	assert_int_equal(loop_turn(r->m.loop, 20), 0);
	assert_true(clock_mono_ns() - before >= 20 * NS_PER_MS); /* nothing called for it */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	rig_put(&c, &(struct mon_msg){ .type = MON_PING });
	for (int i = 0; i < 100 && r->m.n_clients == 0; i++)
		assert_int_equal(loop_turn(r->m.loop, 1000), 0);
	assert_true(rig_next(r, &c, &m));
	assert_int_equal(m.type, MON_DONE);
	rig_hang_up(&c);
	rig_free(r);
}

/* Each start would grant stdin to queue for a guest that never reads. */
static void test_guest_starts_twice(void **state _unused_)
{
	struct rig *r = up();
	uint32_t conn;
	struct rig_client c = rig_command(r, "twice", 10, &conn);

	rig_started(r, conn, 10);
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, "twice");
	rig_hang_up(&c);
	rig_free(r);
}

/* Numbers that a client would do arithmetic with, or look up. */
static void test_guest_numbers_out_of_range(void **state _unused_)
{
	struct rig *r = up();
	struct agent_guest_msg end = { .type = AGENT_GUEST_EXITED, .exited = { .signal = 65 } };
	struct agent_guest_msg failed = { .type = AGENT_GUEST_FAILED, .failed = { .sys_errno = 0xffffffff } };
	uint32_t conn;
	struct rig_client c = rig_command(r, "signal", 0, &conn);

	rig_say(r, conn, &end);
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, "unknown signal");
	rig_hang_up(&c);
	c = rig_command(r, "errno", 0, &conn);
	rig_say(r, conn, &failed);
	assert_int_equal(rig_expect(r, &c, MON_ERROR).error.sys_errno, 0);
	rig_hang_up(&c);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands_wait_and_start_in_order),
		cmocka_unit_test(test_a_command),
		cmocka_unit_test(test_guest_overruns_credit),
		cmocka_unit_test(test_flood_after_the_end),
		cmocka_unit_test(test_small_messages_to_a_slow_client),
		cmocka_unit_test(test_slow_client_delays_nobody),
		cmocka_unit_test(test_client_overruns_credit),
		cmocka_unit_test(test_client_nonsense),
		cmocka_unit_test(test_guest_nonsense),
		cmocka_unit_test(test_guest_starts_twice),
		cmocka_unit_test(test_guest_numbers_out_of_range),
		cmocka_unit_test(test_failure_to_start),
		cmocka_unit_test(test_hang_up_aborts),
		cmocka_unit_test(test_too_many_clients),
		cmocka_unit_test(test_no_descriptor_for_a_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
