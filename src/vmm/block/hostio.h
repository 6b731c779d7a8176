/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes of host files, for the disk formats. Low level: 0 or -errno. */
#ifndef VMM_BLOCK_HOSTIO_H
#define VMM_BLOCK_HOSTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/block/iov.h"

/* enum hostio_eof - what bytes past the end of the file are */
enum hostio_eof {
	HOSTIO_EOF_FAILS, /* -EIO: the file is shorter than it was */
	HOSTIO_EOF_ZEROS,
};

/**
 * hostio_readv() - read @len bytes at @at and pass them in @c
 * @c:		holds at least @len bytes
 * Return: 0; -EIO at the end of the file if @eof says so; -errno. After a failure @c's bytes and place are undefined.
 */
int hostio_readv(int fd, struct iov_cur *c, size_t len, uint64_t at, enum hostio_eof eof);
int hostio_read(int fd, void *p, size_t len, uint64_t at, enum hostio_eof eof);

/* hostio_writev() - write the next @len bytes of @c at @at and pass them; 0 or -errno (-EIO if nothing goes) */
int hostio_writev(int fd, struct iov_cur *c, size_t len, uint64_t at);
int hostio_write(int fd, const void *p, size_t len, uint64_t at);

/**
 * hostio_zero() - make a range read as zeros and give its space back if the file system can
 * Never makes the file longer when it can punch holes.
 * Return: 0 or -errno.
 */
int hostio_zero(int fd, uint64_t at, uint64_t len);

/* hostio_punch() - give a range's space back; it reads as zeros then. 0, -EOPNOTSUPP or -errno */
int hostio_punch(int fd, uint64_t at, uint64_t len);

/* hostio_write_zeros() - zeros that keep their space, so that writing there cannot fail for want of it; 0 or -errno */
int hostio_write_zeros(int fd, uint64_t at, uint64_t len);

/**
 * hostio_check_fd() - whether a disk may live on @fd
 * @ret_read_only:	its access mode is O_RDONLY
 * @ret_size:		bytes of the file or block device
 * Return: 0; -EACCES if it cannot be read at any place or only be appended to; -ENOTSUP if it is
 *         neither a regular file nor a block device; -errno.
 */
int hostio_check_fd(int fd, bool *ret_read_only, uint64_t *ret_size);

#endif
