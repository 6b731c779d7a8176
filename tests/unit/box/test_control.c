// SPDX-License-Identifier: Apache-2.0
// What is asked of a box as a whole: pause, resume, new limits, snapshots; in turn, and with a guest that refuses or is silent.
#include "rig.h"

#include <fcntl.h>
#include <sys/stat.h>

struct box {
	struct rig *r;
	struct rig_client line;
	size_t refreshes, quiesces, thaws; /* seen before */
};

static struct box ready(void)
{
	struct box b = { .r = rig_new_rooted() };

	b.r->m.launch.vcpus = 4;
	b.r->m.launch.memory = 256 << 20;
	b.line = (struct rig_client){ .fd = dup(b.r->lifeline), .in.max = FRAME_MAX };
	rig_agent_up(b.r);
	rig_say_type(b.r, rig_control(b.r), AGENT_GUEST_HELLO);
	rig_say_type(b.r, rig_control(b.r), AGENT_GUEST_DONE);
	rig_say_type(b.r, rig_control(b.r), AGENT_GUEST_DONE);
	rig_expect(b.r, &b.line, MON_STARTED);
	return b;
}

static void end(struct box *b)
{
	rig_hang_up(&b->line);
	rig_free(b->r);
}

static size_t count(struct rig *r, enum agent_host_type type)
{
	size_t n = 0;

	rig_pump(r);
	while (rig_find(r, type, n))
		n++;
	return n;
}

static struct rig_client ask(struct rig *r, uint16_t type)
{
	struct rig_client c = rig_connect(r);

	rig_put(&c, &(struct mon_msg){ .type = type });
	rig_pump(r);
	return c;
}

static void say_done(struct rig *r)
{
	rig_say_type(r, rig_control(r), AGENT_GUEST_DONE);
	rig_pump(r);
}

static void say_failed(struct rig *r, const char *why)
{
	struct agent_guest_msg g = { .type = AGENT_GUEST_FAILED };

	g.failed = (struct agent_failed){ AGENT_FAIL_OTHER, 0, slice_str(why) };
	rig_say(r, rig_control(r), &g);
	rig_pump(r);
}

static void nothing_yet(struct rig *r, struct rig_client *c)
{
	struct mon_msg m;

	assert_false(rig_next(r, c, &m));
}

static void pause_it(struct rig *r)
{
	int before = r->pauses;
	struct rig_client c = ask(r, MON_PAUSE);

	assert_int_equal(r->pauses, before); /* not before the guest is at rest */
	say_done(r);
	assert_int_equal(r->pauses, before + 1);
	nothing_yet(r, &c);
	r->ev->paused(r->ev_data);
	rig_expect(r, &c, MON_DONE);
	rig_hang_up(&c);
}

static void test_pause_and_resume(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c;

	pause_it(b.r);
	c = ask(b.r, MON_PAUSE);
	rig_expect_error(b.r, &c, VIAL_E_STATE, "paused already");
	rig_hang_up(&c);
	/* A command that comes now waits. */
	struct rig_client x = rig_connect(b.r);
	rig_exec(&x, "later", 0);
	assert_int_equal(count(b.r, AGENT_HOST_EXEC), 0);
	size_t refreshes = count(b.r, AGENT_HOST_REFRESH);
	c = ask(b.r, MON_RESUME);
	assert_int_equal(b.r->resumes, 1);
	assert_int_equal(count(b.r, AGENT_HOST_THAW), 1); /* the start's */
	b.r->ev->resumed(b.r->ev_data);
	assert_int_equal(count(b.r, AGENT_HOST_REFRESH), refreshes + 1);
	assert_int_equal(count(b.r, AGENT_HOST_THAW), 2);
	say_done(b.r);
	nothing_yet(b.r, &c);
	assert_int_equal(count(b.r, AGENT_HOST_EXEC), 0);
	say_done(b.r);
	rig_expect(b.r, &c, MON_DONE);
	assert_int_equal(count(b.r, AGENT_HOST_EXEC), 1);
	rig_hang_up(&c);
	c = ask(b.r, MON_RESUME);
	rig_expect_error(b.r, &c, VIAL_E_STATE, "not paused");
	rig_hang_up(&c);
	rig_hang_up(&x);
	end(&b);
}

/* Asked for before the box is ready, and several at once: each in its turn. */
static void test_in_turn(void **state _unused_)
{
	struct rig *r = rig_new_rooted();
	struct box b = { .r = r };
	struct rig_client p = ask(r, MON_PAUSE), q = ask(r, MON_RESUME);

	b.line = (struct rig_client){ .fd = dup(r->lifeline), .in.max = FRAME_MAX };
	rig_agent_up(r);
	assert_int_equal(count(r, AGENT_HOST_QUIESCE), 0);
	say_done(r);
	say_done(r);
	assert_int_equal(count(r, AGENT_HOST_QUIESCE), 1);
	say_done(r);
	assert_int_equal(r->pauses, 1);
	assert_int_equal(r->resumes, 0);
	r->ev->paused(r->ev_data);
	rig_expect(r, &p, MON_DONE);
	assert_int_equal(r->resumes, 1);
	r->ev->resumed(r->ev_data);
	say_done(r);
	say_done(r);
	rig_expect(r, &q, MON_DONE);
	rig_hang_up(&p);
	rig_hang_up(&q);
	end(&b);
}

static void test_update(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = rig_connect(b.r);
	struct mon_msg m = { .type = MON_UPDATE };

	m.update.cpus = 3;
	m.update.memory = 100 << 20;
	rig_put(&c, &m);
	rig_pump(b.r);
	assert_int_equal(count(b.r, AGENT_HOST_REFRESH), 2);
	assert_int_equal(b.r->m.launch.cpus, 3);
	say_done(b.r);
	rig_expect(b.r, &c, MON_DONE);
	rig_hang_up(&c);
	/* The guest refuses: as before. */
	c = rig_connect(b.r);
	m.update.cpus = 2;
	rig_put(&c, &m);
	rig_pump(b.r);
	say_failed(b.r, "vCPU 2 will not go");
	rig_expect_error(b.r, &c, VIAL_E_ENGINE, "will not go");
	assert_int_equal(b.r->m.launch.cpus, 3);
	assert_false(rig_ended(b.r));
	rig_hang_up(&c);
	c = rig_connect(b.r);
	m.update.cpus = 5;
	rig_put(&c, &m);
	rig_expect_error(b.r, &c, VIAL_E_INVALID, "more than the box was made for");
	rig_hang_up(&c);
	end(&b);
}

/* Sends MON_SNAPSHOT with @n descriptors. */
static struct rig_client ask_snapshot_with(struct rig *r, size_t n, uint32_t flags)
{
	_cleanup_buf_ struct buf out = { 0 };
	struct rig_client c = rig_connect(r);
	int fds[8];

	for (size_t i = 0; i < n; i++)
		assert_true((fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
	assert_int_equal(mon_msg_put(&out, &(struct mon_msg){ .type = MON_SNAPSHOT, .u32 = flags }), 0);
	assert_int_equal(fd_send(c.fd, out.data, out.len, fds, n), (ssize_t)out.len);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	rig_pump(r);
	return c;
}

static struct rig_client ask_snapshot(struct rig *r, size_t n)
{
	return ask_snapshot_with(r, n, 0);
}

/* The form that a request with @flags is answered with, by an engine whose form is @form, of a machine started in @mode. */
static uint32_t form_of(uint32_t flags, uint32_t form, enum launch_mode mode)
{
	struct box b = ready();
	struct engine_ops ops = *b.r->m.ops;

	ops.form = form;
	b.r->m.ops = &ops;
	b.r->m.launch.mode = mode;
	struct rig_client c = ask_snapshot_with(b.r, MON_SNAPSHOT_FDS, flags);
	if (b.r->aheads)
		b.r->ev->written_ahead(b.r->ev_data);
	say_done(b.r);
	bool delta = b.r->to.delta;
	b.r->ev->snapshotted(b.r->ev_data, NULL, true, 0);
	struct mon_msg m = rig_expect(b.r, &c, MON_SNAPSHOTTED);
	/* The engine was asked for what the client is told it has. */
	assert_int_equal(delta, m.snapshotted.form == ENGINE_FORM_DELTA);
	rig_hang_up(&c);
	end(&b);
	return m.snapshotted.form;
}

static void test_deltas(void **state _unused_)
{
	assert_int_equal(form_of(MON_SNAP_DELTA, ENGINE_FORM_PAIR, LAUNCH_RESTORE), ENGINE_FORM_DELTA);
	assert_int_equal(form_of(0, ENGINE_FORM_PAIR, LAUNCH_RESTORE), ENGINE_FORM_PAIR);
	assert_int_equal(form_of(MON_SNAP_DELTA, ENGINE_FORM_STREAM, LAUNCH_RESTORE), ENGINE_FORM_STREAM);
	/* Booted: there is nothing that it differs from. */
	assert_int_equal(form_of(MON_SNAP_DELTA, ENGINE_FORM_PAIR, LAUNCH_COLD), ENGINE_FORM_PAIR);
}

static void test_snapshot(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask_snapshot(b.r, MON_SNAPSHOT_FDS);

	assert_int_equal(b.r->snapshots, 0);
	struct rig_client x = rig_connect(b.r);
	rig_exec(&x, "later", 0);
	say_done(b.r);
	assert_int_equal(b.r->snapshots, 1);
	assert_true(b.r->to.state_fd >= 0 && b.r->to.upper_ro_fd >= 0);
	assert_int_equal(count(b.r, AGENT_HOST_EXEC), 0);
	struct stat was, is;
	assert_int_equal(fstat(b.r->to.state_fd, &was), 0);
	b.r->ev->snapshotted(b.r->ev_data, NULL, true, 2500000);
	struct mon_msg m = rig_expect(b.r, &c, MON_SNAPSHOTTED);
	assert_int_equal(m.snapshotted.form, ENGINE_FORM_STREAM);
	assert_int_equal(m.snapshotted.pause_us, 2500);
	assert_memory_equal(m.snapshotted.key, b.r->m.launch.next_key, LINK_KEY_SIZE);
	say_done(b.r);
	say_done(b.r);
	assert_int_equal(count(b.r, AGENT_HOST_EXEC), 1);
	/* Closed; its number may be another's by now. */
	assert_true(fstat(b.r->to.state_fd, &is) < 0 || is.st_ino != was.st_ino || is.st_dev != was.st_dev);
	rig_hang_up(&c);
	rig_hang_up(&x);
	end(&b);
}

/* A snapshot of what changed, of an engine that can write ahead. */
static struct rig_client ask_delta(struct box *b, struct engine_ops *ops)
{
	*ops = *b->r->m.ops;
	ops->form = ENGINE_FORM_PAIR;
	b->r->m.ops = ops;
	b->r->m.launch.mode = LAUNCH_RESTORE;
	return ask_snapshot_with(b->r, MON_SNAPSHOT_FDS, MON_SNAP_DELTA | MON_SNAP_SYNC);
}

/* Files first, then memory, while commands run on; then the guest comes to rest. */
static void test_ahead(void **state _unused_)
{
	struct box b = ready();
	struct engine_ops ops;
	struct rig_client c = ask_delta(&b, &ops), x = rig_connect(b.r);

	assert_int_equal(count(b.r, AGENT_HOST_SYNC), 1);
	assert_int_equal(b.r->aheads, 0);
	say_done(b.r);
	assert_int_equal(b.r->aheads, 1);
	rig_exec(&x, "now", 0);
	assert_int_equal(count(b.r, AGENT_HOST_EXEC), 1);
	assert_int_equal(count(b.r, AGENT_HOST_QUIESCE), 0);
	b.r->ev->written_ahead(b.r->ev_data);
	assert_int_equal(count(b.r, AGENT_HOST_QUIESCE), 1);
	assert_int_equal(b.r->snapshots, 0);
	say_done(b.r);
	assert_int_equal(b.r->snapshots, 1);
	b.r->ev->snapshotted(b.r->ev_data, NULL, true, 0);
	rig_expect(b.r, &c, MON_SNAPSHOTTED);
	say_done(b.r);
	say_done(b.r);
	assert_false(b.r->m.held);
	assert_int_equal(b.r->drops, 0);
	rig_hang_up(&c);
	rig_hang_up(&x);
	end(&b);
}

/* The guest does not come to rest: what was written ahead is not kept. */
static void test_ahead_in_vain(void **state _unused_)
{
	struct box b = ready();
	struct engine_ops ops;
	struct rig_client c = ask_delta(&b, &ops);

	say_done(b.r);
	b.r->ev->written_ahead(b.r->ev_data);
	say_failed(b.r, "commands could not be frozen");
	rig_expect_error(b.r, &c, VIAL_E_ENGINE, "could not be frozen");
	say_done(b.r); /* thawed */
	assert_int_equal(b.r->drops, 1);
	assert_int_equal(b.r->snapshots, 0);
	rig_hang_up(&c);
	end(&b);
}

static void time_out(struct rig *r)
{
	loop_timer_set(r->m.control_timer, 1);
	rig_pump(r);
}

/* An answer to a sync that was given up is not taken for that of the next. */
static void test_sync_that_is_late(void **state _unused_)
{
	struct box b = ready();
	struct engine_ops ops;
	struct rig_client c = ask_delta(&b, &ops), d;

	time_out(b.r);
	rig_expect_error(b.r, &c, VIAL_E_TIMEOUT, "does not answer");
	rig_hang_up(&c);
	d = ask_snapshot_with(b.r, MON_SNAPSHOT_FDS, MON_SNAP_SYNC);
	assert_int_equal(count(b.r, AGENT_HOST_SYNC), 2);
	say_done(b.r);
	assert_int_equal(count(b.r, AGENT_HOST_QUIESCE), 0);
	say_failed(b.r, "no such thing"); /* it is a favour */
	assert_int_equal(count(b.r, AGENT_HOST_QUIESCE), 1);
	say_done(b.r);
	assert_int_equal(b.r->snapshots, 1);
	rig_hang_up(&d);
	end(&b);
}

static void test_snapshot_fails(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask_snapshot(b.r, MON_SNAPSHOT_FDS);

	/* The engine: the disk was switched, what was written is worthless. */
	say_done(b.r);
	b.r->ev->snapshotted(b.r->ev_data, "no room", true, 0);
	assert_int_equal(rig_expect(b.r, &c, MON_SNAPSHOTTED).snapshotted.form, 0);
	rig_expect_error(b.r, &c, VIAL_E_ENGINE, "no room");
	say_done(b.r);
	say_done(b.r);
	rig_hang_up(&c);
	/* The guest: it is thawed, and the next one can succeed. */
	c = ask_snapshot(b.r, MON_SNAPSHOT_FDS);
	say_failed(b.r, "commands could not be frozen");
	rig_expect_error(b.r, &c, VIAL_E_ENGINE, "could not be frozen");
	assert_int_equal(b.r->snapshots, 1);
	say_done(b.r);
	assert_false(b.r->m.held);
	rig_hang_up(&c);
	/* Without its descriptors, or with another number of them. */
	c = ask(b.r, MON_SNAPSHOT);
	rig_expect_error(b.r, &c, VIAL_E_PROTOCOL, "without its descriptors");
	rig_hang_up(&c);
	c = ask_snapshot(b.r, 3);
	rig_expect_error(b.r, &c, VIAL_E_PROTOCOL, "descriptors");
	rig_hang_up(&c);
	assert_false(rig_ended(b.r));
	end(&b);
}

/* A paused box is saved as it is, and stays paused. */
static void test_snapshot_while_paused(void **state _unused_)
{
	struct box b = ready();

	pause_it(b.r);
	struct rig_client c = ask_snapshot(b.r, MON_SNAPSHOT_FDS);
	assert_int_equal(b.r->snapshots, 1);
	assert_int_equal(count(b.r, AGENT_HOST_QUIESCE), 1); /* the pause's */
	b.r->ev->snapshotted(b.r->ev_data, NULL, true, 0);
	rig_expect(b.r, &c, MON_SNAPSHOTTED);
	assert_int_equal(count(b.r, AGENT_HOST_THAW), 1);
	assert_true(b.r->m.paused && b.r->m.held);
	rig_hang_up(&c);
	end(&b);
}

/* A guest that cannot be quiesced is paused all the same, but not saved. */
static void test_pause_of_a_guest_that_refuses(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask(b.r, MON_PAUSE);

	say_failed(b.r, "no");
	assert_int_equal(b.r->pauses, 0);
	say_done(b.r); /* thawed */
	assert_int_equal(b.r->pauses, 1);
	b.r->ev->paused(b.r->ev_data);
	rig_expect(b.r, &c, MON_DONE);
	rig_hang_up(&c);
	c = ask_snapshot(b.r, MON_SNAPSHOT_FDS);
	rig_expect_error(b.r, &c, VIAL_E_STATE, "resume it");
	assert_int_equal(b.r->snapshots, 0);
	rig_hang_up(&c);
	end(&b);
}

/* The guest comes to rest just after it was given up: the engine is told once, or the second answer would be one too many. */
static void test_pause_of_a_guest_that_is_late(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask(b.r, MON_PAUSE);

	time_out(b.r);
	assert_int_equal(b.r->pauses, 1);
	say_done(b.r);
	assert_int_equal(b.r->pauses, 1);
	b.r->ev->paused(b.r->ev_data);
	rig_expect(b.r, &c, MON_DONE);
	rig_hang_up(&c);
	end(&b);
}

/* A guest that answers its first thaw when the second was asked for ends neither the resume nor a snapshot with it. */
static void test_thaw_that_is_late(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask(b.r, MON_PAUSE);

	say_failed(b.r, "no");
	time_out(b.r);
	assert_int_equal(b.r->pauses, 1);
	b.r->ev->paused(b.r->ev_data);
	rig_expect(b.r, &c, MON_DONE);
	rig_hang_up(&c);
	c = ask(b.r, MON_RESUME);
	b.r->ev->resumed(b.r->ev_data); /* thaw, refresh, thaw are unanswered now */
	say_done(b.r);
	nothing_yet(b.r, &c);
	assert_true(b.r->m.held);
	struct rig_client s = ask_snapshot(b.r, MON_SNAPSHOT_FDS);
	say_done(b.r);
	nothing_yet(b.r, &c);
	say_done(b.r);
	rig_expect(b.r, &c, MON_DONE);
	nothing_yet(b.r, &s);
	assert_int_equal(b.r->snapshots, 0);
	say_done(b.r); /* quiesced */
	assert_int_equal(b.r->snapshots, 1);
	b.r->ev->snapshotted(b.r->ev_data, NULL, true, 0);
	rig_expect(b.r, &s, MON_SNAPSHOTTED);
	say_done(b.r);
	say_done(b.r);
	assert_false(b.r->m.held);
	rig_hang_up(&c);
	rig_hang_up(&s);
	end(&b);
}

/* Who asked goes away: it is done all the same, and the next one has its turn. */
static void test_client_goes_away(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask_snapshot(b.r, MON_SNAPSHOT_FDS), p;

	rig_hang_up(&c);
	p = ask(b.r, MON_PAUSE);
	say_done(b.r);
	assert_int_equal(b.r->snapshots, 1);
	b.r->ev->snapshotted(b.r->ev_data, NULL, true, 0);
	say_done(b.r);
	assert_int_equal(count(b.r, AGENT_HOST_QUIESCE), 1);
	say_done(b.r);
	assert_int_equal(count(b.r, AGENT_HOST_QUIESCE), 2);
	say_done(b.r);
	b.r->ev->paused(b.r->ev_data);
	rig_expect(b.r, &p, MON_DONE);
	rig_hang_up(&p);
	end(&b);
}

/* A paused box powers off cleanly: it goes on for that. */
static void test_stop_while_paused(void **state _unused_)
{
	struct box b = ready();

	pause_it(b.r);
	rig_put(&b.line, &(struct mon_msg){ .type = MON_STOP, .u32 = 1000 });
	rig_pump(b.r);
	assert_int_equal(b.r->resumes, 1);
	assert_int_equal(b.r->kills, 0);
	assert_int_equal(count(b.r, AGENT_HOST_POWER_OFF), 1);
	end(&b);
}

/* In the middle of a snapshot nothing can be asked of the guest: it is ended. */
static void test_stop_while_saving(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask_snapshot(b.r, MON_SNAPSHOT_FDS);

	rig_put(&b.line, &(struct mon_msg){ .type = MON_STOP, .u32 = 1000 });
	rig_pump(b.r);
	assert_int_equal(b.r->kills, 1);
	b.r->ev->exited(b.r->ev_data, "killed");
	rig_expect_error(b.r, &c, VIAL_E_STATE, "stopped");
	rig_expect_error(b.r, &b.line, VIAL_E_STATE, "could not power off");
	rig_hang_up(&c);
	end(&b);
}

/* The engine has saved it, the agent is still about to bring the guest back: it is asked to power off behind that. */
static void test_stop_just_after_saving(void **state _unused_)
{
	struct box b = ready();
	struct rig_client c = ask_snapshot(b.r, MON_SNAPSHOT_FDS);

	say_done(b.r);
	b.r->ev->snapshotted(b.r->ev_data, NULL, true, 0);
	rig_expect(b.r, &c, MON_SNAPSHOTTED);
	rig_put(&b.line, &(struct mon_msg){ .type = MON_STOP, .u32 = 1000 });
	rig_pump(b.r);
	assert_int_equal(b.r->kills, 0);
	assert_int_equal(count(b.r, AGENT_HOST_POWER_OFF), 1);
	say_done(b.r);
	say_done(b.r);
	b.r->ev->exited(b.r->ev_data, NULL);
	rig_expect(b.r, &b.line, MON_DONE);
	rig_hang_up(&c);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_in_turn),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_ahead_in_vain),
		cmocka_unit_test(test_sync_that_is_late),
		cmocka_unit_test(test_deltas),
		cmocka_unit_test(test_snapshot_fails),
		cmocka_unit_test(test_snapshot_while_paused),
		cmocka_unit_test(test_pause_of_a_guest_that_refuses),
		cmocka_unit_test(test_pause_of_a_guest_that_is_late),
		cmocka_unit_test(test_thaw_that_is_late),
		cmocka_unit_test(test_client_goes_away),
		cmocka_unit_test(test_stop_while_paused),
		cmocka_unit_test(test_stop_while_saving),
		cmocka_unit_test(test_stop_just_after_saving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
