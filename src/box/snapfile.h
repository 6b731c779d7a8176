/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshot files: writing a saved machine into one, and making one of it again. */
#ifndef BOX_SNAPFILE_H
#define BOX_SNAPFILE_H

#include "box/saved.h"
#include "wire/snapshot.h"

/**
 * snapfile_write() - all of @s into @fd
 * @b:		the box it was saved from
 * @fd:		empty file, read-write
 */
int snapfile_write(const struct vial_box *b, const struct saved *s, int fd, struct vial_err *err);

/**
 * snapfile_head() - read and check the header of a snapshot; names @name in messages
 * @ret:	snapshot_done()
 * @ret_own:	this state directory wrote it
 * Return: 0; VIAL_E_INVALID (not a snapshot), VIAL_E_CORRUPT (cut short, altered), VIAL_E_UNSUPPORTED (another version).
 */
int snapfile_head(struct vial *v, int fd, const char *name, struct snapshot *ret, bool *ret_own,
		  struct vial_err *err);

/**
 * snapfile_fits() - can a machine of @s go on here?
 * Return: 0 or VIAL_E_UNSUPPORTED with what differs (processor, engine, layout …).
 */
int snapfile_fits(struct vial *v, const struct snapshot *s, const char *name, struct vial_err *err);

/* snapfile_extract() - its parts as files without a name, each byte checked; VIAL_E_CORRUPT */
int snapfile_extract(struct vial *v, int fd, const char *name, const struct snapshot *s, struct saved *ret,
		     struct vial_err *err);

#endif
