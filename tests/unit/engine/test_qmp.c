// SPDX-License-Identifier: Apache-2.0
// The QMP client against a QEMU played by the test.
#include "test.h"

#include <sys/socket.h>

#include "engine/qmp.h"

struct heard {
	char error[300], event[100], status[100];
	int errors, events, closes, returns;
};

static void on_error(void *data, const char *desc)
{
	struct heard *h = data;

	h->errors++;
	snprintf(h->error, sizeof(h->error), "%s", desc);
}

static void on_event(void *data, const char *name, const char *status)
{
	struct heard *h = data;

	h->events++;
	snprintf(h->event, sizeof(h->event), "%s", name);
	snprintf(h->status, sizeof(h->status), "%s", status ? status : "none");
}

static void on_closed(void *data)
{
	struct heard *h = data;

	h->closes++;
}

static void on_returned(void *data)
{
	struct heard *h = data;

	h->returns++;
}

static const struct qmp_events events = { on_error, on_event, on_closed, on_returned };

struct rig {
	struct loop *loop;
	struct qmp *qmp;
	int ours, qemu;
	struct heard heard;
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	char line[100] = "";
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	r->ours = sv[0];
	r->qemu = sv[1];
	assert_int_equal(loop_new(&r->loop), 0);
	assert_int_equal(qmp_new(r->loop, r->ours, true, &events, &r->heard, &r->qmp), 0);
	assert_true(recv(r->qemu, line, sizeof(line) - 1, 0) > 0);
	assert_string_equal(line, "{\"execute\":\"qmp_capabilities\"}\n");
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	qmp_free(r->qmp);
	loop_free(r->loop);
	fd_close(&r->ours);
	fd_close(&r->qemu);
	free(r);
	return 0;
}

static struct heard *say(struct rig *r, const char *text)
{
	assert_int_equal(send(r->qemu, text, strlen(text), 0), (ssize_t)strlen(text));
	for (int i = 0; i < 4; i++)
		assert_int_equal(loop_turn(r->loop, 0), 0);
	return &r->heard;
}

static void test_events(void **state)
{
	struct heard *h = say(*state, "{\"QMP\": {}}\r\n{\"return\": {}}\r\n");

	assert_int_equal(h->events + h->errors, 0);
	say(*state, "{\"event\": \"RESUME\", \"timestamp\": {\"seconds\": 1}}\r\n");
	assert_string_equal(h->event, "RESUME");
	assert_string_equal(h->status, "none");
	/* In two pieces, two in one piece. */
	say(*state, "{\"event\": \"MIGRATION\", \"data\": {\"stat");
	assert_int_equal(h->events, 1);
	say(*state,
	    "us\": \"active\"}}\n{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n");
	assert_int_equal(h->events, 3);
	assert_string_equal(h->status, "completed");
}

static void test_errors(void **state)
{
	struct heard *h = say(*state, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no way\"}}\n");

	assert_string_equal(h->error, "no way");
	say(*state, "{\"error\": 7}\n");
	assert_string_equal(h->error, "no description");
	assert_int_equal(h->errors, 2);
}

static void test_garbage(void **state)
{
	struct heard *h =
		say(*state, "\n\nwhat?\n[1,2]\n\"x\"\n{\"event\": 5}\n{\"event\": null}\n\xff\xfe\n");

	say(*state, "{\"event\": \"A\", \"event\": \"B\"}\n{\"event\":\"X\",\"data\":{\"status\":[]}}\n");
	assert_int_equal(h->errors, 0);
	assert_int_equal(h->closes, 0);
	assert_int_equal(h->events, 1); /* of a line with a duplicate none is believed */
	assert_string_equal(h->event, "X");
	assert_string_equal(h->status, "none");
}

static void test_deep_nesting(void **state)
{
	_cleanup_free_ char *deep = malloc(KIB(64));
	struct heard *h;

	memset(deep, '[', KIB(60));
	strcpy(deep + KIB(60), "\n");
	h = say(*state, deep);
	for (int i = 0; i < 20; i++)
		say(*state, "\n");
	say(*state, "{\"event\": \"RESUME\"}\n");
	assert_string_equal(h->event, "RESUME");
}

/* A line that never ends is a broken QEMU: told once, and not read any further. */
static void test_endless_line(void **state)
{
	struct rig *r = *state;
	char chunk[4096];

	memset(chunk, 'x', sizeof(chunk));
	for (int i = 0; i < 200 && r->heard.closes == 0; i++) {
		(void)send(r->qemu, chunk, sizeof(chunk), 0);
		assert_int_equal(loop_turn(r->loop, 0), 0);
	}
	assert_int_equal(r->heard.closes, 1);
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_turn(r->loop, 0), 0);
	assert_int_equal(r->heard.closes, 1);
}

static void test_hang_up(void **state)
{
	struct rig *r = *state;

	fd_close(&r->qemu);
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_turn(r->loop, 0), 0);
	assert_int_equal(r->heard.closes, 1);
	assert_int_equal(qmp_send(r->qmp, "{}", -1), -EPIPE);
}

static void test_send_with_descriptor(void **state)
{
	struct rig *r = *state;
	int fds[FD_PASS_MAX], pass = open("/dev/null", O_RDONLY);
	char line[100] = "";
	size_t n = 0;

	assert_int_equal(qmp_send(r->qmp, "{\"execute\":\"getfd\"}", pass), 0);
	assert_true(fd_recv(r->qemu, line, sizeof(line) - 1, fds, &n) > 0);
	assert_string_equal(line, "{\"execute\":\"getfd\"}\n");
	assert_int_equal(n, 1);
	close(fds[0]);
	close(pass);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deep_nesting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endless_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hang_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_send_with_descriptor, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
