// SPDX-License-Identifier: Apache-2.0
/*
 * The entropy device.
 *
 * Theory of operation
 *
 * Each chain is a buffer to fill. Bytes go from getrandom(2) into guest memory; nothing is kept, so there is no state to
 * save, and a machine restored twice gets different bytes.
 * Limits: RNG_BYTES_MAX for one request (the driver asks again), RNG_BURST requests before the loop gets its turn: a
 * guest that asks without end costs a thread of its host some time, like any guest that computes, and holds up nobody.
 * Threads: the I/O thread.
 */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"

#define RNG_BURST 16

static const uint16_t queue_max[1] = { 64 };

struct rng {
	struct virtio_dev dev;
	struct loop_src *again;
	struct iovec iov[VQ_CHAIN_MAX];
};

static struct rng *rng_of(struct virtio_dev *dev)
{
	return container_of(dev, struct rng, dev);
}

/* fill() - up to RNG_BYTES_MAX random bytes into @n spans; bytes written */
static uint32_t fill(const struct iovec *iov, size_t n)
{
	uint32_t done = 0;

	for (size_t i = 0; i < n && done < RNG_BYTES_MAX; i++) {
		size_t len = MIN(iov[i].iov_len, RNG_BYTES_MAX - done);
		ssize_t r = getrandom(iov[i].iov_base, len, 0);
		if (r > 0)
			done += (uint32_t)r;
		if (r < (ssize_t)len)
			break; /* a signal; what is there will do */
	}
	return done;
}

static int serve_one(struct rng *rng)
{
	struct vq *q = &rng->dev.vq[0];
	struct vq_chain chain;
	int r = vq_pop(q, rng->iov, ARRAY_SIZE(rng->iov), &chain);

	if (r > 0)
		vq_push(q, chain.head, fill(rng->iov + chain.n_out, chain.n_in));
	return r;
}

static void notify(struct virtio_dev *dev, uint32_t queue _unused_)
{
	struct rng *rng = rng_of(dev);
	int r = 1;

	for (int i = 0; r > 0 && i < RNG_BURST; i++)
		r = serve_one(rng);
	if (r < 0)
		virtio_fail(dev);
	if (r > 0)
		loop_timer_set(rng->again, clock_mono_ns());
	virtio_irq_queue(dev, 0);
}

static void on_again(struct loop_src *timer _unused_, void *data)
{
	struct rng *rng = data;

	if (rng->dev.active)
		notify(&rng->dev, 0);
}

static int activate(struct virtio_dev *dev _unused_)
{
	return 0;
}

static void reset(struct virtio_dev *dev)
{
	loop_timer_set(rng_of(dev)->again, 0);
}

static void rng_free(struct virtio_dev *dev)
{
	struct rng *rng = rng_of(dev);

	loop_src_free(rng->again);
	virtio_done(dev);
	free(rng);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.n_queues = 1,
	.queue_max = queue_max,
	.activate = activate,
	.notify = notify,
	.reset = reset,
	.free = rng_free,
};

int rng_new(const struct virtio_env *env, struct virtio_dev **ret)
{
	struct rng *rng = calloc(1, sizeof(*rng));

	if (!rng)
		return -ENOMEM;
	virtio_init(&rng->dev, &rng_ops, env);
	int r = loop_add_timer(env->loop, on_again, rng, &rng->again);
	if (r < 0) {
		rng_free(&rng->dev);
		return r;
	}
	*ret = &rng->dev;
	return 0;
}
