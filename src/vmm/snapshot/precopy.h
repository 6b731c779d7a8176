/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the memory of a running machine ahead of a fork (delta.h), in turns with its devices.
 * What goes wrong here costs time only: the snapshot then writes what is missing.
 */
#ifndef VMM_SNAPSHOT_PRECOPY_H
#define VMM_SNAPSHOT_PRECOPY_H

#include <stdbool.h>

struct machine;

/**
 * precopy_start() - begin; control_done() with VMM_AHEAD follows when enough is written
 * @fd:		empty; stays the caller's
 * Whatever was written ahead before is dropped.
 */
void precopy_start(struct machine *m, int fd);
/* precopy_stop() - as precopy_start()'s end, now; nothing if none is under way */
void precopy_stop(struct machine *m);
/* precopy_drop() - forget what was written ahead */
void precopy_drop(struct machine *m);
/* precopy_is() - is this the file that was written ahead into? */
bool precopy_is(const struct machine *m, int fd);

#endif
