// SPDX-License-Identifier: Apache-2.0
// The virtio block device, driven by a small driver in the test: each request, each error, batches, snapshots.
#include "block/disk.h"

#include <linux/virtio_blk.h>

#include "jail/jail.h"
#include "vmm/virtio/blk.h"

#define DESC  0x1000
#define AVAIL 0x8000
#define USED  0x9000
#define HEAD  0x10000 /* request headers */
#define DATA  0x100000
#define STAT  0x20000
#define NUM   256

struct rig {
	struct gmem mem;
	struct loop *loop;
	struct virtio_dev *dev;
	uint16_t avail_idx, next_desc;
	int irqs;
	enum blk_worker worker;
	unsigned int without;
};

static struct rig *rig;
static bool jailed;

static void on_irq(struct virtio_dev *dev _unused_, uint32_t why)
{
	rig->irqs += why == VIRTIO_INT_QUEUE;
}

static uint8_t *guest(uint64_t at_gpa)
{
	return rig->mem.base + at_gpa;
}

static void start_device(struct rig *r, struct block *disk, bool may_differ)
{
	const struct virtio_env env = { &r->mem, r->loop, on_irq };
	const struct blk_conf conf = { disk, "vial-upper", may_differ, r->worker, r->without };

	assert_int_equal(blk_new(&env, &conf, &r->dev), 0);
}

static void activate(struct rig *r)
{
	const struct vq_layout l = { NUM, gpa(DESC), gpa(AVAIL), gpa(USED) };

	/* Without EVENT_IDX: an interrupt for each batch */
	r->dev->acked = r->dev->features & ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
	assert_int_equal(vq_enable(&r->dev->vq[0], &r->mem, &l, r->dev->ops->queue_max[0], r->dev->acked), 0);
	r->dev->active = true;
	assert_int_equal(r->dev->ops->activate(r->dev), 0);
}

static void rig_start_with(struct rig *r, struct block *disk, enum blk_worker worker)
{
	rig = r;
	*r = (struct rig){ .worker = worker, .without = jailed ? 0 : JAIL_NO_SECCOMP };
	assert_int_equal(gmem_new_anon(&r->mem, MIB(16)), 0);
	assert_int_equal(loop_new(&r->loop), 0);
	start_device(r, disk, false);
	activate(r);
}

static void rig_start(struct rig *r, struct block *disk)
{
	rig_start_with(r, disk, BLK_WORKER_NONE);
}

static void rig_stop(struct rig *r)
{
	r->dev->ops->reset(r->dev);
	r->dev->ops->free(r->dev);
	loop_free(r->loop);
	gmem_done(&r->mem);
}

/* Appends a descriptor; its number */
static uint16_t desc(uint64_t addr, uint32_t len, uint16_t flags)
{
	uint16_t i = rig->next_desc++ % NUM;
	struct vring_desc d = { addr, len, flags, (uint16_t)(rig->next_desc % NUM) };

	memcpy(guest(DESC + i * sizeof(d)), &d, sizeof(d));
	return i;
}

static void offer(uint16_t head)
{
	memcpy(guest(AVAIL + 4 + 2 * (rig->avail_idx % NUM)), &head, 2);
	rig->avail_idx++;
	memcpy(guest(AVAIL + 2), &rig->avail_idx, 2);
}

static uint16_t used_idx(void)
{
	uint16_t idx;

	memcpy(&idx, guest(USED + 2), 2);
	return idx;
}

/* Puts a request with @len bytes of data at @data into the queue, without a kick. */
static void put(uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
	uint64_t slot = rig->avail_idx % NUM;
	struct virtio_blk_outhdr h = { type, 0, sector };
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;

	memcpy(guest(HEAD + slot * 16), &h, sizeof(h));
	*guest(STAT + slot) = 0xee;
	uint16_t head = desc(HEAD + slot * 16, 16, VRING_DESC_F_NEXT);
	if (len)
		desc(data, len, VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0));
	desc(STAT + slot, 1, VRING_DESC_F_WRITE);
	offer(head);
}

static void kick(void)
{
	rig->dev->ops->notify(rig->dev, 0);
}

/* One request; its status */
static int request(uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
	uint16_t before = used_idx(), slot = rig->avail_idx % NUM;
	struct vring_used_elem e;

	put(type, sector, data, len);
	kick();
	assert_int_equal(used_idx(), (uint16_t)(before + 1));
	memcpy(&e, guest(USED + 4 + before % NUM * sizeof(e)), sizeof(e));
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	assert_int_equal(e.len, in ? len + 1 : 1);
	return *guest(STAT + slot);
}

static struct block *new_disk(void)
{
	close(new_file("d", MIB(4)));
	return open_raw("d", O_RDWR);
}

static void test_requests(void **state _unused_)
{
	struct rig r;
	uint64_t seed = 3;

	rig_start(&r, new_disk());
	fill_random(&seed, guest(DATA), 8192);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 5, DATA, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 5, DATA + 8192, 8192), VIRTIO_BLK_S_OK);
	assert_memory_equal(guest(DATA), guest(DATA + 8192), 8192);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 20), VIRTIO_BLK_S_OK);
	assert_memory_equal(guest(DATA), "vial-upper\0\0\0\0\0\0\0\0\0\0", 20);
	assert_int_equal(r.irqs, 4);
	/* The other end of the disk */
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 8191, DATA, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 8191, DATA, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8192, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, UINT64_MAX, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 1ULL << 55, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 100), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 19), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(77, 0, DATA, 512), VIRTIO_BLK_S_UNSUPP);
	assert_false(r.dev->failed);
	rig_stop(&r);
}

/* A discard or write-zeroes request of @n ranges in guest memory; its status */
static int erase(uint32_t type, const struct virtio_blk_discard_write_zeroes *ranges, uint32_t n)
{
	memcpy(guest(DATA), ranges, n * sizeof(*ranges));
	return request(type, 0, DATA, n * (uint32_t)sizeof(*ranges));
}

static void test_erase(void **state _unused_)
{
	struct virtio_blk_discard_write_zeroes z[BLK_ERASE_SEG_MAX + 1] = { { 1, 1, 0 }, { 3, 1, 1 } };
	struct rig r;

	rig_start(&r, new_disk());
	memset(guest(DATA + 4096), 7, 4096);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA + 4096, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(erase(VIRTIO_BLK_T_WRITE_ZEROES, z, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA + 8192, 4096), VIRTIO_BLK_S_OK);
	for (int i = 0; i < 4096; i++)
		assert_int_equal(*guest(DATA + 8192 + (uint64_t)i), i / 512 == 1 || i / 512 == 3 ? 0 : 7);
	z[0] = (struct virtio_blk_discard_write_zeroes){ 0, 8, 0 };
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, z, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA + 8192, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(*guest(DATA + 8192), 0);
	z[0].flags = 1; /* unmap is for write-zeroes only */
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, z, 1), VIRTIO_BLK_S_UNSUPP);
	z[0].flags = 2;
	assert_int_equal(erase(VIRTIO_BLK_T_WRITE_ZEROES, z, 1), VIRTIO_BLK_S_UNSUPP);
	z[0] = (struct virtio_blk_discard_write_zeroes){ 8191, 2, 0 };
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, z, 1), VIRTIO_BLK_S_IOERR);
	z[0] = (struct virtio_blk_discard_write_zeroes){ UINT64_MAX, 1, 0 };
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, z, 1), VIRTIO_BLK_S_IOERR);
	z[0] = (struct virtio_blk_discard_write_zeroes){ 0, UINT32_MAX, 0 };
	assert_int_equal(erase(VIRTIO_BLK_T_WRITE_ZEROES, z, 1), VIRTIO_BLK_S_IOERR);
	memset(z, 0, sizeof(z));
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, z, BLK_ERASE_SEG_MAX), VIRTIO_BLK_S_OK);
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, z, BLK_ERASE_SEG_MAX + 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, DATA, 15), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	r.dev->acked &= ~(1ULL << VIRTIO_BLK_F_DISCARD);
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, z, 1), VIRTIO_BLK_S_UNSUPP);
	rig_stop(&r);
}

/* Header and status in any pieces, with data around the cuts [virtio-1.2 2.7.4.2] */
static void test_framing(void **state _unused_)
{
	struct virtio_blk_outhdr h = { VIRTIO_BLK_T_OUT, 0, 2 };
	struct rig r;

	rig_start(&r, new_disk());
	memset(guest(DATA), 5, 1024);
	memcpy(guest(HEAD), &h, sizeof(h));
	memcpy(guest(HEAD + 100), (char *)&h + 7,
	       9); /* the rest of the header, and the data right behind it */
	memset(guest(HEAD + 109), 5, 500);
	uint16_t head = desc(HEAD, 7, VRING_DESC_F_NEXT);
	desc(HEAD + 100, 509, VRING_DESC_F_NEXT);
	desc(DATA, 12, VRING_DESC_F_NEXT);
	desc(STAT, 1, VRING_DESC_F_WRITE);
	*guest(STAT) = 0xee;
	offer(head);
	kick();
	assert_int_equal(*guest(STAT), VIRTIO_BLK_S_OK);
	/* Reading: data and status in one descriptor */
	h.type = VIRTIO_BLK_T_IN;
	memcpy(guest(HEAD), &h, sizeof(h));
	head = desc(HEAD, 16, VRING_DESC_F_NEXT);
	desc(DATA + 8192, 513, VRING_DESC_F_WRITE);
	*guest(DATA + 8192 + 512) = 0xee;
	offer(head);
	kick();
	assert_int_equal(*guest(DATA + 8192 + 512), VIRTIO_BLK_S_OK);
	assert_memory_equal(guest(DATA), guest(DATA + 8192), 512);
	/* Half a header */
	head = desc(HEAD, 15, VRING_DESC_F_NEXT);
	desc(STAT, 1, VRING_DESC_F_WRITE);
	*guest(STAT) = 0xee;
	offer(head);
	kick();
	assert_int_equal(*guest(STAT), VIRTIO_BLK_S_IOERR);
	assert_false(r.dev->failed);
	/* No room for a status */
	head = desc(HEAD, 16, 0);
	offer(head);
	kick();
	assert_true(r.dev->failed);
	uint16_t before = used_idx();
	put(VIRTIO_BLK_T_FLUSH, 0, 0, 0);
	kick();
	assert_int_equal(used_idx(), before);
	rig_stop(&r);
}

/* More data than a request may have: many descriptors of the same memory */
static void test_too_large(void **state _unused_)
{
	struct virtio_blk_outhdr h = { VIRTIO_BLK_T_IN, 0, 0 };
	struct rig r;

	close(new_file("d", MIB(64)));
	rig_start(&r, open_raw("d", O_RDWR));
	for (int extra = 0; extra <= 1; extra++) {
		memcpy(guest(HEAD), &h, sizeof(h));
		uint16_t head = desc(HEAD, 16, VRING_DESC_F_NEXT);
		for (int i = 0; i < 8; i++)
			desc(DATA, BLK_DATA_MAX / 8 + (i == 0 && extra ? 512 : 0),
			     VRING_DESC_F_NEXT | VRING_DESC_F_WRITE);
		desc(STAT, 1, VRING_DESC_F_WRITE);
		offer(head);
		kick();
		assert_int_equal(*guest(STAT), extra ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	}
	rig_stop(&r);
}

/* A full queue is served in turns, with the loop in between; a reset in between ends it. */
static void test_turns(void **state _unused_)
{
	struct rig r;

	rig_start(&r, new_disk());
	for (int i = 0; i < 80; i++)
		put(VIRTIO_BLK_T_OUT, (uint64_t)i, DATA, 512);
	kick();
	assert_in_range(used_idx(), 1, 79);
	while (used_idx() < 80)
		assert_int_equal(loop_turn(r.loop, 1000), 0);
	uint16_t before = used_idx();
	for (int i = 0; i < 80; i++)
		put(VIRTIO_BLK_T_OUT, (uint64_t)i, DATA, 512);
	kick();
	before = used_idx();
	r.dev->ops->reset(r.dev);
	assert_int_equal(loop_turn(r.loop, 0), 0);
	assert_int_equal(used_idx(), before);
	rig_stop(&r);
}

/* A disk whose reads wait until they are let through */
struct slow_disk {
	struct block b;
	int gate[2];
	int reads;
};

static int slow_readv(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t off _unused_)
{
	struct slow_disk *d = container_of(b, struct slow_disk, b);
	char c;

	assert_int_equal(read(d->gate[0], &c, 1), 1);
	d->reads++;
	assert_int_equal(n, 1);
	memset(v[0].iov_base, c, len);
	return 0;
}

static int slow_write_zeroes(struct block *b, uint64_t at _unused_, uint64_t len _unused_,
			     bool unmap _unused_)
{
	struct slow_disk *d = container_of(b, struct slow_disk, b);
	char c;

	assert_int_equal(read(d->gate[0], &c, 1), 1);
	d->reads++;
	return 0;
}

static void slow_close(struct block *b _unused_)
{
}

static const struct block_ops slow_ops = {
	.name = "slow", .readv = slow_readv, .write_zeroes = slow_write_zeroes, .close = slow_close
};

static void slow_start(struct rig *r, struct slow_disk *d)
{
	*d = (struct slow_disk){ .b = { &slow_ops, MIB(1), 1, true } };
	assert_int_equal(pipe2(d->gate, O_CLOEXEC), 0);
	rig_start_with(r, &d->b, BLK_WORKER_ALL);
}

static void slow_stop(struct rig *r, struct slow_disk *d)
{
	rig_stop(r);
	close(d->gate[0]);
	close(d->gate[1]);
}

/* The I/O thread gets on while the worker waits for the disk; requests come back in their order. */
static void test_worker(void **state _unused_)
{
	struct slow_disk d;
	struct rig r;

	slow_start(&r, &d);
	put(VIRTIO_BLK_T_IN, 0, DATA, 512);
	put(VIRTIO_BLK_T_IN, 1, DATA + 512, 512);
	kick(); /* returns, although the disk does not */
	assert_int_equal(used_idx(), 0);
	assert_int_equal(r.dev->vq[0].in_flight, 1);
	kick();
	assert_int_equal(loop_turn(r.loop, 0), 0);
	assert_int_equal(used_idx(), 0);
	assert_int_equal(write(d.gate[1], "ab", 2), 2);
	while (used_idx() < 2)
		assert_int_equal(loop_turn(r.loop, 1000), 0);
	assert_int_equal(*guest(DATA), 'a');
	assert_int_equal(*guest(DATA + 512), 'b');
	assert_int_equal(*guest(STAT), VIRTIO_BLK_S_OK);
	assert_in_range(r.irqs, 1, 2);
	slow_stop(&r, &d);
}

/* An erase can take as long as the guest likes: it is never the I/O thread's, not even the first one. */
static void test_worker_erases(void **state _unused_)
{
	const struct virtio_blk_discard_write_zeroes z = { 0, 8, 0 };
	struct slow_disk d = { .b = { &slow_ops, MIB(1), 1, false } };
	struct rig r;

	assert_int_equal(pipe2(d.gate, O_CLOEXEC), 0);
	rig_start_with(&r, &d.b, BLK_WORKER_SLOW);
	memcpy(guest(DATA), &z, sizeof(z));
	put(VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, sizeof(z));
	kick(); /* returns, although the disk does not */
	assert_int_equal(used_idx(), 0);
	assert_int_equal(write(d.gate[1], "a", 1), 1);
	while (used_idx() < 1)
		assert_int_equal(loop_turn(r.loop, 1000), 0);
	assert_int_equal(*guest(STAT), VIRTIO_BLK_S_OK);
	assert_int_equal(d.reads, 1);
	slow_stop(&r, &d);
}

/* A quiesce waits for the request and tells the guest; what comes after it stays in the queue until somebody looks. */
static void test_worker_quiesce(void **state _unused_)
{
	struct slow_disk d;
	struct rig r;

	slow_start(&r, &d);
	put(VIRTIO_BLK_T_IN, 0, DATA, 512);
	put(VIRTIO_BLK_T_IN, 1, DATA + 512, 512);
	kick();
	assert_int_equal(write(d.gate[1], "a", 1), 1);
	assert_int_equal(r.dev->ops->quiesce(r.dev), 0);
	assert_int_equal(used_idx(), 1);
	assert_int_equal(r.dev->vq[0].in_flight, 0);
	assert_int_equal(*guest(DATA), 'a');
	assert_int_equal(loop_turn(r.loop, 0), 0); /* the worker's late event changes nothing */
	assert_int_equal(used_idx(), 1);
	assert_int_equal(write(d.gate[1], "b", 1), 1);
	kick();
	while (used_idx() < 2)
		assert_int_equal(loop_turn(r.loop, 1000), 0);
	assert_int_equal(*guest(DATA + 512), 'b');
	slow_stop(&r, &d);
}

/* A reset in mid-request: when it returns, nothing of the device's touches guest memory any more. */
static void test_worker_reset(void **state _unused_)
{
	struct slow_disk d;
	struct rig r;

	slow_start(&r, &d);
	put(VIRTIO_BLK_T_IN, 0, DATA, 512);
	kick();
	assert_int_equal(write(d.gate[1], "a", 1), 1);
	r.dev->ops->reset(r.dev);
	assert_int_equal(d.reads, 1);
	vq_disable(&r.dev->vq[0]);
	memset(guest(0), 0xcc, MIB(1));
	assert_int_equal(loop_turn(r.loop, 0), 0);
	for (uint64_t i = 0; i < MIB(1); i++)
		assert_int_equal(*guest(i), 0xcc);
	slow_stop(&r, &d);
}

/* Ended in mid-request */
static void test_worker_end(void **state _unused_)
{
	struct slow_disk d;
	struct rig r;

	slow_start(&r, &d);
	put(VIRTIO_BLK_T_IN, 0, DATA, 512);
	kick();
	assert_int_equal(write(d.gate[1], "a", 1), 1);
	slow_stop(&r, &d);
	assert_int_equal(d.reads, 1);
}

/* The sanitizers' own system calls are not allowed where vial-vmm's threads run. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define UNSANITIZED
#endif

#ifdef UNSANITIZED
/* All that a disk does is allowed to vial-vmm's I/O thread, whose filter the worker has, too. */
static void jailed_child(struct block *disk)
{
	struct virtio_blk_discard_write_zeroes z = { 8, 1000, 0 };
	struct vial_err err = VIAL_ERR_INIT;
	struct rig r;

	jailed = true;
	if (jail_self(JAIL_VMM, NULL, 0, 0, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		_exit(2);
	}
	rig_start_with(&r, disk, BLK_WORKER_ALL);
	for (int i = 0; i < 3; i++) {
		put(VIRTIO_BLK_T_OUT, 5, DATA, 8192);
		put(VIRTIO_BLK_T_FLUSH, 0, 0, 0);
		put(VIRTIO_BLK_T_IN, 100, DATA + 8192, 8192);
		memcpy(guest(DATA + MIB(1)), &z, sizeof(z));
		put(VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA + MIB(1), sizeof(z));
		put(VIRTIO_BLK_T_DISCARD, 0, DATA + MIB(1), sizeof(z));
		kick();
		while (used_idx() < 5 * (i + 1))
			if (loop_turn(r.loop, 1000) < 0)
				_exit(3);
	}
	for (uint64_t i = 0; i < 15; i++)
		if (*guest(STAT + i) != VIRTIO_BLK_S_OK)
			_exit(4);
	rig_stop(&r);
	_exit(0);
}

static void test_jailed(void **state _unused_)
{
	int status, fd = new_file("q", 0);

	assert_int_equal(qcow2_init(fd, MIB(4)), 0);
	close(fd);
	close(new_file("d", MIB(2)));
	struct block *disk = open_qcow2("q", O_RDWR, open_raw("d", O_RDONLY));
	pid_t pid = fork();
	if (pid == 0)
		jailed_child(disk);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	block_close(disk);
}
#endif

static uint64_t config(const struct rig *r, uint32_t off, uint32_t n)
{
	uint64_t v = 0;

	r->dev->ops->config_read(r->dev, off, &v, n);
	return v;
}

static void test_read_only(void **state _unused_)
{
	struct virtio_blk_discard_write_zeroes z = { 0, 1, 0 };
	struct rig r;

	close(new_file("ro", MIB(1)));
	rig_start(&r, open_raw("ro", O_RDONLY));
	assert_true(r.dev->features >> VIRTIO_BLK_F_RO & 1);
	assert_false(r.dev->features >> VIRTIO_BLK_F_FLUSH & 1);
	assert_false(r.dev->features >> VIRTIO_BLK_F_DISCARD & 1);
	assert_int_equal(config(&r, 0, 8), MIB(1) / 512);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(erase(VIRTIO_BLK_T_DISCARD, &z, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	rig_stop(&r);
}

static void test_config(void **state _unused_)
{
	struct rig r;

	rig_start(&r, new_disk());
	assert_false(r.dev->features >> VIRTIO_BLK_F_RO & 1);
	assert_int_equal(config(&r, 0, 8), MIB(4) / 512);
	assert_int_equal(config(&r, 12, 4), BLK_SEG_MAX);
	assert_int_equal(config(&r, 20, 4), 512);
	assert_int_equal(config(&r, 36, 4), BLK_ERASE_SECTORS_MAX);
	assert_int_equal(config(&r, 56, 1), 1);
	rig_stop(&r);
}

/* A state is taken back by a device with the same disk, or a larger one, or any if that is wanted. */
static void test_snapshot(void **state _unused_)
{
	_cleanup_buf_ struct buf saved = { 0 };
	struct virtio_dev *first;
	struct rig r;

	rig_start(&r, new_disk());
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(r.dev->ops->save(r.dev, &saved), 0);
	assert_int_equal(r.dev->ops->load(r.dev, saved.data, saved.len), 0);
	assert_int_equal(r.dev->ops->load(r.dev, saved.data, saved.len - 1), -EBADMSG);
	saved.data[0]++;
	assert_int_equal(r.dev->ops->load(r.dev, saved.data, saved.len), -EBADMSG);
	saved.data[0]--;
	first = r.dev;
	close(new_file("small", MIB(1)));
	start_device(&r, open_raw("small", O_RDWR), false);
	assert_int_equal(r.dev->ops->load(r.dev, saved.data, saved.len), -ENODATA);
	r.dev->ops->free(r.dev);
	start_device(&r, open_raw("small", O_RDWR), true);
	assert_int_equal(r.dev->ops->load(r.dev, saved.data, saved.len), 0);
	r.dev->ops->free(r.dev);
	r.dev = first;
	rig_stop(&r);
}

/* Live fork under a device: what was written before is below, what comes goes into the new file. */
static void test_fork(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct rig r;

	rig_start(&r, new_disk());
	memset(guest(DATA), 1, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 3, DATA, 512), VIRTIO_BLK_S_OK);
	int fd = new_file("next", 0);
	assert_int_equal(qcow2_init(fd, MIB(4)), 0);
	assert_int_equal(block_fork(blk_disk(r.dev), fd, BLOCK_NO_SYNC, &err), 0);
	memset(guest(DATA), 2, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 4, DATA, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 3, DATA, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(*guest(DATA), 1);
	assert_int_equal(*guest(DATA + 512), 2);
	struct block *old = open_raw("d", O_RDONLY);
	uint8_t buf[512];
	assert_int_equal(read_at(old, buf, 512, 4 * 512), 0);
	assert_int_equal(buf[0], 0);
	block_close(old);
	rig_stop(&r);
}

static void test_refused(void **state _unused_)
{
	const struct virtio_env env = { 0 };
	struct virtio_dev *dev = NULL;
	struct block *disk = new_disk();

	assert_int_equal(blk_new(&env, &(struct blk_conf){ disk, "", false }, &dev), -EINVAL);
	assert_int_equal(blk_new(&env, &(struct blk_conf){ disk, "123456789012345678901", false }, &dev),
			 -EINVAL);
	assert_null(dev);
	block_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),       cmocka_unit_test(test_erase),
		cmocka_unit_test(test_framing),	       cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_turns),	       cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_config),	       cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_fork),	       cmocka_unit_test(test_refused),
		cmocka_unit_test(test_worker),	       cmocka_unit_test(test_worker_erases),
		cmocka_unit_test(test_worker_quiesce), cmocka_unit_test(test_worker_reset),
		cmocka_unit_test(test_worker_end),
#ifdef UNSANITIZED
		cmocka_unit_test(test_jailed),
#endif
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
