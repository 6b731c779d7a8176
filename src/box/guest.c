// SPDX-License-Identifier: Apache-2.0
/*
 * The agent's side of the monitor: transport, control connection, the steps from a running machine to
 * a box that takes commands.
 *
 * Theory of operation
 *
 * Steps: control connection, hello, Refresh and Setup are queued in one go, and commands right behind them: the agent
 * handles all of it in order, so no round trip is spent waiting. For a machine that is resumed that is while it
 * is being started; for one that boots, when its agent is there.
 * Building a template: hello, Quiesce -> Done -> the engine saves. Preparing one with its root set up: identity,
 * Setup, Thaw, a first command to warm up, Quiesce -> Done -> the engine saves.
 * Who is trusted: the guest is hostile. An answer that was not asked for ends the box.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "box/monitor.h"
#include "engine/layout.h"

#define LOST_MS 200 /* between the end of a machine's connections and its own */

int guest_ask(struct monitor *m, const struct agent_host_msg *msg)
{
	_cleanup_buf_ struct buf frame = { 0 };
	int r = agent_host_msg_put(&frame, msg);

	if (r < 0)
		return r;
	if (msg->type != AGENT_HOST_HELLO) {
		if (m->n_asked == ARRAY_SIZE(m->asked))
			return -EBUSY;
		m->asked[m->n_asked++] = msg->type;
	}
	return transport_send(m->transport, m->control, frame.data, frame.len);
}

void guest_fill_hello(struct agent_host_msg *msg)
{
	msg->hello.magic = slice_str(AGENT_MAGIC);
	msg->hello.version_min = AGENT_VERSION_MIN;
	msg->hello.version_max = AGENT_VERSION_MAX;
}

static int send_hello(struct monitor *m)
{
	struct agent_host_msg msg = { .type = AGENT_HOST_HELLO };

	guest_fill_hello(&msg);
	return guest_ask(m, &msg);
}

int guest_refresh(struct monitor *m)
{
	struct agent_host_msg refresh = { .type = AGENT_HOST_REFRESH };
	uint8_t entropy[64];

	if (getrandom(entropy, sizeof(entropy), 0) != sizeof(entropy))
		return -EIO;
	refresh.refresh.generation = ++m->generation;
	refresh.refresh.entropy = (struct slice){ entropy, sizeof(entropy) };
	refresh.refresh.wall_ns = clock_wall_ns();
	refresh.refresh.hostname = slice_str(m->launch.hostname);
	refresh.refresh.machine_id = slice_str(m->launch.id);
	refresh.refresh.memory_max = m->launch.memory_max;
	refresh.refresh.cpus = m->launch.cpus;
	return guest_ask(m, &refresh);
}

static int send_identity(struct monitor *m)
{
	struct agent_host_msg setup = { .type = AGENT_HOST_SETUP };
	struct agent_host_msg thaw = { .type = AGENT_HOST_THAW };

	setup.setup.root_serial = slice_str(LAYOUT_ROOT_SERIAL);
	setup.setup.root_fstype = slice_str(m->launch.fstype);
	setup.setup.upper_serial = slice_str(LAYOUT_UPPER_SERIAL);
	if (m->launch.console_shell)
		setup.setup.console_shell = slice_str(m->launch.console_shell);
	int r = guest_refresh(m);
	if (r == 0 && !m->launch.rooted)
		r = guest_ask(m, &setup);
	if (r == 0 && launch_incoming(&m->launch))
		r = guest_ask(m, &thaw); /* it was saved frozen */
	return r;
}

/*
 * Commands that do nothing: one, so that what every start reads is in the template's memory; some more for a QEMU that is
 * frozen, so that it has translated what every start runs. An image without them makes no difference: the end of the
 * connection is what is waited for.
 */
static const char *const warm_ups[][4] = {
	{ "/bin/sh", "-c", ":", NULL },
	{ "true", NULL },
	{ "/bin/sh", "-c", "echo", NULL },
	{ "true", NULL },
};

static void warm_up(struct monitor *m)
{
	struct agent_host_msg hello = { .type = AGENT_HOST_HELLO }, msg = { .type = AGENT_HOST_EXEC };
	_cleanup_buf_ struct buf out = { 0 };
	int r = transport_open(m->transport, false, &m->warm);

	guest_fill_hello(&hello);
	for (const char *const *arg = warm_ups[m->n_warmed++]; *arg; arg++)
		r = r ?: strv_add(&msg.exec.argv, *arg);
	msg.exec.window = AGENT_WINDOW;
	msg.exec.timeout_ms = 10000;
	r = r ?: agent_host_msg_put(&out, &hello);
	r = r ?: agent_host_msg_put(&out, &msg);
	r = r ?: transport_send(m->transport, m->warm, out.data, out.len);
	agent_host_msg_done(&msg);
	if (r < 0)
		monitor_fail(m, VIAL_E_NO_MEMORY, "cannot warm the guest up: %s", strerror(-r));
}

static void quiesce(struct monitor *m)
{
	struct agent_host_msg msg = { .type = AGENT_HOST_QUIESCE, .quiesce.for_template = true };
	int r = guest_ask(m, &msg);

	if (r < 0)
		monitor_fail(m, VIAL_E_NO_MEMORY, "cannot speak to the guest's agent: %s", strerror(-r));
}

/* What every guest is asked first. */
static int first_requests(struct monitor *m)
{
	struct agent_host_msg quiesce = { .type = AGENT_HOST_QUIESCE, .quiesce.for_template = true };
	int r = transport_open(m->transport, true, &m->control);

	m->control_in.max = FRAME_MAX;
	r = r ?: send_hello(m);
	if (m->launch.mode == LAUNCH_BUILD)
		return r ?: guest_ask(m, &quiesce);
	return r ?: send_identity(m);
}

static void on_ready(void *owner)
{
	struct monitor *m = owner;

	log_debug("agent is up");
	m->state = MON_UP;
	if (launch_incoming(&m->launch))
		return;
	int r = first_requests(m);
	if (r < 0) {
		monitor_fail(m, VIAL_E_NO_MEMORY, "cannot speak to the guest's agent: %s", strerror(-r));
		return;
	}
	m->held = false;
	clients_start_pending(m);
}

static void on_done(struct monitor *m)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (m->n_asked == 0) {
		monitor_fail(m, VIAL_E_PROTOCOL, "the guest's agent answered what was not asked");
		return;
	}
	enum agent_host_type what = m->asked[0];
	memmove(m->asked, m->asked + 1, --m->n_asked * sizeof(m->asked[0]));
	log_debug("agent done with request %d", what);
	if (m->state >= MON_READY)
		control_agent_done(m, what);
	else if (m->launch.mode == LAUNCH_TRY && what == AGENT_HOST_THAW)
		monitor_end(m);
	else if (launch_warms(&m->launch) && what == AGENT_HOST_THAW)
		warm_up(m);
	else if (what == (launch_incoming(&m->launch) ? AGENT_HOST_THAW : AGENT_HOST_SETUP))
		monitor_ready(m);
	else if (what == AGENT_HOST_QUIESCE && m->ops->save_template(m->engine, &err) < 0)
		monitor_fail(m, err.code, "%s", err.msg);
}

static void control_msg(struct monitor *m, const struct agent_guest_msg *g)
{
	static const char *const names[] = { [AGENT_HOST_REFRESH] = "take its identity",
					     [AGENT_HOST_SETUP] = "set up its root file system",
					     [AGENT_HOST_QUIESCE] = "quiesce" };

	switch (g->type) {
	case AGENT_GUEST_DONE:
		on_done(m);
		break;
	case AGENT_GUEST_FAILED: {
		size_t what = m->n_asked ? m->asked[0] : 0;
		const char *name =
			what < ARRAY_SIZE(names) && names[what] ? names[what] : "do what was asked";
		if (m->n_asked && m->state == MON_READY) {
			memmove(m->asked, m->asked + 1, --m->n_asked * sizeof(m->asked[0]));
			if (control_agent_failed(m, (enum agent_host_type)what, g->failed.message))
				break;
		}
		monitor_fail(m, g->failed.kind == AGENT_FAIL_ROOT ? VIAL_E_UNSUPPORTED : VIAL_E_ENGINE,
			     "the guest could not %s: %.*s", name, (int)g->failed.message.n,
			     (const char *)g->failed.message.p);
		break;
	}
	case AGENT_GUEST_HELLO:
		if (g->hello.version_min > AGENT_VERSION_MAX)
			monitor_fail(
				m, VIAL_E_UNSUPPORTED,
				"the guest's agent speaks protocol version %u and later, this vial speaks %u",
				g->hello.version_min, AGENT_VERSION_MAX);
		break;
	default:
		break;
	}
}

static void on_data(void *owner, uint32_t conn, const uint8_t *p, size_t n)
{
	struct monitor *m = owner;
	struct agent_guest_msg g;
	const uint8_t *frame;
	size_t len;
	int r;

	if (conn != m->control) {
		(void)clients_guest_data(m, conn, p, n);
		return;
	}
	r = frame_in_push(&m->control_in, p, n);
	while (r == 0 && m->state < MON_DEAD && (r = frame_in_next(&m->control_in, &frame, &len)) == 1) {
		r = agent_guest_msg_decode(frame, len, &g);
		if (r == 0)
			control_msg(m, &g);
	}
	if (r < 0)
		monitor_fail(m, VIAL_E_PROTOCOL, "the guest's agent sent a malformed message");
}

static void on_gone(void *owner, uint32_t conn)
{
	struct monitor *m = owner;

	if (conn == m->warm) {
		m->warm = 0;
		if (m->n_warmed < (m->launch.mode == LAUNCH_FREEZE ? ARRAY_SIZE(warm_ups) : 1))
			warm_up(m);
		else
			quiesce(m);
	} else if (m->state >= MON_ENDING) {
		if (conn != m->control)
			clients_guest_lost(m, conn); /* on_exited() tells them why */
	} else if (m->ops->connect) {
		/* Its machine may just be ending, which closes each connection: its exit tells more. */
		if (conn == m->control)
			m->control_lost = true;
		else
			clients_guest_lost(m, conn);
		loop_timer_set(m->lost_timer, clock_mono_ns() + LOST_MS * NS_PER_MS);
	} else if (conn == m->control) {
		monitor_fail(m, VIAL_E_PROTOCOL, "the guest's agent dropped its control connection");
	} else {
		clients_guest_gone(m, conn);
	}
}

/* The machine is still there: connections that ended were dropped by the guest. */
static void on_lost_for_good(struct loop_src *src _unused_, void *data)
{
	struct monitor *m = data;

	if (m->state >= MON_ENDING)
		return;
	if (m->control_lost)
		monitor_fail(m, VIAL_E_PROTOCOL, "the guest's agent dropped its control connection");
	else
		clients_fail_lost(m);
}

/* The agent will say no more on this connection, so neither do we. */
static void on_shut(void *owner, uint32_t conn)
{
	struct monitor *m = owner;

	transport_shut(m->transport, conn);
	on_gone(owner, conn);
}

static void on_broken(void *owner)
{
	monitor_fail(owner, VIAL_E_PROTOCOL, "the guest's agent broke the link protocol");
}

static const struct transport_events transport_callbacks = { on_ready, on_data, on_shut, on_gone, on_broken };

int guest_init(struct monitor *m, struct vial_err *err)
{
	int r;

	if (m->ops->connect)
		r = transport_vsock_new(launch_incoming(&m->launch), &transport_callbacks, m, &m->transport);
	else
		r = transport_link_new(&m->launch, &transport_callbacks, m, &m->transport);
	r = r ?: loop_add_timer(m->loop, on_lost_for_good, m, &m->lost_timer);
	/* A boot takes seconds, by which the clock that the guest is told would be late. */
	m->held = !launch_incoming(&m->launch);
	if (!m->held && m->launch.mode != LAUNCH_CONVERT) /* nobody runs there */
		r = r ?: first_requests(m);
	return r < 0 ? err_sys(err, r, "prepare the way to the guest's agent") : 0;
}
