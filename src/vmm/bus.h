/* SPDX-License-Identifier: Apache-2.0 */
/* Who answers at which port or guest-physical address. Filled before the vCPUs run, then only read. */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUS_REGIONS_MAX 32

/**
 * typedef bus_fn - one access; vCPU thread, several at a time
 * @off:	from the region's start; off + n never leaves the region
 * @p:		@n bytes (1, 2, 4 or 8) to read into (zeroed) or to write from
 */
typedef void bus_fn(void *data, uint64_t off, void *p, uint32_t n, bool write);

struct bus_region {
	uint64_t start;
	uint64_t len;
	bus_fn *fn;
	void *data;
};

struct bus {
	struct bus_region regions[BUS_REGIONS_MAX];
	size_t n;
};

/* bus_add() - regions must not overlap (asserted); 0 or -ENOSPC */
int bus_add(struct bus *b, uint64_t start, uint64_t len, bus_fn *fn, void *data);
/**
 * bus_access() - hand an access to whom it belongs; @at and @n are the guest's
 * Nobody there: reads give ones, writes go nowhere.
 */
void bus_access(const struct bus *b, uint64_t at, void *p, uint32_t n, bool write);

#endif
