// SPDX-License-Identifier: Apache-2.0
// Whole reads and writes of host files.
// System calls: preadv, pwritev, fallocate; when a disk is opened fcntl, fstat, lseek. (The formats: fdatasync, ftruncate.)
#include "vmm/block/hostio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"

#define IOV_ROOM 64	 /* entries of one system call */
#define ZEROS	 KIB(64) /* written at once where holes cannot be punched */

typedef ssize_t transfer_fn(int fd, const struct iovec *v, int n, off_t at);

/* transfer() - until all is done or nothing goes any more; bytes that are left, or -errno */
static ssize_t transfer(transfer_fn *call, int fd, struct iov_cur *c, size_t len, uint64_t at)
{
	struct iovec v[IOV_ROOM];
	size_t bytes;
	ssize_t r = 1;

	while (len > 0 && r != 0) {
		size_t n = iov_peek(c, len, v, IOV_ROOM, &bytes);
		if (n == 0)
			return -EINVAL;
		r = call(fd, v, (int)n, (off_t)at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		iov_advance(c, (size_t)r);
		len -= (size_t)r;
		at += (size_t)r;
	}
	return (ssize_t)len;
}

int hostio_readv(int fd, struct iov_cur *c, size_t len, uint64_t at, enum hostio_eof eof)
{
	ssize_t left = transfer(preadv, fd, c, len, at);

	if (left > 0 && eof == HOSTIO_EOF_FAILS)
		return -EIO;
	if (left > 0)
		iov_zero(c, (size_t)left);
	return left < 0 ? (int)left : 0;
}

int hostio_writev(int fd, struct iov_cur *c, size_t len, uint64_t at)
{
	ssize_t left = transfer(pwritev, fd, c, len, at);

	return left > 0 ? -EIO : (int)left;
}

int hostio_read(int fd, void *p, size_t len, uint64_t at, enum hostio_eof eof)
{
	struct iovec v = { p, len };
	struct iov_cur c = { &v, 1, 0 };

	return hostio_readv(fd, &c, len, at, eof);
}

int hostio_write(int fd, const void *p, size_t len, uint64_t at)
{
	struct iovec v = { (void *)(uintptr_t)p, len };
	struct iov_cur c = { &v, 1, 0 };

	return hostio_writev(fd, &c, len, at);
}

static int try_fallocate(int fd, int mode, uint64_t at, uint64_t len)
{
	int r;

	do
		r = fallocate(fd, mode, (off_t)at, (off_t)len);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int write_zeros(int fd, uint64_t at, uint64_t len)
{
	static const char zeros[ZEROS];
	int r = 0;

	for (uint64_t n; r == 0 && len > 0; at += n, len -= n) {
		n = MIN(len, ZEROS);
		r = hostio_write(fd, zeros, n, at);
	}
	return r;
}

int hostio_punch(int fd, uint64_t at, uint64_t len)
{
	return len ? try_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len) : 0;
}

int hostio_zero(int fd, uint64_t at, uint64_t len)
{
	int r = hostio_punch(fd, at, len);

	return r == -EOPNOTSUPP ? write_zeros(fd, at, len) : r;
}

int hostio_write_zeros(int fd, uint64_t at, uint64_t len)
{
	if (len == 0)
		return 0;
	int r = try_fallocate(fd, FALLOC_FL_ZERO_RANGE, at, len);
	return r == -EOPNOTSUPP ? write_zeros(fd, at, len) : r;
}

int hostio_check_fd(int fd, bool *ret_read_only, uint64_t *ret_size)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ENOTSUP;
	/* Linux appends with pwrite, too, wherever the offset points. */
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & (O_APPEND | O_PATH)))
		return -EACCES;
	off_t end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return -errno;
	*ret_read_only = (flags & O_ACCMODE) == O_RDONLY;
	*ret_size = (uint64_t)end;
	return 0;
}
