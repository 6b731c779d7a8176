/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inherited stdin, stdout and stderr, used from a poll loop.
 *
 * Theory of operation
 *
 * Purpose: a blocked stdout must stop neither stderr nor signals, so nothing here may wait.
 * The obvious O_NONBLOCK is not ours to set: it lives in the open file description, which we share with the
 * shell and with every program of the same pipeline. Instead:
 *   pipe, terminal	opened once more through /proc/self/fd: a description of our own, non-blocking
 *   socket		send() and recv() with MSG_DONTWAIT
 *   file, device	read and written as they are: they do not wait for anybody
 *   otherwise (no /proc, no right to open) poll first, then at most PIPE_BUF bytes, which a pipe that
 *			polls writable takes without waiting
 * Threads: none.
 */
#ifndef CLI_STDIO_FD_H
#define CLI_STDIO_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/str.h"

/**
 * struct stdio_fd - one of the three
 * @fd:		to poll; the inherited one or our own
 * @own:	@fd is our own: closed by stdio_fd_done()
 * @socket:	MSG_DONTWAIT
 * @most:	bytes in one call
 */
struct stdio_fd {
	int fd;
	bool own;
	bool socket;
	size_t most;
};

/* stdio_fd_open() - prepare inherited descriptor @fd (0: to read, 1 and 2: to write); cannot fail */
void stdio_fd_open(struct stdio_fd *s, int fd);
void stdio_fd_done(struct stdio_fd *s);
/* stdio_fd_read() - bytes, 0 at the end, -EAGAIN or another -errno */
ssize_t stdio_fd_read(const struct stdio_fd *s, void *buf, size_t n);
/* stdio_fd_write() - bytes taken, at least 1, -EAGAIN or another -errno */
ssize_t stdio_fd_write(const struct stdio_fd *s, const void *buf, size_t n);

/**
 * stdio_fd_sanitize() - make sure that 0, 1 and 2 are open, before anything else is opened
 * A missing one becomes /dev/null opened the wrong way round: using it fails, as it would have.
 */
void stdio_fd_sanitize(void);

/**
 * struct sink - an output with what it has not taken yet
 * @pending:	bounded by the credit of the stream that fills it
 */
struct sink {
	struct stdio_fd out;
	struct buf pending;
};

/**
 * sink_push() - write what goes now, keep the rest
 * @ret_written: bytes of @p that went; also set on failure
 * Return: 0, or -errno: -EPIPE if the reader is gone.
 */
int sink_push(struct sink *s, const void *p, size_t n, size_t *ret_written);
/* sink_flush() - write of @pending what goes, after poll said that @out is writable; as sink_push() */
int sink_flush(struct sink *s, size_t *ret_written);
void sink_done(struct sink *s);

#endif
