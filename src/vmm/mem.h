/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: one host mapping, reached by guest-physical address through bounds checks only.
 *
 * Layout: RAM from 0 to at most GMEM_LOW_MAX, the rest from GMEM_HIGH_START. On the host both lie one behind the other,
 * so an offset into the mapping is also an offset into the backing file.
 * Trust: every address comes from the guest. The bytes behind a span are the guest's, too, and change at any moment:
 * read each once, into a copy, before judging it.
 */
#ifndef VMM_MEM_H
#define VMM_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define GMEM_PAGE	4096ULL
#define GMEM_LOW_MAX	(3ULL << 30) /* RAM below the hole for devices */
#define GMEM_HIGH_START (4ULL << 30) /* where RAM goes on above it */
#define GMEM_SIZE_MIN	(16ULL << 20)
#define GMEM_SIZE_MAX	(1ULL << 40)

/* struct gpa - guest-physical address: never a pointer, never trusted */
struct gpa {
	uint64_t v;
};

static inline struct gpa gpa(uint64_t v)
{
	return (struct gpa){ v };
}

/* gpa_add() - wraps like the guest's own arithmetic; the sum is checked where it is used */
static inline struct gpa gpa_add(struct gpa a, uint64_t n)
{
	return (struct gpa){ a.v + n };
}

/**
 * struct gmem - the memory of one machine
 * @base:	host mapping of @size bytes; NULL: none
 * @shared:	MAP_SHARED: nothing may be discarded, since that would change the file
 * @origin:	the file's bytes that a stretch of anonymous memory was filled with, if that was one: @origin_len of them, read
 *		from layer @origin_layer (snapshot/memmap.h) for offset @origin_off; a mapping, owned
 * @dirty:	pages that devices wrote since the last gmem_dirty_clear(), a bit each; NULL while nobody asks
 * I/O thread, except for gmem_span(), gmem_read() and gmem_write(), which any thread may call. Only the I/O thread
 * may write while @dirty is kept: what vCPUs write is KVM's to track.
 */
struct gmem {
	uint8_t *base;
	uint64_t size;
	bool shared;
	const uint8_t *origin;
	uint64_t origin_off, origin_len;
	uint32_t origin_layer;
	uint64_t *dirty;
};

/**
 * gmem_new_anon() - private anonymous memory of zeros, huge pages welcome
 * @size:	bytes, a multiple of 2 MiB, GMEM_SIZE_MIN..GMEM_SIZE_MAX
 * @ret:	gmem_done()
 * Return: 0, -EINVAL, or -errno of mmap.
 */
int gmem_new_anon(struct gmem *ret, uint64_t size);

/**
 * gmem_new_file() - memory over a file
 * @fd:		stays the caller's and may be closed; at least @size long
 * @shared:	guest writes reach the file; otherwise they stay private (copy on write)
 * Return: 0, -EINVAL, -ENODATA if the file is too short, or -errno.
 */
int gmem_new_file(struct gmem *ret, uint64_t size, int fd, bool shared);
/**
 * gmem_map_file() - let a part of private memory show a file's bytes, copy-on-write
 * @off, @len:	whole pages of the mapping; also the file's offset
 * @fd:		stays the caller's and may be closed
 * Return: 0 or -errno of mmap.
 */
int gmem_map_file(struct gmem *m, uint64_t off, uint64_t len, int fd);
/* gmem_done() - unmap; a zeroed gmem is fine */
void gmem_done(struct gmem *m);

/**
 * gmem_span() - host address of guest bytes
 * @len:	0..; the whole span must be RAM and not touch the hole below 4 GiB
 * Return: pointer valid until gmem_done(), or NULL if any byte is not RAM.
 */
void *gmem_span(const struct gmem *m, struct gpa at, uint64_t len);

/* gmem_read(), gmem_write() - copy out of and into guest memory (write marks pages dirty); 0 or -EFAULT */
int gmem_read(const struct gmem *m, struct gpa at, void *to, uint64_t len);
int gmem_write(struct gmem *m, struct gpa at, const void *from, uint64_t len);

/**
 * gmem_discard() - the guest no longer needs these bytes: their pages go back to the host and read as zero, or as the
 * snapshot's bytes, the next time
 * @at, @len:	any; rounded inwards to whole pages
 * Return: 0, -EFAULT outside RAM, -EOPNOTSUPP if the memory is shared with a file.
 */
int gmem_discard(struct gmem *m, struct gpa at, uint64_t len);

/* gmem_low_size(), gmem_high_size() - bytes of RAM below the hole and above 4 GiB */
static inline uint64_t gmem_low_size(const struct gmem *m)
{
	return MIN(m->size, GMEM_LOW_MAX);
}
static inline uint64_t gmem_high_size(const struct gmem *m)
{
	return m->size - gmem_low_size(m);
}

/* gmem_dirty_start() - keep the bitmap from now on, all clean; 0 or -ENOMEM */
int gmem_dirty_start(struct gmem *m);
/**
 * gmem_dirty_mark() - a device writes here, or will before its next quiesce
 * @host:	from gmem_span(); vq_pop() has done it for device-writable spans, so devices need not
 */
void gmem_dirty_mark(struct gmem *m, const void *host, uint64_t len);
void gmem_dirty_clear(struct gmem *m);

#endif
