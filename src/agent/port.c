// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio-serial port of the qemu engine: a byte pipe that carries link connections.
 *
 * Theory of operation
 *
 * The port is watched edge-triggered: a port whose host side is closed reports a hang-up for as long
 * as that lasts, which a level-triggered watch would turn into a busy loop. So every event reads until
 * nothing is left and writes until the port is full; the port wakes us when the host comes back
 * or has taken something.
 *
 * Channels are a list: lookups are by number, there are LINK_CONNS_MAX at most, usually two.
 * A protocol error of the host is not fatal: the link then waits for a RESET.
 */
#include "agent/port.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "wire/link.h"

#define READ_SIZE  (32 * 1024)
#define READ_TURNS 16 /* reads before output gets its turn */

struct port_chan {
	struct chan chan;
	struct port *port;
	struct port_chan *next;
	uint32_t conn;
};

struct port {
	struct transport transport;
	int fd;
	struct loop_src *src;
	struct loop_src *again; /* reading stopped at READ_TURNS: go on next turn */
	struct loop_src *out;	/* armed when something was queued */
	struct link *link;
	struct port_chan *chans;
	const struct chan_events *events;
	void *owner;
	uint8_t in[READ_SIZE];
};

/* What one turn queues leaves in few writes, each of which costs an exit to the host; also, nothing may drain the
 * link from within its callbacks. A time of now, not a past one: armed from a timer it waits for the next turn. */
static void write_soon(struct port *p)
{
	loop_timer_set(p->out, clock_mono_ns());
}

static struct port_chan *as_chan(const struct chan *c)
{
	return container_of(c, struct port_chan, chan);
}

static struct port_chan *find_chan(struct port *p, uint32_t conn)
{
	for (struct port_chan *c = p->chans; c; c = c->next)
		if (c->conn == conn)
			return c;
	return NULL;
}

static void unlink_chan(struct port_chan *c)
{
	for (struct port_chan **at = &c->port->chans; *at; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			return;
		}
	}
}

static void port_write(struct port *p)
{
	const uint8_t *buf;
	size_t n;

	while ((n = link_pending(p->link, &buf)) > 0) {
		ssize_t w = write(p->fd, buf, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return; /* full, or the host is away: an edge will tell */
		link_drained(p->link, (size_t)w);
	}
}

static int chan_op_send(struct chan *c, const void *buf, size_t n)
{
	struct port_chan *pc = as_chan(c);
	int r = link_send(pc->port->link, pc->conn, buf, n);

	if (r == 0)
		write_soon(pc->port);
	return r;
}

static size_t chan_op_queued(const struct chan *c)
{
	struct port_chan *pc = as_chan(c);

	return link_queued(pc->port->link, pc->conn);
}

static void chan_op_control(struct chan *c)
{
	struct port_chan *pc = as_chan(c);

	link_set_control(pc->port->link, pc->conn);
}

static void chan_op_shut(struct chan *c)
{
	struct port_chan *pc = as_chan(c);

	link_shut(pc->port->link, pc->conn);
	port_write(pc->port); /* often all that somebody waits for */
	write_soon(pc->port);
}

static void chan_op_close(struct chan *c, bool abort_it)
{
	struct port_chan *pc = as_chan(c);

	if (abort_it)
		link_abort(pc->port->link, pc->conn);
	else
		link_shut(pc->port->link, pc->conn);
	write_soon(pc->port);
	unlink_chan(pc);
	free(pc);
}

static const struct chan_ops port_chan_ops = {
	.send = chan_op_send,
	.queued = chan_op_queued,
	.control = chan_op_control,
	.shut = chan_op_shut,
	.close = chan_op_close,
};

static void on_opened(void *owner, uint32_t conn)
{
	struct port *p = owner;
	struct port_chan *c = calloc(1, sizeof(*c));

	if (!c) {
		link_abort(p->link, conn);
		return;
	}
	*c = (struct port_chan){ .chan.ops = &port_chan_ops, .port = p, .next = p->chans, .conn = conn };
	p->chans = c;
	if (p->events->opened(p->owner, &c->chan) < 0)
		chan_abort(&c->chan);
}

static void on_data(void *owner, uint32_t conn, const uint8_t *buf, size_t n)
{
	struct port *p = owner;
	struct port_chan *c = find_chan(p, conn);

	if (c)
		p->events->data(p->owner, &c->chan, buf, n);
}

static void on_shut(void *owner, uint32_t conn)
{
	struct port *p = owner;
	struct port_chan *c = find_chan(p, conn);

	if (c)
		p->events->shut(p->owner, &c->chan);
}

static void drop_chan(struct port *p, struct port_chan *c, bool reset)
{
	unlink_chan(c);
	p->events->gone(p->owner, &c->chan, reset);
	free(c);
}

static void on_aborted(void *owner, uint32_t conn)
{
	struct port *p = owner;
	struct port_chan *c = find_chan(p, conn);

	if (c)
		drop_chan(p, c, false);
}

static void on_reset(void *owner)
{
	struct port *p = owner;

	while (p->chans)
		drop_chan(p, p->chans, true);
}

static const struct link_ops port_link_ops = {
	.opened = on_opened,
	.data = on_data,
	.shut = on_shut,
	.aborted = on_aborted,
	.reset = on_reset,
};

/* Return: whether more may be left to read. */
static bool port_read(struct port *p)
{
	for (int i = 0; i < READ_TURNS; i++) {
		ssize_t n = read(p->fd, p->in, sizeof(p->in));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		int r = link_feed(p->link, p->in, (size_t)n);
		if (r < 0)
			log_warn("link: the host broke the protocol (%d), waiting for its reset", -r);
	}
	return true;
}

static void port_serve(struct port *p)
{
	if (port_read(p))
		loop_timer_set(p->again, clock_mono_ns());
	write_soon(p);
}

static void on_port(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	port_serve(data);
}

static void on_again(struct loop_src *src _unused_, void *data)
{
	port_serve(data);
}

static void on_out(struct loop_src *src _unused_, void *data)
{
	struct port *p = data;

	port_write(p);
	p->events->drained(p->owner);
}

static bool port_idle(struct transport *t)
{
	struct port *p = container_of(t, struct port, transport);
	const uint8_t *buf;

	return link_pending(p->link, &buf) == 0;
}

static void port_flush(struct transport *t, uint64_t deadline_ns)
{
	struct port *p = container_of(t, struct port, transport);

	for (;;) {
		port_write(p);
		uint64_t now = clock_mono_ns();
		if (port_idle(t) || now >= deadline_ns)
			return;
		struct pollfd pfd = { .fd = p->fd, .events = POLLOUT };
		if (poll(&pfd, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1) > 0 && (pfd.revents & POLLHUP))
			return;
	}
}

static void port_free(struct port *p)
{
	if (!p)
		return;
	loop_src_free(p->src);
	loop_src_free(p->again);
	loop_src_free(p->out);
	link_free(p->link);
	fd_close(&p->fd);
	free(p);
}
DEFINE_CLEANUP(struct port, port_free)

int port_open(struct loop *l, const char *path, const struct chan_events *events, void *owner,
	      struct transport **ret)
{
	_cleanup_(port_freep) struct port *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	*p = (struct port){
		.transport = { port_idle, port_flush }, .fd = -1, .events = events, .owner = owner
	};
	p->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (p->fd < 0)
		return -errno;
	r = link_new(LINK_GUEST, &port_link_ops, p, &p->link);
	if (r < 0)
		return r;
	r = loop_add_timer(l, on_again, p, &p->again);
	if (r == 0)
		r = loop_add_timer(l, on_out, p, &p->out);
	if (r < 0)
		return r;
	r = loop_add_fd(l, p->fd, EPOLLIN | EPOLLOUT | EPOLLET, on_port, p, &p->src);
	if (r < 0)
		return r;
	*ret = &p->transport;
	p = NULL;
	return 0;
}
