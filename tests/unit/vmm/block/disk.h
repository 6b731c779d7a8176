/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of disks share: images in a directory of their own, qemu-img to judge them, random numbers. */
#ifndef TEST_DISK_H
#define TEST_DISK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "engine/qcow2.h"
#include "vmm/block/block.h"

static char dir[32];

/* In memory if possible: qemu-img syncs, and the host's disk has other work. */
static inline int make_dir(void **state _unused_)
{
	strcpy(dir, "/dev/shm/vial-disk-XXXXXX");
	if (mkdtemp(dir))
		return 0;
	strcpy(dir, "/tmp/vial-disk-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static inline int make_dir_on_disk(void **state _unused_)
{
	strcpy(dir, "/tmp/vial-disk-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static inline int remove_dir(void **state _unused_)
{
	return path_rm_rf_at(AT_FDCWD, dir);
}

/* @name in the test's directory; valid for the next eight calls */
static inline const char *at(const char *name)
{
	static char paths[8][128];
	static unsigned int next;
	char *p = paths[next++ % 8];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

/* Runs a command line in the test's directory; its exit status. */
_printf_(1, 2) static inline int sh(const char *fmt, ...)
{
	char line[2048];
	int n = snprintf(line, sizeof(line), "cd %s && ", dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	int status = system(line);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void need_qemu_img(void)
{
	if (sh("qemu-img --version >out") != 0) {
		print_message("qemu-img is not here\n");
		skip();
	}
}

static inline int open_file(const char *name, int flags)
{
	int fd = open(at(name), flags | O_CLOEXEC, 0600);

	if (fd < 0)
		fail_msg("%s: %s", name, strerror(errno));
	return fd;
}

/* A new file of @bytes */
static inline int new_file(const char *name, uint64_t bytes)
{
	int fd = open_file(name, O_RDWR | O_CREAT | O_TRUNC);

	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static inline struct block *open_raw(const char *name, int flags)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b;

	if (raw_open(open_file(name, flags), BLOCK_SYNC, &b, &err) < 0)
		fail_msg("%s: %s", name, err.msg);
	return b;
}

static inline struct block *open_qcow2(const char *name, int flags, struct block *backing)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b;

	/* Whoever reads it shares the kernel's cache with us, killed or not. */
	if (qcow2_open(open_file(name, flags), backing, BLOCK_NO_SYNC, &b, &err) < 0)
		fail_msg("%s: %s", name, err.msg);
	return b;
}

static inline int read_at(struct block *b, void *p, size_t n, uint64_t off)
{
	struct iovec v = { p, n };

	return block_readv(b, &v, 1, off);
}

static inline int write_at(struct block *b, const void *p, size_t n, uint64_t off)
{
	struct iovec v = { (void *)(uintptr_t)p, n };

	return block_writev(b, &v, 1, off);
}

/* xorshift64*: the same numbers each time */
static inline uint64_t rnd(uint64_t *seed, uint64_t below)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return (*seed * 2685821657736338717ULL >> 20) % below;
}

static inline void fill_random(uint64_t *seed, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(1 + rnd(seed, 255));
}

#endif
