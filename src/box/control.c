// SPDX-License-Identifier: Apache-2.0
/*
 * Requests that concern the box as a whole: pause, resume, update, snapshot.
 *
 * Theory of operation
 *
 * Each is a connection of its own; they wait in line, one is done at a time, and none before the box is ready.
 *
 *	pause     QUIESCE -> engine pauses
 *	resume    engine resumes -> REFRESH (clock, fresh entropy), THAW
 *	update    REFRESH with the new limits; of a paused box: with its resume
 *	snapshot  SYNC -> (of changes: engine writes ahead ->) QUIESCE -> engine saves -> REFRESH, THAW; of a paused box: the
 *		  engine saves
 *
 * From QUIESCE to THAW the box is held: commands that clients ask for wait here, so that none is half started in what is saved.
 * Who is trusted: the client is our user. The guest is not: one that does not answer a QUIESCE within
 * CONTROL_TIMEOUT_S fails the request, not the box; a pause then stops it all the same. What it is told late it may
 * answer late: of several thaws only the last counts, and none while the engine is at work.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/monitor.h"

#define CONTROL_TIMEOUT_S 30

static void start_next(struct monitor *m);

static void close_fds(struct monitor *m)
{
	fd_close(&m->control_op.to.state_fd);
	fd_close(&m->control_op.to.mem_fd);
	fd_close(&m->control_op.to.upper_fd);
	fd_close(&m->control_op.to.upper_ro_fd);
}

/* The client has its answer; the operation itself may still have to bring the guest back. */
static void reply(struct monitor *m, const struct mon_msg *msg, bool last)
{
	struct client *c = m->control_op.client;

	if (!c)
		return;
	if (last)
		m->control_op.client = NULL;
	client_tell(c, msg, last);
}

static void reply_error(struct monitor *m, int code, const char *text)
{
	struct mon_msg msg = { .type = MON_ERROR };

	msg.error.code = code;
	msg.error.text = (struct slice){ (const uint8_t *)text, MIN(strlen(text), (size_t)MON_TEXT_MAX) };
	reply(m, &msg, true);
}

/* An engine that cannot even be told is as good as gone. */
static void tell_engine(struct monitor *m, int r, const struct vial_err *err)
{
	if (r < 0)
		monitor_fail(m, err->code, "%s", err->msg);
}

/* The engine shall not keep what it wrote for a snapshot that did not come. */
static void drop_ahead(struct monitor *m)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (m->control_op.ahead)
		tell_engine(m, m->ops->write_ahead(m->engine, -1, &err), &err);
	m->control_op.ahead = false;
}

static void finish(struct monitor *m)
{
	drop_ahead(m);
	reply(m, &(struct mon_msg){ .type = MON_DONE }, true);
	close_fds(m);
	m->control_op.type = 0;
	m->control_op.returning = false;
	loop_timer_set(m->control_timer, 0);
	start_next(m);
}

static void fail(struct monitor *m, int code, const char *text)
{
	reply_error(m, code, text);
	finish(m);
}

static void ask(struct monitor *m, enum agent_host_type type)
{
	const struct agent_host_msg msg = { .type = type };
	int r = type == AGENT_HOST_REFRESH ? guest_refresh(m) : guest_ask(m, &msg);

	if (r < 0)
		monitor_fail(m, VIAL_E_NO_MEMORY, "cannot speak to the guest's agent: %s", strerror(-r));
}

/* Once: the guest may come to rest just when the engine was told without waiting for it any longer. */
/* The last of a resume and of a snapshot. The agent does in order what it is asked: whatever comes now may be asked behind it. */
static void bring_back(struct monitor *m)
{
	ask(m, AGENT_HOST_REFRESH);
	ask(m, AGENT_HOST_THAW);
	m->control_op.returning = true;
}

static void engine_pause(struct monitor *m)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (m->control_op.engine_told)
		return;
	m->control_op.engine_told = true;
	tell_engine(m, m->ops->pause(m->engine, &err), &err);
}

static void engine_snapshot(struct monitor *m)
{
	struct vial_err err = VIAL_ERR_INIT;

	/* How long the engine takes depends on the memory; it is not the guest's to delay. */
	loop_timer_set(m->control_timer, 0);
	m->control_op.engine_told = true;
	m->control_op.ahead = false;
	tell_engine(m, m->ops->snapshot(m->engine, &m->control_op.to, &err), &err);
}

static void quiesce(struct monitor *m)
{
	m->held = true;
	loop_timer_set(m->control_timer, clock_mono_ns() + CONTROL_TIMEOUT_S * NS_PER_S);
	ask(m, AGENT_HOST_QUIESCE);
}

/* Commands run on meanwhile, so that they stand still for what they change in this time only. */
static void write_ahead(struct monitor *m)
{
	struct vial_err err = VIAL_ERR_INIT;

	loop_timer_set(m->control_timer, 0);
	m->control_op.ahead = m->control_op.engine_told = true;
	tell_engine(m, m->ops->write_ahead(m->engine, m->control_op.to.mem_fd, &err), &err);
}

void control_written_ahead(void *data)
{
	struct monitor *m = data;

	m->control_op.engine_told = false;
	quiesce(m);
	monitor_flush_agent(m);
}

/* ---- requests ---- */

static void do_pause(struct monitor *m)
{
	if (m->paused)
		fail(m, VIAL_E_STATE, "the box is paused already");
	else if (m->held)
		fail(m, VIAL_E_STATE, "the guest has not come to rest since an earlier request");
	else
		quiesce(m);
}

static void do_resume(struct monitor *m)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (!m->paused)
		fail(m, VIAL_E_STATE, "the box is not paused");
	else
		tell_engine(m, m->ops->resume(m->engine, &err), &err);
}

static void swap_limits(struct monitor *m)
{
	struct control_op *op = &m->control_op;
	uint32_t cpus = m->launch.cpus;
	uint64_t memory = m->launch.memory_max;

	m->launch.cpus = op->cpus;
	m->launch.memory_max = op->memory;
	op->cpus = cpus;
	op->memory = memory;
}

static void do_update(struct monitor *m)
{
	struct control_op *op = &m->control_op;

	if (op->cpus > m->launch.vcpus || op->memory > m->launch.memory) {
		fail(m, VIAL_E_INVALID, "more than the box was made for (--max-cpus, --max-memory)");
		return;
	}
	swap_limits(m);
	if (m->paused)
		finish(m);
	else
		ask(m, AGENT_HOST_REFRESH);
}

static void prepare_snapshot(struct monitor *m)
{
	m->control_op.sync = false;
	if (m->control_op.to.delta && m->ops->write_ahead)
		write_ahead(m);
	else
		quiesce(m);
}

static void do_snapshot(struct monitor *m)
{
	if (m->paused && m->quiesced)
		engine_snapshot(m);
	else if (m->held)
		fail(m, VIAL_E_STATE, "the box's commands could not be frozen: resume it and try again");
	else if (m->control_op.sync)
		ask(m, AGENT_HOST_SYNC);
	else
		prepare_snapshot(m);
}

/* Is there something that a delta would differ from, and an engine that writes them? */
static bool can_delta(const struct monitor *m)
{
	return m->ops->form == ENGINE_FORM_PAIR && m->launch.mode == LAUNCH_RESTORE;
}

static void start(struct monitor *m, struct client *c)
{
	struct control_op *op = &m->control_op;

	*op = (struct control_op){ .client = c, .type = c->control };
	op->to = (struct engine_snapshot){ c->fds[MON_SNAP_STATE], c->fds[MON_SNAP_MEM],
					   c->fds[MON_SNAP_UPPER], c->fds[MON_SNAP_UPPER_RO],
					   can_delta(m) && (c->snapshot_flags & MON_SNAP_DELTA) };
	for (size_t i = 0; i < ARRAY_SIZE(c->fds); i++)
		c->fds[i] = -1;
	op->sync = c->snapshot_flags & MON_SNAP_SYNC;
	op->cpus = c->update_cpus;
	op->memory = c->update_memory;
	c->control = 0;
	log_debug("control request %d", op->type);
	loop_timer_set(m->control_timer, clock_mono_ns() + CONTROL_TIMEOUT_S * NS_PER_S);
	if (op->type == MON_PAUSE)
		do_pause(m);
	else if (op->type == MON_RESUME)
		do_resume(m);
	else if (op->type == MON_UPDATE)
		do_update(m);
	else
		do_snapshot(m);
}

static void start_next(struct monitor *m)
{
	struct client *oldest = NULL;

	if (m->control_op.type || m->state != MON_READY)
		return;
	/* The list has the newest first. */
	for (struct client *c = m->clients; c; c = c->next)
		if (c->control)
			oldest = c;
	if (oldest)
		start(m, oldest);
}

void control_request(struct monitor *m)
{
	start_next(m);
}

void control_client_gone(struct monitor *m, const struct client *c)
{
	if (m->control_op.client == c)
		m->control_op.client = NULL;
}

bool control_can_ask(const struct monitor *m)
{
	return m->control_op.returning || (m->control_op.type == 0 && (!m->held || m->paused));
}

/* ---- what comes back ---- */

static void release(struct monitor *m)
{
	m->held = m->quiesced = false;
	clients_start_pending(m);
}

static void on_quiesced(struct monitor *m)
{
	m->quiesced = true;
	if (m->control_op.type == MON_PAUSE)
		engine_pause(m);
	else if (m->control_op.type == MON_SNAPSHOT)
		engine_snapshot(m);
	else if (!m->paused)
		ask(m, AGENT_HOST_THAW); /* the answer to a request that was given up */
}

/* What files held in memory is on the disk: what the engine writes now will hardly change any more. */
static void on_synced(struct monitor *m)
{
	for (size_t i = 0; i < m->n_asked; i++)
		if (m->asked[i] == AGENT_HOST_SYNC)
			return; /* that was an earlier snapshot's, which was given up */
	if (m->control_op.sync)
		prepare_snapshot(m);
}

/* Whether the guest has still to come to rest, or to go on, for another time: a thaw before that decides nothing. */
static bool is_stale_thaw(const struct monitor *m)
{
	for (size_t i = 0; i < m->n_asked; i++)
		if (m->asked[i] == AGENT_HOST_QUIESCE || m->asked[i] == AGENT_HOST_THAW)
			return true;
	return m->paused;
}

static void on_thawed(struct monitor *m)
{
	uint16_t type = m->control_op.type;

	if (is_stale_thaw(m))
		return;
	if (type == MON_PAUSE) {
		engine_pause(m); /* it could not be quiesced, and stops all the same */
		return;
	}
	if (m->control_op.engine_told)
		return; /* a snapshot is being written */
	release(m);
	if (type == MON_SNAPSHOT || type == MON_RESUME)
		finish(m);
}

void control_agent_done(struct monitor *m, enum agent_host_type what)
{
	if (what == AGENT_HOST_QUIESCE)
		on_quiesced(m);
	else if (what == AGENT_HOST_THAW)
		on_thawed(m);
	else if (what == AGENT_HOST_SYNC)
		on_synced(m);
	else if (what == AGENT_HOST_REFRESH && m->control_op.type == MON_UPDATE)
		finish(m);
}

bool control_agent_failed(struct monitor *m, enum agent_host_type what, struct slice text)
{
	char why[MON_TEXT_MAX];

	snprintf(why, sizeof(why), "%.*s", (int)text.n, (const char *)text.p);
	if (what == AGENT_HOST_SYNC) {
		on_synced(m); /* it was a favour */
		return true;
	}
	if (what == AGENT_HOST_QUIESCE) {
		if (m->control_op.type == MON_SNAPSHOT)
			reply_error(m, VIAL_E_ENGINE, why);
		ask(m, AGENT_HOST_THAW);
		return true;
	}
	if (what != AGENT_HOST_REFRESH)
		return false;
	log_warn("the guest did not take its new settings: %s", why);
	if (m->control_op.type == MON_UPDATE) {
		swap_limits(m);
		fail(m, VIAL_E_ENGINE, why);
	}
	return true;
}

void control_paused(void *data)
{
	struct monitor *m = data;

	m->paused = true;
	if (m->control_op.type)
		finish(m);
}

void control_resumed(void *data)
{
	struct monitor *m = data;

	m->paused = false;
	if (m->state == MON_READY) {
		bring_back(m);
	}
	monitor_flush_agent(m);
}

void control_snapshotted(void *data, const char *why, bool switched, uint64_t pause_ns)
{
	struct monitor *m = data;
	struct mon_msg msg = { .type = MON_SNAPSHOTTED };

	msg.snapshotted.form = why ? 0 : m->control_op.to.delta ? (uint32_t)ENGINE_FORM_DELTA : m->ops->form;
	msg.snapshotted.pause_us = (uint32_t)MIN(pause_ns / 1000, (uint64_t)UINT32_MAX);
	memcpy(msg.snapshotted.key, m->launch.next_key, LINK_KEY_SIZE);
	m->control_op.engine_told = false;
	if (switched)
		reply(m, &msg, why == NULL);
	if (why)
		reply_error(m, VIAL_E_ENGINE, why);
	if (m->paused) {
		finish(m);
	} else {
		bring_back(m);
	}
	monitor_flush_agent(m);
}

static void on_timeout(struct loop_src *src _unused_, void *data)
{
	struct monitor *m = data;

	if (m->control_op.type == MON_PAUSE)
		engine_pause(m);
	else if (m->control_op.type)
		fail(m, VIAL_E_TIMEOUT, "the guest's agent does not answer");
}

int control_init(struct monitor *m)
{
	m->control_op.to = (struct engine_snapshot){ -1, -1, -1, -1, false };
	return loop_add_timer(m->loop, on_timeout, m, &m->control_timer);
}

void control_done(struct monitor *m)
{
	close_fds(m);
}
