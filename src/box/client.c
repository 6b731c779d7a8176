// SPDX-License-Identifier: Apache-2.0
/*
 * Clients of the monitor: each connection runs one command in the guest.
 *
 * Theory of operation
 *
 * Purpose: translate between the monitor protocol (wire/mon.h) and an exec connection of the agent protocol,
 * message by message, deciding on each whether it is allowed now.
 * Who is trusted: the client is our user; the guest is hostile. Output beyond the credit a client
 * granted ends the command, so what is queued here for a client is bounded by its credit. What a guest sends for a
 * command that has ended is dropped unread: its client may never fetch its last message.
 * States of a client: connected -> requested (MON_EXEC came) -> running (MON_STARTED) -> ending.
 * Limits: MON_CLIENTS_MAX connections, MON_OUT_MAX queued bytes each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/monitor.h"

#define ERRNO_MAX  4096 /* the kernel's MAX_ERRNO and one */
#define SIGNAL_MAX 64

static void client_free(struct client *c)
{
	struct monitor *m = c->m;

	if (c->conn)
		transport_abort(m->transport, c->conn);
	if (c->prev)
		c->prev->next = c->next;
	else
		m->clients = c->next;
	if (c->next)
		c->next->prev = c->prev;
	m->n_clients--;
	control_client_gone(m, c);
	for (size_t i = 0; i < ARRAY_SIZE(c->fds); i++)
		fd_close(&c->fds[i]);
	loop_src_free(c->src);
	fd_close(&c->fd);
	frame_in_done(&c->in);
	frame_in_done(&c->guest_in);
	outq_done(&c->out);
	buf_done(&c->request);
	free(c);
}

/* Writes what goes; frees the client when its last message is out or it is gone. False if freed. */
static bool client_flush(struct client *c)
{
	int r = c->out.buf.failed ? -ENOMEM : outq_flush(&c->out, c->fd);

	if (r < 0 || (r == 1 && c->ending)) {
		client_free(c);
		return false;
	}
	loop_src_set_events(c->src,
			    (c->ending ? 0U : (uint32_t)EPOLLIN) | (r == 0 ? (uint32_t)EPOLLOUT : 0U));
	return true;
}

static void client_put(struct client *c, const struct mon_msg *m)
{
	/* What is written already must not count against the queue's limit. */
	if (c->out.buf.len > MON_OUT_MAX / 2) {
		buf_consume(&c->out.buf, c->out.off);
		c->out.off = 0;
	}
	if (mon_msg_put(&c->out.buf, m) < 0)
		c->out.buf.failed = true;
}

/* The last message: an error. What the guest still has to say about the command goes nowhere. */
static bool client_error(struct client *c, int code, int sys_errno, const char *text, size_t n)
{
	struct mon_msg m = { .type = MON_ERROR };

	m.error.code = code;
	m.error.sys_errno = sys_errno > 0 && sys_errno < ERRNO_MAX ? (uint32_t)sys_errno : 0;
	m.error.text = (struct slice){ (const uint8_t *)text, MIN(n, (size_t)MON_TEXT_MAX) };
	client_put(c, &m);
	c->ending = true;
	if (c->conn)
		transport_abort(c->m->transport, c->conn);
	c->conn = 0;
	return client_flush(c);
}

static bool client_error_str(struct client *c, int code, const char *text)
{
	return client_error(c, code, 0, text, strlen(text));
}

void client_tell(struct client *c, const struct mon_msg *msg, bool last)
{
	client_put(c, msg);
	c->ending = c->ending || last;
	(void)client_flush(c);
}

/* Sends one message to the agent on the client's connection. False if the client was freed. */
static bool to_agent(struct client *c, const struct agent_host_msg *msg)
{
	_cleanup_buf_ struct buf frame = { 0 };
	int r = agent_host_msg_put(&frame, msg);

	if (r == 0)
		r = transport_send(c->m->transport, c->conn, frame.data, frame.len);
	if (r == -E2BIG || r == -EFBIG)
		return client_error_str(c, VIAL_E_CMD_TOO_LONG, "argument list too long (16 MiB at most)");
	if (r == -EPIPE)
		return true; /* the agent is done with it: its last message is on the way */
	if (r < 0)
		return client_error_str(c, VIAL_E_NO_MEMORY, "cannot pass a message to the guest");
	return true;
}

/* Opens the command's connection and sends hello and request in one go. False if the client was freed. */
static bool start_command(struct client *c, struct slice body)
{
	struct agent_host_msg hello = { .type = AGENT_HOST_HELLO };
	struct agent_host_msg msg = { .type = AGENT_HOST_EXEC };
	int r = mon_exec_decode(body, &msg.exec);

	if (r < 0)
		return client_error_str(c, r == -E2BIG ? VIAL_E_CMD_TOO_LONG : VIAL_E_PROTOCOL,
					r == -E2BIG ? "argument list too long" : "malformed exec request");
	r = transport_open(c->m->transport, false, &c->conn);
	if (r < 0) {
		agent_host_msg_done(&msg);
		return client_error_str(c, VIAL_E_LIMIT, "too many commands in this box at once");
	}
	c->guest_in.max = FRAME_MAX;
	c->granted[AGENT_STDOUT] = c->granted[AGENT_STDERR] = msg.exec.window;
	guest_fill_hello(&hello);
	log_debug("command %u goes to the agent", c->conn);
	bool alive = to_agent(c, &hello) && to_agent(c, &msg);
	agent_host_msg_done(&msg);
	return alive;
}

static bool client_process(struct client *c);

/* Takes the request out of its place, so that what came behind it is dealt with, too. False if the client was freed. */
static bool start_kept(struct client *c)
{
	_cleanup_buf_ struct buf request = c->request;

	c->request = (struct buf){ 0 };
	return start_command(c, (struct slice){ (uint8_t *)request.data, request.len });
}

static bool client_process(struct client *c);

void clients_start_pending(struct monitor *m)
{
	struct client *c = m->clients, *prev;

	/* The list has the newest first; commands start in the order in which their clients came. */
	while (c && c->next)
		c = c->next;
	for (; c; c = prev) {
		prev = c->prev;
		if (c->request.len && !c->ending && start_kept(c))
			(void)client_process(c);
	}
}

/* While the box is held no command is started: this one waits for clients_start_pending(). */
static bool keep_request(struct client *c, struct slice body)
{
	c->request.limit = FRAME_MAX_EXEC;
	buf_append(&c->request, body.p, body.n);
	return buf_ok(&c->request) ? true : client_error_str(c, VIAL_E_NO_MEMORY, "out of memory");
}

void clients_fail_all(struct monitor *m)
{
	struct client *next;

	for (struct client *c = m->clients; c; c = next) {
		next = c->next;
		c->conn = 0;
		if (!c->ending && (c->requested || c->control || c == m->control_op.client))
			(void)client_error_str(c, m->why_code, m->why);
	}
}

void clients_free_all(struct monitor *m)
{
	while (m->clients)
		client_free(m->clients);
}

static bool on_exec(struct client *c, struct slice body)
{
	if (c->requested)
		return client_error_str(c, VIAL_E_PROTOCOL, "second exec request on a connection");
	c->requested = true;
	if (c->m->state >= MON_ENDING)
		return client_error_str(c, c->m->why_code ? c->m->why_code : VIAL_E_STATE,
					c->m->why[0] ? c->m->why : "the box is stopping");
	return c->m->held ? keep_request(c, body) : start_command(c, body);
}

static bool on_credit(struct client *c, const struct agent_credit *credit)
{
	struct agent_host_msg msg = { .type = AGENT_HOST_CREDIT, .credit = *credit };

	if (credit->stream != AGENT_STDOUT && credit->stream != AGENT_STDERR)
		return client_error_str(c, VIAL_E_PROTOCOL, "credit for an unknown stream");
	if (c->granted[credit->stream] + (int64_t)credit->bytes > AGENT_WINDOW * 2)
		return client_error_str(c, VIAL_E_PROTOCOL, "too much credit");
	c->granted[credit->stream] += credit->bytes;
	return to_agent(c, &msg);
}

static bool on_stdin(struct client *c, struct slice body)
{
	struct agent_host_msg msg = { .type = AGENT_HOST_STDIN, .data = { AGENT_STDIN, body } };

	c->stdin_room -= (int64_t)body.n;
	if (c->stdin_room < 0)
		return client_error_str(c, VIAL_E_PROTOCOL, "more stdin than was granted");
	return to_agent(c, &msg);
}

/* What concerns the whole box: control.c. The connection is for this alone. */
static bool on_control(struct client *c, const struct mon_msg *m)
{
	if (c->requested || c->control || c->m->control_op.client == c)
		return client_error_str(c, VIAL_E_PROTOCOL, "second request on a connection");
	if (m->type == MON_SNAPSHOT && c->fds[MON_SNAPSHOT_FDS - 1] < 0)
		return client_error_str(c, VIAL_E_PROTOCOL, "a snapshot without its descriptors");
	if (c->m->state >= MON_ENDING)
		return client_error_str(c, VIAL_E_STATE, "the box is stopping");
	c->control = m->type;
	if (m->type == MON_UPDATE) {
		c->update_cpus = m->update.cpus;
		c->update_memory = m->update.memory;
	}
	if (m->type == MON_SNAPSHOT)
		c->snapshot_flags = m->u32;
	return true;
}

/* One message of a client. False if it was freed. */
static bool client_msg(struct client *c, const struct mon_msg *m)
{
	struct agent_host_msg msg = { 0 };

	if (m->type == MON_EXEC)
		return on_exec(c, m->body);
	if (m->type == MON_PING) {
		client_put(c, &(struct mon_msg){ .type = MON_DONE });
		return client_flush(c);
	}
	if (m->type >= MON_PAUSE && m->type <= MON_SNAPSHOT)
		return on_control(c, m);
	if (!c->requested)
		return client_error_str(c, VIAL_E_PROTOCOL, "message before the exec request");
	if (!c->conn)
		return true; /* the guest has dropped it: its end is on the way to the client */
	switch (m->type) {
	case MON_STDIN:
		return on_stdin(c, m->body);
	case MON_STDIN_END:
		msg.type = AGENT_HOST_STDIN_END;
		return to_agent(c, &msg);
	case MON_CREDIT:
		return on_credit(c, &m->credit);
	case MON_SIGNAL:
		msg.type = AGENT_HOST_SIGNAL;
		msg.signal = m->u32;
		return to_agent(c, &msg);
	case MON_RESIZE:
		msg.type = AGENT_HOST_RESIZE;
		msg.resize.rows = m->resize.rows;
		msg.resize.cols = m->resize.cols;
		return to_agent(c, &msg);
	default:
		return client_error_str(c, VIAL_E_PROTOCOL, "message of an unknown type");
	}
}

/* Does what the client said so far. While its command is kept, so is all it says about it. */
static bool client_process(struct client *c)
{
	const uint8_t *p;
	struct mon_msg m;
	size_t n;
	int r = 0;

	while (r == 0 && !c->ending && c->request.len == 0) {
		r = frame_in_next(&c->in, &p, &n);
		if (r == 0)
			return true;
		r = r < 0 ? r : mon_msg_decode(p, n, &m);
		if (r == 0 && !client_msg(c, &m))
			return false;
	}
	return r < 0 ? client_error_str(c, VIAL_E_PROTOCOL, "malformed message") : true;
}

/* Descriptors come only with a snapshot, all at once. Takes all of @fds; false: they are wrong, and closed. */
static bool take_fds(struct client *c, const int *fds, size_t n)
{
	bool good = n == 0 || (n == MON_SNAPSHOT_FDS && c->fds[0] < 0 && !c->requested && !c->control);

	for (size_t i = 0; i < n; i++) {
		if (good)
			c->fds[i] = fds[i];
		else
			close(fds[i]);
	}
	return good;
}

static bool client_read(struct client *c)
{
	static uint8_t chunk[KIB(64)]; /* one thread; contents do not outlive the call */

	int fds[FD_PASS_MAX];
	size_t n_fds = 0;
	ssize_t got = fd_recv(c->fd, chunk, sizeof(chunk), fds, &n_fds); /* the socket does not block */

	if (got == -EAGAIN || got == -EINTR)
		return true;
	if (got <= 0) {
		client_free(c);
		return false;
	}
	if (!take_fds(c, fds, n_fds))
		return client_error_str(c, VIAL_E_PROTOCOL, "descriptors that nobody asked for");
	if (frame_in_push(&c->in, chunk, (size_t)got) < 0)
		return client_error_str(c, VIAL_E_PROTOCOL, "malformed message");
	return client_process(c);
}

static void on_client(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct client *c = data;
	struct monitor *m = c->m;

	if (events & EPOLLOUT && !client_flush(c))
		; /* freed: the guest is told below */
	else if (events & EPOLLIN)
		(void)client_read(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		client_free(c);
	/* Not from within: an answer at once may free the client. */
	control_request(m);
	monitor_flush_agent(m);
}

bool clients_accept(struct monitor *m, int listen_fd)
{
	_cleanup_fd_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	_cleanup_free_ struct client *c = NULL;

	if (fd < 0)
		return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
	if (m->n_clients >= MON_CLIENTS_MAX)
		return true; /* the client sees the end of its connection */
	c = calloc(1, sizeof(*c));
	if (!c || loop_add_fd(m->loop, fd, EPOLLIN, on_client, c, &c->src) < 0)
		return true;
	c->m = m;
	for (size_t i = 0; i < ARRAY_SIZE(c->fds); i++)
		c->fds[i] = -1;
	c->fd = take_fd(fd);
	c->in.max = FRAME_MAX_EXEC;
	c->out.buf.limit = MON_OUT_MAX;
	c->next = m->clients;
	if (c->next)
		c->next->prev = c;
	m->clients = take_ptr(c);
	m->n_clients++;
	log_debug("client %zu connected", m->n_clients);
	return true;
}

/* ---- from the guest ---- */

static int code_of_fail(uint32_t kind)
{
	static const int codes[] = {
		[AGENT_FAIL_OTHER] = VIAL_E_IO,
		[AGENT_FAIL_NOT_FOUND] = VIAL_E_CMD_NOT_FOUND,
		[AGENT_FAIL_NOT_EXECUTABLE] = VIAL_E_CMD_NOT_EXECUTABLE,
		[AGENT_FAIL_BAD_CWD] = VIAL_E_CMD_BAD_CWD,
		[AGENT_FAIL_BAD_USER] = VIAL_E_CMD_BAD_USER,
		[AGENT_FAIL_TOO_LONG] = VIAL_E_CMD_TOO_LONG,
		[AGENT_FAIL_NO_MEMORY] = VIAL_E_NO_MEMORY,
		[AGENT_FAIL_BAD_REQUEST] = VIAL_E_PROTOCOL,
		[AGENT_FAIL_LIMIT] = VIAL_E_LIMIT,
		[AGENT_FAIL_ROOT] = VIAL_E_UNSUPPORTED,
	};

	return kind < ARRAY_SIZE(codes) ? codes[kind] : VIAL_E_IO;
}

static bool guest_output(struct client *c, const struct agent_data *d)
{
	struct mon_msg m = { .type = MON_OUTPUT, .output = *d };

	if (d->stream != AGENT_STDOUT && d->stream != AGENT_STDERR)
		return client_error_str(c, VIAL_E_PROTOCOL, "the guest sent an unknown stream");
	c->granted[d->stream] -= (int64_t)d->data.n;
	if (c->granted[d->stream] < 0)
		return client_error_str(c, VIAL_E_PROTOCOL, "the guest sent more output than was granted");
	client_put(c, &m);
	return true;
}

static bool guest_exited(struct client *c, const struct agent_exited *x)
{
	struct mon_msg m = { .type = MON_EXITED };

	if (x->signal > SIGNAL_MAX)
		return client_error_str(c, VIAL_E_PROTOCOL, "the guest named an unknown signal");
	m.exited.code = x->code & 0xff;
	m.exited.signal = x->signal;
	m.exited.flags = (x->timed_out ? MON_F_TIMED_OUT : 0) | (x->oom ? MON_F_OOM : 0);
	client_put(c, &m);
	c->ending = true;
	return true;
}

/* One message of the agent for a command. False if the client was freed. */
static bool guest_msg(struct client *c, const struct agent_guest_msg *g)
{
	struct mon_msg m = { 0 };

	log_debug("command %u: message %d of the agent", c->conn, g->type);
	switch (g->type) {
	case AGENT_GUEST_STARTED:
		/* Each would grant a window of stdin, to be queued here for a guest that never reads. */
		if (c->running)
			return client_error_str(c, VIAL_E_PROTOCOL, "the guest started the command twice");
		c->running = true;
		m.type = MON_STARTED;
		m.started.pid = g->started.pid;
		m.started.window = MIN(g->started.window, (uint32_t)AGENT_WINDOW);
		c->stdin_room += m.started.window;
		client_put(c, &m);
		return true;
	case AGENT_GUEST_OUTPUT:
		return guest_output(c, &g->data);
	case AGENT_GUEST_CREDIT:
		if (g->credit.stream != AGENT_STDIN || g->credit.bytes > AGENT_WINDOW ||
		    c->stdin_room + (int64_t)g->credit.bytes > 2 * AGENT_WINDOW)
			return client_error_str(c, VIAL_E_PROTOCOL, "the guest granted too much credit");
		c->stdin_room += g->credit.bytes;
		m.type = MON_CREDIT;
		m.credit = g->credit;
		client_put(c, &m);
		return true;
	case AGENT_GUEST_STDIN_CLOSED:
		m.type = MON_STDIN_CLOSED;
		client_put(c, &m);
		return true;
	case AGENT_GUEST_EXITED:
		return guest_exited(c, &g->exited);
	case AGENT_GUEST_FAILED:
		return client_error(c, code_of_fail(g->failed.kind), (int)g->failed.sys_errno,
				    (const char *)g->failed.message.p, g->failed.message.n);
	default:
		return true; /* Hello, or of a later version */
	}
}

static struct client *by_conn(struct monitor *m, uint32_t conn)
{
	for (struct client *c = m->clients; c; c = c->next)
		if (c->conn == conn)
			return c;
	return NULL;
}

bool clients_guest_data(struct monitor *m, uint32_t conn, const uint8_t *p, size_t n)
{
	struct client *c = by_conn(m, conn);
	struct agent_guest_msg g;
	const uint8_t *frame;
	size_t len;
	int r;

	if (!c)
		return false;
	if (c->ending)
		return true;
	r = frame_in_push(&c->guest_in, p, n);
	while (r == 0 && !c->ending && (r = frame_in_next(&c->guest_in, &frame, &len)) == 1) {
		r = agent_guest_msg_decode(frame, len, &g);
		if (r == 0 && !guest_msg(c, &g))
			return true;
	}
	if (r < 0)
		(void)client_error_str(c, VIAL_E_PROTOCOL, "the guest sent a malformed message");
	else
		(void)client_flush(c);
	return true;
}

void clients_guest_gone(struct monitor *m, uint32_t conn)
{
	struct client *c = by_conn(m, conn);

	if (!c)
		return;
	c->conn = 0;
	if (!c->ending)
		(void)client_error_str(c, VIAL_E_PROTOCOL, "the guest dropped the command's connection");
}

void clients_guest_lost(struct monitor *m, uint32_t conn)
{
	struct client *c = by_conn(m, conn);

	if (!c)
		return;
	c->conn = 0;
	c->lost = true;
}

void clients_fail_lost(struct monitor *m)
{
	struct client *next;

	for (struct client *c = m->clients; c; c = next) {
		next = c->next;
		if (c->lost && !c->ending)
			(void)client_error_str(c, VIAL_E_PROTOCOL,
					       "the guest dropped the command's connection");
	}
}
