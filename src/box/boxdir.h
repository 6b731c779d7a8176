/* SPDX-License-Identifier: Apache-2.0 */
/* boxes/<id>: made and removed by the box's monitor, under the box's own uid. */
#ifndef BOX_BOXDIR_H
#define BOX_BOXDIR_H

#define BOXDIR_SOCKET "s"    /* in the box's directory: for commands */
#define BOXDIR_LOCK   "lock" /* held as long as the monitor lives: who gets it finds a dead box */

/**
 * boxdir_make() - make the directory of box @id in @boxes
 * @ret_lock, @ret_listen: owned by the caller: its lock, and its socket, which listens
 *
 * It is made as ".<id>" and gets its name when its lock is held. Meanwhile @boxes is locked (flock(2), shared): it is opened
 * by nobody else.
 * Return: 0, or -errno with nothing left.
 */
int boxdir_make(int boxes, const char *id, int *ret_lock, int *ret_listen);

/**
 * boxdir_remove() - remove it with all that is in it
 * Return: 0 (also when it does not exist) or -errno of the first failure.
 */
int boxdir_remove(int boxes, const char *id);

#endif
