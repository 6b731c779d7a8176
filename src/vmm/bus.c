// SPDX-License-Identifier: Apache-2.0
// Dispatch of port and memory-mapped accesses.
#include "vmm/bus.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int bus_add(struct bus *b, uint64_t start, uint64_t len, bus_fn *fn, void *data)
{
	if (b->n == BUS_REGIONS_MAX)
		return -ENOSPC;
	for (size_t i = 0; i < b->n; i++)
		assert(start + len <= b->regions[i].start ||
		       start >= b->regions[i].start + b->regions[i].len);
	b->regions[b->n++] = (struct bus_region){ start, len, fn, data };
	return 0;
}

void bus_access(const struct bus *b, uint64_t at, void *p, uint32_t n, bool write)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct bus_region *r = &b->regions[i];

		if (at < r->start || at - r->start >= r->len)
			continue;
		if (n > r->len - (at - r->start))
			break;
		if (!write)
			memset(p, 0, n);
		r->fn(r->data, at - r->start, p, n, write);
		return;
	}
	if (!write)
		memset(p, 0xff, n);
}
