// SPDX-License-Identifier: Apache-2.0
/*
 * The block device behind virtio-mmio. The first byte of the input says what the disk is: a raw file, that read-only, or a qcow2
 * image over it. Whatever the guest asks for, a raw file keeps its size, one that is read-only or below its bytes, and an image
 * can be opened again.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/qcow2.h"
#include "jail/jail.h"
#include "vmm/virtio/blk.h"
#include "vmm_harness.h"

#define DISK  0x40000u
#define DEPTH 6 /* forks of one input */

/* The input's first byte: a kind, and whether the device has a worker */
enum { DISK_RAW, DISK_READ_ONLY, DISK_QCOW2, DISK_KINDS, DISK_WORKER = 0x80 };

struct world {
	uint8_t kind;
	bool worker;
	int base; /* the raw file; the device has descriptors of its own */
	int top;  /* the newest image, -1 */
	unsigned int forks;
};

static int new_file(uint64_t size)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

static int new_image(void)
{
	int fd = new_file(0);

	FUZZ_CHECK(qcow2_init(fd, DISK) == 0);
	return fd;
}

/* The base has a pattern in its first half, so that showing the wrong place is seen. */
static const uint32_t *pattern(void)
{
	static uint32_t words[DISK / 4];

	for (uint32_t i = 0; !words[0] && i < DISK / 8; i++)
		words[DISK / 8 - 1 - i] = i * 2654435761u | 1;
	return words;
}

/* A file that only this input has, or one that all share, because nobody can write to it */
static int new_base(bool own)
{
	static int shared = -1;

	if (!own && shared >= 0)
		return dup(shared);
	int fd = new_file(DISK);
	FUZZ_CHECK(pwrite(fd, pattern(), DISK, 0) == DISK);
	return own ? fd : dup(shared = fd);
}

static struct block *open_disk(struct world *w)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b, *below;
	int fd = fd_reopen(w->base, w->kind == DISK_RAW ? O_RDWR : O_RDONLY);

	FUZZ_CHECK(fd >= 0 && raw_open(fd, BLOCK_NO_SYNC, &b, &err) == 0);
	if (w->kind != DISK_QCOW2)
		return b;
	below = b;
	/* After a snapshot: the image as it is; what was forked off below it is forgotten. */
	if (w->forks > 0 || w->top < 0) {
		fd_close(&w->top);
		w->top = new_image();
		w->forks = 0;
	}
	fd = fd_reopen(w->top, O_RDWR);
	FUZZ_CHECK(fd >= 0 && qcow2_open(fd, below, BLOCK_NO_SYNC, &b, &err) == 0);
	return b;
}

static void make(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret)
{
	struct world *w = h->data;
	const struct blk_conf conf = { open_disk(w), "vial-upper", w->kind == DISK_READ_ONLY,
				       w->worker ? BLK_WORKER_ALL : BLK_WORKER_NONE, JAIL_NO_SECCOMP };

	FUZZ_CHECK(blk_new(env, &conf, ret) == 0);
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct world *w = h->data;

	(void)arg;
	/* While the worker is busy, the disk is its own. */
	FUZZ_CHECK(mmio_quiesce(&h->mmio) == 0);
	if ((what & 1) == 0 || w->kind != DISK_QCOW2 || w->forks >= DEPTH) {
		FUZZ_CHECK(block_flush(*blk_disk(h->dev)) == 0);
		return;
	}
	int fd = new_image();
	fd_close(&w->top);
	w->top = dup(fd);
	w->forks++;
	FUZZ_CHECK(block_fork(blk_disk(h->dev), fd, BLOCK_NO_SYNC, &err) == 0);
}

static void check(struct harness *h)
{
	struct world *w = h->data;
	struct stat st;

	FUZZ_CHECK(fstat(w->base, &st) == 0 && st.st_size == DISK);
	FUZZ_CHECK((*blk_disk(h->dev))->size == DISK);
	FUZZ_CHECK(h->dev->vq[0].in_flight <= w->worker);
}

#define OPS(string) (const uint8_t *)(string), sizeof(string) - 1

/* Whatever happened before: a driver that begins anew is served. Header and data in one descriptor, and in two. */
static void finish(struct harness *h)
{
	enum { WRITTEN = 0x800, READ = 0x1000, SECTOR = 5 };
	bool read_only = ((struct world *)h->data)->kind == DISK_READ_ONLY;
	uint8_t *m = h->mem.base + HARNESS_DATA;

	/* SETUP; MEMORY: 16 bytes, write sector 5; FILL: 512 bytes behind them; MEMORY: a status */
	harness_do(h, OPS("\0\0\0\3\0\0\20\1\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0"));
	harness_do(h, OPS("\4\10\0\0\2\132\3\0\4\1\356"));
	/* CHAIN: 528 bytes to read, one to write; KICK */
	harness_do(h, OPS("\1\0\1\0\0\20\2\0\4\1\200\2\0"));
	FUZZ_CHECK(mmio_quiesce(&h->mmio) == 0);
	FUZZ_CHECK(m[WRITTEN] == (read_only ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK));
	/* MEMORY: read sector 5; CHAIN: 16 bytes to read, 513 to write; KICK */
	harness_do(h, OPS("\3\0\0\20\0\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0"));
	harness_do(h, OPS("\3\0\11\1\356\1\0\1\0\0\20\0\0\10\1\202\2\0"));
	FUZZ_CHECK(mmio_quiesce(&h->mmio) == 0);
	FUZZ_CHECK(m[READ + 512] == VIRTIO_BLK_S_OK);
	if (read_only)
		FUZZ_CHECK(memcmp(m + READ, (const uint8_t *)pattern() + SECTOR * 512, 512) == 0);
	for (int i = 0; !read_only && i < 512; i++)
		FUZZ_CHECK(m[READ + i] == 0x5a);
}

/* What is below or read-only has its old bytes. */
static void check_base(const struct world *w)
{
	static uint8_t bytes[DISK];

	if (w->kind == DISK_RAW)
		return;
	FUZZ_CHECK(pread(w->base, bytes, DISK, 0) == DISK);
	FUZZ_CHECK(memcmp(bytes, pattern(), DISK) == 0);
}

/* An image that a guest has written to can be opened again. */
static void check_top(const struct world *w)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b;

	if (w->top < 0)
		return;
	int fd = fd_reopen(w->top, O_RDWR);
	FUZZ_CHECK(fd >= 0 && qcow2_open(fd, NULL, BLOCK_NO_SYNC, &b, &err) == 0);
	block_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t first = size ? data[0] : 0;
	struct world w = { .kind = (first & 0x7f) % DISK_KINDS, .worker = first & DISK_WORKER, .top = -1 };
	const struct harness_device device = { &w, make, NULL, host, check, finish };

	w.base = new_base(w.kind == DISK_RAW);
	if (size > 1)
		harness_run(&device, data + 1, size - 1);
	check_base(&w);
	check_top(&w);
	fd_close(&w.base);
	fd_close(&w.top);
	return 0;
}
