// SPDX-License-Identifier: Apache-2.0
// Sessions alone: what waits for the root and the thaw, and what becomes of connections lost in a quiesce. What sessions ask
// of the rest of the agent is played here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/console.h"
#include "agent/session.h"
#include "base/mem.h"
#include "wire/frame.h"

#define CHANS_MAX 8

/* ---- the rest of the agent ---- */

struct cmd {
	char name[16];
	const struct cmd_events *ev;
	void *user;
};

static char log_text[400]; /* what happened, in words */
static int root_result, sync_result;
static power_done_fn *quiesced;
static void *quiet_user;

static void _printf_(1, 2) note(const char *fmt, ...)
{
	size_t at = strlen(log_text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(log_text + at, sizeof(log_text) - at, fmt, ap);
	va_end(ap);
}

static void expect_log(const char *text)
{
	assert_string_equal(log_text, text);
	log_text[0] = '\0';
}

int identity_refresh(struct identity *id _unused_, struct cgroups *cs _unused_,
		     const struct agent_refresh *m _unused_, bool rooted _unused_,
		     struct vial_err *err _unused_)
{
	note("refresh ");
	return 0;
}

void identity_write(struct identity *id _unused_)
{
}

int root_setup(struct root *r, const struct agent_setup *m _unused_, struct vial_err *err)
{
	note("setup ");
	if (root_result < 0) {
		err->code = root_result;
		return root_result;
	}
	r->ready = true;
	return 0;
}

void cmds_root_ready(struct cmds *cs _unused_)
{
}

void console_shell(struct loop *l _unused_, struct slice path _unused_)
{
}

int power_quiesce(struct agent *a, bool for_template _unused_, power_done_fn *done, void *user,
		  struct vial_err *err _unused_)
{
	note("quiesce ");
	a->power.quiet = true;
	a->power.by = quiet_user = user;
	quiesced = done;
	return 0;
}

int filesync_start(struct agent *a, filesync_done_fn *done, void *user)
{
	note("sync ");
	a->filesync.done = done;
	a->filesync.user = user;
	return sync_result;
}

void filesync_forget(struct agent *a, const void *user)
{
	if (a->filesync.user == user)
		a->filesync.done = NULL;
}

void power_forget(struct agent *a, const void *user)
{
	if (a->power.by == user)
		a->power.by = NULL;
}

int power_thaw(struct agent *a, struct vial_err *err _unused_)
{
	note("thaw ");
	a->power.quiet = false;
	return 0;
}

void power_stop(struct agent *a _unused_)
{
}

void power_off(struct agent *a _unused_)
{
}

int cmd_start(struct cmds *cs _unused_, struct agent_exec *x, struct slice frame _unused_,
	      const struct cmd_events *ev, void *user, struct cmd **ret, int *ret_errno _unused_)
{
	struct cmd *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	snprintf(c->name, sizeof(c->name), "%s", x->argv.v[0]);
	c->ev = ev;
	c->user = user;
	note("start %s ", c->name);
	*ret = c;
	return 0;
}

int cmd_stdin(struct cmd *c, const struct agent_data *d)
{
	note("stdin %s %.*s ", c->name, (int)d->data.n, (const char *)d->data.p);
	return 0;
}

void cmd_stdin_end(struct cmd *c _unused_)
{
}

int cmd_credit(struct cmd *c _unused_, const struct agent_credit *credit _unused_)
{
	return 0;
}

int cmd_signal(struct cmd *c, uint32_t number)
{
	note("signal %s %u ", c->name, number);
	return 0;
}

int cmd_resize(struct cmd *c _unused_, uint32_t rows _unused_, uint32_t cols _unused_)
{
	return 0;
}

void cmd_detach(struct cmd *c)
{
	note("detach %s ", c->name);
	free(c);
}

void cmd_drop(struct cmd *c)
{
	note("drop %s ", c->name);
	free(c);
}

void cmds_pump(struct cmds *cs _unused_)
{
}

/* ---- channels ---- */

struct test_chan {
	struct chan chan;
	bool open;
};

static struct test_chan chans[CHANS_MAX];
static struct agent agent;

static int op_send(struct chan *c _unused_, const void *p _unused_, size_t n _unused_)
{
	return 0;
}

static size_t op_queued(const struct chan *c _unused_)
{
	return 0;
}

static void op_nothing(struct chan *c _unused_)
{
}

static void op_close(struct chan *c, bool abort_it _unused_)
{
	container_of(c, struct test_chan, chan)->open = false;
}

static const struct chan_ops ops = { op_send, op_queued, op_nothing, op_nothing, op_close };

static void say(int i, const struct agent_host_msg *m)
{
	_cleanup_buf_ struct buf b = { 0 };

	assert_int_equal(agent_host_msg_put(&b, m), 0);
	/* In two parts, as it may come. */
	session_events.data(&agent, &chans[i].chan, (uint8_t *)b.data, b.len / 2);
	session_events.data(&agent, &chans[i].chan, (uint8_t *)b.data + b.len / 2, b.len - b.len / 2);
}

static void ask(int i, enum agent_host_type type)
{
	say(i, &(struct agent_host_msg){ .type = type });
}

static void dial(int i)
{
	struct agent_host_msg hello = { .type = AGENT_HOST_HELLO };

	hello.hello = (struct agent_hello){ slice_str(AGENT_MAGIC), AGENT_VERSION_MIN, AGENT_VERSION_MAX, 0 };
	chans[i] = (struct test_chan){ .chan.ops = &ops, .open = true };
	assert_int_equal(session_events.opened(&agent, &chans[i].chan), 0);
	say(i, &hello);
}

static void run(int i, const char *program)
{
	struct agent_host_msg m = { .type = AGENT_HOST_EXEC };

	assert_int_equal(strv_add(&m.exec.argv, program), 0);
	say(i, &m);
	strv_done(&m.exec.argv);
}

static void lose(int i)
{
	session_events.gone(&agent, &chans[i].chan, false);
	chans[i].open = false;
}

static void turn(void)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_turn(agent.loop, 0), 0);
}

static int setup(void **state _unused_)
{
	memset(&agent, 0, sizeof(agent));
	log_text[0] = '\0';
	root_result = 0;
	assert_int_equal(loop_new(&agent.loop), 0);
	assert_int_equal(sessions_init(&agent), 0);
	return 0;
}

static int teardown(void **state _unused_)
{
	for (int i = 0; i < CHANS_MAX; i++) {
		if (chans[i].open && chans[i].chan.user)
			session_events.gone(&agent, &chans[i].chan, true);
		chans[i] = (struct test_chan){ 0 };
	}
	turn();
	assert_null(agent.sessions);
	loop_free(agent.loop);
	return 0;
}

/* ---- tests ---- */

/* Commands that overtook the setup start after it, in their order, and what was said about them follows. */
static void test_exec_before_setup(void **state _unused_)
{
	struct agent_host_msg sig = { .type = AGENT_HOST_SIGNAL, .signal = 15 };

	dial(0);
	dial(1);
	run(1, "first");
	say(1, &sig);
	dial(2);
	run(2, "second");
	expect_log("");
	ask(0, AGENT_HOST_REFRESH);
	ask(0, AGENT_HOST_SETUP);
	expect_log("refresh setup start first signal first 15 start second ");
	dial(3);
	run(3, "third");
	expect_log("start third ");
}

static void test_setup_fails(void **state _unused_)
{
	root_result = VIAL_E_IO;
	dial(0);
	dial(1);
	run(1, "x");
	ask(0, AGENT_HOST_SETUP);
	expect_log("setup ");
	lose(1);
	turn();
	root_result = 0;
	ask(0, AGENT_HOST_SETUP);
	expect_log("setup ");
}

/* The host says nothing at length about a command that has not started. */
static void test_parked_limit(void **state _unused_)
{
	struct agent_host_msg in = { .type = AGENT_HOST_STDIN, .data = { AGENT_STDIN, { NULL, 0 } } };
	_cleanup_free_ uint8_t *big = calloc(1, AGENT_DATA_MAX);
	size_t n = 0;

	in.data.data = (struct slice){ big, AGENT_DATA_MAX };
	dial(0);
	run(0, "x");
	while (chans[0].open && n++ < 4 * FRAME_MAX / AGENT_DATA_MAX) {
		say(0, &in);
		turn();
	}
	assert_false(chans[0].open);
	assert_true(n * AGENT_DATA_MAX >= FRAME_MAX);
}

static void running(void)
{
	dial(0);
	ask(0, AGENT_HOST_SETUP);
	dial(1);
	run(1, "cmd");
	expect_log("setup start cmd ");
}

static void test_dropped(void **state _unused_)
{
	running();
	lose(1);
	turn();
	expect_log("drop cmd ");
}

static void test_shut(void **state _unused_)
{
	running();
	session_events.shut(&agent, &chans[1].chan);
	turn();
	expect_log("drop cmd ");
}

static void quiet(void)
{
	running();
	ask(0, AGENT_HOST_QUIESCE);
	expect_log("quiesce ");
	quiesced(quiet_user, &(struct vial_err)VIAL_ERR_INIT);
}

/* The host hung up while the guest was quiet, and was there all the time. */
static void test_dropped_while_quiet(void **state _unused_)
{
	quiet();
	lose(1);
	turn();
	expect_log("");
	ask(0, AGENT_HOST_THAW);
	turn();
	expect_log("drop cmd thaw ");
}

/* What is asked behind it waits for its answer; where it cannot be done, that is no failure; who is gone gets none. */
static void test_sync(void **state _unused_)
{
	running();
	sync_result = -EAGAIN;
	ask(0, AGENT_HOST_SYNC);
	ask(0, AGENT_HOST_PING);
	expect_log("sync ");
	sync_result = 0;
	ask(0, AGENT_HOST_SYNC);
	expect_log("sync ");
	agent.filesync.done(agent.filesync.user);
	ask(0, AGENT_HOST_SYNC);
	lose(0);
	turn();
	assert_null(agent.filesync.done);
	log_text[0] = '\0';
}

static void test_restored(void **state _unused_)
{
	quiet();
	lose(0);
	lose(1);
	turn();
	expect_log("");
	dial(2);
	dial(3);
	run(3, "new");
	ask(2, AGENT_HOST_REFRESH);
	ask(2, AGENT_HOST_THAW);
	turn();
	expect_log("refresh detach cmd thaw start new ");
}

static void test_restored_by_shut(void **state _unused_)
{
	quiet();
	session_events.shut(&agent, &chans[0].chan);
	session_events.shut(&agent, &chans[1].chan);
	dial(2);
	ask(2, AGENT_HOST_THAW);
	turn();
	expect_log("detach cmd thaw ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_exec_before_setup, setup, teardown),
		cmocka_unit_test_setup_teardown(test_setup_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parked_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dropped_while_quiet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restored, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restored_by_shut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
