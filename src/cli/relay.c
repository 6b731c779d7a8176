// SPDX-License-Identifier: Apache-2.0
/*
 * A command in a box, connected to our stdin, stdout, stderr and signals.
 *
 * Theory of operation
 *
 * Purpose: bytes both ways unchanged, bounded memory, nobody blocks anybody: one poll over the command's
 * descriptor, stdin, whatever output is waiting, and the pipe of signals.
 * Output: an event's bytes are written at once or kept in that stream's sink, and acknowledged when written. The library sends no more
 * than its window without acknowledgement, so a sink holds at most that; SINK_MAX only catches a library that does not keep it.
 * Input: at most one buffer is read ahead; it is read again when all of it was taken. VIAL_EVENT_WRITABLE says when to try again.
 * States: starting (signals end us: nothing runs yet that could handle them), running (signals are forwarded), ended
 * (the last output is written; signals end us).
 * Broken output: whoever read us is gone. The command is let go and the exit code is that of a death by SIGPIPE.
 * Trust: events carry what the guest sent; here it is only bytes.
 * Threads: none.
 */
#include "cli/relay.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/sigs.h"
#include "cli/stdio_fd.h"
#include "cli/term.h"

#define INPUT_SIZE  KIB(64)
#define SINK_MAX    MIB(4)
#define EVENTS_TURN 64 /* events served before the other descriptors are looked at */

enum { AT_EXEC, AT_SIGNALS, AT_IN, AT_OUT, AT_ERR, AT_N };

/**
 * struct relay - one command being served
 * @in_at:	bytes of @input before it are with the command
 * @in_open:	stdin has not ended and the command still reads it
 * @in_blocked:	the command takes no more until VIAL_EVENT_WRITABLE
 */
struct relay {
	struct vial_exec *x;
	struct relay_opts opts;
	struct stdio_fd in;
	struct sink sinks[2]; /* stdout, stderr */
	char input[INPUT_SIZE];
	size_t in_at, in_len;
	bool in_open, in_blocked;
	bool started, ended;
	bool busy; /* more events may be waiting in the library */
	bool broken_pipe;
	struct relay_end end;
	int signals;
};

static int write_failed(struct relay *r, int stream, int e, struct vial_err *err)
{
	if (e == -EPIPE) {
		r->broken_pipe = true;
		return 0;
	}
	return err_sys(err, e, "write to %s", stream == 1 ? "stdout" : "stderr");
}

static int acknowledge(struct relay *r, int stream, size_t n, struct vial_err *err)
{
	/* After the end nobody is there to get credit. */
	return n == 0 || r->ended ? 0 : vial_exec_ack(r->x, stream, n, err);
}

static int on_output(struct relay *r, int stream, const struct vial_event *ev, struct vial_err *err)
{
	size_t written;
	int e = sink_push(&r->sinks[stream - 1], ev->data, ev->len, &written);

	return e < 0 ? write_failed(r, stream, e, err) : acknowledge(r, stream, written, err);
}

static int flush_sink(struct relay *r, int stream, struct vial_err *err)
{
	size_t written;
	int e = sink_flush(&r->sinks[stream - 1], &written);

	return e < 0 ? write_failed(r, stream, e, err) : acknowledge(r, stream, written, err);
}

static void pass_size(struct relay *r)
{
	uint16_t rows, cols;

	/* A command that has just ended cannot be resized: no error of ours. */
	if (r->opts.tty && term_size(STDIN_FILENO, &rows, &cols))
		(void)vial_exec_resize(r->x, rows, cols, NULL);
}

static void on_exited(struct relay *r, const struct vial_event *ev)
{
	r->ended = true;
	r->end.oom = ev->flags & VIAL_EXITED_OOM;
	if (ev->flags & VIAL_EXITED_TIMED_OUT)
		r->end.exit_code = EXIT_TIMED_OUT;
	else
		r->end.exit_code = ev->signal ? EXIT_SIGNAL + ev->signal : ev->code & 0xff;
}

static int on_event(struct relay *r, const struct vial_event *ev, struct vial_err *err)
{
	switch (ev->type) {
	case VIAL_EVENT_STARTED:
		r->started = true;
		pass_size(r); /* it may have changed while the machine came up */
		return 0;
	case VIAL_EVENT_STDOUT:
		return on_output(r, 1, ev, err);
	case VIAL_EVENT_STDERR:
		return on_output(r, 2, ev, err);
	case VIAL_EVENT_STDIN_CLOSED:
		r->in_open = false;
		r->in_at = r->in_len = 0;
		return 0;
	case VIAL_EVENT_WRITABLE:
		r->in_blocked = false;
		return 0;
	case VIAL_EVENT_EXITED:
		on_exited(r, ev);
		return 0;
	default:
		return 0; /* of a newer library */
	}
}

static int take_events(struct relay *r, struct vial_err *err)
{
	r->busy = false;
	for (int i = 0; i < EVENTS_TURN && !r->ended && !r->broken_pipe; i++) {
		struct vial_event ev = { .size = sizeof(ev) };
		int n = vial_exec_next(r->x, 0, &ev, err);

		if (n <= 0)
			return n;
		n = on_event(r, &ev, err);
		if (n < 0)
			return n;
	}
	r->busy = !r->ended;
	return 0;
}

/* Hand over what was read; true if all of it is gone. */
static bool give_input(struct relay *r)
{
	while (r->in_at < r->in_len && !r->in_blocked) {
		ssize_t n = vial_exec_write(r->x, r->input + r->in_at, r->in_len - r->in_at, NULL);

		if (n < 0) { /* it reads no more; why is told by an event */
			r->in_open = false;
			r->in_at = r->in_len;
			return true;
		}
		r->in_at += (size_t)n;
		r->in_blocked = n == 0;
	}
	return r->in_at == r->in_len;
}

static void read_input(struct relay *r)
{
	ssize_t n = stdio_fd_read(&r->in, r->input, sizeof(r->input));

	if (n == -EAGAIN)
		return;
	if (n <= 0) { /* the end, or a terminal that is gone */
		r->in_open = false;
		(void)vial_exec_close_stdin(r->x, NULL);
		return;
	}
	r->in_at = 0;
	r->in_len = (size_t)n;
	(void)give_input(r);
}

static void on_signal(struct relay *r, int sig)
{
	switch (sig) {
	case SIGWINCH:
		pass_size(r);
		return;
	case SIGCONT:
		if (r->opts.interactive)
			term_again();
		pass_size(r);
		return;
	case SIGTSTP:
		term_restore();
		sigs_default(sig);
		/* Going on, or never stopped: nobody stops a process group that no shell looks after. */
		if (r->opts.interactive)
			term_again();
		return;
	default:
		break;
	}
	if (r->started && !r->ended) {
		(void)vial_exec_signal(r->x, sig, NULL);
		return;
	}
	term_restore();
	sigs_default(sig);
}

static void watch(struct relay *r, struct pollfd p[AT_N])
{
	bool in = r->in_open && !r->ended && r->in_at == r->in_len;

	p[AT_EXEC] = (struct pollfd){ .fd = r->ended ? -1 : vial_exec_fd(r->x) };
	if (!r->ended)
		p[AT_EXEC].events = vial_exec_poll_events(r->x);
	p[AT_SIGNALS] = (struct pollfd){ .fd = r->signals, .events = POLLIN };
	p[AT_IN] = (struct pollfd){ .fd = in ? r->in.fd : -1, .events = POLLIN };
	for (int i = 0; i < 2; i++) {
		struct sink *s = &r->sinks[i];
		p[AT_OUT + i] = (struct pollfd){ .fd = s->pending.len ? s->out.fd : -1, .events = POLLOUT };
	}
}

static int turn(struct relay *r, struct vial_err *err)
{
	struct pollfd p[AT_N];
	int sig, n = 0;

	watch(r, p);
	if (poll(p, AT_N, r->busy ? 0 : -1) < 0)
		return errno == EINTR ? 0 : err_sys(err, -errno, "poll");
	while ((sig = sigs_next()))
		on_signal(r, sig);
	for (int i = 0; i < 2 && n == 0 && !r->broken_pipe; i++)
		if (p[AT_OUT + i].revents)
			n = flush_sink(r, i + 1, err);
	if (n == 0 && p[AT_IN].revents)
		read_input(r);
	if (n == 0 && !r->ended && !r->broken_pipe)
		n = take_events(r, err);
	if (n == 0 && !r->ended)
		(void)give_input(r);
	return n;
}

static bool finished(const struct relay *r)
{
	return r->broken_pipe || (r->ended && r->sinks[0].pending.len == 0 && r->sinks[1].pending.len == 0);
}

static int serve(struct relay *r, struct vial_err *err)
{
	int n = 0;

	r->busy = true; /* events may be there before the descriptor ever says so */
	while (n == 0 && !finished(r))
		n = turn(r, err);
	if (r->broken_pipe)
		r->end.exit_code = EXIT_PIPE;
	return n;
}

static int prepare(struct relay *r, struct vial_err *err)
{
	r->signals = sigs_open(r->opts.tty);
	if (r->signals < 0)
		return err_sys(err, r->signals, "watch for signals");
	stdio_fd_open(&r->in, STDIN_FILENO);
	for (int i = 0; i < 2; i++) {
		r->sinks[i].pending.limit = SINK_MAX;
		stdio_fd_open(&r->sinks[i].out, i + 1);
	}
	r->in_open = r->opts.interactive;
	return r->opts.tty && r->opts.interactive ? term_raw(STDIN_FILENO, err) : 0;
}

static void done(struct relay *r)
{
	term_restore();
	stdio_fd_done(&r->in);
	sink_done(&r->sinks[0]);
	sink_done(&r->sinks[1]);
}

int relay_run(struct vial_exec *x, const struct relay_opts *opts, struct relay_end *ret, struct vial_err *err)
{
	_cleanup_(done) struct relay r = { .x = x, .opts = *opts };
	int n = prepare(&r, err);

	if (n == 0)
		n = serve(&r, err);
	if (n == 0)
		*ret = r.end;
	return n;
}
