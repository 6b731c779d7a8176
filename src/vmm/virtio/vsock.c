// SPDX-License-Identifier: Apache-2.0
// The vsock device: packets of the guest, its life, what the host asks of it. Theory of operation: vsock_conn.h.
#include "vmm/virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "vmm/block/iov.h"
#include "vmm/virtio/vsock_conn.h"

#define HDR_SIZE     sizeof(struct virtio_vsock_hdr)
#define SAVE_VERSION 1u
#define RINGS_BYTES  (VSOCK_CONNS_MAX * VSOCK_BUF)

static const uint16_t queue_max[VSOCK_QUEUES] = { 256, 256, 16 };

/* struct saved - the device's own state in a snapshot, little-endian */
struct saved {
	uint32_t version;
	uint32_t next_port; /* going on behind the saved guest's: its old connections cannot be taken for new ones */
};

static void guest_requests(struct vsock *vs, const struct virtio_vsock_hdr *hdr)
{
	struct vconn *c = NULL;

	if (vs->host.guest_connects && vs->n_asked < VSOCK_ASKED_MAX && vs->n_guest < VSOCK_GUEST_MAX)
		c = vconn_new(vs, VCONN_ASKED);
	if (!c) {
		vsock_rst(vs, hdr);
		return;
	}
	c->by_guest = true;
	vs->n_guest++;
	vconn_name(c, le32toh(hdr->src_port), le32toh(hdr->dst_port));
	c->guest_alloc = le32toh(hdr->buf_alloc);
	c->guest_fwd = le32toh(hdr->fwd_cnt);
	vs->host.guest_connects(vs->host.data, vconn_id(c), c->host_port);
}

/* take_payload() - @n entries of @iov hold the packet; its payload goes on */
static void take_payload(struct vconn *c, const struct iovec *iov, size_t n, uint32_t len)
{
	struct vsock *vs = c->vs;
	struct iov_cur cur = { iov, n, 0 };
	size_t bytes;

	if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) {
		vconn_reset(c);
		return;
	}
	iov_advance(&cur, HDR_SIZE);
	size_t used = iov_peek(&cur, len, vs->payload, ARRAY_SIZE(vs->payload), &bytes);
	if (vconn_write(c, vs->payload, used, len) < 0)
		vconn_reset(c);
}

static void on_open(struct vconn *c, const struct virtio_vsock_hdr *hdr, const struct iovec *iov, size_t n)
{
	switch (le16toh(hdr->op)) {
	case VIRTIO_VSOCK_OP_RW:
		take_payload(c, iov, n, le32toh(hdr->len));
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		c->guest_shut |= le32toh(hdr->flags) & SHUT_BOTH;
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vconn_want(c, TODO_CREDIT_UPDATE);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	default:
		vconn_reset(c);
		break;
	}
	/* Without this, one that waits for credit and nothing else would wait forever. */
	if (c->state == VCONN_OPEN && (c->starved || c->hup) && vconn_credit(c) > 0)
		vconn_ready(c);
	vconn_settle(c);
}

static void on_closing(struct vconn *c, const struct virtio_vsock_hdr *hdr)
{
	switch (le16toh(hdr->op)) {
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		c->guest_shut |= le32toh(hdr->flags) & SHUT_BOTH;
		if (c->guest_shut == SHUT_BOTH)
			vconn_reset(c);
		break;
	default:
		vconn_reset(c); /* data that nobody takes */
		break;
	}
}

/* on_packet() - of connection @c, anything but RST and REQUEST */
static void on_packet(struct vconn *c, const struct virtio_vsock_hdr *hdr, const struct iovec *iov, size_t n)
{
	c->guest_alloc = le32toh(hdr->buf_alloc);
	c->guest_fwd = le32toh(hdr->fwd_cnt);
	switch (c->state) {
	case VCONN_OPEN:
		on_open(c, hdr, iov, n);
		break;
	case VCONN_CLOSING:
		on_closing(c, hdr);
		break;
	case VCONN_REQUESTED:
		if (le16toh(hdr->op) != VIRTIO_VSOCK_OP_RESPONSE) {
			vconn_reset(c);
			break;
		}
		vconn_set_state(c, VCONN_OPEN);
		vconn_watch(c);
		break;
	case VCONN_ASKED:
		vsock_rst(c->vs, hdr);
		vconn_guest_left(c);
		break;
	default:
		break; /* RESETTING: a reset is on its way */
	}
}

static void handle(struct vsock *vs, const struct virtio_vsock_hdr *hdr, const struct iovec *iov, size_t n)
{
	uint16_t op = le16toh(hdr->op);

	if (le64toh(hdr->src_cid) != VSOCK_GUEST_CID)
		return;
	if (le64toh(hdr->dst_cid) != VSOCK_HOST_CID || le16toh(hdr->type) != VIRTIO_VSOCK_TYPE_STREAM) {
		if (op != VIRTIO_VSOCK_OP_RST)
			vsock_rst(vs, hdr);
		return;
	}
	struct vconn *c = vconn_find(vs, le32toh(hdr->src_port), le32toh(hdr->dst_port));
	if (op == VIRTIO_VSOCK_OP_RST) {
		if (c)
			vconn_guest_left(c);
	} else if (op == VIRTIO_VSOCK_OP_REQUEST && !c) {
		guest_requests(vs, hdr);
	} else if (!c) {
		vsock_rst(vs, hdr);
	} else {
		on_packet(c, hdr, iov, n);
	}
}

/* take_packet() - one chain of the transmit queue; 1, 0 if there is none, -errno if the driver broke the rules */
static int take_packet(struct vsock *vs)
{
	struct vq *q = &vs->dev.vq[VSOCK_TX];
	struct virtio_vsock_hdr hdr;
	struct vq_chain chain;
	int r = vq_pop(q, vs->chains, VQ_CHAIN_MAX, &chain);

	if (r <= 0)
		return r;
	if (iov_copy_out(vs->chains, chain.n_out, 0, &hdr, HDR_SIZE) < HDR_SIZE ||
	    le32toh(hdr.len) > chain.out_bytes - HDR_SIZE)
		r = -EBADMSG;
	else
		handle(vs, &hdr, vs->chains, chain.n_out);
	vq_push(q, chain.head, 0);
	return r;
}

static void take_packets(struct vsock *vs)
{
	int left = VSOCK_BURST, r = 1;

	while (left > 0 && r > 0) {
		r = take_packet(vs);
		left--;
	}
	if (r < 0)
		virtio_fail(&vs->dev);
	if (r > 0)
		loop_timer_set(vs->again, clock_mono_ns());
	virtio_irq_queue(&vs->dev, VSOCK_TX);
}

/* pop_events() - take what the event queue has; how many chains, the first of them in @ret, its spans in vs->chains */
static uint32_t pop_events(struct vsock *vs, struct vq_chain *ret)
{
	struct vq *q = &vs->dev.vq[VSOCK_EVENT];
	struct iovec *rest = vs->chains + VQ_CHAIN_MAX;
	struct vq_chain other;
	uint32_t n = 0;
	int r;

	/* To the end: only a queue that was found empty makes the driver kick for its next buffer. */
	while ((r = vq_pop(q, n ? rest : vs->chains, VQ_CHAIN_MAX, n ? &other : ret)) > 0)
		n++;
	if (r < 0)
		virtio_fail(&vs->dev);
	return r < 0 ? 0 : n;
}

static void unpop_events(struct vsock *vs, uint32_t n)
{
	while (n-- > 0)
		vq_unpop(&vs->dev.vq[VSOCK_EVENT]);
}

static void send_reset(struct vsock *vs)
{
	struct virtio_vsock_event event = { .id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) };
	struct vq_chain chain;
	uint32_t n = pop_events(vs, &chain);

	if (n == 0)
		return;
	unpop_events(vs, n - 1);
	iov_copy_in(vs->chains + chain.n_out, chain.n_in, 0, &event, sizeof(event));
	vq_push(&vs->dev.vq[VSOCK_EVENT], chain.head, sizeof(event));
	vs->reset_wanted = false;
	vs->reset_buffers = n;
	virtio_irq_queue(&vs->dev, VSOCK_EVENT);
}

/* await_reset() - has the guest handled TRANSPORT_RESET, so that its buffer is back? */
static void await_reset(struct vsock *vs)
{
	struct vq_chain chain;
	uint32_t n = pop_events(vs, &chain);

	unpop_events(vs, n);
	if (n >= vs->reset_buffers)
		vs->reset_buffers = 0;
}

static void notify(struct virtio_dev *dev, uint32_t q)
{
	struct vsock *vs = vsock_of(dev);

	if (q == VSOCK_TX)
		take_packets(vs);
	if (q == VSOCK_EVENT && vs->reset_wanted)
		send_reset(vs);
	if (q == VSOCK_EVENT && vs->reset_buffers)
		await_reset(vs);
	vsock_serve(vs);
}

static void on_again(struct loop_src *timer _unused_, void *data)
{
	struct vsock *vs = data;

	if (!vs->dev.active)
		return;
	take_packets(vs);
	vsock_serve(vs);
}

static void on_closer(struct loop_src *timer _unused_, void *data)
{
	struct vsock *vs = data;

	vconn_expire(vs);
	vsock_serve(vs);
}

static void config_read(struct virtio_dev *dev _unused_, uint32_t off, void *to, uint32_t n)
{
	const struct virtio_vsock_config config = { .guest_cid = htole64(VSOCK_GUEST_CID) };

	memcpy(to, (const uint8_t *)&config + off, n);
}

static int activate(struct virtio_dev *dev _unused_)
{
	return 0; /* notify() comes for each queue */
}

/* forget() - connections that the guest knew end; what waits for a driver, or for the host's answer, goes on */
static void forget(struct vconn *c)
{
	switch (c->state) {
	case VCONN_FREE:
	case VCONN_PENDING:
	case VCONN_GONE:
	case VCONN_DRAINING:
		break;
	case VCONN_ASKED:
		vconn_guest_left(c);
		break;
	default:
		vconn_free(c);
		break;
	}
}

static void reset(struct virtio_dev *dev)
{
	struct vsock *vs = vsock_of(dev);

	for (size_t i = 0; i < VSOCK_CONNS_MAX; i++)
		forget(&vs->conns[i]);
	vs->n_rsts = 0;
	vs->reset_wanted = false;
	vs->reset_buffers = 0;
	loop_timer_set(vs->again, 0);
}

static int save(struct virtio_dev *dev, struct buf *out)
{
	struct saved s = { htole32(SAVE_VERSION), htole32(vsock_of(dev)->next_port) };

	buf_append(out, &s, sizeof(s));
	return buf_ok(out) ? 0 : -ENOMEM;
}

static int load(struct virtio_dev *dev, const void *p, size_t n)
{
	struct vsock *vs = vsock_of(dev);
	struct saved s;

	if (n != sizeof(s))
		return -EBADMSG;
	memcpy(&s, p, sizeof(s));
	if (le32toh(s.version) != SAVE_VERSION)
		return -EBADMSG;
	vs->next_port = le32toh(s.next_port);
	vs->reset_wanted = dev->active;
	return 0;
}

static void vsock_free(struct virtio_dev *dev)
{
	struct vsock *vs = vsock_of(dev);

	for (size_t i = 0; i < VSOCK_CONNS_MAX; i++)
		if (vs->conns[i].state != VCONN_FREE)
			vconn_free(&vs->conns[i]);
	loop_src_free(vs->again);
	loop_src_free(vs->closer);
	if (vs->rings)
		munmap(vs->rings, RINGS_BYTES);
	virtio_done(dev);
	free(vs);
}

static const struct virtio_ops vsock_ops = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.n_queues = VSOCK_QUEUES,
	.queue_max = queue_max,
	.config_size = sizeof(struct virtio_vsock_config),
	.config_read = config_read,
	.activate = activate,
	.notify = notify,
	.reset = reset,
	.save = save,
	.load = load,
	.free = vsock_free,
};

static int fill(struct vsock *vs)
{
	void *rings = mmap(NULL, RINGS_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (rings == MAP_FAILED)
		return -errno;
	vs->rings = rings;
	int r = loop_add_timer(vs->dev.env.loop, on_again, vs, &vs->again);
	if (r == 0)
		r = loop_add_timer(vs->dev.env.loop, on_closer, vs, &vs->closer);
	return r;
}

int vsock_new(const struct virtio_env *env, const struct vsock_host *host, struct virtio_dev **ret)
{
	struct vsock *vs = calloc(1, sizeof(*vs));

	if (!vs)
		return -ENOMEM;
	virtio_init(&vs->dev, &vsock_ops, env);
	vs->host = *host;
	TAILQ_INIT(&vs->ready);
	TAILQ_INIT(&vs->closing);
	for (size_t i = VSOCK_CONNS_MAX; i-- > 0;) {
		vs->conns[i].vs = vs;
		vs->conns[i].fd = -1;
		LIST_INSERT_HEAD(&vs->free, &vs->conns[i], in_hash);
	}
	int r = fill(vs);
	if (r < 0) {
		vsock_free(&vs->dev);
		return r;
	}
	*ret = &vs->dev;
	return 0;
}

int vsock_connect(struct virtio_dev *dev, uint32_t port, int fd)
{
	_cleanup_fd_ int owned = fd;
	struct vsock *vs = vsock_of(dev);
	struct vconn *c = vconn_new(vs, VCONN_PENDING);

	if (!c)
		return -EMFILE;
	c->guest_port = port;
	int r = vconn_join(c, take_fd(owned));
	if (r < 0) {
		vconn_free(c);
		return r;
	}
	vconn_want(c, TODO_REQUEST);
	vsock_serve(vs);
	return 0;
}

/* answered() - the connection whose number is @id, if the guest still wants it; NULL otherwise, and @id is over */
static struct vconn *answered(struct vsock *vs, uint32_t id)
{
	struct vconn *c = vconn_by_id(vs, id);

	if (c && c->state == VCONN_ASKED)
		return c;
	if (c && c->state == VCONN_GONE)
		vconn_free(c);
	return NULL;
}

int vsock_accept(struct virtio_dev *dev, uint32_t id, int fd)
{
	_cleanup_fd_ int owned = fd;
	struct vsock *vs = vsock_of(dev);
	struct vconn *c = answered(vs, id);

	if (!c)
		return -ENOENT;
	int r = vconn_join(c, take_fd(owned));
	if (r < 0) {
		vconn_reset(c);
	} else {
		vconn_set_state(c, VCONN_OPEN);
		vconn_want(c, TODO_RESPONSE);
	}
	vsock_serve(vs);
	return r;
}

int vsock_refuse(struct virtio_dev *dev, uint32_t id)
{
	struct vsock *vs = vsock_of(dev);
	struct vconn *c = answered(vs, id);

	if (!c)
		return -ENOENT;
	vconn_reset(c);
	vsock_serve(vs);
	return 0;
}

void vsock_counts(const struct virtio_dev *dev, uint64_t *ret_to_guest, uint64_t *ret_from_guest)
{
	const struct vsock *vs = container_of(dev, const struct vsock, dev);

	*ret_to_guest = vs->to_guest;
	*ret_from_guest = vs->from_guest;
}
