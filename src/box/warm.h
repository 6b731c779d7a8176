/* SPDX-License-Identifier: Apache-2.0 */
/* What a start from a template touches: found out once, kept beside it (wire/warm.h). */
#ifndef BOX_WARM_H
#define BOX_WARM_H

#include "box/box.h"
#include "box/machine.h"
#include "wire/warm.h"

#define WARM_DENSE_CHUNKS 1 /* huge pages that no longer are shared with other boxes: 2 MiB a box */

/**
 * warm_open() - the list of template @t; if there is none, a box is started, runs a command and is looked at
 * @b:		about to start from it
 * @m:		the machine that @t is of
 * Return: read-only descriptor, or -1: there is none, which costs a start some time and nothing else.
 */
int warm_open(struct vial_box *b, const struct machine *m, const struct template *t);

/**
 * warm_compare() - what was written since
 * @mem:	template's memory, @bytes of it
 * @delta:	of a box that was started from it: changed pages, at their places
 * @text:	where the kernel's code begins in memory, 0: unknown
 * @ret:	room for WARM_RUNS_MAX
 * Return: how many runs, -E2BIG, or -errno of reading.
 */
int warm_compare(int mem, int delta, uint64_t bytes, uint64_t text, struct warm_run *ret);

#endif
