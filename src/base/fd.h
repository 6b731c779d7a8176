/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: ownership, whole reads and writes, passing over unix sockets. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/attr.h"

/* FD_PASS_MAX - most descriptors in one SCM_RIGHTS message we send or accept */
#define FD_PASS_MAX 64

static inline void fd_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_fd_ _cleanup_(fd_closep)

/* take_fd() - the descriptor, leaving -1 behind: ownership moves to the receiver */
#define take_fd(fd)                 \
	({                          \
		int _taken_ = (fd); \
		(fd) = -1;          \
		_taken_;            \
	})

/* fd_close() - close *@fd if it is open and set it to -1 */
void fd_close(int *fd);

int fd_set_nonblock(int fd, bool on); /* 0 or -errno */
int fd_set_cloexec(int fd, bool on);  /* 0 or -errno */

/**
 * fd_read_full() - read until @n bytes or end of file; EINTR is retried
 * Return: bytes read (less than @n only at end of file), or -errno.
 */
ssize_t fd_read_full(int fd, void *buf, size_t n);

/**
 * fd_write_full() - write all @n bytes to a blocking descriptor; EINTR is retried
 * Return: 0 or -errno.
 */
int fd_write_full(int fd, const void *buf, size_t n);

/**
 * fd_read_all() - whole contents of @fd from its current offset
 * @limit:	most bytes accepted
 * @ret_buf:	malloc'ed, NUL added after the last byte; the caller frees it
 * @ret_len:	bytes without that NUL; may be NULL
 * Return: 0, -EFBIG if longer than @limit, or -errno.
 */
int fd_read_all(int fd, size_t limit, char **ret_buf, size_t *ret_len);

/* fd_read_file_at() - open @path below @dirfd read-only and fd_read_all() it */
int fd_read_file_at(int dirfd, const char *path, size_t limit, char **ret_buf, size_t *ret_len);

/**
 * fd_write_file_at() - replace @path below @dirfd by @n bytes, atomically (rename)
 * @mode:	permission bits of the new file
 * Durable: file is fsynced before the rename.
 * Return: 0 or -errno.
 */
int fd_write_file_at(int dirfd, const char *path, const void *buf, size_t n, mode_t mode);

/**
 * fd_send() - send bytes with descriptors over a unix socket, one sendmsg
 * @nfds:	0..FD_PASS_MAX; descriptors ride on the first byte, so @n >= 1
 * Return: bytes sent (may be short on a stream socket), or -errno.
 */
ssize_t fd_send(int sock, const void *buf, size_t n, const int *fds, size_t nfds);

/**
 * fd_recv() - receive bytes and descriptors, one recvmsg; descriptors get CLOEXEC
 * @fds:	room for FD_PASS_MAX; the caller owns what is returned
 * @ret_nfds:	how many arrived
 * A message whose descriptors were cut (MSG_CTRUNC) is refused: -EPROTO, nothing leaks.
 * Return: bytes (0 at end of file), or -errno.
 */
ssize_t fd_recv(int sock, void *buf, size_t n, int *fds, size_t *ret_nfds);

/**
 * fd_reopen() - another open file description of the same file, through /proc
 * @flags:	O_RDONLY, O_RDWR …; O_CLOEXEC is added
 * Return: descriptor or -errno.
 */
int fd_reopen(int fd, int flags);

/* fd_memfd() - sealed-later memfd holding @n bytes of @buf, offset 0; fd or -errno */
int fd_memfd(const char *name, const void *buf, size_t n);

/* fd_copy_sparse() - make @to a copy of the regular file @from, its holes kept; 0 or -errno */
int fd_copy_sparse(int from, int to);

#endif
