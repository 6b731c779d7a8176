// SPDX-License-Identifier: Apache-2.0
// Frames: splitting a byte stream, and appending one.
#include "wire/frame.h"

#include <errno.h>
#include <string.h>

/* A buffer that has grown for one large frame is given back once it is empty. */
#define KEEP_CAP KIB(256)

static size_t get_be32(const void *p)
{
	const uint8_t *b = p;

	return (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
}

void frame_in_done(struct frame_in *f)
{
	buf_done(&f->buf);
	f->used = 0;
}

/* Drops what was handed out, but moves bytes only when that is cheap against what was received. */
static void compact(struct frame_in *f)
{
	size_t left = f->buf.len - f->used;

	if (left == 0 && f->buf.cap > KEEP_CAP) {
		buf_done(&f->buf);
		f->used = 0;
	} else if (f->used >= left) {
		buf_consume(&f->buf, f->used);
		f->used = 0;
	}
}

/* 1 if the next frame's length is known (in @ret_len), 0 if not yet, -EMSGSIZE */
static int peek_length(const struct frame_in *f, size_t *ret_len)
{
	if (f->buf.len - f->used < FRAME_HEADER)
		return 0;
	size_t len = get_be32(f->buf.data + f->used);
	if (len > f->max)
		return -EMSGSIZE;
	*ret_len = len;
	return 1;
}

int frame_in_push(struct frame_in *f, const void *p, size_t n)
{
	size_t len;

	compact(f);
	int r = buf_reserve(&f->buf, n);
	if (r < 0)
		return -ENOMEM;
	buf_append(&f->buf, p, n);
	r = peek_length(f, &len);
	return r < 0 ? r : 0;
}

int frame_in_next(struct frame_in *f, const uint8_t **ret, size_t *ret_n)
{
	size_t len;
	int r = peek_length(f, &len);

	if (r <= 0)
		return r;
	if (f->buf.len - f->used - FRAME_HEADER < len)
		return 0;
	*ret = (const uint8_t *)f->buf.data + f->used + FRAME_HEADER;
	*ret_n = len;
	f->used += FRAME_HEADER + len;
	return 1;
}

void frame_put(struct buf *out, const void *payload, size_t n)
{
	uint8_t header[FRAME_HEADER];

	if (n > UINT32_MAX) {
		out->failed = true;
		return;
	}
	/* Both or nothing: a header without its payload would swallow the frames after it. */
	if (buf_reserve(out, FRAME_HEADER + n) < 0)
		return;
	frame_header(header, (uint32_t)n);
	buf_append(out, header, sizeof(header));
	buf_append(out, payload, n);
}
