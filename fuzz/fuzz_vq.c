// SPDX-License-Identifier: Apache-2.0
/*
 * The virtqueue and the mmio transport, with a device that only looks at what it gets: every span lies in guest memory and can be
 * read or written, sums are right, order is right. It keeps chains back, returns them in another order, puts them back.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "vmm_harness.h"

#define ROOM 24
#define HELD 8

struct echo {
	struct virtio_dev dev;
	uint8_t mood; /* what to do with the next chains */
	uint16_t held[HELD];
	uint32_t n_held;
	uint8_t config[16];
};

static volatile uint8_t sum;

static struct echo *echo_of(struct virtio_dev *dev)
{
	return container_of(dev, struct echo, dev);
}

static void check_span(const struct echo *e, const struct iovec *v)
{
	const struct gmem *m = e->dev.env.mem;
	uint8_t *p = v->iov_base;

	FUZZ_CHECK(v->iov_len > 0 && p >= m->base && v->iov_len <= m->size &&
		   (size_t)(p - m->base) <= m->size - v->iov_len);
}

static void look(struct echo *e, const struct iovec *iov, const struct vq_chain *c)
{
	uint64_t out = 0, in = 0;

	FUZZ_CHECK(c->n_out + c->n_in <= ROOM);
	for (uint32_t i = 0; i < (uint32_t)c->n_out + c->n_in; i++) {
		check_span(e, &iov[i]);
		if (i < c->n_out) {
			out += iov[i].iov_len;
			for (size_t k = 0; k < iov[i].iov_len; k++)
				sum ^= ((uint8_t *)iov[i].iov_base)[k];
		} else {
			in += iov[i].iov_len;
			memset(iov[i].iov_base, e->mood, iov[i].iov_len);
		}
	}
	FUZZ_CHECK(out == c->out_bytes && in == c->in_bytes);
	uint8_t head[32];
	FUZZ_CHECK(iov_copy_out(iov, c->n_out, e->mood % 40, head, sizeof(head)) ==
		   MIN(sizeof(head), out - MIN(out, (uint64_t)e->mood % 40)));
	FUZZ_CHECK(iov_copy_in(iov + c->n_out, c->n_in, e->mood % 40, head, sizeof(head)) ==
		   MIN(sizeof(head), in - MIN(in, (uint64_t)e->mood % 40)));
}

static void give_back(struct echo *e, struct vq *vq)
{
	while (e->n_held > 0) {
		uint32_t i = e->mood % e->n_held;

		vq_push(vq, e->held[i], e->mood);
		e->held[i] = e->held[--e->n_held];
	}
}

static void echo_notify(struct virtio_dev *dev, uint32_t q)
{
	struct echo *e = echo_of(dev);
	struct vq *vq = &dev->vq[q];
	struct iovec iov[ROOM];
	struct vq_chain c;
	int r;

	for (int i = 0; (r = vq_pop(vq, iov, ROOM, &c)) > 0 && i < 2 * VQ_NUM_MAX; i++) {
		FUZZ_CHECK(!vq->broken && vq->in_flight > 0);
		look(e, iov, &c);
		if (e->mood % 7 == 6 && q == 0) {
			uint16_t head = c.head, before = vq->last_avail;

			vq_unpop(vq);
			FUZZ_CHECK(vq->last_avail == (uint16_t)(before - 1));
			if (vq_pop(vq, iov, ROOM, &c) <= 0)
				break;
			/* Nothing changes memory here, or it is a race, where it may be another. */
			(void)head;
			look(e, iov, &c);
		}
		if (q == 0 && e->n_held < HELD && e->mood % 3)
			e->held[e->n_held++] = c.head;
		else
			vq_push(vq, c.head, (uint32_t)c.in_bytes);
		e->mood++;
	}
	FUZZ_CHECK(r >= 0 || vq->broken);
	if (e->mood % 2 && q == 0)
		give_back(e, vq);
	virtio_irq_queue(dev, q);
	if (r < 0) {
		virtio_fail(dev);
		FUZZ_CHECK(vq_pop(vq, iov, ROOM, &c) == 0 && vq_empty(vq));
	}
}

static int echo_activate(struct virtio_dev *dev)
{
	return echo_of(dev)->mood == 0xfd ? -EIO : 0;
}

static void echo_reset(struct virtio_dev *dev)
{
	echo_of(dev)->n_held = 0;
}

static int echo_quiesce(struct virtio_dev *dev)
{
	give_back(echo_of(dev), &dev->vq[0]);
	return 0;
}

static void echo_config_read(struct virtio_dev *dev, uint32_t off, void *to, uint32_t n)
{
	FUZZ_CHECK(off < 16 && n <= 16 - off && n <= 8);
	memcpy(to, echo_of(dev)->config + off, n);
}

static void echo_config_write(struct virtio_dev *dev, uint32_t off, const void *from, uint32_t n)
{
	FUZZ_CHECK(off < 16 && n <= 16 - off && n <= 8);
	memcpy(echo_of(dev)->config + off, from, n);
}

static int echo_save(struct virtio_dev *dev, struct buf *out)
{
	buf_append(out, &echo_of(dev)->mood, 1);
	return buf_ok(out) ? 0 : -ENOMEM;
}

static int echo_load(struct virtio_dev *dev, const void *p, size_t n)
{
	if (n != 1)
		return -EBADMSG;
	echo_of(dev)->mood = *(const uint8_t *)p;
	return 0;
}

static void echo_free(struct virtio_dev *dev)
{
	virtio_done(dev);
	free(echo_of(dev));
}

static const uint16_t queue_max[] = { 128, 16 };

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.id = 42,
	.n_queues = 2,
	.queue_max = queue_max,
	.config_size = 16,
	.config_read = echo_config_read,
	.config_write = echo_config_write,
	.activate = echo_activate,
	.notify = echo_notify,
	.reset = echo_reset,
	.quiesce = echo_quiesce,
	.save = echo_save,
	.load = echo_load,
	.free = echo_free,
};

static void make(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret)
{
	struct echo *e = calloc(1, sizeof(*e));

	(void)h;
	FUZZ_CHECK(e);
	virtio_init(&e->dev, &echo_ops, env);
	*ret = &e->dev;
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	struct echo *e = echo_of(h->dev);

	e->mood = (uint8_t)arg;
	if (what & 1)
		give_back(e, &h->dev->vq[0]);
	if (what & 2)
		virtio_irq_config(h->dev);
	if ((what & 12) == 12)
		virtio_fail(h->dev);
}

static void check(struct harness *h)
{
	const struct echo *e = echo_of(h->dev);

	FUZZ_CHECK(e->n_held <= HELD);
	/* What is held back is what is in flight, or the queue was taken away. */
	FUZZ_CHECK(h->dev->vq[0].num == 0 || h->dev->vq[0].in_flight == e->n_held);
	FUZZ_CHECK(h->dev->vq[1].in_flight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct harness_device device = { .make = make, .host = host, .check = check };

	harness_run(&device, data, size);
	return 0;
}
