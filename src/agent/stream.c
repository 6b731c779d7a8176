// SPDX-License-Identifier: Apache-2.0
#include "agent/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"

#define CREDIT_MAX   (1ULL << 40) /* sums beyond this are an error of the host, not a wish */
#define OUT_PTY_LEFT KIB(64)	  /* most a PTY can hold back */

static uint8_t chunk[AGENT_DATA_MAX]; /* one thread, and never across two calls */

void out_done(struct out_stream *o)
{
	loop_src_free(o->src);
	o->src = NULL;
	fd_close(&o->fd);
}

static void out_end(struct out_stream *o)
{
	out_done(o);
	o->ended(o->user);
}

static void out_pause(struct out_stream *o)
{
	loop_src_free(o->src);
	o->src = NULL;
}

static void on_output(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	out_pump(data);
}

static void out_wait(struct out_stream *o)
{
	if (!o->src && loop_add_fd(o->loop, o->fd, EPOLLIN, on_output, o, &o->src) < 0)
		o->src = NULL;
}

/* Reads and sends once. Return: whether to go on. */
static bool out_step(struct out_stream *o)
{
	size_t max = o->discard ? sizeof(chunk) : MIN(o->credit, sizeof(chunk));

	if (o->draining && o->left == 0) {
		out_end(o);
		return false;
	}
	if (o->draining)
		max = MIN(max, o->left);
	ssize_t n = read(o->fd, chunk, max);
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN && !o->draining)
		return false;
	if (n <= 0) {
		/* The end of a pipe; a PTY says EIO when its last user is gone. */
		out_end(o);
		return false;
	}
	o->left -= o->draining ? (uint64_t)n : 0;
	if (o->discard)
		return true;
	o->credit -= (uint64_t)n;
	return o->send(o->user, o->number, chunk, (size_t)n);
}

void out_pump(struct out_stream *o)
{
	for (int i = 0; o->fd >= 0 && i < OUT_TURNS; i++) {
		if (!o->discard && (o->credit == 0 || !o->room(o->user))) {
			/* Without credit only the end can be told, and nobody needs that before the command's. */
			out_pause(o);
			return;
		}
		if (!out_step(o))
			break;
	}
	if (o->fd >= 0)
		out_wait(o);
}

void out_drain(struct out_stream *o)
{
	int size = o->fd >= 0 ? fcntl(o->fd, F_GETPIPE_SZ) : 0;
	int waiting = 0;

	if (o->fd < 0)
		return;
	o->draining = true;
	o->left = size > 0 ? (uint64_t)size : OUT_PTY_LEFT;
	if (size > 0 && ioctl(o->fd, FIONREAD, &waiting) == 0)
		o->left = (uint64_t)waiting; /* what orphans write from now on is not the command's */
	if (o->left == 0)
		out_end(o);
	else
		out_pump(o);
}

void out_discard(struct out_stream *o)
{
	o->discard = true;
	if (o->fd >= 0)
		out_pump(o);
}

int out_grant(struct out_stream *o, uint32_t bytes)
{
	if (bytes > CREDIT_MAX - o->credit)
		return -EPROTO;
	o->credit += bytes;
	return 0;
}

void in_done(struct in_stream *in)
{
	loop_src_free(in->src);
	in->src = NULL;
	fd_close(&in->fd);
	buf_done(&in->queue);
}

/* What was queued is dropped and credited: a host that goes on writing is not held up. */
static void in_close_early(struct in_stream *in)
{
	size_t n = in->queue.len;

	in_done(in);
	in->closed = true;
	in->window += n;
	in->reader_gone(in->user);
	if (n > 0)
		in->taken(in->user, n);
}

/* End of file as a person types it; twice when a line is unfinished, since the first then only ends the line. */
static void type_eof(struct in_stream *in)
{
	struct termios t;

	if (tcgetattr(in->fd, &t) < 0)
		return;
	char eof[2] = { (char)t.c_cc[VEOF], (char)t.c_cc[VEOF] };
	(void)!write(in->fd, eof, in->last == '\n' ? 1 : 2);
}

static void in_finish(struct in_stream *in)
{
	if (in->tty)
		type_eof(in);
	in_done(in);
}

static void in_pump(struct in_stream *in);

static void on_input(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct in_stream *in = data;

	if (!in->tty && (events & EPOLLERR))
		in_close_early(in);
	else
		in_pump(in);
}

/* A pipe is watched even with nothing to write: EPOLLERR tells that its reader is gone. */
static void in_wait(struct in_stream *in)
{
	uint32_t events = in->queue.len > 0 ? EPOLLOUT : 0;

	if (in->tty && events == 0) {
		loop_src_free(in->src);
		in->src = NULL;
		return;
	}
	if (!in->src && loop_add_fd(in->loop, in->fd, events, on_input, in, &in->src) < 0)
		in->src = NULL;
	if (in->src)
		(void)loop_src_set_events(in->src, events);
}

static void in_pump(struct in_stream *in)
{
	while (in->fd >= 0 && in->queue.len > 0) {
		ssize_t n = write(in->fd, in->queue.data, in->queue.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			in_close_early(in);
			return;
		}
		in->last = (uint8_t)in->queue.data[n - 1];
		buf_consume(&in->queue, (size_t)n);
		in->window += (size_t)n;
		in->taken(in->user, (size_t)n);
	}
	if (in->fd < 0)
		return;
	if (in->queue.len == 0 && in->ending)
		in_finish(in);
	else
		in_wait(in);
}

int in_push(struct in_stream *in, const uint8_t *p, size_t n)
{
	if (n > in->window || in->ending)
		return -EPROTO;
	if (in->closed) {
		in->taken(in->user, n);
		return 0;
	}
	in->window -= n;
	buf_append(&in->queue, p, n);
	if (!buf_ok(&in->queue))
		return -ENOMEM;
	in_pump(in);
	return 0;
}

void in_end(struct in_stream *in)
{
	in->ending = true;
	if (in->fd >= 0 && in->queue.len == 0)
		in_finish(in);
}

void in_watch(struct in_stream *in)
{
	if (in->fd >= 0)
		in_pump(in);
}
