// SPDX-License-Identifier: Apache-2.0
// Bytes on their way into a non-blocking socket.
#include "base/outq.h"

#include <errno.h>
#include <sys/socket.h>

int outq_flush(struct outq *q, int sock)
{
	while (outq_pending(q) > 0) {
		ssize_t r = send(sock, q->buf.data + q->off, outq_pending(q), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EAGAIN)
			break;
		if (r < 0)
			return -errno;
		q->off += (size_t)r;
	}
	if (outq_pending(q) == 0) {
		q->off = q->buf.len = 0;
		return 1;
	}
	/* Compact only when most of it is gone, so that moving stays cheaper than sending. */
	if (q->off > q->buf.len / 2) {
		buf_consume(&q->buf, q->off);
		q->off = 0;
	}
	return 0;
}
