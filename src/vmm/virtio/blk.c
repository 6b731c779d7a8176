// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio block device. [virtio-1.2 5.2]
 *
 * Theory of operation
 *
 * Trust: none in the guest. Header, ranges and lengths are copied out of guest memory once and checked here for shape, by
 * block_*() for range; data goes between guest memory and the host's file without being looked at.
 * Requests: one at a time, in the queue's order. Most are in the host's page cache and served on the I/O thread at once. A kind of
 * request (enum pace_kind) that took longer than SLOW_NS is given to the worker for the next PACE_TURNS times, an erase in any case; the
 * queue waits meanwhile, the other devices do not. While the worker is busy, the request, its memory and the disk are its own.
 * A turn takes at most TURN_REQUESTS, then the other devices have theirs; a timer that is due at once brings the next.
 * Reset, quiesce: wait for the worker; after a reset, what it did is not reported any more. So between turns at most
 * one request is in flight, and after a quiesce none.
 * Errors: what the host cannot do is VIRTIO_BLK_S_IOERR, what the guest may not ask for VIRTIO_BLK_S_UNSUPP; a chain without room for
 * a status is a broken driver.
 */
#include "vmm/virtio/blk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "vmm/block/iov.h"
#include "vmm/block/worker.h"

#define QUEUE_NUM     256
#define TURN_REQUESTS 64
#define IOV_ROOM      (BLK_SEG_MAX + 2 + 8) /* header and status, each possibly in pieces */
#define STATE_VERSION 1
#define SLOW_NS	      NS_PER_MS
#define PACE_TURNS    32

/* What blk_save() writes; little-endian, as is every machine it runs on */
struct blk_state {
	uint32_t version;
	uint32_t reserved;
	uint64_t sectors;
} __attribute__((packed));

/**
 * struct request - a chain that was popped
 * @data, @n, @len: where the data is: behind the header for writes, before the status for reads
 * @result:	0 or -errno, when it was served
 */
struct request {
	struct vq_chain c;
	uint32_t type;
	uint64_t sector;
	struct iovec *data;
	size_t n;
	size_t len;
	int result;
};

enum pace_kind { PACE_READ, PACE_WRITE, PACE_FLUSH, PACE_ERASE, PACE_KINDS };

/**
 * struct blk - the device
 * @again:	the next turn
 * @worker:	NULL: none
 * @pace:	how many more requests of each kind go to the worker
 * @q, @chain, @data: the request being served
 * @config:	never changes after blk_new()
 */
struct blk {
	struct virtio_dev dev;
	struct block *disk;
	struct loop_src *again;
	struct worker *worker;
	enum blk_worker policy;
	unsigned int pace[PACE_KINDS];
	bool may_differ;
	char serial[BLK_SERIAL_MAX];
	struct virtio_blk_config config;
	struct request q;
	struct iovec chain[IOV_ROOM];
	struct iovec data[IOV_ROOM];
};

static struct blk *blk_of(struct virtio_dev *dev)
{
	return container_of(dev, struct blk, dev);
}

static uint8_t status_of(int r)
{
	return r == 0 ? VIRTIO_BLK_S_OK : r == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/* Finds the data of @q in the chain. -EINVAL: more of it than a request may have. */
static int find_data(struct blk *b, struct request *q, bool from_guest)
{
	struct iov_cur c = { b->chain, (size_t)q->c.n_out + q->c.n_in, 0 };
	uint64_t skip = from_guest ? sizeof(struct virtio_blk_outhdr) : q->c.out_bytes;
	uint64_t bytes = from_guest ? q->c.out_bytes - skip : q->c.in_bytes - 1;

	if (bytes > BLK_DATA_MAX)
		return -EINVAL;
	iov_advance(&c, skip);
	q->data = b->data;
	q->n = iov_peek(&c, bytes, b->data, IOV_ROOM, &q->len);
	return q->len == bytes ? 0 : -EINVAL;
}

static int get_id(struct blk *b, const struct request *q)
{
	if (q->len < BLK_SERIAL_MAX)
		return -EINVAL;
	iov_copy_in(q->data, q->n, 0, b->serial, BLK_SERIAL_MAX);
	return 0;
}

/* One range of a discard or write-zeroes request */
static int erase_range(struct blk *b, uint32_t type, const struct virtio_blk_discard_write_zeroes *range)
{
	uint64_t sector = le64toh(range->sector), n = le32toh(range->num_sectors);
	uint32_t flags = le32toh(range->flags);

	if (flags & ~(type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0U))
		return -EOPNOTSUPP;
	if (n > BLK_ERASE_SECTORS_MAX || sector > b->disk->size / BLOCK_SECTOR)
		return -EINVAL;
	if (type == VIRTIO_BLK_T_DISCARD)
		return block_discard(b->disk, sector * BLOCK_SECTOR, n * BLOCK_SECTOR);
	return block_write_zeroes(b->disk, sector * BLOCK_SECTOR, n * BLOCK_SECTOR, flags != 0);
}

static int erase(struct blk *b, const struct request *q)
{
	struct virtio_blk_discard_write_zeroes ranges[BLK_ERASE_SEG_MAX];
	int r = 0;

	if (!virtio_has(&b->dev,
			q->type == VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return -EOPNOTSUPP;
	if (q->len == 0 || q->len % sizeof(ranges[0]) || q->len > sizeof(ranges))
		return -EINVAL;
	iov_copy_out(q->data, q->n, 0, ranges, q->len);
	for (size_t i = 0; r == 0 && i < q->len / sizeof(ranges[0]); i++)
		r = erase_range(b, q->type, &ranges[i]);
	return r;
}

static int transfer(struct blk *b, const struct request *q)
{
	if (q->sector > b->disk->size / BLOCK_SECTOR)
		return -ERANGE;
	uint64_t at = q->sector * BLOCK_SECTOR;
	return q->type == VIRTIO_BLK_T_IN ? block_readv(b->disk, q->data, q->n, at)
					  : block_writev(b->disk, q->data, q->n, at);
}

/* Reads the header and finds the data. */
static int parse(struct blk *b, struct request *q)
{
	struct virtio_blk_outhdr h;

	if (iov_copy_out(b->chain, q->c.n_out, 0, &h, sizeof(h)) < sizeof(h))
		return -EINVAL;
	q->type = le32toh(h.type);
	q->sector = le64toh(h.sector);
	return find_data(b, q, q->type != VIRTIO_BLK_T_IN && q->type != VIRTIO_BLK_T_GET_ID);
}

static int serve(struct blk *b, const struct request *q)
{
	switch (q->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return transfer(b, q);
	case VIRTIO_BLK_T_FLUSH:
		return block_flush(b->disk);
	case VIRTIO_BLK_T_GET_ID:
		return get_id(b, q);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return erase(b, q);
	}
	return -EOPNOTSUPP;
}

static enum pace_kind pace_kind(const struct request *q)
{
	switch (q->type) {
	case VIRTIO_BLK_T_OUT:
		return PACE_WRITE;
	case VIRTIO_BLK_T_FLUSH:
		return PACE_FLUSH;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return PACE_ERASE;
	default:
		return PACE_READ;
	}
}

/* Serves the request and sees how long it takes. Worker or I/O thread */
static void run(void *data)
{
	struct blk *b = data;
	unsigned int *pace = &b->pace[pace_kind(&b->q)];
	uint64_t start = clock_mono_ns();

	b->q.result = serve(b, &b->q);
	if (clock_mono_ns() - start > SLOW_NS)
		*pace = PACE_TURNS;
	else if (*pace > 0)
		--*pace;
}

/* The status is the last byte the device may write. [virtio-1.2 5.2.6] */
static void finish(struct blk *b)
{
	const struct vq_chain *c = &b->q.c;
	uint8_t status = status_of(b->q.result);

	iov_copy_in(b->chain + c->n_out, c->n_in, c->in_bytes - 1, &status, 1);
	vq_push(&b->dev.vq[0], c->head, (uint32_t)MIN(c->in_bytes, (uint64_t)UINT32_MAX));
}

/* An erase may be of gigabytes, which some file systems take as long for as for writing them. */
static bool for_worker(const struct blk *b)
{
	enum pace_kind kind = pace_kind(&b->q);

	return b->worker && (b->policy == BLK_WORKER_ALL || kind == PACE_ERASE || b->pace[kind] > 0);
}

/* Serves one chain. 1 if there was one, 0 if not or the worker has it now, -errno: the driver broke the rules. */
static int step(struct blk *b)
{
	struct request *q = &b->q;

	*q = (struct request){ 0 };
	int r = vq_pop(&b->dev.vq[0], b->chain, IOV_ROOM, &q->c);
	if (r <= 0)
		return r;
	if (q->c.in_bytes == 0) {
		vq_push(&b->dev.vq[0], q->c.head, 0); /* a machine with a broken driver can be saved, too */
		return -EBADMSG;
	}
	q->result = parse(b, q);
	if (q->result == 0 && for_worker(b)) {
		worker_give(b->worker);
		return 0;
	}
	if (q->result == 0)
		run(b);
	finish(b);
	return 1;
}

static void turn(struct blk *b)
{
	int r = 1;

	if (b->worker && worker_busy(b->worker))
		return;
	for (int i = 0; r > 0 && i < TURN_REQUESTS; i++)
		r = step(b);
	virtio_irq_queue(&b->dev, 0);
	if (r < 0)
		virtio_fail(&b->dev);
	loop_timer_set(b->again, r > 0);
}

/* The worker has served its request. */
static void on_done(void *data)
{
	struct blk *b = data;

	finish(b);
	turn(b);
}

static void on_again(struct loop_src *src _unused_, void *data)
{
	turn(data);
}

static void blk_notify(struct virtio_dev *dev, uint32_t q _unused_)
{
	turn(blk_of(dev));
}

static void blk_config_read(struct virtio_dev *dev, uint32_t off, void *to, uint32_t n)
{
	memcpy(to, (const uint8_t *)&blk_of(dev)->config + off, n);
}

static int blk_activate(struct virtio_dev *dev _unused_)
{
	return 0;
}

static void blk_reset(struct virtio_dev *dev)
{
	struct blk *b = blk_of(dev);

	if (b->worker)
		worker_wait(b->worker);
	loop_timer_set(b->again, 0);
}

static int blk_quiesce(struct virtio_dev *dev)
{
	struct blk *b = blk_of(dev);

	if (!b->worker || !worker_busy(b->worker))
		return 0;
	worker_wait(b->worker);
	finish(b);
	virtio_irq_queue(dev, 0);
	return 0;
}

static int blk_save(struct virtio_dev *dev, struct buf *out)
{
	const struct blk_state s = { STATE_VERSION, 0, blk_of(dev)->disk->size / BLOCK_SECTOR };

	buf_append(out, &s, sizeof(s));
	return buf_ok(out) ? 0 : -ENOMEM;
}

/* -ENODATA: the disk is shorter than the one that was saved. */
static int blk_load(struct virtio_dev *dev, const void *p, size_t n)
{
	const struct blk *b = blk_of(dev);
	struct blk_state s;

	if (n != sizeof(s))
		return -EBADMSG;
	memcpy(&s, p, sizeof(s));
	if (s.version != STATE_VERSION || s.reserved != 0)
		return -EBADMSG;
	return !b->may_differ && s.sectors > b->disk->size / BLOCK_SECTOR ? -ENODATA : 0;
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *b = blk_of(dev);

	worker_free(b->worker);
	loop_src_free(b->again);
	block_close(b->disk);
	virtio_done(dev);
	free(b);
}

static const uint16_t queue_max[] = { QUEUE_NUM };

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.n_queues = 1,
	.queue_max = queue_max,
	.config_size = sizeof(struct virtio_blk_config),
	.config_read = blk_config_read,
	.activate = blk_activate,
	.notify = blk_notify,
	.reset = blk_reset,
	.quiesce = blk_quiesce,
	.save = blk_save,
	.load = blk_load,
	.free = blk_free,
};

_Static_assert(sizeof(struct virtio_blk_config) <= VIRTIO_CONFIG_MAX, "config fits");

static void fill_config(struct blk *b)
{
	b->config = (struct virtio_blk_config){
		.capacity = htole64(b->disk->size / BLOCK_SECTOR),
		.size_max = htole32(BLK_SEG_BYTES_MAX),
		.seg_max = htole32(BLK_SEG_MAX),
		.blk_size = htole32(BLOCK_SECTOR),
		.max_discard_sectors = htole32(BLK_ERASE_SECTORS_MAX),
		.max_discard_seg = htole32(BLK_ERASE_SEG_MAX),
		.discard_sector_alignment = htole32(KIB(64) / BLOCK_SECTOR),
		.max_write_zeroes_sectors = htole32(BLK_ERASE_SECTORS_MAX),
		.max_write_zeroes_seg = htole32(BLK_ERASE_SEG_MAX),
		.write_zeroes_may_unmap = 1,
	};
	b->dev.features |=
		1ULL << VIRTIO_BLK_F_SIZE_MAX | 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE;
	b->dev.features |= b->disk->read_only ? 1ULL << VIRTIO_BLK_F_RO
					      : 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_DISCARD |
							1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
}

int blk_new(const struct virtio_env *env, const struct blk_conf *conf, struct virtio_dev **ret)
{
	size_t len = strlen(conf->serial);

	if (len == 0 || len > BLK_SERIAL_MAX)
		return -EINVAL;
	_cleanup_free_ struct blk *b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	const struct worker_job job = { run, on_done, b };
	int r = loop_add_timer(env->loop, on_again, b, &b->again);
	if (r == 0 && conf->worker != BLK_WORKER_NONE)
		r = worker_new(env->loop, &job, conf->without, &b->worker);
	if (r < 0) {
		loop_src_free(b->again);
		return r;
	}
	b->policy = conf->worker;
	virtio_init(&b->dev, &blk_ops, env);
	b->disk = conf->disk;
	b->may_differ = conf->may_differ;
	memcpy(b->serial, conf->serial, len);
	fill_config(b);
	*ret = &take_ptr(b)->dev;
	return 0;
}

struct block **blk_disk(struct virtio_dev *dev)
{
	return &blk_of(dev)->disk;
}
