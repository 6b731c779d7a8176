/* SPDX-License-Identifier: Apache-2.0 */
/* An input, unpacked as it is read: plain, gzip or zstd; both sides of it are digested. */
#ifndef IMAGE_STREAM_H
#define IMAGE_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vial/error.h"

#define STREAM_DIGEST 32

struct stream;

/**
 * stream_open() - start reading @bytes bytes of @fd at @offset (UINT64_MAX: to its end)
 * @fd:		borrowed, seekable; its contents are hostile
 */
int stream_open(int fd, uint64_t offset, uint64_t bytes, struct stream **ret, struct vial_err *err);
/* stream_open_mem() - the same from memory, borrowed */
int stream_open_mem(const void *p, size_t n, struct stream **ret, struct vial_err *err);
void stream_free(struct stream *s);

/**
 * stream_next() - next piece of the plain bytes
 * @ret:	valid until the next call
 * Return: bytes in @ret, 0 at the end, or a VIAL_E_*.
 */
ssize_t stream_next(struct stream *s, const void **ret, struct vial_err *err);

/* stream_drain() - read on to the end, so that the digests are whole */
int stream_drain(struct stream *s, struct vial_err *err);
/* stream_digests() - of the bytes as they were and of the plain ones; after the end only */
void stream_digests(struct stream *s, uint8_t ret_raw[STREAM_DIGEST], uint8_t ret_plain[STREAM_DIGEST]);
/* stream_ends_in_zeros() - whether the last 512 plain bytes were zero, as an archive's end is; after the end only */
bool stream_ends_in_zeros(const struct stream *s);
bool stream_is_compressed(const struct stream *s);
uint64_t stream_plain_bytes(const struct stream *s);

#endif
