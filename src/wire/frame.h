/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: a 4-byte big-endian length, then that many bytes of payload.
 * Both the agent protocol and the monitor protocol are sequences of frames.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define FRAME_HEADER   4
#define FRAME_MAX      MIB(1)  /* every frame but the two below */
#define FRAME_MAX_EXEC MIB(16) /* a frame that carries an exec request */

/**
 * struct frame_in - splits a byte stream into frames
 * @buf:	bytes received; drained of whole frames it holds less than FRAME_HEADER + @max that is not
 *		handed out, and at most as much again that is
 * @max:	longest payload accepted; may be changed between frames
 *
 * Zero-initialise, set @max, end with frame_in_done(). The peer controls every byte.
 */
struct frame_in {
	struct buf buf;
	size_t max;
	size_t used; /* bytes at the start of @buf that were handed out */
};

void frame_in_done(struct frame_in *f);

/**
 * frame_in_push() - add received bytes
 * Return: 0, -ENOMEM; -EMSGSIZE if a frame longer than @max is announced.
 */
int frame_in_push(struct frame_in *f, const void *p, size_t n);

/**
 * frame_in_next() - the next whole frame
 * @ret:	payload; borrowed until the next call with @f
 * @ret_n:	its length, 0..max
 * Return: 1 with a frame, 0 if more bytes are needed, -EMSGSIZE if it is too long.
 */
int frame_in_next(struct frame_in *f, const uint8_t **ret, size_t *ret_n);

/* frame_header() - write the header of a frame with @n bytes of payload to @p */
static inline void frame_header(uint8_t p[FRAME_HEADER], uint32_t n)
{
	p[0] = (uint8_t)(n >> 24);
	p[1] = (uint8_t)(n >> 16);
	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
}

/* frame_put() - append one frame to @out; @out->failed tells of a failure */
void frame_put(struct buf *out, const void *payload, size_t n);

#endif
