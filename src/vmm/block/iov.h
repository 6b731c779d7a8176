/* SPDX-License-Identifier: Apache-2.0 */
/* Walking through scattered memory: what a request's bytes are read into or written from. */
#ifndef VMM_BLOCK_IOV_H
#define VMM_BLOCK_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/**
 * struct iov_cur - a place in scattered memory
 * @v:		the entry that is next; borrowed, never changed
 * @n:		entries left, @v's included
 * @skip:	bytes of @v already passed
 */
struct iov_cur {
	const struct iovec *v;
	size_t n;
	size_t skip;
};

/* iov_bytes() - sum of the lengths of @n entries; 0, or -EOVERFLOW beyond SSIZE_MAX */
int iov_bytes(const struct iovec *v, size_t n, size_t *ret);

/**
 * iov_peek() - the next bytes as entries of their own; the cursor stays
 * @max:	at most so many bytes
 * @out:	room for @room entries, which limits the bytes, too
 * Return: entries in @out; @ret_bytes is what they hold.
 */
size_t iov_peek(const struct iov_cur *c, size_t max, struct iovec *out, size_t room, size_t *ret_bytes);

/* iov_advance() - pass @bytes; stops at the end */
void iov_advance(struct iov_cur *c, size_t bytes);

/* iov_zero() - set the next @bytes to zero and pass them */
void iov_zero(struct iov_cur *c, size_t bytes);

#endif
