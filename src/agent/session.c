// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * Each connection is a session. It begins with a Hello from both sides; the first request then decides what it is:
 *
 *	HELLO --Hello--> READY --control request--> CONTROL (any number of them, answered in order)
 *	                   |
 *	                   +-----Exec--> EXEC (one command) --Exited or Failed--> OVER
 *
 * Over vsock an Exec may overtake the Setup or Thaw that was sent before it on another connection: one that comes while no command
 * can be run is parked until one can, and with it whatever follows on its connection.
 *
 * A connection that is lost between a quiesce and its thaw may have been dropped by the host, or be one that a restored machine
 * only remembers. The thaw tells: from who has asked for the quiesce, the host was there all the time.
 * Until then the session is LOST.
 *
 * The host may be wrong, never trusted to be right: a message that its state does not allow, data beyond credit,
 * a malformed frame or too long a one abort that connection and with it its command; the others go on.
 *
 * A session that cannot go on is marked dead and freed by the sweep at the end of the loop's turn, so
 * that no caller up the stack holds a freed one.
 *
 * Limits: a frame is at most FRAME_MAX, or FRAME_MAX_EXEC where an Exec may come; output is read from a command
 * only while less than QUEUE_HIGH bytes of its session wait for the transport.
 */
#include "agent/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/agent.h"
#include "agent/console.h"
#include "base/err.h"
#include "base/log.h"
#include "wire/agent_msg.h"
#include "wire/frame.h"

#define QUEUE_HIGH KIB(128)

enum state { S_HELLO, S_READY, S_CONTROL, S_EXEC, S_OVER, S_LOST, S_DEAD };

struct session {
	struct agent *agent;
	struct session *next;
	struct chan *chan; /* NULL: gone */
	enum state state;
	bool waiting; /* for a quiesce or a sync */
	struct frame_in in;
	struct slice frame; /* the message being taken */
	struct buf parked;  /* an Exec that waits until commands can be run */
	struct cmd *cmd;
};

/* ---- output ---- */

static void session_kill(struct session *s)
{
	s->state = S_DEAD;
	loop_timer_set(s->agent->sweep, 1);
}

static bool session_send(struct session *s, const struct agent_guest_msg *m)
{
	_cleanup_buf_ struct buf out = { 0 };
	int r = s->chan && s->state < S_LOST ? agent_guest_msg_put(&out, m) : -EPIPE;

	if (r == 0)
		r = chan_send(s->chan, out.data, out.len);
	if (r < 0 && s->state < S_LOST) {
		log_warn("a reply could not be sent: %s", strerror(-r));
		session_kill(s);
	}
	return r == 0;
}

static void send_hello(struct session *s)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_HELLO };

	m.hello = (struct agent_hello){ slice_str(AGENT_MAGIC), AGENT_VERSION_MIN, AGENT_VERSION_MAX, 0 };
	(void)session_send(s, &m);
}

static void send_done(struct session *s)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_DONE };

	(void)session_send(s, &m);
}

static void send_failed(struct session *s, enum agent_fail kind, int err_no, const char *text)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_FAILED };

	m.failed = (struct agent_failed){ kind, (uint32_t)err_no, { (const uint8_t *)text, 0 } };
	m.failed.message.n = strnlen(text, AGENT_TEXT_MAX);
	(void)session_send(s, &m);
}

/* The answer to a control request. */
static void answer(struct session *s, const struct vial_err *err, enum agent_fail kind)
{
	if (err->code == VIAL_OK)
		send_done(s);
	else
		send_failed(s, err->code == VIAL_E_INVALID ? AGENT_FAIL_BAD_REQUEST : kind, err->sys_errno,
			    err->msg);
}

/* ---- control requests ---- */

static void unpark(struct agent *a);

/* What became of connections in a quiesce is known now: their commands run on in a restored machine, or are over. */
static void settle_lost(struct agent *a, bool restored)
{
	for (struct session *s = a->sessions; s; s = s->next) {
		if (s->state != S_LOST)
			continue;
		if (s->cmd && restored)
			cmd_detach(s->cmd);
		else if (s->cmd)
			cmd_drop(s->cmd);
		s->cmd = NULL;
		session_kill(s);
	}
}

static void do_refresh(struct session *s, const struct agent_host_msg *m)
{
	struct agent *a = s->agent;
	struct vial_err err = VIAL_ERR_INIT;

	(void)identity_refresh(&a->identity, a->cgroups, &m->refresh, a->root.ready, &err);
	answer(s, &err, AGENT_FAIL_OTHER);
}

static void do_setup(struct session *s, const struct agent_host_msg *m)
{
	struct agent *a = s->agent;
	struct vial_err err = VIAL_ERR_INIT;

	if (a->root.ready) {
		send_failed(s, AGENT_FAIL_BAD_REQUEST, 0, "the root is set up already");
		return;
	}
	if (root_setup(&a->root, &m->setup, &err) == 0) {
		identity_write(&a->identity);
		cmds_root_ready(a->cmds);
		console_shell(a->loop, m->setup.console_shell);
	}
	answer(s, &err, AGENT_FAIL_ROOT);
	unpark(a);
}

static void quiesce_done(void *user, const struct vial_err *err)
{
	struct session *s = user;

	s->waiting = false;
	answer(s, err, AGENT_FAIL_OTHER);
}

static void sync_done(void *user)
{
	struct session *s = user;

	s->waiting = false;
	send_done(s);
}

/* It is no more than a favour: where it cannot be done, that is no failure. */
static void do_sync(struct session *s, const struct agent_host_msg *m _unused_)
{
	if (filesync_start(s->agent, sync_done, s) == 0)
		s->waiting = true;
	else
		send_done(s);
}

static void do_quiesce(struct session *s, const struct agent_host_msg *m)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (power_quiesce(s->agent, m->quiesce.for_template, quiesce_done, s, &err) == 0)
		s->waiting = true;
	else
		answer(s, &err, AGENT_FAIL_OTHER);
}

static void do_thaw(struct session *s, const struct agent_host_msg *m _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;

	settle_lost(s->agent, s->agent->power.by != s);
	(void)power_thaw(s->agent, &err);
	answer(s, &err, AGENT_FAIL_OTHER);
	unpark(s->agent);
}

static void do_power_off(struct session *s, const struct agent_host_msg *m _unused_)
{
	power_stop(s->agent);
	send_done(s);
	power_off(s->agent);
}

static void do_ping(struct session *s, const struct agent_host_msg *m _unused_)
{
	send_done(s);
}

/* ---- exec ---- */

static bool ev_send(void *user, const struct agent_guest_msg *m)
{
	return session_send(user, m);
}

static bool ev_room(void *user)
{
	struct session *s = user;

	return s->chan && s->state == S_EXEC && chan_queued(s->chan) < QUEUE_HIGH;
}

static void ev_ended(void *user)
{
	struct session *s = user;

	s->cmd = NULL;
	if (s->state != S_EXEC)
		return;
	s->state = S_OVER;
	chan_shut(s->chan);
}

static const struct cmd_events exec_events = { .send = ev_send, .room = ev_room, .ended = ev_ended };

static void exec_refused(struct session *s, enum agent_fail kind, int err_no)
{
	static const char *const texts[] = {
		[AGENT_FAIL_BAD_REQUEST] = "not a command",
		[AGENT_FAIL_LIMIT] = "too many commands, processes or descriptors in the guest",
		[AGENT_FAIL_NO_MEMORY] = "out of memory in the guest",
	};
	const char *text = kind < ARRAY_SIZE(texts) && texts[kind] ? texts[kind] : strerror(err_no);

	send_failed(s, kind, err_no, text);
	s->state = s->state == S_DEAD ? S_DEAD : S_OVER;
	chan_shut(s->chan);
}

static void do_exec(struct session *s, struct agent_host_msg *m)
{
	int r, err_no;

	s->in.max = FRAME_MAX;
	s->state = S_EXEC;
	r = cmd_start(s->agent->cmds, &m->exec, s->frame, &exec_events, s, &s->cmd, &err_no);
	if (r < 0)
		exec_refused(s, (enum agent_fail) - r, err_no);
}

/* Return: 0 or -EPROTO. */
static int exec_message(struct session *s, const struct agent_host_msg *m)
{
	if (!s->cmd)
		return 0; /* crossed with its end */
	switch (m->type) {
	case AGENT_HOST_STDIN:
		return cmd_stdin(s->cmd, &m->data);
	case AGENT_HOST_STDIN_END:
		cmd_stdin_end(s->cmd);
		return 0;
	case AGENT_HOST_CREDIT:
		return cmd_credit(s->cmd, &m->credit);
	case AGENT_HOST_SIGNAL:
		return cmd_signal(s->cmd, m->signal);
	case AGENT_HOST_RESIZE:
		return cmd_resize(s->cmd, m->resize.rows, m->resize.cols);
	default:
		return -EPROTO;
	}
}

/* ---- dispatch ---- */

static bool can_run(const struct agent *a)
{
	return a->root.ready && !a->power.quiet;
}

static int park(struct session *s)
{
	s->parked.limit = FRAME_MAX_EXEC;
	buf_append(&s->parked, s->frame.p, s->frame.n);
	return buf_ok(&s->parked) ? 0 : -ENOMEM;
}

static int take_hello(struct session *s, const struct agent_host_msg *m)
{
	const struct agent_hello *h = &m->hello;

	if (m->type != AGENT_HOST_HELLO || h->magic.n != strlen(AGENT_MAGIC) ||
	    memcmp(h->magic.p, AGENT_MAGIC, h->magic.n) != 0)
		return -EPROTO;
	send_hello(s);
	if (h->version_min > AGENT_VERSION_MAX || h->version_max < AGENT_VERSION_MIN) {
		send_failed(s, AGENT_FAIL_BAD_REQUEST, 0, "no protocol version in common with this agent");
		s->state = S_OVER;
		chan_shut(s->chan);
		return 0;
	}
	s->state = S_READY;
	s->in.max = FRAME_MAX_EXEC;
	return 0;
}

typedef void control_fn(struct session *s, const struct agent_host_msg *m);

static int take_control(struct session *s, const struct agent_host_msg *m)
{
	static control_fn *const handlers[] = {
		[AGENT_HOST_REFRESH] = do_refresh,     [AGENT_HOST_SETUP] = do_setup,
		[AGENT_HOST_QUIESCE] = do_quiesce,     [AGENT_HOST_THAW] = do_thaw,
		[AGENT_HOST_POWER_OFF] = do_power_off, [AGENT_HOST_PING] = do_ping,
		[AGENT_HOST_SYNC] = do_sync,
	};

	if ((size_t)m->type >= ARRAY_SIZE(handlers) || !handlers[m->type])
		return -EPROTO;
	if (s->state == S_READY) {
		s->state = S_CONTROL;
		s->in.max = FRAME_MAX;
		chan_control(s->chan);
	}
	if (s->waiting)
		return -EPROTO; /* answers are in order: nothing may be asked before the last is given */
	handlers[m->type](s, m);
	return 0;
}

static int take_message(struct session *s, struct agent_host_msg *m)
{
	if (m->type == AGENT_HOST_NONE)
		return 0;
	switch (s->state) {
	case S_HELLO:
		return take_hello(s, m);
	case S_READY:
		if (m->type != AGENT_HOST_EXEC)
			return take_control(s, m);
		if (!can_run(s->agent))
			return park(s);
		do_exec(s, m);
		return 0;
	case S_CONTROL:
		return take_control(s, m);
	case S_EXEC:
		return exec_message(s, m);
	default:
		return 0;
	}
}

static int take_frame(struct session *s, const uint8_t *p, size_t n)
{
	struct agent_host_msg m;
	int r = agent_host_msg_decode(p, n, &m);

	if (r < 0)
		return r;
	s->frame = (struct slice){ p, n };
	r = take_message(s, &m);
	agent_host_msg_done(&m);
	return r;
}

/* Takes the frames that are whole; @r: the result of what came before. */
static void take_frames(struct session *s, int r)
{
	const uint8_t *frame;
	size_t len;

	while (r >= 0 && s->state < S_OVER && !s->parked.len && (r = frame_in_next(&s->in, &frame, &len)) > 0)
		r = take_frame(s, frame, len);
	if (r >= 0 && s->parked.len && s->in.buf.len > FRAME_MAX)
		r = -ENOBUFS; /* there is nothing that a host could say about it at such length */
	if (r < 0 && s->state != S_DEAD) {
		log_warn("connection ended: %s", strerror(-r));
		session_kill(s);
	}
}

static void on_data(void *owner _unused_, struct chan *c, const uint8_t *p, size_t n)
{
	struct session *s = c->user;

	if (s->state < S_OVER)
		take_frames(s, frame_in_push(&s->in, p, n));
}

/* In the order in which they came. */
static struct session *first_parked(struct agent *a)
{
	struct session *first = NULL;

	for (struct session *s = a->sessions; s; s = s->next)
		if (s->parked.len && s->state < S_OVER)
			first = s;
	return first;
}

static void unpark(struct agent *a)
{
	struct session *s;

	while (can_run(a) && (s = first_parked(a))) {
		_cleanup_buf_ struct buf frame = s->parked;
		s->parked = (struct buf){ 0 };
		take_frames(s, take_frame(s, (const uint8_t *)frame.data, frame.len));
	}
}

/* ---- life ---- */

static void session_free(struct session *s)
{
	struct session **at = &s->agent->sessions;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	power_forget(s->agent, s);
	filesync_forget(s->agent, s);
	frame_in_done(&s->in);
	buf_done(&s->parked);
	free(s);
}

static int on_opened(void *owner, struct chan *c)
{
	struct agent *a = owner;
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*s = (struct session){ .agent = a, .next = a->sessions, .chan = c, .state = S_HELLO };
	s->in.max = FRAME_MAX;
	a->sessions = s;
	c->user = s;
	return 0;
}

/* The host will say no more. A command is over with that; answers to control requests still leave. */
static void on_shut(void *owner _unused_, struct chan *c)
{
	struct session *s = c->user;

	if (s->state == S_EXEC && s->agent->power.quiet) {
		s->state = S_LOST;
		s->chan = NULL;
		chan_close(c);
		return;
	}
	if (s->state == S_EXEC) {
		session_kill(s);
		return;
	}
	if (s->state == S_DEAD)
		return;
	s->state = S_DEAD;
	s->chan = NULL;
	chan_close(c);
	loop_timer_set(s->agent->sweep, 1);
}

static void on_gone(void *owner _unused_, struct chan *c, bool reset)
{
	struct session *s = c->user;

	s->chan = NULL;
	if (s->state == S_EXEC && s->agent->power.quiet && !reset) {
		s->state = S_LOST;
		return;
	}
	if (s->cmd && reset)
		cmd_detach(s->cmd);
	else if (s->cmd)
		cmd_drop(s->cmd);
	s->cmd = NULL;
	session_kill(s);
}

static void on_drained(void *owner)
{
	struct agent *a = owner;

	cmds_pump(a->cmds);
}

static void on_sweep(struct loop_src *src _unused_, void *data)
{
	struct agent *a = data;
	struct session *next;

	for (struct session *s = a->sessions; s; s = next) {
		next = s->next;
		if (s->state != S_DEAD)
			continue;
		if (s->cmd)
			cmd_drop(s->cmd);
		if (s->chan)
			chan_abort(s->chan);
		session_free(s);
	}
}

int sessions_init(struct agent *a)
{
	return loop_add_timer(a->loop, on_sweep, a, &a->sweep);
}

const struct chan_events session_events = {
	.opened = on_opened,
	.data = on_data,
	.shut = on_shut,
	.gone = on_gone,
	.drained = on_drained,
};
