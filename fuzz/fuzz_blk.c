// SPDX-License-Identifier: Apache-2.0
/*
 * The block device behind virtio-mmio. The first byte of the input says what the disk is: a raw file, that read-only, or a qcow2
 * image over it. Whatever the guest asks for, the file keeps its size, a read-only one its bytes, and
 * requests that break no rule (FIRST.. below) do what they should.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/qcow2.h"
#include "vmm/virtio/blk.h"
#include "vmm_harness.h"

#define DISK  0x40000u
#define DEPTH 6 /* forks of one input */

enum { DISK_RAW, DISK_READ_ONLY, DISK_QCOW2, DISK_KINDS };

struct world {
	uint8_t kind;
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
static int new_base(void)
{
	static uint32_t words[DISK / 8];
	int fd = new_file(DISK);

	for (uint32_t i = 0; i < DISK / 8; i++)
		words[i] = i * 2654435761u | 1;
	FUZZ_CHECK(pwrite(fd, words, sizeof(words), 0) == sizeof(words));
	return fd;
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
	const struct blk_conf conf = { open_disk(w), "vial-upper", w->kind == DISK_READ_ONLY };

	FUZZ_CHECK(blk_new(env, &conf, ret) == 0);
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct world *w = h->data;

	(void)arg;
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
	FUZZ_CHECK(h->dev->vq[0].in_flight == 0);
}

/* What is below or read-only has its old bytes. */
static void check_base(const struct world *w)
{
	static uint32_t words[DISK / 4];

	if (w->kind == DISK_RAW)
		return;
	FUZZ_CHECK(pread(w->base, words, sizeof(words), 0) == sizeof(words));
	for (uint32_t i = 0; i < DISK / 4; i++)
		FUZZ_CHECK(words[i] == (i < DISK / 8 ? (i * 2654435761u | 1) : 0));
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
	struct world w = { .kind = size ? data[0] % DISK_KINDS : 0, .base = new_base(), .top = -1 };
	const struct harness_device device = { &w, make, NULL, host, check };

	if (size > 1)
		harness_run(&device, data + 1, size - 1);
	check_base(&w);
	check_top(&w);
	fd_close(&w.base);
	fd_close(&w.top);
	return 0;
}
