// SPDX-License-Identifier: Apache-2.0
// Maps of guest memory.
#include "vmm/snapshot/memmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(struct memmap_extent) == 16, "no padding in the file");

void memmap_done(struct memmap *m)
{
	free(m->e);
	*m = (struct memmap){ 0 };
}

static struct memmap_extent *last(const struct memmap *m)
{
	return m->n ? &m->e[m->n - 1] : NULL;
}

int memmap_add(struct memmap *m, uint64_t n, uint32_t layer)
{
	struct memmap_extent *l = last(m);
	uint64_t page = l ? l->page + l->n : 0;

	if (n == 0)
		return 0;
	if (n > UINT32_MAX)
		return -E2BIG;
	m->layers = MAX(m->layers, layer);
	if (l && l->layer == layer && n <= UINT32_MAX - l->n) {
		l->n += (uint32_t)n;
		return 0;
	}
	if (m->n == MEMMAP_EXTENTS_MAX)
		return -E2BIG;
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 64;
		struct memmap_extent *e = realloc(m->e, cap * sizeof(*e));

		if (!e)
			return -ENOMEM;
		m->e = e;
		m->cap = cap;
	}
	m->e[m->n++] = (struct memmap_extent){ page, (uint32_t)n, layer };
	return 0;
}

int memmap_load(struct memmap *ret, const void *p, size_t bytes, uint64_t pages, uint32_t layers)
{
	struct memmap m = { 0 };
	uint64_t next = 0;
	int r = bytes % sizeof(struct memmap_extent) ? -EBADMSG : 0;

	for (size_t i = 0; r == 0 && i < bytes / sizeof(struct memmap_extent); i++) {
		struct memmap_extent e;

		memcpy(&e, (const uint8_t *)p + i * sizeof(e), sizeof(e));
		if (e.page != next || e.n == 0 || e.n > pages - next || e.layer > layers)
			r = -EBADMSG;
		else
			r = memmap_add(&m, e.n, e.layer);
		next += e.n;
	}
	if (r == 0 && next != pages)
		r = -EBADMSG;
	if (r < 0) {
		memmap_done(&m);
		return r;
	}
	m.layers = layers;
	*ret = m;
	return 0;
}

/* copy_range() - append pages [from, to) as they are in @under; @i: an extent at or before @from, moved on */
static int copy_range(struct memmap *m, const struct memmap *under, size_t *i, uint64_t from, uint64_t to)
{
	int r = 0;

	while (r == 0 && from < to) {
		const struct memmap_extent *e = &under->e[*i];
		uint64_t end = e->page + e->n;

		if (end <= from) {
			(*i)++;
			continue;
		}
		r = memmap_add(m, MIN(end, to) - from, e->layer);
		from = MIN(end, to);
	}
	return r;
}

int memmap_overlay(const struct memmap *under, const struct memmap_extent *over, size_t n_over,
		   struct memmap *ret)
{
	const struct memmap_extent *l = last(under);
	uint64_t at = 0, end = l ? l->page + l->n : 0;
	size_t i = 0;
	int r = 0;

	ret->layers = under->layers;
	for (size_t k = 0; r == 0 && k < n_over; k++) {
		r = copy_range(ret, under, &i, at, over[k].page);
		if (r == 0)
			r = memmap_add(ret, over[k].n, over[k].layer);
		at = over[k].page + over[k].n;
	}
	return r == 0 ? copy_range(ret, under, &i, at, end) : r;
}

size_t memmap_find(const struct memmap *m, uint64_t page)
{
	size_t low = 0, high = m->n;

	while (high - low > 1) {
		size_t mid = (low + high) / 2;

		if (m->e[mid].page <= page)
			low = mid;
		else
			high = mid;
	}
	return low;
}

uint32_t memmap_layer(const struct memmap *m, uint64_t page)
{
	return m->n ? m->e[memmap_find(m, page)].layer : 0;
}

static int check_files(const struct memmap *m, const struct gmem *mem, const int *fds)
{
	for (uint32_t i = 0; i < m->layers; i++) {
		struct stat st;

		if (fstat(fds[i], &st) < 0)
			return -errno;
		if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < mem->size)
			return -ENODATA;
	}
	return 0;
}

int memmap_apply(const struct memmap *m, struct gmem *mem, const int *fds)
{
	int r = check_files(m, mem, fds);

	for (size_t i = 0; r == 0 && i < m->n; i++)
		if (m->e[i].layer)
			r = gmem_map_file(mem, m->e[i].page * GMEM_PAGE, m->e[i].n * GMEM_PAGE,
					  fds[m->e[i].layer - 1]);
	return r;
}

static int read_range(struct gmem *mem, int fd, uint64_t at, uint64_t len)
{
	while (len > 0) {
		ssize_t n = pread(fd, mem->base + at, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int memmap_read(const struct memmap *m, struct gmem *mem, const int *fds)
{
	int r = check_files(m, mem, fds);

	for (size_t i = 0; r == 0 && i < m->n; i++)
		if (m->e[i].layer)
			r = read_range(mem, fds[m->e[i].layer - 1], m->e[i].page * GMEM_PAGE,
				       m->e[i].n * GMEM_PAGE);
	return r;
}
