/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes on their way into a non-blocking socket. */
#ifndef BASE_OUTQ_H
#define BASE_OUTQ_H

#include <stddef.h>

#include "base/str.h"

/**
 * struct outq - append to @buf (its limit bounds the queue), then outq_flush()
 * @off:	bytes of @buf already written
 */
struct outq {
	struct buf buf;
	size_t off;
};

/* outq_flush() - write what goes; 1 if all is written, 0 if some is left, -errno */
int outq_flush(struct outq *q, int sock);

static inline size_t outq_pending(const struct outq *q)
{
	return q->buf.len - q->off;
}

static inline void outq_done(struct outq *q)
{
	buf_done(&q->buf);
	q->off = 0;
}

#endif
