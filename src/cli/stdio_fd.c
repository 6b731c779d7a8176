// SPDX-License-Identifier: Apache-2.0
// The inherited stdin, stdout and stderr without waiting and without O_NONBLOCK on them.
#include "cli/stdio_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALL_MAX KIB(64)

void stdio_fd_open(struct stdio_fd *s, int fd)
{
	int mode = (fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	bool waits = false;
	char path[32];
	struct stat st;

	*s = (struct stdio_fd){ .fd = fd, .most = CALL_MAX };
	if (fstat(fd, &st) == 0) {
		waits = S_ISFIFO(st.st_mode) || isatty(fd);
		s->socket = S_ISSOCK(st.st_mode);
	}
	if (!waits)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int own = open(path, mode);
	if (own < 0) {
		s->most = PIPE_BUF;
		return;
	}
	s->fd = own;
	s->own = true;
}

void stdio_fd_done(struct stdio_fd *s)
{
	if (s->own)
		close(s->fd);
	*s = (struct stdio_fd){ .fd = -1 };
}

ssize_t stdio_fd_read(const struct stdio_fd *s, void *buf, size_t n)
{
	ssize_t r;

	if (n > s->most)
		n = s->most;
	do {
		r = s->socket ? recv(s->fd, buf, n, MSG_DONTWAIT) : read(s->fd, buf, n);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

ssize_t stdio_fd_write(const struct stdio_fd *s, const void *buf, size_t n)
{
	ssize_t r;

	if (n > s->most)
		n = s->most;
	do {
		r = s->socket ? send(s->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(s->fd, buf, n);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

void stdio_fd_sanitize(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		/* The lowest free number is @fd itself. */
		int got = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
		(void)got;
	}
}

/* A descriptor that could wait gets one small write for each time poll said yes. */
static bool needs_poll(const struct sink *s)
{
	return s->out.most < CALL_MAX;
}

static int write_some(const struct sink *s, const char *p, size_t n, size_t *ret_written)
{
	*ret_written = 0;
	while (*ret_written < n) {
		ssize_t r = stdio_fd_write(&s->out, p + *ret_written, n - *ret_written);

		if (r < 0)
			return r == -EAGAIN ? 0 : (int)r;
		*ret_written += (size_t)r;
		if (needs_poll(s))
			break;
	}
	return 0;
}

int sink_push(struct sink *s, const void *p, size_t n, size_t *ret_written)
{
	int r = 0;

	*ret_written = 0;
	if (s->pending.len == 0 && !needs_poll(s))
		r = write_some(s, p, n, ret_written);
	if (r < 0)
		return r;
	buf_append(&s->pending, (const char *)p + *ret_written, n - *ret_written);
	return buf_ok(&s->pending) ? 0 : -ENOBUFS;
}

int sink_flush(struct sink *s, size_t *ret_written)
{
	int r = write_some(s, s->pending.data, s->pending.len, ret_written);

	buf_consume(&s->pending, *ret_written);
	return r;
}

void sink_done(struct sink *s)
{
	stdio_fd_done(&s->out);
	buf_done(&s->pending);
}
