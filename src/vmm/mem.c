// SPDX-License-Identifier: Apache-2.0
// Guest memory: mapping it, and the one place where guest addresses become pointers.
#include "vmm/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define HUGE (2ULL << 20) /* huge page, and the step of sizes */

static bool size_ok(uint64_t size)
{
	return size >= GMEM_SIZE_MIN && size <= GMEM_SIZE_MAX && size % HUGE == 0;
}

/* reserve() - addresses for @size bytes, aligned as huge pages are: KVM can then use them, too */
static uint8_t *reserve(uint64_t size)
{
	uint8_t *p = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	size_t head = ALIGN_UP((uintptr_t)p, HUGE) - (uintptr_t)p;
	if (head)
		munmap(p, head);
	munmap(p + head + size, HUGE - head);
	return p + head;
}

static int map(struct gmem *ret, uint64_t size, int fd, int flags)
{
	uint8_t *p = reserve(size);

	if (!p)
		return -ENOMEM;
	if (mmap(p, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
		int r = -errno;

		munmap(p, size);
		return r;
	}
	*ret = (struct gmem){ .base = p, .size = size, .shared = flags & MAP_SHARED };
	return 0;
}

int gmem_new_anon(struct gmem *ret, uint64_t size)
{
	if (!size_ok(size))
		return -EINVAL;
	int r = map(ret, size, -1, MAP_PRIVATE | MAP_ANONYMOUS);
	if (r == 0)
		(void)madvise(ret->base, size, MADV_HUGEPAGE); /* a hint; some kernels have none */
	return r;
}

int gmem_new_file(struct gmem *ret, uint64_t size, int fd, bool shared)
{
	struct stat st;

	if (!size_ok(size))
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < size)
		return -ENODATA;
	return map(ret, size, fd, shared ? MAP_SHARED : MAP_PRIVATE);
}

int gmem_map_file(struct gmem *m, uint64_t off, uint64_t len, int fd)
{
	if (m->shared || off > m->size || len > m->size - off)
		return -EINVAL;
	void *p = mmap(m->base + off, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		       fd, (off_t)off);
	return p == MAP_FAILED ? -errno : 0;
}

void gmem_done(struct gmem *m)
{
	if (m->base)
		munmap(m->base, m->size);
	if (m->origin)
		munmap((void *)(uintptr_t)m->origin, m->origin_len);
	free(m->dirty);
	*m = (struct gmem){ 0 };
}

/* offset_of() - guest address to offset in the mapping; false if the span is not all RAM of one piece */
static bool offset_of(const struct gmem *m, uint64_t at, uint64_t len, uint64_t *ret)
{
	uint64_t start = 0, size = gmem_low_size(m), before = 0;

	if (at >= GMEM_HIGH_START) {
		before = size;
		start = GMEM_HIGH_START;
		size = gmem_high_size(m);
	}
	if (at - start >= size || len > size - (at - start))
		return false;
	*ret = before + (at - start);
	return true;
}

void *gmem_span(const struct gmem *m, struct gpa at, uint64_t len)
{
	uint64_t off;

	return offset_of(m, at.v, len, &off) ? m->base + off : NULL;
}

int gmem_read(const struct gmem *m, struct gpa at, void *to, uint64_t len)
{
	const void *p = gmem_span(m, at, len);

	if (!p)
		return -EFAULT;
	memcpy(to, p, len);
	return 0;
}

int gmem_write(struct gmem *m, struct gpa at, const void *from, uint64_t len)
{
	void *p = gmem_span(m, at, len);

	if (!p)
		return -EFAULT;
	gmem_dirty_mark(m, p, len);
	memcpy(p, from, len);
	return 0;
}

int gmem_discard(struct gmem *m, struct gpa at, uint64_t len)
{
	uint64_t off;

	if (m->shared)
		return -EOPNOTSUPP;
	if (!offset_of(m, at.v, len, &off))
		return -EFAULT;
	uint64_t first = ALIGN_UP(off, GMEM_PAGE), end = (off + len) & ~(GMEM_PAGE - 1);
	if (first >= end)
		return 0;
	gmem_dirty_mark(m, m->base + first, end - first);
	return madvise(m->base + first, end - first, MADV_DONTNEED) < 0 ? -errno : 0;
}

static size_t dirty_words(const struct gmem *m)
{
	return (m->size / GMEM_PAGE + 63) / 64;
}

int gmem_dirty_start(struct gmem *m)
{
	if (!m->dirty)
		m->dirty = malloc(dirty_words(m) * sizeof(*m->dirty));
	if (!m->dirty)
		return -ENOMEM;
	gmem_dirty_clear(m);
	return 0;
}

void gmem_dirty_mark(struct gmem *m, const void *host, uint64_t len)
{
	if (!m->dirty || len == 0)
		return;
	uint64_t off = (uint64_t)((const uint8_t *)host - m->base);
	uint64_t first = off / GMEM_PAGE, last = (off + len - 1) / GMEM_PAGE;
	/* By words: a chain may name all of memory in each of its descriptors. */
	for (uint64_t w = first / 64; w <= last / 64; w++) {
		uint64_t bits = ~0ULL;

		if (w == first / 64)
			bits &= ~0ULL << first % 64;
		if (w == last / 64)
			bits &= ~0ULL >> (63 - last % 64);
		m->dirty[w] |= bits;
	}
}

void gmem_dirty_clear(struct gmem *m)
{
	if (m->dirty)
		memset(m->dirty, 0, dirty_words(m) * sizeof(*m->dirty));
}
