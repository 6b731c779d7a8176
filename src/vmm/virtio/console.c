// SPDX-License-Identifier: Apache-2.0
/*
 * The console device.
 *
 * Theory of operation
 *
 * Output goes from guest buffers straight into the socket, input from the socket into guest buffers; nothing is kept here.
 *
 * A guest's kernel waits, with a CPU and locks, until its output is taken. So a reader that stops must not stop the
 * guest:
 *	FLOWING	 the socket takes what comes
 *	STALLED	 it took no more: the chain stays in the queue, @done bytes of it written, for CONSOLE_PATIENCE_MS
 *	DROPPING patience is over: output is given back unread until the socket can be written again
 *	DEAD	 the other end is closed: as DROPPING, for good
 * A reader that is slow but alive loses nothing: every byte it takes begins its time anew.
 *
 * Trust: chains are the guest's; the one that waits may change meanwhile, so @done is only ever a number of bytes to skip.
 * Limits: CONSOLE_BURST chains, or pieces of CONSOLE_PIECE bytes of long ones, before the loop gets its turn: a chain may
 * name all of memory a thousand times.
 * Threads: the I/O thread.
 */
#include "vmm/virtio/console.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "vmm/block/iov.h"

#define CONSOLE_BURST 64
#define CONSOLE_PIECE KIB(64)
#define SAVE_VERSION  1u

enum { CONSOLE_IN, CONSOLE_OUT, CONSOLE_QUEUES };
enum output { FLOWING, STALLED, DROPPING, DEAD };

static const uint16_t queue_max[CONSOLE_QUEUES] = { 64, 64 };

/* struct saved - the device's own state in a snapshot, little-endian */
struct saved {
	uint32_t version;
	uint32_t pad;
	uint64_t done;
};

/**
 * struct console
 * @output:	of what the guest writes
 * @done:	bytes of the first chain in the output queue that were written
 * @ended:	the other end sends no more
 * @hungry:	there may be input, but the guest has no buffer
 * @patience:	timer of STALLED; @again: goes on after a burst
 */
struct console {
	struct virtio_dev dev;
	int fd;
	struct loop_src *src, *patience, *again;
	enum output output;
	uint64_t done;
	bool ended, hungry;
	struct iovec iov[VQ_CHAIN_MAX];
	struct iovec rest[VQ_CHAIN_MAX];
};

static struct console *console_of(struct virtio_dev *dev)
{
	return container_of(dev, struct console, dev);
}

static void watch(struct console *c)
{
	uint32_t events = 0;

	if (!c->src)
		return;
	if (c->dev.active && !c->ended && !c->hungry)
		events |= EPOLLIN;
	if (c->output == STALLED || c->output == DROPPING)
		events |= EPOLLOUT;
	(void)loop_src_set_events(c->src, events);
}

static void set_output(struct console *c, enum output output)
{
	c->output = output;
	if (output != STALLED)
		loop_timer_set(c->patience, 0);
}

static void stall(struct console *c)
{
	c->output = STALLED;
	loop_timer_set(c->patience, clock_mono_ns() + CONSOLE_PATIENCE_MS * NS_PER_MS);
}

static void hung_up(struct console *c)
{
	loop_src_free(c->src);
	c->src = NULL;
	c->ended = true;
	set_output(c, DEAD);
}

/* write_some() - bytes taken by the socket; 0 if it takes none now, or never again (then DEAD) */
static size_t write_some(struct console *c, struct iovec *iov, size_t n)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t r;

	do
		r = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno != EAGAIN && errno != ENOBUFS)
		hung_up(c);
	return r < 0 ? 0 : (size_t)r;
}

/* write_piece() - go on with a chain; true if all of it is written or was dropped */
static bool write_piece(struct console *c, const struct vq_chain *chain)
{
	struct iov_cur cur = { c->iov, chain->n_out, 0 };
	uint64_t left = chain->out_bytes > c->done ? chain->out_bytes - c->done : 0;
	size_t bytes;

	iov_advance(&cur, c->done);
	if (left > 0 && c->output == FLOWING) {
		size_t n = iov_peek(&cur, MIN(left, CONSOLE_PIECE), c->rest, ARRAY_SIZE(c->rest), &bytes);
		size_t written = write_some(c, c->rest, n);
		if (written == 0 && c->output == FLOWING)
			stall(c);
		left -= written;
		c->done += written;
	}
	return left == 0 || c->output == DROPPING || c->output == DEAD;
}

static int take_chain(struct console *c)
{
	struct vq *q = &c->dev.vq[CONSOLE_OUT];
	struct vq_chain chain;
	int r = vq_pop(q, c->iov, ARRAY_SIZE(c->iov), &chain);

	if (r <= 0)
		return r;
	if (!write_piece(c, &chain)) {
		vq_unpop(q);
		return c->output == FLOWING;
	}
	c->done = 0;
	vq_push(q, chain.head, 0);
	return 1;
}

static void take_output(struct console *c)
{
	int r = 1;

	if (c->output == STALLED)
		return;
	for (int i = 0; r > 0 && i < CONSOLE_BURST; i++)
		r = take_chain(c);
	if (r < 0)
		virtio_fail(&c->dev);
	if (r > 0)
		loop_timer_set(c->again, clock_mono_ns());
	virtio_irq_queue(&c->dev, CONSOLE_OUT);
}

static ssize_t read_some(struct console *c, struct iovec *iov, size_t n)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t r;

	do
		r = recvmsg(c->fd, &m, MSG_DONTWAIT);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* give_chain() - 1 if input was given, 0 if there is none or no buffer, -errno if the driver broke the rules */
static int give_chain(struct console *c)
{
	struct vq *q = &c->dev.vq[CONSOLE_IN];
	struct vq_chain chain;
	int r = vq_pop(q, c->iov, ARRAY_SIZE(c->iov), &chain);

	c->hungry = r == 0;
	if (r <= 0)
		return r;
	if (chain.n_in == 0) { /* no room at all: nothing to read into, and 0 would look like the end */
		vq_push(q, chain.head, 0);
		return 1;
	}
	ssize_t n = read_some(c, c->iov + chain.n_out, chain.n_in);
	if (n > 0) {
		vq_push(q, chain.head, (uint32_t)MIN((size_t)n, UINT32_MAX));
		return 1;
	}
	vq_unpop(q);
	if (n != -EAGAIN)
		c->ended = true;
	return 0;
}

static void give_input(struct console *c)
{
	int r = 1;

	for (int i = 0; r > 0 && i < CONSOLE_BURST && !c->ended; i++)
		r = give_chain(c);
	if (r < 0)
		virtio_fail(&c->dev);
	virtio_irq_queue(&c->dev, CONSOLE_IN);
}

static void notify(struct virtio_dev *dev, uint32_t queue)
{
	struct console *c = console_of(dev);

	if (queue == CONSOLE_OUT)
		take_output(c);
	else if (c->hungry)
		give_input(c);
	watch(c);
}

static void on_socket(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct console *c = data;

	if (c->dev.active && (events & EPOLLIN))
		give_input(c);
	/* Level-triggered and impossible to mask; input that the guest has no buffer for now is lost with it. */
	if (events & (EPOLLHUP | EPOLLERR))
		hung_up(c);
	else if ((events & EPOLLOUT) && (c->output == STALLED || c->output == DROPPING))
		set_output(c, FLOWING);
	if (c->dev.active)
		take_output(c);
	watch(c);
}

static void on_patience(struct loop_src *timer _unused_, void *data)
{
	struct console *c = data;

	if (c->output == STALLED)
		set_output(c, DROPPING);
	if (c->dev.active)
		take_output(c);
	watch(c);
}

static void on_again(struct loop_src *timer _unused_, void *data)
{
	struct console *c = data;

	if (c->dev.active)
		take_output(c);
	watch(c);
}

static int activate(struct virtio_dev *dev)
{
	struct console *c = console_of(dev);

	c->hungry = true; /* until notify() has seen a buffer */
	watch(c);
	return 0;
}

static void reset(struct virtio_dev *dev)
{
	struct console *c = console_of(dev);

	c->done = 0;
	if (c->output != DEAD)
		set_output(c, FLOWING);
	loop_timer_set(c->again, 0);
	if (c->src)
		(void)loop_src_set_events(c->src, 0);
}

static int save(struct virtio_dev *dev, struct buf *out)
{
	struct saved s = { .version = htole32(SAVE_VERSION), .done = htole64(console_of(dev)->done) };

	buf_append(out, &s, sizeof(s));
	return buf_ok(out) ? 0 : -ENOMEM;
}

static int load(struct virtio_dev *dev, const void *p, size_t n)
{
	struct console *c = console_of(dev);
	struct saved s;

	if (n != sizeof(s))
		return -EBADMSG;
	memcpy(&s, p, sizeof(s));
	if (le32toh(s.version) != SAVE_VERSION)
		return -EBADMSG;
	c->done = le64toh(s.done);
	return dev->active ? activate(dev) : 0;
}

static void console_free(struct virtio_dev *dev)
{
	struct console *c = console_of(dev);

	loop_src_free(c->src);
	loop_src_free(c->patience);
	loop_src_free(c->again);
	virtio_done(dev);
	free(c);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.n_queues = CONSOLE_QUEUES,
	.queue_max = queue_max,
	.activate = activate,
	.notify = notify,
	.reset = reset,
	.save = save,
	.load = load,
	.free = console_free,
};

static int add_sources(struct console *c)
{
	struct loop *l = c->dev.env.loop;
	int r = loop_add_timer(l, on_patience, c, &c->patience);

	if (r == 0)
		r = loop_add_timer(l, on_again, c, &c->again);
	if (r == 0 && c->fd >= 0)
		r = loop_add_fd(l, c->fd, 0, on_socket, c, &c->src);
	return r;
}

int console_new(const struct virtio_env *env, int fd, struct virtio_dev **ret)
{
	struct console *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	virtio_init(&c->dev, &console_ops, env);
	c->fd = fd;
	c->ended = fd < 0;
	c->output = fd < 0 ? DEAD : FLOWING;
	int r = add_sources(c);
	if (r < 0) {
		console_free(&c->dev);
		return r;
	}
	*ret = &c->dev;
	return 0;
}
