// SPDX-License-Identifier: Apache-2.0
// vsock connections: their table, their sockets, how they end. Theory of operation: vsock_conn.h.
#include "vmm/virtio/vsock_conn.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"

#define FIRST_PORT 0x40000000u /* host ports of our own connections: FIRST_PORT..2*FIRST_PORT-1 */

_Static_assert((VSOCK_BUF & (VSOCK_BUF - 1)) == 0 && (VSOCK_CONNS_MAX & (VSOCK_CONNS_MAX - 1)) == 0,
	       "powers of two");

static size_t slot_of(const struct vconn *c)
{
	return (size_t)(c - c->vs->conns);
}

static uint8_t *ring_of(const struct vconn *c)
{
	return c->vs->rings + slot_of(c) * VSOCK_BUF;
}

static bool is_asked(enum vconn_state state)
{
	return state == VCONN_ASKED || state == VCONN_GONE;
}

void vconn_set_state(struct vconn *c, enum vconn_state state)
{
	if (is_asked(c->state) && !is_asked(state))
		c->vs->n_asked--;
	if (!is_asked(c->state) && is_asked(state))
		c->vs->n_asked++;
	if (c->state == VCONN_CLOSING && state != VCONN_CLOSING)
		TAILQ_REMOVE(&c->vs->closing, c, in_closing);
	c->state = state;
}

struct vconn *vconn_new(struct vsock *vs, enum vconn_state state)
{
	struct vconn *c = LIST_FIRST(&vs->free);

	if (!c)
		return NULL;
	LIST_REMOVE(c, in_hash);
	*c = (struct vconn){ .vs = vs, .serial = c->serial + 1, .fd = -1, .batch = 1 };
	vconn_set_state(c, state);
	return c;
}

static void drop_ring(struct vconn *c)
{
	c->ring_at = c->ring_len = 0;
	if (c->ring_used)
		(void)madvise(ring_of(c), VSOCK_BUF, MADV_DONTNEED);
	c->ring_used = false;
}

static void close_socket(struct vconn *c)
{
	loop_src_free(c->src);
	c->src = NULL;
	fd_close(&c->fd);
}

static void unname(struct vconn *c)
{
	if (c->hashed)
		LIST_REMOVE(c, in_hash);
	c->hashed = false;
}

void vconn_free(struct vconn *c)
{
	struct vsock *vs = c->vs;

	vconn_unready(c);
	vconn_set_state(c, VCONN_FREE);
	if (c->by_guest)
		vs->n_guest--;
	c->by_guest = false;
	close_socket(c);
	drop_ring(c);
	unname(c);
	LIST_INSERT_HEAD(&vs->free, c, in_hash);
}

uint32_t vconn_id(const struct vconn *c)
{
	return c->serial * VSOCK_CONNS_MAX + (uint32_t)slot_of(c);
}

struct vconn *vconn_by_id(struct vsock *vs, uint32_t id)
{
	struct vconn *c = &vs->conns[id % VSOCK_CONNS_MAX];

	return c->state != VCONN_FREE && vconn_id(c) == id ? c : NULL;
}

static uint32_t bucket_of(uint32_t guest_port, uint32_t host_port)
{
	/* The guest can fill one bucket; the table's limit bounds what that costs. */
	return (guest_port * 31 + host_port) % VSOCK_HASH;
}

struct vconn *vconn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	struct vconn *c;

	LIST_FOREACH(c, &vs->hash[bucket_of(guest_port, host_port)], in_hash)
	if (c->guest_port == guest_port && c->host_port == host_port)
		return c;
	return NULL;
}

void vconn_name(struct vconn *c, uint32_t guest_port, uint32_t host_port)
{
	c->guest_port = guest_port;
	c->host_port = host_port;
	c->hashed = true;
	LIST_INSERT_HEAD(&c->vs->hash[bucket_of(guest_port, host_port)], c, in_hash);
}

uint32_t vconn_pick_port(struct vsock *vs, uint32_t guest_port)
{
	uint32_t port;

	/* At most VSOCK_CONNS_MAX are taken, so this ends. */
	do {
		port = FIRST_PORT + vs->next_port % FIRST_PORT;
		vs->next_port++;
	} while (vconn_find(vs, guest_port, port));
	return port;
}

void vconn_ready(struct vconn *c)
{
	if (!c->ready)
		TAILQ_INSERT_TAIL(&c->vs->ready, c, in_ready);
	c->ready = true;
}

void vconn_unready(struct vconn *c)
{
	if (c->ready)
		TAILQ_REMOVE(&c->vs->ready, c, in_ready);
	c->ready = false;
}

void vconn_want(struct vconn *c, uint8_t todo)
{
	c->todo |= todo;
	vconn_ready(c);
}

uint32_t vconn_credit(const struct vconn *c)
{
	uint32_t in_flight = c->sent - c->guest_fwd;

	return in_flight < c->guest_alloc ? c->guest_alloc - in_flight : 0;
}

bool vconn_readable(const struct vconn *c)
{
	return c->state == VCONN_OPEN && !(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
	       !(c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

void vconn_watch(struct vconn *c)
{
	uint32_t events = 0;

	if (!c->src)
		return;
	/* One that stands in line is read in its turn; level-triggered events would only wake us meanwhile. */
	if (vconn_readable(c) && !c->ready && vconn_credit(c) > 0)
		events |= EPOLLIN;
	if (c->ring_len > 0)
		events |= EPOLLOUT;
	(void)loop_src_set_events(c->src, events);
}

/* send_some() - 0 or more bytes taken by the socket, or -errno of a socket that takes no more, ever */
static ssize_t send_some(struct vconn *c, struct iovec *iov, size_t n)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t sent;

	do
		sent = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
	return sent;
}

static void forwarded(struct vconn *c, uint32_t n)
{
	c->forwarded += n;
	/* Half of the window: rare enough to cost nothing, early enough that the guest never waits for us. */
	if (c->state == VCONN_OPEN && c->forwarded - c->told >= VSOCK_BUF / 2)
		vconn_want(c, TODO_CREDIT_UPDATE);
}

void vconn_host_shut(struct vconn *c, uint8_t bits)
{
	if (c->state == VCONN_OPEN && (bits & ~c->host_shut))
		vconn_want(c, TODO_SHUTDOWN);
	c->host_shut |= bits;
}

/* host_deaf() - nobody reads what the guest sends: it counts as forwarded, and the guest is told */
static void host_deaf(struct vconn *c)
{
	vconn_host_shut(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
	forwarded(c, c->ring_len);
	drop_ring(c);
}

static void ring_put(struct vconn *c, const struct iovec *iov, size_t n, uint32_t skip, uint32_t len)
{
	uint8_t *ring = ring_of(c);
	uint32_t at = (c->ring_at + c->ring_len) % VSOCK_BUF;
	uint32_t first = MIN(len, (uint32_t)VSOCK_BUF - at);

	c->ring_used = true;
	iov_copy_out(iov, n, skip, ring + at, first);
	iov_copy_out(iov, n, (uint64_t)skip + first, ring, len - first);
	c->ring_len += len;
}

static void ring_flush(struct vconn *c)
{
	while (c->ring_len > 0) {
		uint32_t first = MIN(c->ring_len, (uint32_t)VSOCK_BUF - c->ring_at);
		struct iovec iov[2] = { { ring_of(c) + c->ring_at, first },
					{ ring_of(c), c->ring_len - first } };
		ssize_t n = send_some(c, iov, iov[1].iov_len ? 2 : 1);
		if (n < 0)
			host_deaf(c);
		if (n <= 0)
			return;
		c->ring_at = (c->ring_at + (uint32_t)n) % VSOCK_BUF;
		c->ring_len -= (uint32_t)n;
		forwarded(c, (uint32_t)n);
	}
}

int vconn_write(struct vconn *c, const struct iovec *iov, size_t n, uint32_t len)
{
	uint32_t done = 0;

	if (len > VSOCK_BUF - c->ring_len)
		return -ENOBUFS;
	if (c->ring_len == 0 && !(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) && len > 0) {
		ssize_t r = send_some(c, (struct iovec *)iov, n);
		if (r < 0)
			host_deaf(c);
		done = r < 0 ? 0 : (uint32_t)r;
	}
	c->vs->from_guest += len;
	if (c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		forwarded(c, len);
		return 0;
	}
	forwarded(c, done);
	if (done < len)
		ring_put(c, iov, n, done, len - done);
	return 0;
}

static void start_closing(struct vconn *c)
{
	struct vsock *vs = c->vs;

	close_socket(c);
	drop_ring(c);
	vconn_set_state(c, VCONN_CLOSING);
	c->deadline_ns = clock_mono_ns() + VSOCK_CLOSE_NS;
	if (TAILQ_EMPTY(&vs->closing))
		loop_timer_set(vs->closer, c->deadline_ns);
	TAILQ_INSERT_TAIL(&vs->closing, c, in_closing);
	vconn_want(c, TODO_SHUTDOWN);
}

/* shut_socket() - pass the guest's shutdowns on, in order with its data */
static void shut_socket(struct vconn *c)
{
	uint8_t now = c->guest_shut & ~c->socket_shut;

	if (c->ring_len > 0)
		now &= ~VIRTIO_VSOCK_SHUTDOWN_SEND;
	if (now & VIRTIO_VSOCK_SHUTDOWN_RCV)
		(void)shutdown(c->fd, SHUT_RD);
	if (now & VIRTIO_VSOCK_SHUTDOWN_SEND)
		(void)shutdown(c->fd, SHUT_WR);
	c->socket_shut |= now;
}

static void settle_open(struct vconn *c)
{
	shut_socket(c);
	if (c->socket_shut == SHUT_BOTH) {
		vconn_reset(c);
		return;
	}
	/* A direction that both sides have given up from opposite ends, or one ended by each: nothing is left to do. */
	if (c->host_shut & c->socket_shut)
		vconn_host_shut(c, SHUT_BOTH);
	if (c->host_shut == SHUT_BOTH)
		start_closing(c);
	else
		vconn_watch(c);
}

void vconn_settle(struct vconn *c)
{
	if (c->state == VCONN_OPEN)
		settle_open(c);
	else if (c->state == VCONN_DRAINING && c->ring_len == 0)
		vconn_free(c);
	else
		vconn_watch(c);
}

void vconn_reset(struct vconn *c)
{
	close_socket(c);
	drop_ring(c);
	vconn_set_state(c, VCONN_RESETTING);
	c->todo = 0;
	vconn_want(c, TODO_RST);
}

void vconn_guest_left(struct vconn *c)
{
	if (is_asked(c->state)) {
		unname(c);
		vconn_set_state(c, VCONN_GONE);
		return;
	}
	if (c->state != VCONN_OPEN || !(c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) || c->ring_len == 0) {
		vconn_free(c);
		return;
	}
	unname(c);
	vconn_unready(c);
	c->todo = 0;
	vconn_set_state(c, VCONN_DRAINING);
	vconn_watch(c);
}

void vconn_expire(struct vsock *vs)
{
	uint64_t now = clock_mono_ns();
	struct vconn *c;

	while ((c = TAILQ_FIRST(&vs->closing)) && c->deadline_ns <= now)
		vconn_reset(c);
	loop_timer_set(vs->closer, c ? c->deadline_ns : 0);
}

static void hung_up(struct vconn *c)
{
	/* Level-triggered and impossible to mask: what is left is read without the loop's help. */
	loop_src_free(c->src);
	c->src = NULL;
	c->hup = true;
	switch (c->state) {
	case VCONN_PENDING:
	case VCONN_DRAINING:
		vconn_free(c);
		break;
	case VCONN_REQUESTED:
		vconn_reset(c);
		break;
	default:
		/* Either side of it may have hung up, but in any case nothing can be written any more. */
		host_deaf(c);
		vconn_ready(c);
		break;
	}
}

static void on_socket(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct vconn *c = data;
	struct vsock *vs = c->vs;

	if (events & EPOLLOUT)
		ring_flush(c);
	if (events & (EPOLLHUP | EPOLLERR))
		hung_up(c);
	else if (events & EPOLLIN)
		vconn_ready(c);
	if (c->state == VCONN_OPEN || c->state == VCONN_DRAINING)
		vconn_settle(c);
	vsock_serve(vs);
}

int vconn_join(struct vconn *c, int fd)
{
	c->fd = fd;
	return loop_add_fd(c->vs->dev.env.loop, fd, 0, on_socket, c, &c->src);
}
