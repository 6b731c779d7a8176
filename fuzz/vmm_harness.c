// SPDX-License-Identifier: Apache-2.0
// A machine for fuzzing virtio devices; see vmm_harness.h.
#include "vmm_harness.h"

#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "base/attr.h"
#include "base/str.h"

#define GUARD	 0x200000u /* more than an index of 16 bits times a descriptor's size reaches */
#define RING	 0x1000u   /* a queue's page: descriptors, avail at +0x800, used at +0xa00 */
#define AVAIL_AT 0x800u
#define USED_AT	 0xa00u
#define TURNS	 4 /* of the loop after each kick: devices that take turns go on */

static uint8_t next_byte(struct harness *h)
{
	if (h->left == 0)
		return 0;
	h->left--;
	return *h->in++;
}

static uint16_t next_u16(struct harness *h)
{
	uint16_t low = next_byte(h);

	return (uint16_t)(low | next_byte(h) << 8);
}

static uint32_t next_u32(struct harness *h)
{
	uint32_t low = next_u16(h);

	return low | (uint32_t)next_u16(h) << 16;
}

/* Guest memory, with pages around it that nobody may touch; made once, wiped for each input */
static uint8_t *guarded(void)
{
	static uint8_t *mem;

	if (!mem) {
		uint8_t *p =
			mmap(NULL, HARNESS_MEM + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		FUZZ_CHECK(p != MAP_FAILED);
		mem = p + GUARD;
		FUZZ_CHECK(mprotect(mem, HARNESS_MEM, PROT_READ | PROT_WRITE) == 0);
	}
	memset(mem, 0, HARNESS_MEM);
	return mem;
}

static void guest_write(struct harness *h, uint64_t at, const void *p, size_t n)
{
	if (at > HARNESS_MEM || n > HARNESS_MEM - at)
		return;
	memcpy(h->mem.base + at, p, n);
	memcpy(h->shadow + at, p, n);
}

/* Sixteen bits that stand for an address: mostly buffers, the highest values for places a driver must not name */
static uint64_t address(uint16_t a)
{
	static const uint64_t odd[] = {
		0,
		HARNESS_MEM - 1,
		HARNESS_MEM,
		HARNESS_MEM - 16,
		GMEM_LOW_MAX - 1,
		GMEM_LOW_MAX,
		GMEM_HIGH_START - 1,
		GMEM_HIGH_START,
		GMEM_HIGH_START + 16,
		UINT64_MAX,
		UINT64_MAX - 15,
		UINT64_MAX - HARNESS_MEM,
		1ULL << 63,
		RING,
		USED_AT,
		AVAIL_AT,
	};

	if (a >= 0xff00)
		return odd[a % ARRAY_SIZE(odd)];
	return HARNESS_DATA + (uint64_t)a * 2 % (HARNESS_MEM - HARNESS_DATA);
}

/* Lengths up to 32767 as they are; above that, some that wrap */
static uint32_t length(uint16_t n)
{
	return n < 0x8000 ? n : n < 0xff00 ? (uint32_t)n << 8 : UINT32_MAX - (n & 0xff);
}

static void reg_write(struct harness *h, uint32_t off, uint32_t v)
{
	mmio_access(&h->mmio, off, &v, 4, true);
}

static uint32_t queue_of(const struct harness *h, uint8_t q)
{
	return q % h->dev->ops->n_queues;
}

/* Bytes of the driver's: what changed in memory is the device's doing, and it must have said so. */
static void check_memory(struct harness *h)
{
	bool idle = true;

	for (size_t page = 0; page < HARNESS_MEM / GMEM_PAGE; page++) {
		uint8_t *now = h->mem.base + page * GMEM_PAGE, *was = h->shadow + page * GMEM_PAGE;

		if (memcmp(now, was, GMEM_PAGE) == 0)
			continue;
		FUZZ_CHECK(h->mem.dirty[page / 64] >> (page % 64) & 1);
		memcpy(was, now, GMEM_PAGE);
	}
	for (uint32_t q = 0; q < h->dev->ops->n_queues; q++) {
		const struct vq *vq = &h->dev->vq[q];

		FUZZ_CHECK(vq->num <= h->dev->ops->queue_max[q] && (vq->num & (vq->num - 1)) == 0);
		FUZZ_CHECK(vq->in_flight <= vq->num);
		idle &= vq->in_flight == 0;
	}
	if (idle)
		gmem_dirty_clear(&h->mem);
}

static void turn(struct harness *h)
{
	for (int i = 0; i < TURNS; i++)
		FUZZ_CHECK(loop_turn(h->loop, 0) == 0);
}

struct racer {
	uint8_t *at;
	uint8_t bits;
	bool stop;
};

static void *race(void *data)
{
	struct racer *r = data;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED))
		__atomic_fetch_xor(r->at, r->bits, __ATOMIC_RELAXED);
	return NULL;
}

static void do_kick(struct harness *h)
{
	uint32_t q = queue_of(h, next_byte(h));
	struct racer r = { h->mem.base + h->race_at, h->race_bits, false };
	pthread_t thread;

	if (h->race_bits)
		FUZZ_CHECK(pthread_create(&thread, NULL, race, &r) == 0);
	reg_write(h, VIRTIO_MMIO_QUEUE_NOTIFY, q);
	turn(h);
	if (!h->race_bits)
		return;
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	h->race_bits = 0;
	memcpy(h->shadow, h->mem.base, HARNESS_MEM);
}

static void do_race(struct harness *h)
{
	h->race_at = next_u16(h) * 2u % HARNESS_MEM;
	h->race_bits = next_byte(h);
}

static void do_reg(struct harness *h)
{
	uint32_t off = (uint32_t)(next_byte(h) & 0x3f) * 4;

	reg_write(h, off, next_u32(h));
}

/* Any access: registers in odd widths, configuration space */
static void do_access(struct harness *h)
{
	uint32_t off = next_u16(h) % MMIO_LEN, how = next_byte(h), n = 1U << (how & 3);
	uint64_t v = next_u32(h) * 0x100000001ULL;

	mmio_access(&h->mmio, off, &v, n, how & 4);
}

static void do_setup_queue(struct harness *h, uint32_t q, uint16_t num)
{
	uint32_t at = q * RING;
	uint8_t zeros[RING] = { 0 };

	h->num[q] = MIN(num, h->dev->ops->queue_max[q]);
	h->avail_idx[q] = h->next_desc[q] = 0;
	guest_write(h, at, zeros, sizeof(zeros));
	reg_write(h, VIRTIO_MMIO_QUEUE_SEL, q);
	reg_write(h, VIRTIO_MMIO_QUEUE_NUM, h->num[q]);
	reg_write(h, VIRTIO_MMIO_QUEUE_DESC_LOW, at);
	reg_write(h, VIRTIO_MMIO_QUEUE_AVAIL_LOW, at + AVAIL_AT);
	reg_write(h, VIRTIO_MMIO_QUEUE_USED_LOW, at + USED_AT);
	reg_write(h, VIRTIO_MMIO_QUEUE_READY, 1);
}

/* What a driver does: all features but those that @without names by bit number (0: none) */
static void do_setup(struct harness *h)
{
	uint8_t without = next_byte(h), small = next_byte(h);
	uint64_t features = h->dev->features;

	if (without)
		features &= ~(1ULL << (without % 64));
	reg_write(h, VIRTIO_MMIO_STATUS, 0);
	reg_write(h, VIRTIO_MMIO_STATUS, 3);
	for (uint32_t i = 0; i < 2; i++) {
		reg_write(h, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		reg_write(h, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
	}
	reg_write(h, VIRTIO_MMIO_STATUS, 11);
	for (uint32_t q = 0; q < h->dev->ops->n_queues; q++)
		do_setup_queue(h, q, small & 1 ? 4 : HARNESS_QUEUE);
	reg_write(h, VIRTIO_MMIO_STATUS, 15);
	turn(h);
}

static void do_reset(struct harness *h)
{
	reg_write(h, VIRTIO_MMIO_STATUS, 0);
	turn(h);
}

static void do_memory(struct harness *h)
{
	uint64_t at = address(next_u16(h));
	size_t n = next_byte(h);

	n = MIN(n, h->left);
	guest_write(h, at, h->in, n);
	h->in += n;
	h->left -= n;
}

/* Many equal bytes: payload */
static void do_fill(struct harness *h)
{
	uint64_t at = address(next_u16(h));
	size_t n = next_u16(h) % HARNESS_SEND_MAX;
	uint8_t bytes[HARNESS_SEND_MAX];

	memset(bytes, next_byte(h), n);
	guest_write(h, at, bytes, n);
}

static void put_desc(struct harness *h, uint64_t at, const struct vring_desc *d)
{
	guest_write(h, at, d, sizeof(*d));
}

static void offer(struct harness *h, uint32_t q, uint16_t head)
{
	uint32_t avail = q * RING + AVAIL_AT, num = h->num[q] ? h->num[q] : 1;

	guest_write(h, avail + 4 + 2 * (h->avail_idx[q] % num), &head, 2);
	h->avail_idx[q]++;
	guest_write(h, avail + 2, &h->avail_idx[q], 2);
}

/* Anything in a descriptor */
static void do_desc(struct harness *h)
{
	uint32_t q = queue_of(h, next_byte(h));
	uint32_t i = next_byte(h) % HARNESS_QUEUE;
	struct vring_desc d = { .addr = address(next_u16(h)), .len = length(next_u16(h)) };

	d.flags = next_byte(h) & 7;
	d.next = next_byte(h);
	put_desc(h, q * RING + i * sizeof(d), &d);
}

/* A chain that is linked as it should be: {address, length, device writes}… ; offered, not kicked */
static void do_chain(struct harness *h)
{
	uint32_t q = queue_of(h, next_byte(h)), num = h->num[q] ? h->num[q] : 1;
	uint8_t how = next_byte(h);
	uint32_t n = 1 + (how & 15);
	uint16_t first = h->next_desc[q];
	bool indirect = how & 0x80;
	/* An indirect table lies at the end of the buffers. */
	uint64_t table = indirect ? HARNESS_MEM - 16 * sizeof(struct vring_desc) : q * RING;

	for (uint32_t i = 0; i < n; i++) {
		struct vring_desc d = { .addr = address(next_u16(h)) };
		uint16_t len = next_u16(h);

		d.len = length(len & 0x7fff);
		d.flags = (uint16_t)((len & 0x8000 ? VRING_DESC_F_WRITE : 0) |
				     (i + 1 < n ? VRING_DESC_F_NEXT : 0));
		d.next = (uint16_t)(indirect ? i + 1 : (first + i + 1) % num);
		put_desc(h, table + (indirect ? i : (first + i) % num) * sizeof(d), &d);
	}
	if (indirect) {
		struct vring_desc d = { table, n * (uint32_t)sizeof(d), VRING_DESC_F_INDIRECT, 0 };
		put_desc(h, q * RING + first % num * sizeof(d), &d);
	}
	offer(h, q, (uint16_t)(first % num));
	h->next_desc[q] = (uint16_t)((first + (indirect ? 1 : n)) % num);
}

static void do_offer(struct harness *h)
{
	uint32_t q = queue_of(h, next_byte(h));

	offer(h, q, next_u16(h));
}

/* used_event, flags, avail.idx: anything in a ring */
static void do_ring(struct harness *h)
{
	uint32_t q = queue_of(h, next_byte(h)), at = next_u16(h) % (RING - AVAIL_AT);
	uint16_t v = next_u16(h);

	guest_write(h, q * RING + AVAIL_AT + at, &v, 2);
}

static void do_host(struct harness *h)
{
	uint8_t what = next_byte(h);
	uint16_t arg = next_u16(h);

	if (h->device->host)
		h->device->host(h, what, arg);
	turn(h);
}

static void attach(struct harness *h)
{
	const struct virtio_env env = { &h->mem, h->loop, mmio_irq };

	h->device->make(h, &env, &h->dev);
	FUZZ_CHECK(mmio_attach(&h->mmio, h->dev, 0, &h->host) == 0);
}

static void detach(struct harness *h)
{
	mmio_detach(&h->mmio);
	h->dev->ops->free(h->dev);
	if (h->device->gone)
		h->device->gone(h);
}

/* A snapshot, some bytes of it changed, and a new device that takes it, or does not. */
static void do_snapshot(struct harness *h)
{
	uint8_t changes = next_byte(h) & 3;
	_cleanup_buf_ struct buf saved = { .limit = VIRTIO_SAVE_MAX };

	if (mmio_quiesce(&h->mmio) < 0)
		return;
	for (uint32_t q = 0; q < h->dev->ops->n_queues; q++)
		FUZZ_CHECK(h->dev->vq[q].in_flight == 0);
	FUZZ_CHECK(mmio_save(&h->mmio, &saved) == 0);
	for (uint8_t i = 0; i < changes; i++) {
		size_t at = next_u16(h);
		uint8_t v = next_byte(h);
		if (at < saved.len)
			saved.data[at] = (char)v;
	}
	size_t cut = changes == 3 ? next_byte(h) : 0, n = saved.len - MIN(saved.len, cut);
	uint8_t *copy = malloc(n ? n : 1); /* exactly as long, so that a read past its end is seen */
	FUZZ_CHECK(copy);
	memcpy(copy, saved.data, n);
	detach(h);
	attach(h);
	int r = mmio_load(&h->mmio, copy, n);
	free(copy);
	FUZZ_CHECK(r <= 0);
	if (changes == 0)
		FUZZ_CHECK(r == 0);
	if (r < 0) { /* the machine would not start */
		detach(h);
		attach(h);
	}
	mmio_poke(&h->mmio);
	turn(h);
}

static void do_turn(struct harness *h)
{
	turn(h);
}

static void (*const ops[HARNESS_OP_COUNT])(struct harness *) = {
	[HARNESS_SETUP] = do_setup,   [HARNESS_CHAIN] = do_chain,	[HARNESS_KICK] = do_kick,
	[HARNESS_MEMORY] = do_memory, [HARNESS_FILL] = do_fill,		[HARNESS_DESC] = do_desc,
	[HARNESS_OFFER] = do_offer,   [HARNESS_RING] = do_ring,		[HARNESS_HOST] = do_host,
	[HARNESS_TURN] = do_turn,     [HARNESS_RESET] = do_reset,	[HARNESS_REG] = do_reg,
	[HARNESS_ACCESS] = do_access, [HARNESS_SNAPSHOT] = do_snapshot, [HARNESS_RACE] = do_race,
};

void harness_do(struct harness *h, const uint8_t *in, size_t n)
{
	h->in = in;
	h->left = n;
	for (int i = 0; h->left > 0 && i < HARNESS_OPS_MAX; i++) {
		uint8_t op = next_byte(h) % HARNESS_OP_COUNT;

		ops[op](h);
		if (op >= HARNESS_CHAIN && op <= HARNESS_RING && op != HARNESS_KICK)
			continue; /* only the driver's memory changed */
		check_memory(h);
		if (h->device->check)
			h->device->check(h);
	}
}

static void on_irq(void *data, uint32_t gsi)
{
	struct harness *h = data;

	FUZZ_CHECK(gsi == MMIO_GSI);
	h->irqs++;
}

/* There is one thread; what a vCPU hands over is done at once. */
static void on_io(void *data, void (*fn)(void *), void *arg)
{
	(void)data;
	fn(arg);
}

static int kick_at(void *data, uint64_t at, int event)
{
	(void)data;
	FUZZ_CHECK(at == MMIO_BASE + VIRTIO_MMIO_QUEUE_NOTIFY && event >= 0);
	return 0;
}

void harness_run(const struct harness_device *device, const uint8_t *data, size_t size)
{
	static uint8_t shadow[HARNESS_MEM];
	struct harness h = {
		.device = device, .data = device->data, .shadow = shadow, .in = data, .left = size
	};

	memset(shadow, 0, sizeof(shadow));
	h.mem = (struct gmem){ .base = guarded(), .size = HARNESS_MEM };
	h.host = (struct mmio_host){ &h, on_irq, on_io, kick_at };
	FUZZ_CHECK(gmem_dirty_start(&h.mem) == 0);
	FUZZ_CHECK(loop_new(&h.loop) == 0);
	attach(&h);
	harness_do(&h, data, size);
	h.race_bits = 0;
	if (device->finish)
		device->finish(&h);
	detach(&h);
	loop_free(h.loop);
	free(h.mem.dirty);
}
