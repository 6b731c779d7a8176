/* SPDX-License-Identifier: Apache-2.0 */
/* Having memory ready that a start is known to touch. */
#ifndef VMM_SNAPSHOT_WARM_H
#define VMM_SNAPSHOT_WARM_H

#include "vmm/snapshot/memmap.h"

/**
 * warm_map() - memmap_apply(), with what a list says
 * @map:	then says how @mem is kept: what was read into huge pages is anonymous
 * @fds:	of the map's layers
 * @list:	VMM_FD_WARM, or -1; hostile. One that cannot be used is none
 * Return: 0 or as memmap_apply().
 */
int warm_map(struct memmap *map, struct gmem *mem, const int *fds, int list);

#endif
