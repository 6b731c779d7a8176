// SPDX-License-Identifier: Apache-2.0
/*
 * Connections that are vsock connections each, the kvm engine's.
 *
 * Theory of operation
 *
 * A connection is a stream socketpair. What is said goes into the near end at once, whether or not anybody is there;
 * the far end goes to the engine, which joins it to a vsock connection to AGENT_PORT of the guest, as soon as there is an agent
 * that listens. So the first requests and a command's wait inside a running restore without a round trip.
 * States of a connection: opened (far end here) -> handed over -> gone, by its end of file (the guest
 * shut it, or refused it), an error, or our abort: each closes it, which ends it for the guest, too.
 * Who is trusted: whoever has the far end is not. It can send bytes, or end.
 *
 * #syscalls:monitor socketpair=stream
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/outq.h"
#include "box/transport.h"
#include "wire/agent_msg.h"
#include "wire/link.h"

struct tvsock;

/* struct stream - one connection; @shut: nothing more from here; @ended: nothing more from the guest */
struct stream {
	struct tvsock *v;
	struct stream *next;
	uint32_t conn;
	int fd, far_fd;
	struct loop_src *src;
	struct outq out;
	bool shut, ended;
};

struct tvsock {
	struct transport t;
	bool waiting, up;
	struct loop *loop;
	const struct engine_ops *ops;
	struct engine *engine;
	struct stream *streams;
	size_t n;
	uint32_t last;
};

static struct tvsock *as_tvsock(struct transport *t)
{
	return container_of(t, struct tvsock, t);
}

static struct stream *find(struct tvsock *v, uint32_t conn)
{
	for (struct stream *s = v->streams; s; s = s->next)
		if (s->conn == conn)
			return s;
	return NULL;
}

static void stream_free(struct stream *s)
{
	struct stream **at = &s->v->streams;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->v->n--;
	loop_src_free(s->src);
	fd_close(&s->fd);
	fd_close(&s->far_fd);
	outq_done(&s->out);
	free(s);
}

/* The connection is gone by no doing of ours. */
static void stream_lost(struct stream *s)
{
	struct transport *t = &s->v->t;
	uint32_t conn = s->conn;

	stream_free(s);
	t->ev->aborted(t->owner, conn);
}

/* Writes what goes and watches for the rest. Where nobody reads any more there may still be something to be read. */
static void stream_write(struct stream *s)
{
	int r = outq_flush(&s->out, s->fd);

	if (r < 0) {
		s->shut = true;
		outq_done(&s->out);
	} else if (r == 1 && s->shut) {
		(void)shutdown(s->fd, SHUT_WR);
	}
	if (s->src)
		loop_src_set_events(s->src,
				    (s->ended ? 0U : (uint32_t)EPOLLIN) | (r == 0 ? (uint32_t)EPOLLOUT : 0U));
}

static void stream_read(struct stream *s)
{
	static uint8_t chunk[KIB(64)]; /* one thread; contents do not outlive the call */
	struct transport *t = &s->v->t;
	ssize_t n = recv(s->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		stream_lost(s);
	} else if (n > 0) {
		t->ev->data(t->owner, s->conn, chunk, (size_t)n);
	} else {
		uint32_t conn = s->conn;
		s->ended = true;
		stream_write(s); /* watched for output only, or an end of file would wake us forever */
		if (s->shut)
			stream_free(s);
		t->ev->shut(t->owner, conn);
	}
}

static void op_flush(struct transport *t);

static void on_stream(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct stream *s = data;
	struct transport *t = &s->v->t;

	if (events & EPOLLOUT)
		stream_write(s);
	if (s->ended && (events & (EPOLLHUP | EPOLLERR)))
		stream_lost(s);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		stream_read(s);
	op_flush(t);
}

/* Hands the far end over. Without one to whom, or when that is done: 0. */
static int stream_connect(struct stream *s)
{
	struct tvsock *v = s->v;
	int r;

	if (s->far_fd < 0 || !v->up)
		return 0;
	r = loop_add_fd(v->loop, s->fd, EPOLLIN, on_stream, s, &s->src);
	r = r ?: v->ops->connect(v->engine, AGENT_PORT, s->far_fd);
	fd_close(&s->far_fd);
	return r;
}

static void op_flush(struct transport *t)
{
	struct tvsock *v = as_tvsock(t);
	struct stream *s = v->streams;
	int r;

	while (s) {
		if (s->far_fd < 0 && outq_pending(&s->out) == 0) {
			s = s->next;
			continue;
		}
		r = stream_connect(s);
		if (r < 0) {
			log_info("connection %u to the agent: %s", s->conn, strerror(-r));
			stream_lost(s);
			s = v->streams; /* its owner may have ended others */
		} else {
			stream_write(s);
			s = s->next;
		}
	}
}

static void up(struct tvsock *v)
{
	if (v->up)
		return;
	v->up = true;
	v->t.ev->ready(v->t.owner);
	op_flush(&v->t);
}

static int op_attach(struct transport *t, struct loop *loop, const struct engine_ops *ops, struct engine *e)
{
	struct tvsock *v = as_tvsock(t);

	v->loop = loop;
	v->ops = ops;
	v->engine = e;
	if (v->waiting)
		up(v);
	return 0;
}

static void op_heard(struct transport *t)
{
	up(as_tvsock(t));
}

static int op_open(struct transport *t, bool control _unused_, uint32_t *ret)
{
	struct tvsock *v = as_tvsock(t);
	struct stream *s;
	int sv[2];

	if (v->n == LINK_CONNS_MAX || v->last == UINT32_MAX)
		return -EMFILE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		return -errno;
	s = calloc(1, sizeof(*s));
	if (!s) {
		close(sv[0]);
		close(sv[1]);
		return -ENOMEM;
	}
	*s = (struct stream){ .v = v, .conn = ++v->last, .fd = sv[0], .far_fd = sv[1] };
	s->out.buf.limit = LINK_QUEUE_MAX * 2; /* what is written already may still be in it */
	/* At the end: connections are made in the order in which they were asked for. */
	struct stream **at = &v->streams;
	while (*at)
		at = &(*at)->next;
	*at = s;
	v->n++;
	*ret = s->conn;
	return 0;
}

static int op_send(struct transport *t, uint32_t conn, const void *p, size_t n)
{
	struct stream *s = find(as_tvsock(t), conn);

	if (!s || s->shut)
		return -EPIPE;
	if (n > LINK_QUEUE_MAX - outq_pending(&s->out))
		return -ENOBUFS;
	if (s->out.off > LINK_QUEUE_MAX / 2) {
		buf_consume(&s->out.buf, s->out.off);
		s->out.off = 0;
	}
	buf_append(&s->out.buf, p, n);
	return buf_ok(&s->out.buf) ? 0 : -ENOMEM;
}

static void op_shut(struct transport *t, uint32_t conn)
{
	struct stream *s = find(as_tvsock(t), conn);

	if (!s || s->shut)
		return;
	s->shut = true;
	/* A guest that has said its last is done with the connection: what is queued has no reader. */
	if (s->ended)
		stream_free(s);
	else if (outq_pending(&s->out) == 0)
		(void)shutdown(s->fd, SHUT_WR);
}

static void op_abort(struct transport *t, uint32_t conn)
{
	struct stream *s = find(as_tvsock(t), conn);

	if (s)
		stream_free(s);
}

static void op_free(struct transport *t)
{
	struct tvsock *v = as_tvsock(t);

	while (v->streams)
		stream_free(v->streams);
	free(v);
}

static const struct transport_ops vsock_transport = {
	.attach = op_attach,
	.heard = op_heard,
	.open = op_open,
	.send = op_send,
	.shut = op_shut,
	.abort = op_abort,
	.flush = op_flush,
	.free = op_free,
};

int transport_vsock_new(bool waiting, const struct transport_events *ev, void *owner, struct transport **ret)
{
	struct tvsock *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*v = (struct tvsock){ .t = { &vsock_transport, ev, owner }, .waiting = waiting };
	*ret = &v->t;
	return 0;
}
