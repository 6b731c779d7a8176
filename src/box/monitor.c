// SPDX-License-Identifier: Apache-2.0
/*
 * vial-monitor: the sole parent of everything one box runs.
 *
 * Theory of operation
 *
 * Purpose: start the box's machine, carry commands between clients and the agent, and take all of it
 * down when the box ends, however that comes about.
 * Who is trusted: the launch description (written by the library). The guest, QEMU and their messages are
 * hostile. This process holds no file but its descriptors and has no rights beyond them (jail_self).
 * Life: the box ends when the lifeline socket closes or the client's process ends (pidfd: a forked child of the
 * client may keep the socket open), when the machine ends, or on MON_STOP. Children die with this process
 * (PDEATHSIG). It makes the box's directory first and removes it last.
 * Threads: one.
 */
#include "box/monitor.h"

#include <errno.h>
#include <stdarg.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/boxdir.h"
#include "jail/jail.h"

#define LIFELINE_MAX	256 /* longest message of the client on it */
#define ACCEPT_RETRY_MS 100 /* when there was no descriptor for a client */

static void lifeline_put(struct monitor *m, const struct mon_msg *msg)
{
	int fd = launch_fd(&m->launch, LAUNCH_FD_LIFELINE, 0);

	if (mon_msg_put(&m->lifeline_out.buf, msg) == 0)
		(void)outq_flush(&m->lifeline_out, fd); /* a few small messages: they fit its socket buffer */
}

static void lifeline_error(struct monitor *m, int code, const char *text)
{
	struct mon_msg msg = { .type = MON_ERROR };

	msg.error.code = code;
	msg.error.text = (struct slice){ (const uint8_t *)text, MIN(strlen(text), (size_t)MON_TEXT_MAX) };
	lifeline_put(m, &msg);
}

void monitor_fail(struct monitor *m, int code, const char *fmt, ...)
{
	va_list ap;

	if (m->state >= MON_DEAD)
		return;
	m->state = MON_DEAD;
	va_start(ap, fmt);
	vsnprintf(m->why, sizeof(m->why), fmt, ap);
	va_end(ap);
	m->why_code = code;
	log_info("box ends: %s", m->why);
	lifeline_error(m, code, m->why);
	clients_fail_all(m);
	if (m->loop)
		loop_quit(m->loop, 0);
}

void monitor_ready(struct monitor *m)
{
	if (m->state < MON_READY)
		m->state = MON_READY;
	loop_timer_set(m->timer, 0);
	lifeline_put(m, &(struct mon_msg){ .type = MON_STARTED });
	control_request(m);
}

void monitor_flush_agent(struct monitor *m)
{
	/*
	 * Nobody runs in a conversion who would read. QEMU would put it into the guest's buffers all the same, perhaps
	 * between saving the device and the end, and a guest made of the two would miss what it is sent first.
	 */
	if (m->launch.mode == LAUNCH_CONVERT)
		return;
	transport_flush(m->transport);
}

static void on_console(struct loop_src *src, uint32_t events _unused_, void *data)
{
	struct monitor *m = data;
	char text[1024];
	ssize_t n = recv(m->ops->console_fd(m->engine), text, sizeof(text), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		loop_src_free(src);
		m->console_src = NULL;
		return;
	}
	if (m->console.len + (size_t)n > MON_CONSOLE_MAX)
		buf_consume(&m->console, MIN(m->console.len, MON_CONSOLE_MAX / 2));
	buf_append(&m->console, text, (size_t)n);
}

static void drain_console(struct monitor *m)
{
	for (int i = 0; i < 64 && m->console_src; i++) {
		size_t before = m->console.len;
		on_console(m->console_src, EPOLLIN, m);
		if (m->console_src && m->console.len == before)
			return;
	}
}

/* Whoever looks for the reason wants all of it. */
static void log_console(struct monitor *m)
{
	char *save = NULL;

	drain_console(m);
	_cleanup_free_ char *text = buf_cstr(&m->console) ? strdup(buf_cstr(&m->console)) : NULL;
	for (char *line = text ? strtok_r(text, "\r\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\r\n", &save)) {
		str_defuse(line);
		log_debug("console: %.900s", line);
	}
}

/* The console line that tells most: a panic, a word of the agent, else the last one. "" if there is none. */
static const char *console_hint(struct monitor *m)
{
	static const char *const marks[] = { "Kernel panic", "vial-agent:" };
	char *text, *hit = NULL;

	drain_console(m);
	text = (char *)(uintptr_t)buf_cstr(&m->console);
	if (!text)
		return "";
	for (size_t i = 0; i < ARRAY_SIZE(marks) && !hit; i++)
		hit = strstr(text, marks[i]);
	if (!hit) {
		for (size_t n = strlen(text); n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'); n--)
			text[n - 1] = '\0';
		hit = strrchr(text, '\n');
		hit = hit ? hit + 1 : text;
	}
	hit[strcspn(hit, "\r\n")] = '\0';
	return hit;
}

void monitor_end(struct monitor *m)
{
	m->state = MON_ENDING;
	m->ops->kill(m->engine);
}

static void on_saved(void *data, const char *why)
{
	struct monitor *m = data;

	if (why) {
		monitor_fail(m, VIAL_E_ENGINE, "%s", why);
		return;
	}
	monitor_end(m);
}

/* Who has asked for a power-off learns whether it was one. */
static void say_stopped(struct monitor *m, const char *why)
{
	if (m->stop == STOP_LATE)
		lifeline_error(m, VIAL_E_TIMEOUT, "the guest did not power off in time and was killed");
	else if (m->stop == STOP_BUSY)
		lifeline_error(m, VIAL_E_STATE,
			       "the box was being saved, could not power off, and was killed");
	else if (m->stop == STOP_ASKED && why)
		lifeline_error(m, VIAL_E_ENGINE, why);
	else
		lifeline_put(m, &(struct mon_msg){ .type = MON_DONE });
}

static void on_exited(void *data, const char *why)
{
	struct monitor *m = data;

	if (m->state == MON_ENDING) {
		snprintf(m->why, sizeof(m->why), "the box was stopped");
		m->why_code = VIAL_E_STATE;
		clients_fail_all(m);
		say_stopped(m, why);
		m->state = MON_DEAD;
		loop_quit(m->loop, 0);
		return;
	}
	const char *hint = console_hint(m);
	monitor_fail(m, VIAL_E_ENGINE, "%s%s%s%.200s",
		     why			? why
		     : m->state == MON_STARTING ? "the guest ended while it started"
						: "the guest ended",
		     *hint ? " (its console: " : "", hint, *hint ? ")" : "");
}

static void on_timeout(struct loop_src *src _unused_, void *data)
{
	struct monitor *m = data;
	const char *hint;

	if (m->state == MON_ENDING) {
		m->stop = STOP_LATE;
		m->ops->kill(m->engine);
		return;
	}
	log_console(m);
	hint = console_hint(m);
	monitor_fail(m, VIAL_E_TIMEOUT, "the guest did not answer within %d s%s%.200s%s", MON_START_TIMEOUT_S,
		     *hint ? " (its console: " : "", hint, *hint ? ")" : "");
}

static void stop_box(struct monitor *m, uint32_t timeout_ms)
{
	struct agent_host_msg off = { .type = AGENT_HOST_POWER_OFF };
	bool was_ready = m->state == MON_READY;
	bool asked = was_ready && control_can_ask(m) && guest_ask(m, &off) == 0;

	m->state = MON_ENDING;
	if (asked && m->paused)
		asked = m->ops->resume(m->engine, NULL) == 0;
	if (asked && timeout_ms > 0) {
		m->stop = STOP_ASKED;
		loop_timer_set(m->timer, clock_mono_ns() + timeout_ms * NS_PER_MS);
		return;
	}
	m->stop = was_ready && timeout_ms > 0 ? STOP_BUSY : STOP_KILL;
	m->ops->kill(m->engine);
}

static void on_lifeline(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct monitor *m = data;
	int fd = launch_fd(&m->launch, LAUNCH_FD_LIFELINE, 0);
	const uint8_t *p;
	struct mon_msg msg;
	char chunk[512];
	size_t len;

	ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || frame_in_push(&m->lifeline_in, chunk, (size_t)n) < 0) {
		loop_quit(m->loop, 0);
		return;
	}
	while (frame_in_next(&m->lifeline_in, &p, &len) == 1)
		if (mon_msg_decode(p, len, &msg) == 0 && msg.type == MON_STOP && m->state < MON_ENDING)
			stop_box(m, msg.u32);
	monitor_flush_agent(m);
}

static void on_client_gone(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct monitor *m = data;

	log_debug("client is gone");
	loop_quit(m->loop, 0);
}

static void on_listen(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct monitor *m = data;

	if (clients_accept(m, m->listening))
		return;
	/* The connection stays in the queue, so the socket readable: looking again at once would be all that is done. */
	loop_src_set_events(m->listen_src, 0);
	loop_timer_set(m->accept_timer, clock_mono_ns() + ACCEPT_RETRY_MS * NS_PER_MS);
}

static void on_accept_again(struct loop_src *src _unused_, void *data)
{
	struct monitor *m = data;

	loop_src_set_events(m->listen_src, EPOLLIN);
}

static int watch(struct monitor *m)
{
	int r = loop_add_fd(m->loop, launch_fd(&m->launch, LAUNCH_FD_LIFELINE, 0), EPOLLIN, on_lifeline, m,
			    &m->lifeline_src);

	r = r
		    ?: loop_add_fd(m->loop, launch_fd(&m->launch, LAUNCH_FD_CLIENT, 0), EPOLLIN,
				   on_client_gone, m, &m->client_src);
	if (r == 0 && m->listening >= 0)
		r = loop_add_fd(m->loop, m->listening, EPOLLIN, on_listen, m, &m->listen_src);
	r = r ?: loop_add_timer(m->loop, on_accept_again, m, &m->accept_timer);
	r = r ?: transport_attach(m->transport, m->loop, m->ops, m->engine);
	if (r == 0 && m->ops->console_fd(m->engine) >= 0)
		r = loop_add_fd(m->loop, m->ops->console_fd(m->engine), EPOLLIN, on_console, m,
				&m->console_src);
	return r ?: loop_add_timer(m->loop, on_timeout, m, &m->timer);
}

/*
 * Once the machine runs nothing has to be opened or started any more. Not earlier: a process under
 * Landlock cannot give its children namespaces, and reading a supervised child's memory (to answer its opens)
 * needs the child's domain not to be beside ours.
 */
static int lock_down(struct monitor *m, struct vial_err *err)
{
	const struct jail_path paths[] = { { m->boxes_path, JAIL_RMDIR }, { m->own_path, JAIL_WRITE } };
	bool has_dir = launch_fd(&m->launch, LAUNCH_FD_BOXES, 0) >= 0;

	int missing = jail_self(JAIL_MONITOR, paths, has_dir ? ARRAY_SIZE(paths) : 0, m->launch.without, err);
	if (missing > 0 && m->launch.strict)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "the monitor cannot be fully jailed on this host ('vial doctor' tells what is "
			       "missing)");
	return missing;
}

static void on_running(void *data)
{
	struct monitor *m = data;
	struct vial_err err = VIAL_ERR_INIT;

	log_debug("machine runs");
	if (lock_down(m, &err) < 0)
		monitor_fail(m, err.code, "%s", err.msg);
	monitor_flush_agent(m);
}

static void on_agent_listens(void *data)
{
	struct monitor *m = data;

	transport_heard(m->transport);
}

static const struct engine_events engine_callbacks = { .running = on_running,
						       .saved = on_saved,
						       .paused = control_paused,
						       .resumed = control_resumed,
						       .snapshotted = control_snapshotted,
						       .written_ahead = control_written_ahead,
						       .exited = on_exited,
						       .agent_listens = on_agent_listens };

static int make_dir(struct monitor *m, struct vial_err *err)
{
	int boxes = launch_fd(&m->launch, LAUNCH_FD_BOXES, 0);
	char path[PATH_MAX] = "";

	if (boxes < 0)
		return 0; /* a template is being made: nobody will ask for anything */
	snprintf(m->boxes_path, sizeof(m->boxes_path), "/proc/self/fd/%d", boxes);
	snprintf(m->own_path, sizeof(m->own_path), "%s/%s", m->boxes_path, m->launch.id);
	int r = boxdir_make(boxes, m->launch.id, &m->lock, &m->listening);
	if (r < 0) {
		(void)!readlink(m->boxes_path, path, sizeof(path) - 1);
		return err_sys(err, r, "make the box's directory in '%s'", path);
	}
	return 0;
}

int monitor_start(struct monitor *m, const struct engine_ops *ops, struct vial_err *err)
{
	int r = loop_new(&m->loop);

	m->lock = m->listening = -1;

	r = r ?: control_init(m);
	m->console.limit = MON_CONSOLE_MAX + KIB(2);
	m->lifeline_in.max = LIFELINE_MAX;
	if (r < 0)
		return err_sys(err, r, "start the monitor");
	m->ops = ops;
	r = make_dir(m, err);
	r = r ?: guest_init(m, err);
	if (r < 0)
		return r;
	r = m->ops->start(m->loop, &m->launch, &engine_callbacks, m, &m->engine, err);
	if (r < 0)
		return r;
	r = watch(m);
	if (r < 0)
		return err_sys(err, r, "watch the box");
	loop_timer_set(m->timer, clock_mono_ns() + MON_START_TIMEOUT_S * NS_PER_S);
	/* Whoever wants to run a command can connect and waits for the machine. Not earlier: why there is none is told here only. */
	if (m->listening >= 0)
		lifeline_put(m, &(struct mon_msg){ .type = MON_DONE });
	return 0;
}

void monitor_done(struct monitor *m)
{
	int boxes = launch_fd(&m->launch, LAUNCH_FD_BOXES, 0);

	if (m->engine)
		m->ops->free(m->engine);
	m->engine = NULL;
	int r = boxes < 0 ? 0 : boxdir_remove(boxes, m->launch.id);
	if (r < 0)
		log_warn("remove the box's directory: %s", strerror(-r));
	fd_close(&m->listening);
	fd_close(&m->lock);
	clients_free_all(m);
	control_done(m);
	transport_free(m->transport);
	loop_free(m->loop); /* with all its sources */
	frame_in_done(&m->lifeline_in);
	outq_done(&m->lifeline_out);
	frame_in_done(&m->control_in);
	buf_done(&m->console);
	launch_done(&m->launch);
}
