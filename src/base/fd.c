// SPDX-License-Identifier: Apache-2.0
// File descriptors: ownership, whole reads and writes, passing over unix sockets.
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int flag_change(int fd, int get, int set, int bit, bool on)
{
	int fl = fcntl(fd, get);

	if (fl < 0)
		return -errno;
	int want = on ? fl | bit : fl & ~bit;
	if (want != fl && fcntl(fd, set, want) < 0)
		return -errno;
	return 0;
}

int fd_set_nonblock(int fd, bool on)
{
	return flag_change(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, bool on)
{
	return flag_change(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

ssize_t fd_read_full(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, (char *)buf + done, n - done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int fd_write_full(int fd, const void *buf, size_t n)
{
	const char *p = buf;

	while (n > 0) {
		ssize_t r = write(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

int fd_read_all(int fd, size_t limit, char **ret_buf, size_t *ret_len)
{
	_cleanup_free_ char *buf = NULL;
	size_t cap = 0, len = 0;

	for (;;) {
		if (len + 1 >= cap) {
			cap = cap ? MIN(cap * 2, limit + 2) : MIN((size_t)4096, limit + 2);
			char *bigger = realloc(buf, cap);
			if (!bigger)
				return -ENOMEM;
			buf = bigger;
		}
		ssize_t r = fd_read_full(fd, buf + len, cap - len - 1);
		if (r < 0)
			return (int)r;
		len += (size_t)r;
		if (len > limit)
			return -EFBIG;
		if (len + 1 < cap)
			break;
	}
	buf[len] = '\0';
	*ret_buf = take_ptr(buf);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int fd_read_file_at(int dirfd, const char *path, size_t limit, char **ret_buf, size_t *ret_len)
{
	_cleanup_fd_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fd_read_all(fd, limit, ret_buf, ret_len);
}

int fd_write_file_at(int dirfd, const char *path, const void *buf, size_t n, mode_t mode)
{
	char tmp[300];
	int r;

	r = snprintf(tmp, sizeof(tmp), "%s.%d.tmp", path, (int)getpid());
	if (r < 0 || (size_t)r >= sizeof(tmp))
		return -ENAMETOOLONG;
	_cleanup_fd_ int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	r = fd_write_full(fd, buf, n);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dirfd, tmp, 0);
	return r;
}

ssize_t fd_send(int sock, const void *buf, size_t n, const int *fds, size_t nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FD_PASS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r;

	if (nfds > FD_PASS_MAX || n == 0)
		return -EINVAL;
	if (nfds > 0) {
		memset(&ctl, 0, sizeof(ctl));
		msg.msg_control = ctl.bytes;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do
		r = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

ssize_t fd_recv(int sock, void *buf, size_t n, int *fds, size_t *ret_nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FD_PASS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = { .iov_base = buf, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = ctl.bytes,
			      .msg_controllen = sizeof(ctl.bytes) };
	size_t got = 0;
	ssize_t r;

	do
		r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k && got < FD_PASS_MAX; i++)
			memcpy(&fds[got++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	/* An empty packet passes for the end, and nobody looks for descriptors there; but it can carry some. */
	if ((msg.msg_flags & MSG_CTRUNC) || r == 0)
		while (got > 0)
			close(fds[--got]);
	*ret_nfds = got;
	return msg.msg_flags & MSG_CTRUNC ? -EPROTO : r;
}

int fd_reopen(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, flags | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

int fd_memfd(const char *name, const void *buf, size_t n)
{
	_cleanup_fd_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_full(fd, buf, n);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return take_fd(fd);
}

/* Where files lie on different file systems, not every kernel copies by itself. */
static ssize_t copy_some(int from, off_t *at, int to, size_t n)
{
	char chunk[KIB(64)];
	off_t out = *at;
	ssize_t r = copy_file_range(from, at, to, &out, n, 0);

	if (r >= 0 || (errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP))
		return r;
	r = pread(from, chunk, MIN(n, sizeof(chunk)), *at);
	if (r > 0)
		r = pwrite(to, chunk, (size_t)r, *at);
	*at += MAX(r, 0);
	return r;
}

int fd_copy_sparse(int from, int to)
{
	off_t at = 0, end;
	struct stat st;

	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		while (at < end) {
			ssize_t n = copy_some(from, &at, to, (size_t)(end - at));
			if (n <= 0)
				return n < 0 ? -errno : -EIO;
		}
	}
	return errno == ENXIO ? 0 : -errno;
}
