// SPDX-License-Identifier: Apache-2.0
// Series of QMP commands against a QEMU played by the test: order, refusals, what is brought back.
#include "test.h"

#include <sys/socket.h>

#include "engine/qemu_script.h"

struct rig {
	struct loop *loop;
	struct qmp *qmp;
	int ours, qemu;
	struct script s;
};

static void ignore_error(void *data _unused_, const char *desc _unused_)
{
}

static void ignore_event(void *data _unused_, const char *name _unused_, const char *status _unused_)
{
}

static void ignore_close(void *data _unused_)
{
}

static const struct qmp_events events = { ignore_error, ignore_event, ignore_close, NULL };

static struct rig *new_rig(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	char line[100];
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	r->ours = sv[0];
	r->qemu = sv[1];
	assert_int_equal(loop_new(&r->loop), 0);
	assert_int_equal(qmp_new(r->loop, r->ours, true, &events, r, &r->qmp), 0);
	assert_true(recv(r->qemu, line, sizeof(line), 0) > 0); /* the negotiation */
	return r;
}

static void free_rig(struct rig *r)
{
	script_done(&r->s);
	qmp_free(r->qmp);
	loop_free(r->loop);
	fd_close(&r->ours);
	fd_close(&r->qemu);
	free(r);
}

/* The one command that QEMU has got is @name; what else it says holds @text. */
static void expect(struct rig *r, const char *name, const char *text)
{
	char line[600] = "", want[80];
	ssize_t n = recv(r->qemu, line, sizeof(line) - 1, 0);

	assert_true(n > 0);
	assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	snprintf(want, sizeof(want), "{\"execute\":\"%s\"", name);
	assert_ptr_equal(strstr(line, want), line);
	assert_non_null(strstr(line, text));
}

static void nothing(struct rig *r)
{
	char c;

	assert_int_equal(recv(r->qemu, &c, 1, 0), -1);
}

static void yes(struct rig *r, const char *name, const char *text)
{
	expect(r, name, text);
	assert_int_equal(script_returned(&r->s, r->qmp), 0);
}

static struct rig *snapshot(bool layers, bool resume)
{
	struct rig *r = new_rig();
	const struct engine_snapshot to = { 0, 0, 1, 2 };
	const struct snapshot_plan plan = { .number = 3,
					    .top = "upper2",
					    .next_top = "upper3",
					    .layers_set = layers ? 9 : 0,
					    .root_bytes = 12345,
					    .resume = resume,
					    .to = &to };

	script_snapshot(&r->s, &plan);
	assert_int_equal(script_start(&r->s, r->qmp), 0);
	return r;
}

static void up_to_the_switch(struct rig *r)
{
	yes(r, "stop", "");
	yes(r, "migrate-set-capabilities", "\"x-ignore-shared\",\"state\":false");
	yes(r, "migrate-set-parameters", "max-bandwidth");
	yes(r, "getfd", "state");
}

static void test_snapshot(void **state _unused_)
{
	struct rig *r = snapshot(true, true);

	up_to_the_switch(r);
	yes(r, "blockdev-add", "\"size\":12345");
	yes(r, "blockdev-reopen", "\"file\":\"empty\"");
	yes(r, "blockdev-del", "layers");
	yes(r, "add-fd", "1003");
	yes(r, "add-fd", "1003");
	yes(r, "blockdev-add", "/dev/fdset/1003");
	assert_false(r->s.switched);
	yes(r, "blockdev-snapshot", "\"node\":\"upper2\",\"overlay\":\"upper3\"");
	assert_true(r->s.switched);
	yes(r, "migrate", "fd:state");
	nothing(r); /* until the migration is over */
	assert_int_equal(script_migrated(&r->s, r->qmp, NULL), 0);
	yes(r, "blockdev-add", "/dev/fdset/9");
	yes(r, "blockdev-reopen", "\"file\":\"layers\"");
	yes(r, "blockdev-del", "empty");
	expect(r, "cont", "");
	assert_int_equal(script_returned(&r->s, r->qmp), 1);
	assert_false(r->s.failed || r->s.active);
	nothing(r);
	free_rig(r);
}

/* A paused machine is not started by being saved. */
static void test_stays_paused(void **state _unused_)
{
	struct rig *r = snapshot(false, false);

	up_to_the_switch(r);
	yes(r, "add-fd", "");
	yes(r, "add-fd", "");
	yes(r, "blockdev-add", "");
	yes(r, "blockdev-snapshot", "");
	yes(r, "migrate", "");
	assert_int_equal(script_migrated(&r->s, r->qmp, NULL), 1);
	nothing(r);
	free_rig(r);
}

/* Whatever is refused: the rest is left out, and the machine goes on with its root disk. */
static void test_refusal(void **state _unused_)
{
	struct rig *r = snapshot(true, true);

	up_to_the_switch(r);
	expect(r, "blockdev-add", "null-co");
	assert_int_equal(script_refused(&r->s, r->qmp, "no such driver"), 0);
	expect(r, "blockdev-add", "vmdk");
	/* It never went away: what brings it back fails, which is no matter. */
	assert_int_equal(script_refused(&r->s, r->qmp, "duplicate node"), 0);
	expect(r, "blockdev-reopen", "");
	assert_int_equal(script_refused(&r->s, r->qmp, "no"), 0);
	expect(r, "blockdev-del", "");
	assert_int_equal(script_refused(&r->s, r->qmp, "no"), 0);
	expect(r, "cont", "");
	assert_int_equal(script_returned(&r->s, r->qmp), 1);
	assert_true(r->s.failed);
	assert_false(r->s.switched);
	assert_string_equal(r->s.why, "no such driver");
	free_rig(r);
}

static void test_migration_fails(void **state _unused_)
{
	struct rig *r = snapshot(false, true);

	/* Another's migration is none of the script's business. */
	assert_int_equal(script_migrated(&r->s, r->qmp, "not mine"), 0);
	assert_false(r->s.failed);
	up_to_the_switch(r);
	yes(r, "add-fd", "");
	yes(r, "add-fd", "");
	yes(r, "blockdev-add", "");
	yes(r, "blockdev-snapshot", "");
	yes(r, "migrate", "");
	assert_int_equal(script_migrated(&r->s, r->qmp, "disk full"), 0);
	expect(r, "cont", "");
	assert_int_equal(script_returned(&r->s, r->qmp), 1);
	assert_true(r->s.failed && r->s.switched);
	assert_string_equal(r->s.why, "disk full");
	free_rig(r);
}

static void test_too_long(void **state _unused_)
{
	struct rig *r = new_rig();

	assert_int_equal(script_start(&r->s, r->qmp), -EINVAL);
	for (int i = 0; i <= SCRIPT_MAX; i++)
		script_add(&r->s, -1, "{}");
	assert_int_equal(script_start(&r->s, r->qmp), -E2BIG);
	nothing(r);
	free_rig(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshot), cmocka_unit_test(test_stays_paused),
		cmocka_unit_test(test_refusal),	 cmocka_unit_test(test_migration_fails),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
