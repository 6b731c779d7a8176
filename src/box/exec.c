// SPDX-License-Identifier: Apache-2.0
// A command in a box: events, stdin and credit over one connection to the monitor.
#include "box/exec.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "box/request.h"

static int connect_box(const struct vial_box *b)
{
	_cleanup_fd_ int fd = request_connect(b);
	int r = fd < 0 ? fd : fd_set_nonblock(fd, true);

	return r < 0 ? r : take_fd(fd);
}

static int flush(struct vial_exec *x)
{
	int r = x->out.buf.failed ? -ENOMEM : outq_flush(&x->out, x->fd);

	/* A monitor that hung up may have said why before. */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r < 0 ? r : 0;
}

int exec_send(struct vial_exec *x, const struct mon_msg *m, struct vial_err *err)
{
	if (x->exited)
		return err_set(err, VIAL_E_STATE, "the command has ended");
	int r = mon_msg_put(&x->out.buf, m);
	r = r ?: flush(x);
	return r < 0 ? err_sys(err, r, "speak to the box's monitor") : 0;
}

int exec_start(struct vial_box *b, const struct vial_exec_opts *opts, struct vial_exec **ret,
	       struct vial_err *err)
{
	_cleanup_(exec_request_done) struct agent_exec req = { 0 };
	_cleanup_(exec_freep) struct vial_exec *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return err_sys(err, -ENOMEM, "run a command");
	x->fd = -1;
	r = request_ready(b, err);
	r = r ?: exec_request(b, opts, &req, err);
	if (r < 0)
		return r;
	x->manual_ack = opts->flags & VIAL_EXEC_MANUAL_ACK;
	x->in.max = FRAME_MAX;
	x->stdin_closed = !req.want_stdin;
	x->fd = connect_box(b);
	if (x->fd == -ENOENT || x->fd == -ECONNREFUSED)
		return err_set(err, VIAL_E_ENGINE, "the box has ended");
	if (x->fd < 0)
		return err_sys(err, x->fd, "reach the box's monitor");
	r = mon_exec_put(&x->out.buf, &req);
	if (r == -EFBIG || r == -E2BIG)
		return err_set(err, VIAL_E_CMD_TOO_LONG, "argument list too long (16 MiB at most)");
	r = r ?: flush(x);
	if (r < 0)
		return err_sys(err, r, "speak to the box's monitor");
	*ret = take_ptr(x);
	return 0;
}

void exec_free(struct vial_exec *x)
{
	if (!x)
		return;
	fd_close(&x->fd);
	frame_in_done(&x->in);
	outq_done(&x->out);
	free(x);
}

int exec_ack(struct vial_exec *x, int stream, size_t n, struct vial_err *err)
{
	struct mon_msg m = { .type = MON_CREDIT };

	if (stream != AGENT_STDOUT && stream != AGENT_STDERR)
		return err_set(err, VIAL_E_INVALID, "no stream %d to acknowledge", stream);
	x->unacked[stream] += n;
	if (x->unacked[stream] < EXEC_ACK_STEP || x->exited)
		return 0;
	m.credit.stream = (uint32_t)stream;
	m.credit.bytes = (uint32_t)x->unacked[stream];
	x->unacked[stream] = 0;
	return exec_send(x, &m, err);
}

static void clear_event(struct vial_event *e, int type)
{
	*e = (struct vial_event){ .size = sizeof(*e), .type = type };
}

static int output_event(struct vial_exec *x, const struct mon_msg *m, struct vial_event *ret)
{
	clear_event(ret, m->output.stream == AGENT_STDERR ? VIAL_EVENT_STDERR : VIAL_EVENT_STDOUT);
	ret->data = m->output.data.p;
	ret->len = m->output.data.n;
	if (!x->manual_ack) {
		x->last_stream = (int)m->output.stream;
		x->last_len = m->output.data.n;
	}
	return 1;
}

/* A message to an event: 1 with one in @ret, 0 if it makes none, or an error. */
static int to_event(struct vial_exec *x, const struct mon_msg *m, struct vial_event *ret,
		    struct vial_err *err)
{
	switch (m->type) {
	case MON_STARTED:
		x->started = true;
		x->stdin_room += m->started.window;
		x->tell_writable = x->wants_write;
		clear_event(ret, VIAL_EVENT_STARTED);
		ret->pid = m->started.pid;
		return 1;
	case MON_OUTPUT:
		return output_event(x, m, ret);
	case MON_CREDIT:
		x->stdin_room += m->credit.bytes;
		x->tell_writable = x->wants_write;
		return 0;
	case MON_STDIN_CLOSED:
		x->stdin_closed = true;
		clear_event(ret, VIAL_EVENT_STDIN_CLOSED);
		return 1;
	case MON_EXITED:
		x->exited = true;
		clear_event(ret, VIAL_EVENT_EXITED);
		ret->code = (int)m->exited.code;
		ret->signal = (int)m->exited.signal;
		ret->flags = m->exited.flags;
		return 1;
	case MON_ERROR:
		x->exited = true;
		if (err)
			err->sys_errno = (int)m->error.sys_errno;
		return err_set(err, m->error.code < 0 ? m->error.code : VIAL_E_ENGINE, "%.*s",
			       (int)m->error.text.n, (const char *)m->error.text.p);
	default:
		return 0;
	}
}

/* What is already here: 1 with an event, 0 if more has to be received, or an error. */
static int from_buffer(struct vial_exec *x, struct vial_event *ret, struct vial_err *err)
{
	const uint8_t *p;
	struct mon_msg m;
	size_t n;
	int r;

	if (x->tell_writable) {
		x->tell_writable = x->wants_write = false;
		clear_event(ret, VIAL_EVENT_WRITABLE);
		return 1;
	}
	while ((r = frame_in_next(&x->in, &p, &n)) == 1) {
		r = mon_msg_decode(p, n, &m);
		if (r < 0)
			break;
		r = to_event(x, &m, ret, err);
		if (r != 0)
			return r;
		if (x->tell_writable)
			return from_buffer(x, ret, err);
	}
	return r < 0 ? err_set(err, VIAL_E_PROTOCOL, "the box's monitor sent a malformed message") : 0;
}

/* Receives once: 1 if something came, 0 if there is nothing, or an error. */
static int receive(struct vial_exec *x, struct vial_err *err)
{
	uint8_t chunk[KIB(64)];
	ssize_t n = recv(x->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		x->exited = true;
		return err_set(err, VIAL_E_ENGINE, "the box ended while the command ran");
	}
	int r = frame_in_push(&x->in, chunk, (size_t)n);
	return r < 0 ? err_sys(err, r, "receive from the box's monitor") : 1;
}

short exec_poll_events(const struct vial_exec *x)
{
	return (short)(POLLIN | (outq_pending(&x->out) ? POLLOUT : 0));
}

static int remaining_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_mono_ns();

	return now >= deadline_ns ? 0 : (int)((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

int exec_next(struct vial_exec *x, int timeout_ms, struct vial_event *ret, struct vial_err *err)
{
	uint64_t deadline = timeout_ms > 0 ? clock_mono_ns() + (uint64_t)timeout_ms * NS_PER_MS : 0;
	int r;

	if (x->exited)
		return err_set(err, VIAL_E_STATE, "the command has ended");
	if (x->last_len) {
		size_t n = x->last_len;
		x->last_len = 0;
		r = exec_ack(x, x->last_stream, n, err);
		if (r < 0)
			return r;
	}
	for (;;) {
		r = from_buffer(x, ret, err);
		if (r != 0)
			return r;
		r = flush(x);
		if (r < 0)
			return err_sys(err, r, "speak to the box's monitor");
		r = receive(x, err);
		if (r < 0)
			return r;
		if (r == 1)
			continue;
		int wait = timeout_ms > 0 ? remaining_ms(deadline) : timeout_ms;
		if (wait == 0)
			return 0;
		struct pollfd pfd = { .fd = x->fd, .events = exec_poll_events(x) };
		if (poll(&pfd, 1, wait) < 0 && errno != EINTR)
			return err_sys(err, -errno, "wait for the box's monitor");
	}
}

ssize_t exec_write(struct vial_exec *x, const void *p, size_t n, struct vial_err *err)
{
	size_t done = 0;

	if (x->exited || x->stdin_closed)
		return err_set(err, VIAL_E_STATE, "the command's stdin is closed");
	while (done < n && x->stdin_room > 0) {
		size_t len = MIN(MIN(n - done, x->stdin_room), (size_t)AGENT_DATA_MAX);
		struct mon_msg m = { .type = MON_STDIN, .body = { (const uint8_t *)p + done, len } };
		if (mon_msg_put(&x->out.buf, &m) < 0)
			return err_sys(err, -ENOMEM, "write to the command");
		x->stdin_room -= len;
		done += len;
	}
	if (done < n)
		x->wants_write = true;
	int r = flush(x);
	return r < 0 ? err_sys(err, r, "write to the command") : (ssize_t)done;
}

int exec_close_stdin(struct vial_exec *x, struct vial_err *err)
{
	if (x->stdin_closed || x->exited)
		return 0;
	x->stdin_closed = true;
	return exec_send(x, &(struct mon_msg){ .type = MON_STDIN_END }, err);
}
