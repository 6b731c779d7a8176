// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * Quiesce: nothing may change after Done until the snapshot is taken. Commands are frozen by their common control
 * group; the kernel reports when the last has stopped, in cgroup.events, which is polled. Output that the
 * transport has not yet taken must leave too. Both are looked at whenever something happens, and a timer
 * looks again every QUIESCE_LOOK_MS since a transport does not tell when it has become idle. Without commands
 * nothing is frozen: a machine restored from a template then has nothing to thaw. Its zygote waits in any case. A future
 * template is given settle_ns() first: what the kernel still does for those that have ended (control groups die in several
 * steps) would otherwise be saved half done, and finished anew in each box.
 *
 * Power-off blocks: nobody is left to be served. Commands get SIGTERM and a moment, then SIGKILL.
 */
#include "agent/power.h"

#include <signal.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/child.h"
#include "agent/touch.h"
#include "base/clock.h"
#include "base/err.h"

#define QUIESCE_MAX_MS	5000
#define QUIESCE_LOOK_MS 2
#define SETTLE_MS	400
#define SETTLE_LONG_MS	2300 /* what the kernel does once a second or after two is done, too */
#define TERM_MS		250
#define KILL_MS		3000
#define FLUSH_MS	2000

static uint64_t settle_ns(const struct agent *a)
{
	return (a->transport->settles_long ? SETTLE_LONG_MS : SETTLE_MS) * NS_PER_MS;
}

static void finish(struct power *p, const struct vial_err *err)
{
	power_done_fn *done = p->done;
	void *user = p->user;

	loop_timer_set(p->timer, 0);
	loop_src_free(p->events);
	p->events = NULL;
	p->done = NULL;
	p->user = NULL;
	if (done)
		done(user, err);
}

static void look(struct agent *a)
{
	struct power *p = &a->power;
	struct vial_err err = VIAL_ERR_INIT;
	uint64_t now = clock_mono_ns();

	if (!p->done)
		return;
	/* A zygote that was just made is frozen with the commands, however far it has come. */
	bool at_rest = p->frozen ? cgroups_is_frozen(a->cgroups) : cmds_settled(a->cmds);
	if (now >= p->settled_ns && at_rest && a->transport->idle(a->transport)) {
		finish(p, &err);
		return;
	}
	if (now < p->deadline_ns) {
		loop_timer_set(p->timer, MAX(now + QUIESCE_LOOK_MS * NS_PER_MS, p->settled_ns));
		return;
	}
	err_set(&err, VIAL_E_TIMEOUT, "commands could not be frozen in %d ms", QUIESCE_MAX_MS);
	finish(p, &err);
}

static void on_events(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct agent *a = data;

	(void)cgroups_is_frozen(a->cgroups); /* reading rearms */
	look(a);
}

static void on_timer(struct loop_src *src _unused_, void *data)
{
	look(data);
}

/* Lets queued output leave, then switches off. */
static void on_off(struct loop_src *src _unused_, void *data)
{
	struct agent *a = data;

	a->transport->flush(a->transport, clock_mono_ns() + FLUSH_MS * NS_PER_MS);
	(void)reboot(RB_POWER_OFF);
	for (;;)
		pause(); /* a machine that cannot switch off: PID 1 must not end */
}

int power_init(struct agent *a)
{
	int r = loop_add_timer(a->loop, on_timer, a, &a->power.timer);

	if (r == 0)
		r = loop_add_timer(a->loop, on_off, a, &a->power.off);
	return r;
}

/* What can be done ahead for the machines that are made of a template is done now. */
static void prepare(struct agent *a, bool for_template)
{
	if (for_template)
		touch_root(CHILD_DEFAULT_PATH);
	cmds_tidy(a->cmds);
}

int power_quiesce(struct agent *a, bool for_template, power_done_fn *done, void *user, struct vial_err *err)
{
	struct power *p = &a->power;
	int r;

	if (p->done)
		return err_set(err, VIAL_E_STATE, "another quiesce is under way");
	if (!a->root.ready) {
		r = disks_unbind(&a->root.disks);
		if (r < 0)
			return err_sys(err, r, "unbind the disks' driver");
	}
	cmds_hold(a->cmds, true);
	p->frozen = cmds_alive(a->cmds);
	prepare(a, for_template && !p->frozen && a->root.ready);
	r = p->frozen ? cgroups_freeze(a->cgroups, true) : 0;
	if (r < 0) {
		cmds_hold(a->cmds, false);
		return err_sys(err, r, "freeze commands");
	}
	/* Watched no longer than this: the end of each command would wake us otherwise. The timer looks, too. */
	if (p->frozen &&
	    loop_add_fd(a->loop, cgroups_events_fd(a->cgroups), EPOLLPRI, on_events, a, &p->events) < 0)
		p->events = NULL;
	p->done = done;
	p->user = user;
	p->by = user;
	p->quiet = true;
	p->settled_ns = clock_mono_ns() + (for_template ? settle_ns(a) : 0);
	p->deadline_ns = clock_mono_ns() + QUIESCE_MAX_MS * NS_PER_MS;
	loop_timer_set(p->timer, p->settled_ns);
	return 0;
}

static void nobody(void *user _unused_, const struct vial_err *err _unused_)
{
}

void power_forget(struct agent *a, const void *user)
{
	if (a->power.by == user)
		a->power.by = NULL;
	if (a->power.done && a->power.user == user)
		a->power.done = nobody;
}

int power_thaw(struct agent *a, struct vial_err *err)
{
	int r = a->power.frozen ? cgroups_freeze(a->cgroups, false) : 0;

	if (r < 0)
		return err_sys(err, r, "thaw commands");
	if (a->power.done) {
		struct vial_err gone = VIAL_ERR_INIT;
		err_set(&gone, VIAL_E_STATE, "thawed meanwhile");
		finish(&a->power, &gone);
	}
	a->power.frozen = a->power.quiet = false;
	cmds_hold(a->cmds, false);
	return 0;
}

static bool nobody_left(struct cgroups *cs)
{
	return !cgroups_populated(cs);
}

void power_stop(struct agent *a)
{
	cmds_stop_waiting(a->cmds);
	if (cgroups_populated(a->cgroups)) {
		(void)cgroups_freeze(a->cgroups, false);
		cgroups_signal_all(a->cgroups, SIGTERM);
		if (!cgroups_wait(a->cgroups, nobody_left, clock_mono_ns() + TERM_MS * NS_PER_MS)) {
			(void)cgroups_kill_all(a->cgroups);
			(void)cgroups_wait(a->cgroups, nobody_left, clock_mono_ns() + KILL_MS * NS_PER_MS);
		}
	}
	(void)kill(-1, SIGKILL); /* whoever left the groups, and the console's shell */
	root_release(&a->root);
}

void power_off(struct agent *a)
{
	loop_timer_set(a->power.off, 1);
}
