// SPDX-License-Identifier: Apache-2.0
/*
 * vsock of the kvm engine: the host connects to AGENT_PORT, each connection is a channel of its own. Only the
 * host (CID 2) is served: guest programs can reach the port too, over loopback.
 *
 * A host that has booted this machine does not know when it may connect. It is told by a connection to its own port
 * AGENT_PORT, which is dropped at once. A restored machine listens already.
 *
 * Limits: VSOCK_CONNS_MAX channels; a channel's queue is bounded by LINK_QUEUE_MAX as the link's is. A closed
 * channel lives on until its queue has left.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include "agent/port.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "wire/agent_msg.h"
#include "wire/link.h"

#define VSOCK_CONNS_MAX 1024
#define VSOCK_BACKLOG	64
#define READ_SIZE	(32 * 1024)

struct vsock;

/* struct vchan - @shut: no more output; @closed: no longer the owner's; @ended: the host said its last */
struct vchan {
	struct chan chan;
	struct vsock *vs;
	struct vchan *next;
	int fd;
	struct loop_src *src;
	struct buf out;
	bool shut, closed, ended;
};

struct vsock {
	struct transport transport;
	struct loop *loop;
	int fd;
	struct loop_src *src;
	struct vchan *chans;
	size_t n;
	const struct chan_events *events;
	void *owner;
	uint8_t in[READ_SIZE];
};

static struct vchan *as_vchan(const struct chan *c)
{
	return container_of(c, struct vchan, chan);
}

static void vchan_free(struct vchan *c)
{
	for (struct vchan **at = &c->vs->chans; *at; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			c->vs->n--;
			break;
		}
	}
	loop_src_free(c->src);
	fd_close(&c->fd);
	buf_done(&c->out);
	free(c);
}

/* The events it needs now; nothing is read once the host has ended, or an end of file would wake us forever. */
static void rewatch(struct vchan *c)
{
	uint32_t events = (c->ended || c->closed ? 0 : EPOLLIN) | (c->out.len ? EPOLLOUT : 0);

	(void)loop_src_set_events(c->src, events);
}

/* Return: false if the connection is broken. */
static bool vchan_write(struct vchan *c)
{
	while (c->out.len > 0) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		buf_consume(&c->out, (size_t)n);
	}
	if (c->shut)
		(void)shutdown(c->fd, SHUT_WR);
	return true;
}

static int op_send(struct chan *ch, const void *p, size_t n)
{
	struct vchan *c = as_vchan(ch);

	if (c->shut)
		return -EPIPE;
	if (n > LINK_QUEUE_MAX - c->out.len)
		return -ENOBUFS;
	buf_append(&c->out, p, n);
	if (!buf_ok(&c->out))
		return -ENOMEM;
	if (!vchan_write(c))
		return -EPIPE;
	rewatch(c);
	return 0;
}

static size_t op_queued(const struct chan *ch)
{
	return as_vchan(ch)->out.len;
}

static void op_control(struct chan *ch _unused_)
{
	/* connections of their own do not wait for each other */
}

static void op_shut(struct chan *ch)
{
	struct vchan *c = as_vchan(ch);

	c->shut = true;
	(void)vchan_write(c);
	rewatch(c);
}

static void op_close(struct chan *ch, bool abort_it)
{
	struct vchan *c = as_vchan(ch);

	c->closed = true;
	if (!abort_it)
		op_shut(ch);
	if (abort_it || c->out.len == 0)
		vchan_free(c);
}

static const struct chan_ops vchan_ops = {
	.send = op_send,
	.queued = op_queued,
	.control = op_control,
	.shut = op_shut,
	.close = op_close,
};

static void vchan_gone(struct vchan *c)
{
	if (!c->closed)
		c->vs->events->gone(c->vs->owner, &c->chan, false);
	vchan_free(c);
}

/* After the owner's callbacks @c may be freed: they come last. */
static void vchan_read(struct vchan *c)
{
	struct vsock *vs = c->vs;
	ssize_t n = recv(c->fd, vs->in, sizeof(vs->in), MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		vchan_gone(c);
	} else if (n == 0) {
		c->ended = true;
		rewatch(c);
		vs->events->shut(vs->owner, &c->chan);
	} else {
		vs->events->data(vs->owner, &c->chan, vs->in, (size_t)n);
	}
}

static void on_vchan(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct vchan *c = data;
	struct vsock *vs = c->vs;

	if ((events & EPOLLERR) || !vchan_write(c) || (c->ended && (events & EPOLLHUP))) {
		vchan_gone(c);
		return;
	}
	if (c->closed && c->out.len == 0) {
		vchan_free(c);
		return;
	}
	rewatch(c);
	if (!c->closed && !c->ended && (events & (EPOLLIN | EPOLLHUP)))
		vchan_read(c);
	vs->events->drained(vs->owner);
}

static void add_vchan(struct vsock *vs, int fd)
{
	struct vchan *c = vs->n < VSOCK_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		close(fd);
		return;
	}
	*c = (struct vchan){ .chan.ops = &vchan_ops, .vs = vs, .next = vs->chans, .fd = fd };
	c->out.limit = LINK_QUEUE_MAX;
	vs->chans = c;
	vs->n++;
	if (loop_add_fd(vs->loop, fd, EPOLLIN, on_vchan, c, &c->src) < 0 ||
	    vs->events->opened(vs->owner, &c->chan) < 0)
		vchan_free(c);
}

static void on_accept(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct vsock *vs = data;

	for (int i = 0; i < VSOCK_BACKLOG; i++) {
		union {
			struct sockaddr any;
			struct sockaddr_vm vm;
			struct sockaddr_storage room;
		} peer = { .any.sa_family = AF_UNSPEC };
		socklen_t len = sizeof(peer);
		int fd = accept4(vs->fd, &peer.any, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		if (peer.any.sa_family != AF_VSOCK || peer.vm.svm_cid == VMADDR_CID_HOST)
			add_vchan(vs, fd);
		else
			close(fd);
	}
}

static bool vsock_idle(struct transport *t)
{
	struct vsock *vs = container_of(t, struct vsock, transport);

	for (struct vchan *c = vs->chans; c; c = c->next)
		if (c->out.len > 0)
			return false;
	return true;
}

static void vsock_flush(struct transport *t, uint64_t deadline_ns)
{
	struct vsock *vs = container_of(t, struct vsock, transport);

	for (struct vchan *c = vs->chans; c; c = c->next) {
		uint64_t now;
		while (vchan_write(c) && c->out.len > 0 && (now = clock_mono_ns()) < deadline_ns) {
			struct pollfd p = { .fd = c->fd, .events = POLLOUT };
			(void)poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);
		}
	}
}

/* A kernel may have vsock without a device: only a device gives an address. */
static bool have_device(void)
{
	_cleanup_fd_ int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	unsigned int cid = VMADDR_CID_ANY;

	return fd >= 0 && ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) == 0 && cid > VMADDR_CID_HOST &&
	       cid != VMADDR_CID_ANY;
}

static int listen_fd(void)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_cid = VMADDR_CID_ANY,
				    .svm_port = AGENT_PORT };
	_cleanup_fd_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, VSOCK_BACKLOG) < 0)
		return -errno;
	return take_fd(fd);
}

/* Refused or not, the host has heard. */
static void announce(void)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK,
				    .svm_cid = VMADDR_CID_HOST,
				    .svm_port = AGENT_PORT };
	_cleanup_fd_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0)
		(void)connect(fd, (struct sockaddr *)&host, sizeof(host));
}

int vsock_open(struct loop *l, const struct chan_events *events, void *owner, struct transport **ret)
{
	if (!have_device())
		return -ENODEV;
	_cleanup_fd_ int fd = listen_fd();
	if (fd < 0)
		return fd;
	int r = vsock_serve(l, fd, events, owner, ret);
	if (r < 0)
		return r;
	(void)take_fd(fd);
	announce();
	return 0;
}

int vsock_serve(struct loop *l, int fd, const struct chan_events *events, void *owner, struct transport **ret)
{
	_cleanup_free_ struct vsock *vs = calloc(1, sizeof(*vs));
	int r;

	if (!vs)
		return -ENOMEM;
	*vs = (struct vsock){ .transport = { vsock_idle, vsock_flush, true },
			      .loop = l,
			      .fd = fd,
			      .events = events,
			      .owner = owner };
	r = loop_add_fd(l, fd, EPOLLIN, on_accept, vs, &vs->src);
	if (r < 0)
		return r;
	*ret = &take_ptr(vs)->transport;
	return 0;
}

void vsock_free(struct transport *t)
{
	struct vsock *vs = container_of(t, struct vsock, transport);

	while (vs->chans)
		vchan_free(vs->chans);
	loop_src_free(vs->src);
	fd_close(&vs->fd);
	free(vs);
}
