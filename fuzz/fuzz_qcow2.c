// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile qcow2 image, opened and used. Input: a byte of flags, a byte that counts operations, five bytes each of them, then the file.
 * Whatever the file is: reads agree with each other and with what was written (a plain buffer follows the disk's start),
 * the file does not grow beyond its disk and tables, and what could be opened for writing can be opened again
 * and says the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/fd.h"
#include "fuzz.h"
#include "vmm/block/block.h"

#define WINDOW \
	0x20000u /* bytes of the disk that are followed, from its start; and as many at its end are only used */
#define BASE_SIZE 0xc200u /* of the layer below: ends in mid-window */
#define OPS_MAX	  40

enum { FLAG_READ_ONLY = 1, FLAG_BASE = 2, FLAG_FORK = 4 };

struct world {
	struct block *b;
	uint8_t want[WINDOW];
	uint64_t window;
};

static int new_file(const uint8_t *p, size_t n)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && fd_write_full(fd, p, n) == 0);
	return fd;
}

static struct block *open_base(void)
{
	struct vial_err err = VIAL_ERR_INIT;
	uint8_t bytes[BASE_SIZE];
	struct block *b;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = i / 512 % 3 ? (uint8_t)(i * 31 >> 3 | 1) : 0;
	int fd = new_file(bytes, sizeof(bytes)), ro = fd_reopen(fd, O_RDONLY);
	close(fd);
	FUZZ_CHECK(ro >= 0 && raw_open(ro, BLOCK_NO_SYNC, &b, &err) == 0);
	return b;
}

/* Opens another descriptor of the image; NULL if it is refused. */
static struct block *open_image(int file, uint8_t flags)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *base = flags & FLAG_BASE ? open_base() : NULL, *b;
	int fd = fd_reopen(file, flags & FLAG_READ_ONLY ? O_RDONLY : O_RDWR);

	FUZZ_CHECK(fd >= 0);
	int r = qcow2_open(fd, base, BLOCK_NO_SYNC, &b, &err);
	if (r == 0)
		return b;
	FUZZ_CHECK(r < -1000 && err.code == r && err.msg[0]);
	block_close(base);
	close(fd);
	return NULL;
}

static int transfer(struct block *b, uint8_t *p, uint64_t len, uint64_t at, bool write)
{
	struct iovec v[2] = { { p, len / 3 }, { p + len / 3, len - len / 3 } };

	return write ? block_writev(b, v, 2, at) : block_readv(b, v, 2, at);
}

/* The window, as the disk has it now */
static void read_window(struct world *w, uint8_t *to)
{
	for (uint64_t at = 0; at < w->window; at += 4096) {
		uint64_t n = MIN(4096, w->window - at);

		FUZZ_CHECK(transfer(w->b, to + at, n, at, false) == 0);
	}
}

static void check_window(struct world *w)
{
	static uint8_t got[WINDOW];

	read_window(w, got);
	FUZZ_CHECK(memcmp(got, w->want, w->window) == 0);
}

/* Sector by sector: what was there, or zeros */
static void take_discarded(struct world *w, uint64_t at, uint64_t len)
{
	static const uint8_t zeros[512];
	uint8_t got[512];

	for (; len > 0; at += 512, len -= 512) {
		FUZZ_CHECK(transfer(w->b, got, 512, at, false) == 0);
		if (memcmp(got, zeros, 512) == 0)
			memset(w->want + at, 0, 512);
		FUZZ_CHECK(memcmp(got, w->want + at, 512) == 0);
	}
}

/* Also where nobody looks: at the disk's end */
static uint64_t place(const struct world *w, const uint8_t *op, uint64_t len)
{
	uint64_t at = (uint64_t)op[1] * 512 % w->window;

	if (op[3] & 0x80)
		return (w->b->size - MIN(w->b->size, w->window) + at) & ~511ULL;
	return MIN(at, w->window - len);
}

static void do_op(struct world *w, const uint8_t *op)
{
	static uint8_t buf[WINDOW];
	uint64_t len = (1 + (uint64_t)op[2]) * 512, at;

	len = MIN(len, w->window);
	at = place(w, op, len);
	len = MIN(len, w->b->size - at);
	bool followed = at + len <= w->window;
	if (!followed && at < w->window)
		return;
	int r = 0;
	switch (op[0] % 5) {
	case 0:
		memset(buf, op[4], len);
		r = transfer(w->b, buf, len, at, true);
		break;
	case 1:
	case 2:
		memset(buf, 0, len);
		r = block_write_zeroes(w->b, at, len, op[0] % 5 == 1);
		break;
	case 3:
		r = block_discard(w->b, at, len);
		if (followed && r == 0)
			take_discarded(w, at, len);
		break;
	case 4:
		r = block_flush(w->b);
		break;
	}
	FUZZ_CHECK(r == 0 || r == -EROFS || r == -ENOSPC);
	FUZZ_CHECK(r != -EROFS || w->b->read_only);
	if (r == 0 && op[0] % 5 < 3 && followed)
		memcpy(w->want + at, buf, len);
	if (r == -ENOSPC && followed) /* some of it is written */
		FUZZ_CHECK(transfer(w->b, w->want + at, len, at, false) == 0);
}

/* Reads all over the disk: nothing but the reads themselves is looked at. */
static void roam(struct block *b)
{
	static uint8_t buf[8192];

	for (uint64_t at = 0; at < b->size; at += MAX(b->size / 64 & ~511ULL, 512)) {
		uint64_t n = MIN(sizeof(buf), b->size - at);

		FUZZ_CHECK(transfer(b, buf, n, at, false) == 0);
	}
}

/* Nothing but the disk's clusters and its tables, each as often as can be, beside what the file had. */
static void check_size(int file, uint64_t before, uint64_t disk)
{
	struct stat st;

	FUZZ_CHECK(fstat(file, &st) == 0);
	FUZZ_CHECK((uint64_t)st.st_size <= before + 2 * disk + (16u << 20));
}

static void use(int file, uint8_t flags, const uint8_t *ops, size_t n, size_t file_size)
{
	static struct world w;

	w.b = open_image(file, flags);
	if (!w.b)
		return;
	uint64_t size = w.b->size;
	w.window = MIN(size, WINDOW);
	FUZZ_CHECK(w.b->read_only == (flags & FLAG_READ_ONLY));
	FUZZ_CHECK(size > 0 && size % 512 == 0 && size <= BLOCK_SIZE_MAX);
	roam(w.b);
	read_window(&w, w.want);
	for (size_t i = 0; i < n; i++) {
		do_op(&w, ops + 5 * i);
		check_window(&w);
	}
	bool flushed = block_flush(w.b) == 0;
	if (flags & FLAG_FORK)
		FUZZ_CHECK(block_freeze(w.b) == 0 && w.b->read_only);
	check_window(&w);
	block_close(w.b);
	check_size(file, file_size, size);
	w.b = open_image(file, flags);
	FUZZ_CHECK(w.b && flushed && w.b->size == size);
	check_window(&w);
	block_close(w.b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	size_t n = data[1] % (OPS_MAX + 1);
	if (size < 2 + 5 * n)
		return 0;
	size_t file_size = size - 2 - 5 * n;
	int file = new_file(data + 2 + 5 * n, file_size);
	use(file, data[0], data + 2, n, file_size);
	close(file);
	return 0;
}
