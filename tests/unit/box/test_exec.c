// SPDX-License-Identifier: Apache-2.0
// The client's side of a command, against a monitor played by the test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "box/boxdir.h"
#include "box/exec.h"

struct rig {
	char name[32];
	struct vial home;
	struct vial_box box;
	int listen, peer;
	struct frame_in in;
	struct vial_exec *x;
	struct vial_err err;
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	strcpy(r->name, "/tmp/vial-test-XXXXXX");
	assert_non_null(mkdtemp(r->name));
	r->home.boxes_fd = open(r->name, O_RDONLY | O_DIRECTORY);
	r->box.home = &r->home;
	r->box.started = true;
	r->box.launcher.pid = getpid(); /* some monitor */
	memset(r->box.id, 'b', 32);
	assert_int_equal(spec_new(&r->box.spec, NULL), 0);
	assert_int_equal(mkdirat(r->home.boxes_fd, r->box.id, 0700), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.31s/%s/" BOXDIR_SOCKET, r->name, r->box.id);
	r->listen = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(r->listen, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(r->listen, 1), 0);
	r->peer = -1;
	r->in.max = FRAME_MAX_EXEC;
	r->err = (struct vial_err)VIAL_ERR_INIT;
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	exec_free(r->x);
	frame_in_done(&r->in);
	fd_close(&r->peer);
	fd_close(&r->listen);
	close(r->home.boxes_fd);
	spec_free(r->box.spec);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, r->name), 0);
	free(r);
	return 0;
}

static void say(struct rig *r, struct mon_msg m)
{
	_cleanup_buf_ struct buf b = { 0 };

	assert_int_equal(mon_msg_put(&b, &m), 0);
	assert_int_equal(fd_write_full(r->peer, b.data, b.len), 0);
}

/* The next message of the client; fails if there is none. */
static struct mon_msg hear(struct rig *r)
{
	static char chunk[KIB(64)];
	struct mon_msg m = { 0 };
	const uint8_t *p;
	size_t n;

	while (frame_in_next(&r->in, &p, &n) == 0) {
		ssize_t got = recv(r->peer, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (got <= 0)
			fail_msg("nothing was said");
		assert_int_equal(frame_in_push(&r->in, chunk, (size_t)got), 0);
	}
	assert_int_equal(mon_msg_decode(p, n, &m), 0);
	return m;
}

static void start(struct rig *r, uint32_t flags)
{
	const char *const argv[] = { "prog", "arg", NULL }, *const env[] = { "K=V", NULL };
	struct vial_exec_opts o = {
		.size = sizeof(o), .argv = argv, .env = env, .flags = flags, .cwd = "/tmp", .timeout_ms = 9
	};
	struct agent_exec x;

	if (exec_start(&r->box, &o, &r->x, &r->err) < 0)
		fail_msg("%s", r->err.msg);
	r->peer = accept(r->listen, NULL, NULL);
	assert_true(r->peer >= 0);
	struct mon_msg m = hear(r);
	assert_int_equal(m.type, MON_EXEC);
	assert_int_equal(mon_exec_decode(m.body, &x), 0);
	assert_string_equal(x.argv.v[1], "arg");
	assert_string_equal(strv_getenv(&x.env, "K"), "V");
	assert_non_null(strv_getenv(&x.env, "PATH"));
	assert_memory_equal(x.cwd.p, "/tmp", x.cwd.n);
	assert_int_equal(x.timeout_ms, 9);
	assert_int_equal(x.want_stdin, (flags & VIAL_EXEC_STDIN) != 0);
	assert_int_equal(x.window, AGENT_WINDOW);
	exec_request_done(&x);
}

static struct vial_event next(struct rig *r, int type)
{
	struct vial_event e = { 0 };

	if (exec_next(r->x, 0, &e, &r->err) != 1)
		fail_msg("no event: %s", r->err.msg);
	assert_int_equal(e.type, type);
	return e;
}

static int next_fails(struct rig *r)
{
	struct vial_event e;

	r->err = (struct vial_err)VIAL_ERR_INIT;
	return exec_next(r->x, 0, &e, &r->err);
}

static void test_events(void **state)
{
	struct rig *r = *state;
	struct vial_event e;

	start(r, 0);
	assert_int_equal(next_fails(r), 0);
	say(r, (struct mon_msg){ .type = MON_STARTED, .started = { 7, 0 } });
	say(r, (struct mon_msg){ .type = MON_OUTPUT, .output = { AGENT_STDERR, slice_str("oops") } });
	say(r, (struct mon_msg){ .type = MON_STDIN_CLOSED });
	say(r, (struct mon_msg){ .type = MON_EXITED, .exited = { 0, 9, MON_F_OOM } });
	assert_int_equal(next(r, VIAL_EVENT_STARTED).pid, 7);
	e = next(r, VIAL_EVENT_STDERR);
	assert_int_equal(e.len, 4);
	assert_memory_equal(e.data, "oops", 4);
	next(r, VIAL_EVENT_STDIN_CLOSED);
	e = next(r, VIAL_EVENT_EXITED);
	assert_int_equal(e.signal, 9);
	assert_int_equal(e.flags, VIAL_EXITED_OOM);
	assert_int_equal(next_fails(r), VIAL_E_STATE);
	assert_int_equal(exec_send(r->x, &(struct mon_msg){ .type = MON_SIGNAL, .u32 = 1 }, NULL),
			 VIAL_E_STATE);
}

/* Credit goes back in portions, for what the next call shows as dealt with. */
static void test_credit_goes_back(void **state)
{
	static const uint8_t data[AGENT_DATA_MAX];
	struct rig *r = *state;
	size_t granted = 0;

	start(r, 0);
	for (int i = 0; i < 8; i++) {
		say(r, (struct mon_msg){ .type = MON_OUTPUT,
					 .output = { AGENT_STDOUT, { data, sizeof(data) } } });
		next(r, VIAL_EVENT_STDOUT);
	}
	assert_int_equal(next_fails(r), 0);
	for (size_t want = 8 * sizeof(data); granted < want;) {
		struct mon_msg m = hear(r);
		assert_int_equal(m.type, MON_CREDIT);
		assert_int_equal(m.credit.stream, AGENT_STDOUT);
		assert_true(m.credit.bytes >= EXEC_ACK_STEP);
		granted += m.credit.bytes;
	}
	assert_int_equal(granted, 8 * sizeof(data));
}

static void test_manual_ack(void **state)
{
	static const uint8_t data[AGENT_DATA_MAX];
	struct rig *r = *state;
	char byte;

	start(r, VIAL_EXEC_MANUAL_ACK);
	for (int i = 0; i < 4; i++) {
		say(r, (struct mon_msg){ .type = MON_OUTPUT,
					 .output = { AGENT_STDOUT, { data, sizeof(data) } } });
		next(r, VIAL_EVENT_STDOUT);
	}
	assert_int_equal(next_fails(r), 0);
	assert_int_equal(recv(r->peer, &byte, 1, MSG_DONTWAIT), -1); /* not a word */
	assert_int_equal(exec_ack(r->x, AGENT_STDOUT, EXEC_ACK_STEP - 1, NULL), 0);
	assert_int_equal(recv(r->peer, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(exec_ack(r->x, AGENT_STDOUT, 1, NULL), 0);
	assert_int_equal(hear(r).credit.bytes, EXEC_ACK_STEP);
	assert_int_equal(exec_ack(r->x, AGENT_STDIN, 1, NULL), VIAL_E_INVALID);
	assert_int_equal(exec_ack(r->x, 3, 1, NULL), VIAL_E_INVALID);
}

static void test_stdin(void **state)
{
	struct rig *r = *state;

	start(r, VIAL_EXEC_STDIN);
	assert_int_equal(exec_write(r->x, "early", 5, NULL), 0); /* no room before the start */
	say(r, (struct mon_msg){ .type = MON_STARTED, .started = { 7, 4 } });
	next(r, VIAL_EVENT_STARTED);
	next(r, VIAL_EVENT_WRITABLE);
	assert_int_equal(next_fails(r), 0);
	assert_int_equal(exec_write(r->x, "hello", 5, NULL), 4);
	struct mon_msg m = hear(r);
	assert_int_equal(m.type, MON_STDIN);
	assert_int_equal(m.body.n, 4);
	assert_int_equal(exec_write(r->x, "o", 1, NULL), 0);
	say(r, (struct mon_msg){ .type = MON_CREDIT, .credit = { AGENT_STDIN, 100000 } });
	next(r, VIAL_EVENT_WRITABLE);
	_cleanup_free_ char *big = calloc(1, 70000);
	assert_int_equal(exec_write(r->x, big, 70000, NULL), 70000);
	assert_int_equal(hear(r).body.n, AGENT_DATA_MAX);
	assert_int_equal(hear(r).body.n, AGENT_DATA_MAX);
	assert_int_equal(hear(r).body.n, 70000 - 2 * AGENT_DATA_MAX);
	assert_int_equal(exec_close_stdin(r->x, NULL), 0);
	assert_int_equal(exec_close_stdin(r->x, NULL), 0);
	assert_int_equal(hear(r).type, MON_STDIN_END);
	assert_int_equal(exec_write(r->x, "x", 1, NULL), VIAL_E_STATE);
}

/* What the monitor said before it went counts, whatever we still had to say to it. */
static void test_error_before_the_end(void **state)
{
	struct rig *r = *state;
	struct mon_msg m = { .type = MON_ERROR };

	start(r, 0);
	m.error.code = VIAL_E_CMD_NOT_FOUND;
	m.error.sys_errno = 2;
	m.error.text = slice_str("no 'prog' here");
	say(r, m);
	fd_close(&r->peer);
	assert_int_equal(exec_send(r->x, &(struct mon_msg){ .type = MON_SIGNAL, .u32 = 1 }, NULL), 0);
	assert_int_equal(next_fails(r), VIAL_E_CMD_NOT_FOUND);
	assert_string_equal(r->err.msg, "no 'prog' here");
	assert_int_equal(r->err.sys_errno, 2);
	assert_int_equal(next_fails(r), VIAL_E_STATE);
}

static void test_monitor_goes(void **state)
{
	struct rig *r = *state;

	start(r, 0);
	fd_close(&r->peer);
	assert_int_equal(next_fails(r), VIAL_E_ENGINE);
	assert_non_null(strstr(r->err.msg, "the box ended"));
}

static void test_nonsense(void **state)
{
	struct rig *r = *state;

	start(r, 0);
	assert_int_equal(fd_write_full(r->peer, "\0\0\0\x04\x21\0\x01\0", 8), 0); /* OUTPUT without stream */
	assert_int_equal(next_fails(r), VIAL_E_PROTOCOL);
}

static void test_too_long(void **state)
{
	struct rig *r = *state;

	start(r, 0);
	assert_int_equal(fd_write_full(r->peer, "\xff\xff\xff\xff", 4), 0);
	assert_true(next_fails(r) < 0);
}

static void test_error_code_is_always_one(void **state)
{
	struct rig *r = *state;

	start(r, 0);
	say(r, (struct mon_msg){ .type = MON_ERROR, .error = { .code = 0, .text = slice_str("x") } });
	assert_int_equal(next_fails(r), VIAL_E_ENGINE);
}

static void test_time_limit(void **state)
{
	struct rig *r = *state;
	struct vial_event e;

	start(r, 0);
	assert_int_equal(exec_next(r->x, 20, &e, NULL), 0);
	assert_int_equal(exec_poll_events(r->x), POLLIN);
}

static void test_no_box(void **state)
{
	struct rig *r = *state;
	struct vial_exec_opts o = { .size = sizeof(o) };
	struct vial_exec *x = NULL;

	r->box.started = false;
	assert_int_equal(exec_start(&r->box, &o, &x, NULL), VIAL_E_STATE);
	r->box.launcher.pid = 0;
	r->box.started = true;
	assert_int_equal(exec_start(&r->box, &o, &x, NULL), VIAL_E_STATE);
	r->box.launcher.pid = getpid();
	fd_close(&r->listen);
	assert_int_equal(exec_start(&r->box, &o, &x, &r->err), VIAL_E_ENGINE);
	assert_non_null(strstr(r->err.msg, "the box has ended"));
	const char *const bad[] = { "NOEQUALS", NULL };
	o.env = bad;
	assert_int_equal(exec_start(&r->box, &o, &x, NULL), VIAL_E_INVALID);
	assert_null(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_credit_goes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_manual_ack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stdin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error_before_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_monitor_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error_code_is_always_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_box, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
