/* SPDX-License-Identifier: Apache-2.0 */
/* Having memory ready that a start is known to touch. */
#ifndef VMM_SNAPSHOT_WARM_H
#define VMM_SNAPSHOT_WARM_H

#include "vmm/snapshot/memmap.h"

struct machine;

/**
 * warm_map() - memmap_apply() of m->map to m->mem, with what VMM_FD_WARM says, if it is given
 * @fds:	of the map's layers
 * m->map is then how memory is kept: what was read into huge pages is anonymous. A hint that cannot be used is none.
 * Return: 0 or as memmap_apply().
 */
int warm_map(struct machine *m, const int *fds);

#endif
