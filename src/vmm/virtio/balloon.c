// SPDX-License-Identifier: Apache-2.0
/*
 * The balloon device.
 *
 * Theory of operation
 *
 * Inflate: chains of le32 page numbers that the guest will not touch; their pages go back to the host. Deflate: numbers
 * of pages that it takes back; nothing is to be done, since a page comes back when it is touched. Free page reporting:
 * chains whose spans are free memory; it goes back, too, and the guest may use it as soon as the chain is returned.
 * Where memory is shared with a file nothing can be given back, and both do nothing but answer.
 * Reporting is not offered to a guest that boots: a template may be made of it, and to tell of a free block Linux writes into its
 * page's descriptor, so each box would make a page in 1,024 its own, in the first minute of its life, only to report memory that it
 * never had; and what is reported counts as written, so a fork would look at all of it.
 * PAGE_POISON is not offered: so a driver that relies on the contents of free pages does not report them.
 *
 * Trust: a guest that names pages in use loses their contents, which is its own affair; numbers outside memory are skipped
 * (gmem_discard() checks). How much is in the balloon is the guest's word and goes nowhere but into statistics.
 * Limits: BALLOON_PFNS_MAX numbers a chain, BALLOON_BURST chains before the loop gets its turn.
 * Threads: the I/O thread; configuration words under dev->lock.
 */
#include "vmm/virtio/balloon.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define BALLOON_BURST 16
#define SAVE_VERSION  1u
#define PFNS_AT_ONCE  256u

/* The reporting queue comes right behind, as no queue of another feature is offered. */
enum { BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_REPORTING, BALLOON_QUEUES };

static const uint16_t queue_max[BALLOON_QUEUES] = { 128, 128, 128 };

/* struct saved - the device's own state in a snapshot, little-endian */
struct saved {
	uint32_t version;
	uint32_t num_pages;
	uint32_t actual;
};

/**
 * struct balloon
 * @config:	little-endian, under dev->lock; "actual" is the guest's
 * @free_bytes:	given back by reporting; atomic
 */
struct balloon {
	struct virtio_dev dev;
	struct virtio_balloon_config config;
	uint64_t free_bytes;
	struct loop_src *again;
	struct iovec iov[VQ_CHAIN_MAX];
};

static struct balloon *balloon_of(struct virtio_dev *dev)
{
	return container_of(dev, struct balloon, dev);
}

static void discard_pages(struct balloon *b, const uint32_t *pfns, size_t n)
{
	/* Neighbours in one go: the guest names them one by one, mostly upwards or downwards. */
	for (size_t i = 0, end; i < n; i = end) {
		uint64_t first = le32toh(pfns[i]), last = first;

		for (end = i + 1; end < n; end++) {
			uint64_t pfn = le32toh(pfns[end]);
			if (pfn != last + 1 && pfn + 1 != first)
				break;
			first = MIN(first, pfn);
			last = MAX(last, pfn);
		}
		(void)gmem_discard(b->dev.env.mem, gpa(first * BALLOON_PAGE),
				   (last - first + 1) * BALLOON_PAGE);
	}
}

/* inflate() - 0, or -EBADMSG if it names more than anybody needs to at once */
static int inflate(struct balloon *b, const struct vq_chain *chain)
{
	uint32_t pfns[PFNS_AT_ONCE];
	uint64_t n = chain->out_bytes / sizeof(pfns[0]);

	if (n > BALLOON_PFNS_MAX)
		return -EBADMSG;
	for (uint64_t at = 0; at < n;) {
		size_t part = MIN(n - at, ARRAY_SIZE(pfns));

		iov_copy_out(b->iov, chain->n_out, at * sizeof(pfns[0]), pfns, part * sizeof(pfns[0]));
		discard_pages(b, pfns, part);
		at += part;
	}
	return 0;
}

/* gpa_of() - back from a span that vq_pop() has checked */
static struct gpa gpa_of(const struct gmem *m, const void *host)
{
	uint64_t off = (uint64_t)((const uint8_t *)host - m->base), low = gmem_low_size(m);

	return gpa(off < low ? off : GMEM_HIGH_START + (off - low));
}

static void report(struct balloon *b, const struct vq_chain *chain)
{
	struct gmem *mem = b->dev.env.mem;

	for (size_t i = chain->n_out; i < (size_t)chain->n_out + chain->n_in; i++) {
		if (gmem_discard(mem, gpa_of(mem, b->iov[i].iov_base), b->iov[i].iov_len) == 0)
			__atomic_fetch_add(&b->free_bytes, b->iov[i].iov_len, __ATOMIC_RELAXED);
	}
}

static int serve_one(struct balloon *b, uint32_t queue)
{
	struct vq *q = &b->dev.vq[queue];
	struct vq_chain chain;
	int r = vq_pop(q, b->iov, ARRAY_SIZE(b->iov), &chain);

	if (r <= 0)
		return r;
	if (queue == BALLOON_INFLATE)
		r = inflate(b, &chain);
	else if (queue == BALLOON_REPORTING && virtio_has(&b->dev, VIRTIO_BALLOON_F_REPORTING))
		report(b, &chain);
	vq_push(q, chain.head, 0);
	return r < 0 ? r : 1;
}

static void notify(struct virtio_dev *dev, uint32_t queue)
{
	struct balloon *b = balloon_of(dev);
	int r = 1;

	for (int i = 0; r > 0 && i < BALLOON_BURST; i++)
		r = serve_one(b, queue);
	if (r < 0)
		virtio_fail(dev);
	if (r > 0)
		loop_timer_set(b->again, clock_mono_ns());
	virtio_irq_queue(dev, queue);
}

static void on_again(struct loop_src *timer _unused_, void *data)
{
	struct balloon *b = data;

	for (uint32_t q = 0; b->dev.active && q < BALLOON_QUEUES; q++)
		notify(&b->dev, q);
}

static void config_read(struct virtio_dev *dev, uint32_t off, void *to, uint32_t n)
{
	memcpy(to, (const uint8_t *)&balloon_of(dev)->config + off, n);
}

static void config_write(struct virtio_dev *dev, uint32_t off, const void *from, uint32_t n)
{
	const uint32_t at = offsetof(struct virtio_balloon_config, actual);

	if (off >= at && off + n <= at + sizeof(uint32_t))
		memcpy((uint8_t *)&balloon_of(dev)->config + off, from, n);
}

static int activate(struct virtio_dev *dev _unused_)
{
	return 0;
}

static void set_actual(struct balloon *b, uint32_t pages)
{
	pthread_mutex_lock(&b->dev.lock);
	b->config.actual = htole32(pages);
	pthread_mutex_unlock(&b->dev.lock);
}

static void reset(struct virtio_dev *dev)
{
	struct balloon *b = balloon_of(dev);

	loop_timer_set(b->again, 0);
	set_actual(b, 0); /* a driver that starts over has an empty balloon; the target stays */
}

void balloon_target(struct virtio_dev *dev, uint64_t bytes)
{
	struct balloon *b = balloon_of(dev);
	uint64_t pages = MIN(bytes, dev->env.mem->size) / BALLOON_PAGE;

	pthread_mutex_lock(&dev->lock);
	b->config.num_pages = htole32((uint32_t)MIN(pages, UINT32_MAX));
	pthread_mutex_unlock(&dev->lock);
	virtio_irq_config(dev);
}

void balloon_counts(struct virtio_dev *dev, uint64_t *ret_balloon, uint64_t *ret_free)
{
	struct balloon *b = balloon_of(dev);

	pthread_mutex_lock(&dev->lock);
	uint64_t pages = le32toh(b->config.actual);
	pthread_mutex_unlock(&dev->lock);
	*ret_balloon = MIN(pages * BALLOON_PAGE, dev->env.mem->size);
	*ret_free = __atomic_load_n(&b->free_bytes, __ATOMIC_RELAXED);
}

static int save(struct virtio_dev *dev, struct buf *out)
{
	struct balloon *b = balloon_of(dev);
	struct saved s = { htole32(SAVE_VERSION), b->config.num_pages, b->config.actual };

	buf_append(out, &s, sizeof(s));
	return buf_ok(out) ? 0 : -ENOMEM;
}

static int load(struct virtio_dev *dev, const void *p, size_t n)
{
	struct balloon *b = balloon_of(dev);
	struct saved s;

	if (n != sizeof(s))
		return -EBADMSG;
	memcpy(&s, p, sizeof(s));
	if (le32toh(s.version) != SAVE_VERSION || le32toh(s.num_pages) > dev->env.mem->size / BALLOON_PAGE)
		return -EBADMSG;
	b->config.num_pages = s.num_pages;
	b->config.actual = s.actual;
	return 0;
}

static void balloon_free(struct virtio_dev *dev)
{
	struct balloon *b = balloon_of(dev);

	loop_src_free(b->again);
	virtio_done(dev);
	free(b);
}

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.n_queues = BALLOON_QUEUES,
	.queue_max = queue_max,
	.config_size = sizeof(struct virtio_balloon_config),
	.config_read = config_read,
	.config_write = config_write,
	.activate = activate,
	.notify = notify,
	.reset = reset,
	.save = save,
	.load = load,
	.free = balloon_free,
};

int balloon_new(const struct virtio_env *env, bool reporting, struct virtio_dev **ret)
{
	struct balloon *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	virtio_init(&b->dev, &balloon_ops, env);
	b->dev.features |= 1ULL << VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
	b->dev.features |= reporting ? 1ULL << VIRTIO_BALLOON_F_REPORTING : 0;
	int r = loop_add_timer(env->loop, on_again, b, &b->again);
	if (r < 0) {
		balloon_free(&b->dev);
		return r;
	}
	*ret = &b->dev;
	return 0;
}
