// SPDX-License-Identifier: Apache-2.0
/*
 * The network device.
 *
 * Theory of operation
 *
 * Frames go straight between guest buffers and the socket, one message each; nothing is kept. Both ways the one that
 * cannot take a frame is waited for: a chain that the socket does not take stays in the queue, and a socket that
 * the guest has no buffer for is not read.
 * Without NET_HELLO_HDR the device adds and strips the header, offers no offload, and drops what asks for it; with it
 * the header passes and is the peer's to judge.
 * A frame that does not fit the guest's buffer is dropped (MSG_TRUNC tells). A peer that goes takes the link down.
 *
 * Trust: the guest by nobody; the peer is another jailed process: it can send frames, and that is all.
 * Limits: NET_FRAME_MAX bytes a frame, NET_BURST frames before the loop gets its turn.
 * Snapshot: MAC, MTU and offload are what the saved guest knows; a peer that disagrees on MTU or offload is refused,
 * its MAC is overridden.
 * Threads: the I/O thread; configuration under dev->lock.
 */
#include "vmm/virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "vmm/block/iov.h"

#define HDR_SIZE      sizeof(struct virtio_net_hdr_v1)
#define NET_FRAME_MIN 14u
#define NET_FRAME_MAX 65550u /* NET_MTU_MAX, the Ethernet header, a VLAN tag, and some */
#define NET_BURST     64
#define SAVE_VERSION  1u

#define OFFLOAD                                                                                          \
	(1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM | 1ULL << VIRTIO_NET_F_GUEST_TSO4 | \
	 1ULL << VIRTIO_NET_F_GUEST_TSO6 | 1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6)

_Static_assert(sizeof(struct net_hello) == 20 && HDR_SIZE == 12, "shapes that others know");

enum { NET_RX, NET_TX, NET_QUEUES };

static const uint16_t queue_max[NET_QUEUES] = { 256, 256 };

/* struct saved - the device's own state in a snapshot, little-endian */
struct saved {
	uint32_t version;
	uint16_t flags;
	uint16_t mtu;
	uint8_t mac[6];
	uint16_t pad;
};

/* struct config - the part of virtio_net_config that there is */
struct config {
	uint8_t mac[6];
	uint16_t status;
	uint16_t max_pairs;
	uint16_t mtu;
};

/**
 * struct net
 * @config:	little-endian, under dev->lock
 * @hdr:	messages have a header
 * @full:	the socket takes no frame now; @hungry: the guest has no buffer
 * @again:	goes on after a burst
 */
struct net {
	struct virtio_dev dev;
	int fd;
	struct loop_src *src, *again;
	struct config config;
	bool hdr, full, hungry;
	struct net_counts counts;
	struct iovec iov[VQ_CHAIN_MAX];
	struct iovec rest[VQ_CHAIN_MAX];
};

static struct net *net_of(struct virtio_dev *dev)
{
	return container_of(dev, struct net, dev);
}

static void watch(struct net *n)
{
	uint32_t events = 0;

	if (!n->src)
		return;
	if (n->dev.active && !n->hungry)
		events |= EPOLLIN;
	if (n->dev.active && n->full)
		events |= EPOLLOUT;
	(void)loop_src_set_events(n->src, events);
}

static void link_down(struct net *n)
{
	loop_src_free(n->src);
	n->src = NULL;
	n->full = false;
	pthread_mutex_lock(&n->dev.lock);
	n->config.status = 0;
	pthread_mutex_unlock(&n->dev.lock);
	virtio_irq_config(&n->dev);
}

/* send_frame() - 0 if it is sent or dropped for good, -EAGAIN if the socket is full */
static int send_frame(struct net *n, struct iovec *iov, size_t n_iov)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n_iov };
	ssize_t r;

	do
		r = sendmsg(n->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r < 0 && (errno == EAGAIN || errno == ENOBUFS))
		return -EAGAIN;
	if (r < 0)
		n->counts.dropped++; /* too long for the socket, or nobody there: hang-up tells */
	else
		n->counts.from_guest++;
	return 0;
}

static bool plain(const struct virtio_net_hdr_v1 *h)
{
	return !(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && h->gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

/* take_chain() - one chain of the transmit queue to the socket; as send_frame() */
static int send_chain(struct net *n, const struct vq_chain *chain)
{
	struct iov_cur cur = { n->iov, chain->n_out, 0 };
	struct virtio_net_hdr_v1 hdr;
	size_t bytes;

	if (!n->src || chain->out_bytes < HDR_SIZE + NET_FRAME_MIN ||
	    chain->out_bytes > HDR_SIZE + NET_FRAME_MAX ||
	    iov_copy_out(n->iov, chain->n_out, 0, &hdr, HDR_SIZE) < HDR_SIZE || (!n->hdr && !plain(&hdr))) {
		n->counts.dropped++;
		return 0;
	}
	if (!n->hdr)
		iov_advance(&cur, HDR_SIZE);
	size_t n_iov = iov_peek(&cur, HDR_SIZE + NET_FRAME_MAX, n->rest, ARRAY_SIZE(n->rest), &bytes);
	return send_frame(n, n->rest, n_iov);
}

static int take_chain(struct net *n)
{
	struct vq *q = &n->dev.vq[NET_TX];
	struct vq_chain chain;
	int r = vq_pop(q, n->iov, ARRAY_SIZE(n->iov), &chain);

	if (r <= 0)
		return r;
	if (send_chain(n, &chain) == -EAGAIN) {
		n->full = true;
		vq_unpop(q);
		return 0;
	}
	vq_push(q, chain.head, 0);
	return 1;
}

static void take_frames(struct net *n)
{
	int r = 1;

	for (int i = 0; r > 0 && i < NET_BURST && !n->full; i++)
		r = take_chain(n);
	if (r < 0)
		virtio_fail(&n->dev);
	if (r > 0 && !n->full)
		loop_timer_set(n->again, clock_mono_ns());
	virtio_irq_queue(&n->dev, NET_TX);
}

/* read_frame() - into a chain of the guest, behind its header or with it; bytes of the message, 0 to drop it, or -errno */
static ssize_t read_frame(struct net *n, const struct vq_chain *chain)
{
	struct iov_cur cur = { n->iov + chain->n_out, chain->n_in, 0 };
	struct msghdr m = { .msg_iov = n->rest };
	size_t bytes;
	ssize_t r;

	if (!n->hdr)
		iov_advance(&cur, HDR_SIZE);
	m.msg_iovlen = iov_peek(&cur, HDR_SIZE + NET_FRAME_MAX, n->rest, ARRAY_SIZE(n->rest), &bytes);
	do
		r = recvmsg(n->fd, &m, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	if (r == 0)
		return -EPIPE;
	bool fits = !(m.msg_flags & MSG_TRUNC) && (size_t)r >= NET_FRAME_MIN + (n->hdr ? HDR_SIZE : 0);
	return fits ? r : 0;
}

static void push_frame(struct net *n, const struct vq_chain *chain, size_t bytes)
{
	const struct iovec *in = n->iov + chain->n_out;
	const struct virtio_net_hdr_v1 hdr = { .num_buffers = htole16(1) };
	const size_t at = offsetof(struct virtio_net_hdr_v1, num_buffers);

	if (n->hdr)
		iov_copy_in(in, chain->n_in, at, &hdr.num_buffers, sizeof(hdr.num_buffers));
	else
		iov_copy_in(in, chain->n_in, 0, &hdr, HDR_SIZE);
	vq_push(&n->dev.vq[NET_RX], chain->head, (uint32_t)(bytes + (n->hdr ? 0 : HDR_SIZE)));
	n->counts.to_guest++;
}

/* give_frame() - 1 if a message was taken, 0 if there is none or no buffer, -errno if the driver broke the rules */
static int give_frame(struct net *n)
{
	struct vq *q = &n->dev.vq[NET_RX];
	struct vq_chain chain;
	int r = vq_pop(q, n->iov, ARRAY_SIZE(n->iov), &chain);

	n->hungry = r == 0;
	if (r <= 0)
		return r;
	if (chain.in_bytes < HDR_SIZE + NET_FRAME_MIN) {
		vq_unpop(q);
		return -EBADMSG;
	}
	ssize_t bytes = read_frame(n, &chain);
	if (bytes > 0) {
		push_frame(n, &chain, (size_t)bytes);
		return 1;
	}
	vq_unpop(q);
	n->counts.dropped += bytes == 0;
	if (bytes < 0 && bytes != -EAGAIN)
		link_down(n);
	return bytes == 0;
}

static void give_frames(struct net *n)
{
	int r = 1;

	for (int i = 0; r > 0 && i < NET_BURST && n->src; i++)
		r = give_frame(n);
	if (r < 0)
		virtio_fail(&n->dev);
	virtio_irq_queue(&n->dev, NET_RX);
}

static void notify(struct virtio_dev *dev, uint32_t queue)
{
	struct net *n = net_of(dev);

	if (queue == NET_TX)
		take_frames(n);
	else if (n->hungry)
		give_frames(n);
	watch(n);
}

static void on_socket(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct net *n = data;

	if (n->dev.active && (events & EPOLLIN))
		give_frames(n);
	if (n->src && (events & (EPOLLHUP | EPOLLERR)))
		link_down(n);
	if (n->full && (events & EPOLLOUT))
		n->full = false;
	if (n->dev.active)
		take_frames(n);
	watch(n);
}

static void on_again(struct loop_src *timer _unused_, void *data)
{
	struct net *n = data;

	if (n->dev.active)
		take_frames(n);
	watch(n);
}

static void config_read(struct virtio_dev *dev, uint32_t off, void *to, uint32_t n)
{
	memcpy(to, (const uint8_t *)&net_of(dev)->config + off, n);
}

static int activate(struct virtio_dev *dev)
{
	struct net *n = net_of(dev);

	n->hungry = true; /* until notify() has seen a buffer */
	watch(n);
	return 0;
}

static void reset(struct virtio_dev *dev)
{
	struct net *n = net_of(dev);

	n->full = false;
	loop_timer_set(n->again, 0);
	if (n->src)
		(void)loop_src_set_events(n->src, 0);
}

static int save(struct virtio_dev *dev, struct buf *out)
{
	struct net *n = net_of(dev);
	struct saved s = { .version = htole32(SAVE_VERSION),
			   .flags = htole16(n->hdr ? NET_HELLO_HDR : 0),
			   .mtu = n->config.mtu };

	memcpy(s.mac, n->config.mac, sizeof(s.mac));
	buf_append(out, &s, sizeof(s));
	return buf_ok(out) ? 0 : -ENOMEM;
}

static int load(struct virtio_dev *dev, const void *p, size_t n_bytes)
{
	struct net *n = net_of(dev);
	struct saved s;

	if (n_bytes != sizeof(s))
		return -EBADMSG;
	memcpy(&s, p, sizeof(s));
	if (le32toh(s.version) != SAVE_VERSION || s.pad || s.mtu != n->config.mtu ||
	    le16toh(s.flags) != (n->hdr ? NET_HELLO_HDR : 0) || (s.mac[0] & 1))
		return -EBADMSG;
	memcpy(n->config.mac, s.mac, sizeof(s.mac));
	return dev->active ? activate(dev) : 0;
}

static void net_free(struct virtio_dev *dev)
{
	struct net *n = net_of(dev);

	loop_src_free(n->src);
	loop_src_free(n->again);
	virtio_done(dev);
	free(n);
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.n_queues = NET_QUEUES,
	.queue_max = queue_max,
	.config_size = sizeof(struct config),
	.config_read = config_read,
	.activate = activate,
	.notify = notify,
	.reset = reset,
	.save = save,
	.load = load,
	.free = net_free,
};

static bool hello_ok(const struct net_hello *h)
{
	return le32toh(h->magic) == NET_HELLO_MAGIC && le16toh(h->version) == NET_HELLO_VERSION &&
	       h->pad == 0 && le16toh(h->mtu) >= NET_MTU_MIN && le16toh(h->mtu) <= NET_MTU_MAX &&
	       !(h->mac[0] & 1);
}

/* handshake() - the peer's hello, answered; it is in @ret as agreed */
static int handshake(int fd, struct net_hello *ret)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct net_hello h;
	int r = poll(&p, 1, NET_HELLO_MS);

	if (r < 0)
		return -errno;
	if (r == 0)
		return -ETIMEDOUT;
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if (n != sizeof(h) || (m.msg_flags & MSG_TRUNC) || !hello_ok(&h))
		return -EPROTO;
	h.flags &= htole16(NET_HELLO_HDR);
	if (send(fd, &h, sizeof(h), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(h))
		return -EPROTO;
	*ret = h;
	return 0;
}

static int setup(struct net *n)
{
	struct net_hello h = { 0 };
	int r = handshake(n->fd, &h);

	if (r < 0)
		return r;
	n->hdr = le16toh(h.flags) & NET_HELLO_HDR;
	n->config.status = htole16(VIRTIO_NET_S_LINK_UP);
	n->config.max_pairs = htole16(1);
	n->config.mtu = h.mtu;
	memcpy(n->config.mac, h.mac, sizeof(h.mac));
	n->dev.features |= 1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_MTU | 1ULL << VIRTIO_NET_F_STATUS;
	if (n->hdr)
		n->dev.features |= OFFLOAD;
	r = loop_add_timer(n->dev.env.loop, on_again, n, &n->again);
	if (r == 0)
		r = loop_add_fd(n->dev.env.loop, n->fd, 0, on_socket, n, &n->src);
	return r;
}

int net_new(const struct virtio_env *env, int fd, struct virtio_dev **ret)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	virtio_init(&n->dev, &net_ops, env);
	n->fd = fd;
	int r = setup(n);
	if (r < 0) {
		net_free(&n->dev);
		return r;
	}
	*ret = &n->dev;
	return 0;
}

void net_counts(struct virtio_dev *dev, struct net_counts *ret)
{
	*ret = net_of(dev)->counts;
}
