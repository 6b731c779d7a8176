// SPDX-License-Identifier: Apache-2.0
/*
 * Having memory ready that a start is known to touch.
 *
 * Theory of operation
 *
 * Each page that a restored guest touches for the first time is a VM exit, and two if it is written: the file's page is mapped
 * on the host by then (its neighbours were touched), so the private copy takes its place, which sends KVM round once more. Pages that
 * will be written are therefore copied beforehand, which happens in any case; the guest then has them at its first access. What is
 * read all over, and never written, is read into huge pages, which are one exit each: that costs memory that is no longer
 * shared with other boxes, so it is for a few of them (who makes the list decides).
 * The list comes from the template's maker (wire/warm.h), and is a hint: pages outside memory are refused by its decoder, all
 * else is harmless.
 */
#include "vmm/snapshot/warm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "wire/warm.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; where it is unknown nothing is gained */
#endif

#define COPY_PIECE 1024

/* struct list - decoded; @dense: as ranges of layer 0 */
struct list {
	struct warm_run runs[WARM_RUNS_MAX];
	int n;
	struct memmap_extent dense[WARM_RUNS_MAX];
	size_t n_dense;
};

static struct list *read_list(int fd, uint64_t pages)
{
	_cleanup_free_ struct list *l = calloc(1, sizeof(*l));
	_cleanup_free_ uint8_t *file = malloc(WARM_MAX);
	ssize_t n = l && file ? pread(fd, file, WARM_MAX, 0) : -1;

	if (n < 0)
		return NULL;
	l->n = warm_decode(file, (size_t)n, pages, l->runs);
	for (int i = 0; i < l->n; i++)
		if (l->runs[i].kind == WARM_DENSE)
			l->dense[l->n_dense++] =
				(struct memmap_extent){ .page = l->runs[i].page, .n = l->runs[i].n };
	return l->n > 0 ? take_ptr(l) : NULL;
}

/*
 * copy_range() - In small pieces: for those memcpy() has loops of vector instructions, and the one instruction that moves bytes,
 * which it and the kernel take for large ones, is slow where it is emulated.
 */
static int copy_range(struct gmem *mem, int fd, uint32_t layer, uint64_t at, uint64_t len)
{
	uint8_t *from = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, (off_t)at);

	if (from == MAP_FAILED)
		return -errno;
	for (uint64_t i = 0; i < len; i += COPY_PIECE)
		memcpy(mem->base + at + i, from + i, COPY_PIECE);
	if (mem->origin) {
		munmap(from, len);
		return 0;
	}
	mem->origin = from;
	mem->origin_off = at;
	mem->origin_len = len;
	mem->origin_layer = layer;
	return 0;
}

static int copy_dense(const struct memmap *map, struct gmem *mem, const int *fds,
		      const struct memmap_extent *d)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < map->n; i++) {
		const struct memmap_extent *e = &map->e[i];
		uint64_t from = MAX(e->page, d->page), to = MIN(e->page + e->n, d->page + d->n);

		if (e->layer && from < to)
			r = copy_range(mem, fds[e->layer - 1], e->layer, from * GMEM_PAGE,
				       (to - from) * GMEM_PAGE);
	}
	return r;
}

/* map_around() - all but the dense stretches from the files, those by copying */
static int map_around(struct memmap *map, struct gmem *mem, const int *fds, const struct list *l)
{
	_cleanup_(memmap_done) struct memmap around = { 0 };
	int r = memmap_overlay(map, l->dense, l->n_dense, &around);

	r = r ?: memmap_apply(&around, mem, fds);
	for (size_t i = 0; r == 0 && i < l->n_dense; i++)
		r = copy_dense(map, mem, fds, &l->dense[i]);
	if (r < 0)
		return r;
	struct memmap was = *map;
	*map = around;
	around = was;
	return 0;
}

static void copy_written(struct gmem *mem, const struct list *l)
{
	for (int i = 0; i < l->n; i++)
		if (l->runs[i].kind == WARM_WRITTEN &&
		    madvise(mem->base + l->runs[i].page * GMEM_PAGE, l->runs[i].n * GMEM_PAGE,
			    MADV_POPULATE_WRITE) < 0)
			return;
}

int warm_map(struct memmap *map, struct gmem *mem, const int *fds, int list)
{
	_cleanup_free_ struct list *l = list < 0 ? NULL : read_list(list, mem->size / GMEM_PAGE);

	if (!l)
		return memmap_apply(map, mem, fds);
	int r = map_around(map, mem, fds, l);
	if (r == 0)
		copy_written(mem, l);
	return r;
}
