/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where each page of guest memory is kept: which file, or nowhere because it is zeros.
 *
 * Layer 0 is zeros (anonymous memory); layer 1 is VMM_FD_MEM, 2 the first VMM_FD_DELTA and so on, each a file as long as the memory
 * with pages at their own offsets. A map names a layer for every page, so that files may have any holes.
 */
#ifndef VMM_SNAPSHOT_MEMMAP_H
#define VMM_SNAPSHOT_MEMMAP_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/mem.h"

#define MEMMAP_EXTENTS_MAX 16384 /* each is a mapping of ours: the kernel's limit is 65530 */
#define MEMMAP_LAYERS_MAX  100
#define MEMMAP_CHUNK	   (2ULL << 20) /* holes shorter than this, or not aligned to it, stay in a file */

/* struct memmap_extent - as it stands in the state file (little-endian) */
struct memmap_extent {
	uint64_t page; /* first */
	uint32_t n;
	uint32_t layer;
};

/**
 * struct memmap - extents in order, without gaps, from page 0 to the end
 * @layers:	highest layer that may occur
 */
struct memmap {
	struct memmap_extent *e;
	size_t n;
	size_t cap;
	uint32_t layers;
};

void memmap_done(struct memmap *m);
/* memmap_add() - append @n pages of @layer at the end, joined to the last extent if it is the same; 0, -ENOMEM, -E2BIG */
int memmap_add(struct memmap *m, uint64_t n, uint32_t layer);
/**
 * memmap_load() - extents from a state file
 * @p:		@bytes hostile bytes
 * @pages:	of the memory
 * Return: 0, -EBADMSG if they do not cover exactly @pages in order or name a layer above @layers, -E2BIG, -ENOMEM.
 */
int memmap_load(struct memmap *ret, const void *p, size_t bytes, uint64_t pages, uint32_t layers);
/**
 * memmap_overlay() - @under with some ranges taken by another layer
 * @over:	@n_over ranges in order, not overlapping, within @under (layer as given there)
 * @ret:	zeroed; @layers is the highest of both
 * Return: 0, -ENOMEM, -E2BIG.
 */
int memmap_overlay(const struct memmap *under, const struct memmap_extent *over, size_t n_over,
		   struct memmap *ret);
/* memmap_find() - index of the extent that @page is in; 0 if there is none */
size_t memmap_find(const struct memmap *m, uint64_t page);
/* memmap_layer() - of one page */
uint32_t memmap_layer(const struct memmap *m, uint64_t page);

/**
 * memmap_apply() - make @mem show what the map says, privately
 * @mem:	fresh anonymous memory
 * @fds:	of layers 1 to map->layers; each at least as long as the memory
 * Return: 0, -ENODATA if a file is too short, or -errno.
 */
int memmap_apply(const struct memmap *m, struct gmem *mem, const int *fds);
/* memmap_read() - the same by reading: the memory stays anonymous; 0 or -errno */
int memmap_read(const struct memmap *m, struct gmem *mem, const int *fds);

#endif
