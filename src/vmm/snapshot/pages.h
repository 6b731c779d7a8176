/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at pages of guest memory, and copying them to a file at their own offsets. */
#ifndef VMM_SNAPSHOT_PAGES_H
#define VMM_SNAPSHOT_PAGES_H

#include "vmm/mem.h"
#include "vmm/snapshot/memmap.h"

/* Looked at in one go by pages_untouched(): most of a machine's memory was never used */
#define PAGES_WINDOW (8 * MEMMAP_CHUNK / GMEM_PAGE)

/* pages_zero() - is this page nothing but zeros? */
bool pages_zero(const uint8_t *page);
/* pages_swapped() - the host swaps: then a page that pages_untouched() misses may have been written all the same */
bool pages_swapped(void);
/* pages_untouched() - surely nothing but zeros in these anonymous pages (at most PAGES_WINDOW), without looking at them */
bool pages_untouched(const struct gmem *mem, uint64_t page, uint64_t n);

/* pages_bit() - of a bitmap; NULL has none */
static inline bool pages_bit(const uint64_t *bits, uint64_t page)
{
	return bits && bits[page / 64] >> (page % 64) & 1;
}

/**
 * pages_write() - a stretch of pages
 * @there:	pages that the file may have other bytes of already, a bit each; NULL: none. All others are holes of it,
 *		and stay such if they are zeros
 * Return: how many were written, or -errno.
 */
int64_t pages_write(const struct gmem *mem, int fd, uint64_t page, uint64_t n, const uint64_t *there);

#endif
