// SPDX-License-Identifier: Apache-2.0
// vsock's receive queue: control packets and what sockets have for the guest. Theory of operation: vsock_conn.h.
#include <endian.h>
#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "vmm/block/iov.h"
#include "vmm/virtio/vsock_conn.h"

#define HDR_SIZE sizeof(struct virtio_vsock_hdr)

/* what a turn came to */
enum turn {
	TURN_DONE,	/* nothing more to do for it now */
	TURN_MORE,	/* it has more */
	TURN_NO_BUFFER, /* the guest has to provide buffers first */
};

/* struct batch - chains of the receive queue, popped and not yet given back */
struct batch {
	struct vq_chain chains[VSOCK_RX_BATCH];
	struct iovec *iov[VSOCK_RX_BATCH];
	uint32_t room[VSOCK_RX_BATCH];
	size_t n;
	size_t n_iov, n_payload;
	uint32_t bytes;
};

/* pop_buffer() - the next buffer, written at vs->chains[@at]; 1, 0 if there is none (any more) */
static int pop_buffer(struct vsock *vs, size_t at, struct vq_chain *ret)
{
	int r = vq_pop(&vs->dev.vq[VSOCK_RX], vs->chains + at, VQ_CHAIN_MAX, ret);

	if (r > 0 && ret->in_bytes <= HDR_SIZE) {
		vq_unpop(&vs->dev.vq[VSOCK_RX]);
		r = -EBADMSG; /* no room for anything */
	}
	if (r < 0)
		virtio_fail(&vs->dev);
	return r > 0;
}

static struct virtio_vsock_hdr header(const struct vconn *c, uint16_t op, uint32_t len, uint32_t flags)
{
	return (struct virtio_vsock_hdr){
		.src_cid = htole64(VSOCK_HOST_CID),
		.dst_cid = htole64(VSOCK_GUEST_CID),
		.src_port = htole32(c->host_port),
		.dst_port = htole32(c->guest_port),
		.len = htole32(len),
		.type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
		.op = htole16(op),
		.flags = htole32(flags),
		.buf_alloc = htole32(VSOCK_BUF),
		.fwd_cnt = htole32(c->forwarded),
	};
}

static void told_credit(struct vconn *c)
{
	c->told = c->forwarded;
	c->todo &= ~TODO_CREDIT_UPDATE;
}

static void push_header(struct vsock *vs, const struct vq_chain *chain, const struct iovec *iov,
			const struct virtio_vsock_hdr *hdr)
{
	iov_copy_in(iov + chain->n_out, chain->n_in, 0, hdr, HDR_SIZE);
	vq_push(&vs->dev.vq[VSOCK_RX], chain->head, (uint32_t)(HDR_SIZE + le32toh(hdr->len)));
}

static uint16_t op_of(uint8_t todo)
{
	switch (todo) {
	case TODO_RST:
		return VIRTIO_VSOCK_OP_RST;
	case TODO_REQUEST:
		return VIRTIO_VSOCK_OP_REQUEST;
	case TODO_RESPONSE:
		return VIRTIO_VSOCK_OP_RESPONSE;
	case TODO_SHUTDOWN:
		return VIRTIO_VSOCK_OP_SHUTDOWN;
	case TODO_CREDIT_UPDATE:
		return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	default:
		return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
	}
}

static enum turn send_control(struct vconn *c)
{
	struct vsock *vs = c->vs;
	uint8_t what = c->todo & -c->todo; /* lowest bit */
	struct vq_chain chain;

	if (!pop_buffer(vs, 0, &chain))
		return TURN_NO_BUFFER;
	if (what == TODO_REQUEST) {
		vconn_name(c, c->guest_port, vconn_pick_port(vs, c->guest_port));
		vconn_set_state(c, VCONN_REQUESTED);
	}
	struct virtio_vsock_hdr hdr = header(c, op_of(what), 0, what == TODO_SHUTDOWN ? c->host_shut : 0);
	c->todo &= ~what;
	told_credit(c);
	push_header(vs, &chain, vs->chains, &hdr);
	if (what == TODO_RST) {
		vconn_free(c);
		return TURN_DONE;
	}
	return c->todo || vconn_readable(c) ? TURN_MORE : TURN_DONE;
}

/* add_payload() - what of a chain lies behind the header, up to @room bytes, to the read's vector */
static void add_payload(struct vsock *vs, struct batch *b, const struct iovec *iov, size_t n, uint32_t room)
{
	struct iov_cur cur = { iov, n, 0 };
	size_t bytes;

	iov_advance(&cur, HDR_SIZE);
	b->n_payload += iov_peek(&cur, room, vs->payload + b->n_payload,
				 ARRAY_SIZE(vs->payload) - b->n_payload, &bytes);
}

/* gather() - pop up to @most buffers for at most @credit bytes, as far as one read's vector reaches */
static void gather(struct vsock *vs, struct batch *b, size_t most, uint32_t credit)
{
	while (b->n < most && b->bytes < credit) {
		struct vq_chain *chain = &b->chains[b->n];

		/* Any chain must fit, or the queue would count as broken. */
		if (b->n_iov + VQ_CHAIN_MAX > ARRAY_SIZE(vs->chains) || !pop_buffer(vs, b->n_iov, chain))
			return;
		if (b->n_payload + chain->n_in > ARRAY_SIZE(vs->payload)) {
			vq_unpop(&vs->dev.vq[VSOCK_RX]);
			return;
		}
		uint32_t room =
			(uint32_t)MIN(chain->in_bytes - HDR_SIZE, MIN(VSOCK_PKT_MAX, credit - b->bytes));
		b->iov[b->n] = vs->chains + b->n_iov;
		b->room[b->n] = room;
		add_payload(vs, b, b->iov[b->n] + chain->n_out, chain->n_in, room);
		b->n_iov += (size_t)chain->n_out + chain->n_in;
		b->bytes += room;
		b->n++;
	}
}

/* hand_over() - @len bytes were read into the batch: give the chains that have some to the guest, the rest back */
static void hand_over(struct vconn *c, struct batch *b, uint32_t len)
{
	struct vsock *vs = c->vs;
	size_t used = 0;

	while (used < b->n && len > 0) {
		uint32_t part = MIN(len, b->room[used]);
		struct virtio_vsock_hdr hdr = header(c, VIRTIO_VSOCK_OP_RW, part, 0);

		push_header(vs, &b->chains[used], b->iov[used], &hdr);
		c->sent += part;
		vs->to_guest += part;
		len -= part;
		used++;
	}
	if (used > 0)
		told_credit(c);
	for (; used < b->n; used++)
		vq_unpop(&vs->dev.vq[VSOCK_RX]);
}

static ssize_t read_socket(struct vconn *c, struct iovec *iov, size_t n)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t r;

	do
		r = recvmsg(c->fd, &m, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* after_read() - of @r bytes, or -errno, where @wanted was asked for */
static enum turn after_read(struct vconn *c, ssize_t r, uint32_t wanted)
{
	if (r == -EAGAIN)
		return TURN_DONE;
	if (r <= 0) {
		/* The end; of a socket that hung up or broke, of both directions. */
		vconn_host_shut(c, r < 0 || c->hup ? SHUT_BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND);
		vconn_settle(c);
		return c->todo ? TURN_MORE : TURN_DONE;
	}
	bool full = (uint32_t)r == wanted;
	c->batch = full ? MIN(c->batch * 2, VSOCK_RX_BATCH) : 1;
	return full || c->hup || c->todo ? TURN_MORE : TURN_DONE;
}

static enum turn send_data(struct vconn *c)
{
	struct vsock *vs = c->vs;
	struct batch b = { .n = 0 };
	uint32_t credit = vconn_credit(c);

	if (credit == 0) {
		if (!c->starved)
			c->todo |= TODO_CREDIT_REQUEST;
		c->starved = true;
		return c->todo ? TURN_MORE : TURN_DONE;
	}
	c->starved = false;
	gather(vs, &b, c->batch, credit);
	if (b.n == 0)
		return TURN_NO_BUFFER;
	ssize_t r = read_socket(c, vs->payload, b.n_payload);
	hand_over(c, &b, r > 0 ? (uint32_t)r : 0);
	return after_read(c, r, b.bytes);
}

/* turn_of() - @c stands in no line at the moment */
static enum turn turn_of(struct vconn *c)
{
	if (c->todo)
		return send_control(c);
	return vconn_readable(c) ? send_data(c) : TURN_DONE;
}

/* send_rst() - the oldest reset for an unknown connection; false if there is no buffer */
static bool send_rst(struct vsock *vs)
{
	const struct vsock_rst *rst = &vs->rsts[vs->rst_at];
	struct vq_chain chain;

	if (!pop_buffer(vs, 0, &chain))
		return false;
	struct virtio_vsock_hdr hdr = {
		.src_cid = htole64(rst->host_cid),
		.dst_cid = htole64(VSOCK_GUEST_CID),
		.src_port = htole32(rst->host_port),
		.dst_port = htole32(rst->guest_port),
		.type = htole16(rst->type),
		.op = htole16(VIRTIO_VSOCK_OP_RST),
	};
	push_header(vs, &chain, vs->chains, &hdr);
	vs->rst_at = (vs->rst_at + 1) % VSOCK_RSTS_MAX;
	vs->n_rsts--;
	return true;
}

void vsock_rst(struct vsock *vs, const struct virtio_vsock_hdr *hdr)
{
	if (vs->n_rsts == VSOCK_RSTS_MAX)
		return;
	vs->rsts[(vs->rst_at + vs->n_rsts) % VSOCK_RSTS_MAX] = (struct vsock_rst){
		.host_cid = le64toh(hdr->dst_cid),
		.guest_port = le32toh(hdr->src_port),
		.host_port = le32toh(hdr->dst_port),
		.type = le16toh(hdr->type),
	};
	vs->n_rsts++;
}

/* serve_one() - false if the guest has no buffer */
static bool serve_one(struct vsock *vs, struct vconn *c)
{
	vconn_unready(c);
	enum turn t = turn_of(c);
	if (t == TURN_NO_BUFFER) {
		TAILQ_INSERT_HEAD(&vs->ready, c, in_ready);
		c->ready = true;
		return false;
	}
	if (t == TURN_MORE)
		vconn_ready(c);
	vconn_watch(c);
	return true;
}

void vsock_serve(struct vsock *vs)
{
	bool buffers = vs->dev.active && !vs->dev.failed && !vs->reset_wanted && vs->reset_buffers == 0;
	int left = VSOCK_BURST;

	while (buffers && left > 0 && vs->n_rsts > 0) {
		buffers = send_rst(vs);
		left--;
	}
	for (; buffers && left > 0 && !TAILQ_EMPTY(&vs->ready); left--)
		buffers = serve_one(vs, TAILQ_FIRST(&vs->ready));
	if (buffers && (vs->n_rsts > 0 || !TAILQ_EMPTY(&vs->ready)))
		loop_timer_set(vs->again, clock_mono_ns());
	if (vs->dev.active)
		virtio_irq_queue(&vs->dev, VSOCK_RX);
}
