// SPDX-License-Identifier: Apache-2.0
// A box's life as its monitor sees it: start, templates, stop, every way to end.
#include "rig.h"

/* The lifeline speaks the same frames as a client's connection. */
static struct rig_client lifeline(struct rig *r)
{
	return (struct rig_client){ .fd = dup(r->lifeline), .in.max = FRAME_MAX };
}

static struct rig *ready(struct rig_client *ret)
{
	struct rig *r = rig_new(LAUNCH_COLD);

	rig_agent_up(r);
	rig_say_type(r, rig_control(r), AGENT_GUEST_HELLO);
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	*ret = lifeline(r);
	assert_int_equal(r->m.state, MON_UP);
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_expect(r, ret, MON_STARTED);
	assert_int_equal(r->m.state, MON_READY);
	return r;
}

static void end(struct rig *r, struct rig_client *line)
{
	rig_hang_up(line);
	rig_free(r);
}

static void test_ready(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);

	assert_non_null(rig_find(r, AGENT_HOST_REFRESH, 0));
	assert_non_null(rig_find(r, AGENT_HOST_SETUP, 0));
	assert_null(rig_find(r, AGENT_HOST_THAW, 0));
	end(r, &line);
}

/* A machine that was saved with its root set up takes its identity and thaws. */
static void test_rooted(void **state _unused_)
{
	struct rig *r = rig_new_rooted();
	struct rig_client line = lifeline(r);
	struct mon_msg m;

	rig_agent_up(r);
	assert_null(rig_find(r, AGENT_HOST_SETUP, 0));
	assert_non_null(rig_find(r, AGENT_HOST_THAW, 0));
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	assert_false(rig_next(r, &line, &m));
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_expect(r, &line, MON_STARTED);
	end(r, &line);
}

/* A machine that only turns a snapshot into a template's files: whatever it is sent would be in what it saves. */
static void test_conversion_is_sent_nothing(void **state _unused_)
{
	struct rig *r = rig_new(LAUNCH_CONVERT);
	struct rig_client line = lifeline(r);
	char c;

	monitor_flush_agent(&r->m);
	rig_pump(r);
	assert_int_equal(recv(r->agent, &c, 1, MSG_DONTWAIT), -1);
	r->ev->saved(r->ev_data, NULL);
	assert_int_equal(r->kills, 1);
	r->ev->exited(r->ev_data, "killed");
	rig_expect(r, &line, MON_DONE);
	end(r, &line);
}

static void test_answer_not_asked_for(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);
	uint32_t conn;
	struct rig_client c = rig_command(r, "x", 0, &conn);

	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_expect_error(r, &line, VIAL_E_PROTOCOL, "answered what was not asked");
	rig_expect_error(r, &c, VIAL_E_PROTOCOL, "answered what was not asked");
	assert_true(rig_ended(r));
	rig_hang_up(&c);
	end(r, &line);
}

static void test_setup_fails(void **state _unused_)
{
	struct rig *r = rig_new(LAUNCH_COLD);
	struct rig_client line = lifeline(r), c = rig_connect(r);
	struct agent_guest_msg g = { .type = AGENT_GUEST_FAILED,
				     .failed = { AGENT_FAIL_ROOT, 0, slice_str("no overlayfs") } };

	rig_exec(&c, "x", 10);
	rig_agent_up(r);
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_say(r, rig_control(r), &g);
	rig_expect_error(r, &line, VIAL_E_UNSUPPORTED, "set up its root file system: no overlayfs");
	rig_expect_error(r, &c, VIAL_E_UNSUPPORTED, "no overlayfs");
	rig_hang_up(&c);
	end(r, &line);
}

static void test_malformed_control_message(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);

	rig_say_raw(r, rig_control(r), "\0\0\0\x02\xff\xff", 6);
	rig_expect_error(r, &line, VIAL_E_PROTOCOL, "malformed message");
	end(r, &line);
}

static void test_control_connection_dropped(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);

	rig_drop(r, rig_control(r));
	rig_wait(r);
	rig_expect_error(r, &line, VIAL_E_PROTOCOL, "dropped its control connection");
	end(r, &line);
}

static void test_link_broken(void **state _unused_)
{
	struct rig_client line;
	struct rig *r;

	if (RIG_VSOCK)
		skip(); /* it has no link layer */
	r = ready(&line);
	assert_int_equal(send(r->agent, "garbage, garbage", 16, 0), 16);
	rig_expect_error(r, &line, VIAL_E_PROTOCOL, "link protocol");
	end(r, &line);
}

static void test_agent_of_the_future(void **state _unused_)
{
	struct rig *r = rig_new(LAUNCH_COLD);
	struct rig_client line = lifeline(r);
	struct agent_guest_msg g = { .type = AGENT_GUEST_HELLO,
				     .hello = { slice_str(AGENT_MAGIC), 7, 9, 0 } };

	rig_agent_up(r);
	rig_say(r, rig_control(r), &g);
	rig_expect_error(r, &line, VIAL_E_UNSUPPORTED, "version 7");
	end(r, &line);
}

/* What the console said last explains an end during the start. */
static void machine_ends(const char *console, const char *why, const char *text)
{
	struct rig *r = rig_new(LAUNCH_COLD);
	struct rig_client line = lifeline(r), c = rig_connect(r);

	rig_exec(&c, "x", 10);
	rig_pump(r);
	assert_int_equal(send(r->console, console, strlen(console), 0), (ssize_t)strlen(console));
	r->ev->exited(r->ev_data, why);
	rig_expect_error(r, &line, VIAL_E_ENGINE, text);
	rig_expect_error(r, &c, VIAL_E_ENGINE, text);
	rig_hang_up(&c);
	end(r, &line);
}

static void test_machine_ends(void **state _unused_)
{
	machine_ends("", NULL, "the guest ended while it started");
	machine_ends("", "QEMU: no such disk", "QEMU: no such disk");
	machine_ends("one\r\ntwo\r\n", NULL, "(its console: two)");
	machine_ends("Kernel panic - not syncing: x\r\nmore\r\n", NULL, "(its console: Kernel panic - not");
}

static void test_console_is_bounded(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);
	char text[1000];

	memset(text, 'c', sizeof(text));
	for (int i = 0; i < 100; i++) {
		assert_int_equal(send(r->console, text, sizeof(text), 0), (ssize_t)sizeof(text));
		rig_pump(r);
		assert_true(r->m.console.len <= MON_CONSOLE_MAX);
	}
	assert_true(buf_ok(&r->m.console));
	end(r, &line);
}

static void test_stop(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);
	uint32_t conn;
	struct rig_client c = rig_command(r, "x", 0, &conn), late;

	rig_put(&line, &(struct mon_msg){ .type = MON_STOP, .u32 = 60000 });
	rig_pump(r);
	assert_non_null(rig_find(r, AGENT_HOST_POWER_OFF, 0));
	assert_int_equal(r->kills, 0);
	late = rig_connect(r);
	rig_exec(&late, "late", 10);
	rig_expect_error(r, &late, VIAL_E_STATE, "stopping");
	r->ev->exited(r->ev_data, NULL);
	rig_expect(r, &line, MON_DONE);
	rig_expect_error(r, &c, VIAL_E_STATE, "stopped");
	rig_hang_up(&late);
	rig_hang_up(&c);
	end(r, &line);
}

/* A machine that powers off ends its connections before itself: their commands are told of the stop all the same. */
static void test_stop_ends_connections_first(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);
	uint32_t one, two;
	struct rig_client a = rig_command(r, "x", 0, &one), b = rig_command(r, "y", 0, &two);
	struct mon_msg m;

	rig_put(&line, &(struct mon_msg){ .type = MON_STOP, .u32 = 60000 });
	rig_pump(r);
	rig_drop(r, one);
	rig_shut(r, two);
	rig_pump(r);
	assert_false(rig_next(r, &a, &m));
	assert_false(rig_next(r, &b, &m));
	r->ev->exited(r->ev_data, NULL);
	rig_expect(r, &line, MON_DONE);
	rig_expect_error(r, &a, VIAL_E_STATE, "stopped");
	rig_expect_error(r, &b, VIAL_E_STATE, "stopped");
	rig_hang_up(&a);
	rig_hang_up(&b);
	end(r, &line);
}

static void test_stop_at_once(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);

	rig_put(&line, &(struct mon_msg){ .type = MON_STOP, .u32 = 0 });
	rig_pump(r);
	assert_int_equal(r->kills, 1);
	r->ev->exited(r->ev_data, "killed");
	rig_expect(r, &line, MON_DONE); /* as asked */
	end(r, &line);

	r = rig_new(LAUNCH_COLD); /* nobody there yet to power off */
	line = lifeline(r);
	rig_put(&line, &(struct mon_msg){ .type = MON_STOP, .u32 = 60000 });
	rig_pump(r);
	assert_int_equal(r->kills, 1);
	end(r, &line);
}

static void test_guest_ignores_power_off(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);

	rig_put(&line, &(struct mon_msg){ .type = MON_STOP, .u32 = 1 });
	while (r->kills == 0)
		assert_int_equal(loop_turn(r->m.loop, -1), 0);
	r->ev->exited(r->ev_data, "killed");
	rig_expect_error(r, &line, VIAL_E_TIMEOUT, "did not power off in time");
	end(r, &line);
}

/* Its machine breaks down while it powers off: who asked for that learns it. */
static void test_stop_breaks_down(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);

	rig_put(&line, &(struct mon_msg){ .type = MON_STOP, .u32 = 60000 });
	rig_pump(r);
	r->ev->exited(r->ev_data, "the guest crashed");
	rig_expect_error(r, &line, VIAL_E_ENGINE, "crashed");
	end(r, &line);
}

static void test_client_process_ends(void **state _unused_)
{
	struct rig_client line;
	struct rig *r = ready(&line);

	fd_close(&r->client_pipe);
	assert_int_equal(loop_run(r->m.loop), 0);
	end(r, &line);
	r = ready(&line);
	rig_hang_up(&line);
	fd_close(&r->lifeline);
	assert_int_equal(loop_run(r->m.loop), 0);
	rig_free(r);
}

static void test_build(void **state _unused_)
{
	struct rig *r = rig_new(LAUNCH_BUILD);
	struct rig_client line = lifeline(r);

	rig_agent_up(r);
	assert_null(rig_find(r, AGENT_HOST_REFRESH, 0));
	assert_non_null(rig_find(r, AGENT_HOST_QUIESCE, 0));
	assert_int_equal(r->saves, 0);
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_pump(r);
	assert_int_equal(r->saves, 1);
	r->ev->saved(r->ev_data, NULL);
	assert_int_equal(r->kills, 1);
	r->ev->exited(r->ev_data, "killed");
	rig_expect(r, &line, MON_DONE);
	end(r, &line);
}

static void test_build_fails(void **state _unused_)
{
	struct rig *r = rig_new(LAUNCH_BUILD);
	struct rig_client line = lifeline(r);

	r->save_fails = true;
	rig_agent_up(r);
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_expect_error(r, &line, VIAL_E_ENGINE, "no saving today");
	end(r, &line);

	r = rig_new(LAUNCH_BUILD);
	line = lifeline(r);
	rig_agent_up(r);
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_pump(r);
	r->ev->saved(r->ev_data, "disk full");
	rig_expect_error(r, &line, VIAL_E_ENGINE, "disk full");
	end(r, &line);
}

static void test_prepare(void **state _unused_)
{
	struct rig *r = rig_new(LAUNCH_PREPARE);
	struct rig_client line = lifeline(r);

	rig_agent_up(r);
	for (int i = 0; i < 3; i++) /* identity, root, thaw */
		rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_pump(r);
	assert_non_null(rig_find(r, AGENT_HOST_EXEC, 0));
	assert_null(rig_find(r, AGENT_HOST_QUIESCE, 0));
	/* The warm-up's output and result are nobody's; its end is what counts. */
	rig_output(r, rig_find(r, AGENT_HOST_EXEC, 0)->conn, AGENT_STDOUT, "x", 1);
	rig_shut(r, rig_find(r, AGENT_HOST_EXEC, 0)->conn);
	rig_pump(r);
	assert_non_null(rig_find(r, AGENT_HOST_QUIESCE, 0));
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_pump(r);
	assert_int_equal(r->saves, 1);
	end(r, &line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready),
		cmocka_unit_test(test_rooted),
		cmocka_unit_test(test_conversion_is_sent_nothing),
		cmocka_unit_test(test_answer_not_asked_for),
		cmocka_unit_test(test_setup_fails),
		cmocka_unit_test(test_malformed_control_message),
		cmocka_unit_test(test_control_connection_dropped),
		cmocka_unit_test(test_link_broken),
		cmocka_unit_test(test_agent_of_the_future),
		cmocka_unit_test(test_machine_ends),
		cmocka_unit_test(test_console_is_bounded),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_stop_ends_connections_first),
		cmocka_unit_test(test_stop_at_once),
		cmocka_unit_test(test_guest_ignores_power_off),
		cmocka_unit_test(test_stop_breaks_down),
		cmocka_unit_test(test_client_process_ends),
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_build_fails),
		cmocka_unit_test(test_prepare),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
