// SPDX-License-Identifier: Apache-2.0
// Buffered sequential output to a descriptor or to memory.
#include "image/sink.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define SINK_CHUNK    KIB(256) /* bytes per write(2) */
#define SINK_HOLE_MIN KIB(64)  /* shorter runs of zeros are written */
#define SINK_MEM_MAX  MIB(1024)

void sink_init(struct sink *s, int fd)
{
	*s = (struct sink){ .fd = fd, .mem = { .limit = SINK_MEM_MAX } };
}

void sink_done(struct sink *s)
{
	buf_done(&s->mem);
}

static void flush(struct sink *s)
{
	if (s->fd < 0 || s->error)
		return;
	s->error = fd_write_full(s->fd, s->mem.data, s->mem.len);
	s->mem.len = 0;
}

void sink_write(struct sink *s, const void *p, size_t n)
{
	if (s->error || n == 0)
		return;
	s->pos += n;
	if (s->fd >= 0 && s->mem.len + n > SINK_CHUNK)
		flush(s);
	if (s->fd >= 0 && n > SINK_CHUNK) {
		if (!s->error)
			s->error = fd_write_full(s->fd, p, n);
		return;
	}
	buf_append(&s->mem, p, n);
	if (!buf_ok(&s->mem))
		s->error = -ENOMEM;
}

void sink_zero(struct sink *s, uint64_t n)
{
	static const uint8_t zeros[4096];

	if (s->fd >= 0 && n >= SINK_HOLE_MIN) {
		flush(s);
		if (!s->error && lseek(s->fd, (off_t)n, SEEK_CUR) < 0)
			s->error = -errno;
		s->pos += n;
		return;
	}
	while (n > 0 && !s->error) {
		size_t k = (size_t)MIN(n, (uint64_t)sizeof(zeros));
		sink_write(s, zeros, k);
		n -= k;
	}
}

void sink_align(struct sink *s, uint32_t align)
{
	sink_zero(s, ALIGN_UP(s->pos, (uint64_t)align) - s->pos);
}

void sink_patch(struct sink *s, uint64_t off, const void *p, size_t n)
{
	if (s->fd < 0) {
		if (!s->error)
			memcpy(s->mem.data + off, p, n);
		return;
	}
	flush(s);
	if (!s->error && pwrite(s->fd, p, n, (off_t)off) != (ssize_t)n)
		s->error = errno ? -errno : -EIO;
}

int sink_finish(struct sink *s)
{
	flush(s);
	/* A hole at the end needs the length set; a file that was longer needs it cut. */
	if (s->fd >= 0 && !s->error && ftruncate(s->fd, (off_t)s->pos) < 0)
		s->error = -errno;
	return s->error;
}
