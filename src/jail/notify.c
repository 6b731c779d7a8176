// SPDX-License-Identifier: Apache-2.0
/*
 * Supervising the opens and execs of a jailed child (seccomp user notification).
 *
 * Theory of operation
 *
 * Purpose: the child's filter turns open, openat, creat and execve into requests. We read the path out of
 * the child's memory, ask the owner's decision function, and put *our* descriptor into the child as the
 * call's result.
 * Why this is no race: the child may change the path in its memory whenever it likes, but what it gets is
 * the file that the decision function opened from our copy. Only execve is let through to the kernel
 * (CONTINUE), and only as often as the owner says: once, before any hostile byte has been read.
 * Hostile: every byte of the request's memory; the child may also die or be signalled at any point: its
 * request then vanishes (ENOENT), which is checked after reading so that a recycled pid's memory is never
 * believed.
 * Limits: PATH_MAX bytes of path. References: seccomp_unotify(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "jail/jail.h"

#define PAGE 4096u /* smallest page of the architectures we run on */
/* the kernel's structs may grow: it refuses a request whose buffer is not zeroed, and writes its own size */
#define NOTIF_ROOM 512

union request {
	struct seccomp_notif n;
	char room[NOTIF_ROOM];
};

union response {
	struct seccomp_notif_resp r;
	char room[NOTIF_ROOM];
};

static int reply(int fd, uint64_t id, int error, long long val, unsigned int flags)
{
	union response resp = { .r = { 0 } };

	resp.r.id = id;
	resp.r.error = error;
	resp.r.val = val;
	resp.r.flags = flags;
	return ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 ? -errno : 0;
}

/* read_path() - a page at a time: the next one may not be mapped. 0 or -errno for the child */
static int read_path(pid_t pid, uint64_t addr, char path[PATH_MAX])
{
	size_t got = 0;

	while (got < PATH_MAX) {
		uint64_t at = addr + got;
		size_t n = MIN((size_t)(PAGE - at % PAGE), PATH_MAX - got);
		struct iovec local = { path + got, n }, remote = { (void *)(uintptr_t)at, n };
		ssize_t r = process_vm_readv(pid, &local, 1, &remote, 1, 0);

		if (r <= 0)
			return r < 0 && errno == EFAULT ? -EFAULT : -EACCES;
		if (memchr(path + got, '\0', (size_t)r))
			return 0;
		got += (size_t)r;
	}
	return -ENAMETOOLONG;
}

/* struct opening - where the arguments of the open family are */
struct opening {
	int nr;
	int dir_arg; /* -1: none */
	int path_arg;
	int flags_arg; /* -1: creat's */
};

static const struct opening openings[] = {
#ifdef SYS_open
	{ SYS_open, -1, 0, 1 },
	{ SYS_creat, -1, 0, -1 },
#endif
	{ SYS_openat, 0, 1, 2 },
};

static const struct opening *opening_of(int nr)
{
	for (size_t i = 0; i < ARRAY_SIZE(openings); i++)
		if (openings[i].nr == nr)
			return &openings[i];
	return NULL;
}

/* give() - our @file becomes the call's result */
static int give(int fd, uint64_t id, int file, int flags)
{
	struct seccomp_notif_addfd add = {
		.id = id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (uint32_t)file,
		.newfd_flags = flags & O_CLOEXEC ? O_CLOEXEC : 0,
	};
	int rc = ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add);

	if (rc >= 0)
		return 0;
	if (errno == EINVAL) { /* before Linux 5.14: two steps */
		add.flags = 0;
		rc = ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
		if (rc >= 0)
			return reply(fd, id, 0, rc, 0);
	}
	if (errno == ENOENT)
		return -ENOENT;
	return reply(fd, id, -errno, 0, 0);
}

static int answer_open(int fd, const struct seccomp_notif *n, const struct opening *o, jail_open_fn *fn,
		       void *data)
{
	char path[PATH_MAX];
	int flags = o->flags_arg < 0 ? O_CREAT | O_WRONLY | O_TRUNC : (int)n->data.args[o->flags_arg];
	int rc = read_path((pid_t)n->pid, n->data.args[o->path_arg], path);

	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n->id) < 0)
		return -errno;
	/* A path below one of the child's own directory descriptors means nothing to us. */
	if (rc == 0 && path[0] != '/' && o->dir_arg >= 0 && (int)n->data.args[o->dir_arg] != AT_FDCWD)
		rc = -EACCES;
	if (rc < 0)
		return reply(fd, n->id, rc, 0, 0);
	_cleanup_fd_ int file = fn(data, path, flags);
	if (file < 0)
		return reply(fd, n->id, file, 0, 0);
	return give(fd, n->id, file, flags);
}

static int answer(int fd, const struct seccomp_notif *n, jail_open_fn *fn, void *data,
		  unsigned int *execs_left)
{
	const struct opening *o = opening_of(n->data.nr);

	if (o)
		return answer_open(fd, n, o, fn, data);
	if (n->data.nr == SYS_execve && execs_left && *execs_left > 0) {
		(*execs_left)--;
		return reply(fd, n->id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
	}
	return reply(fd, n->id, -EPERM, 0, 0);
}

int jail_notify_serve(int notify_fd, jail_open_fn *fn, void *data, unsigned int *execs_left)
{
	struct pollfd pfd = { .fd = notify_fd, .events = POLLIN };
	union request req = { .room = { 0 } };

	if (poll(&pfd, 1, 0) < 0)
		return errno == EINTR ? 0 : -errno;
	if (!(pfd.revents & POLLIN))
		return pfd.revents ? -EPIPE : 0;
	/* Does not block: if the requester vanished meanwhile, this is ENOENT. */
	if (ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
		return errno == EINTR ? 0 : -errno;
	return answer(notify_fd, &req.n, fn, data, execs_left);
}
