/* SPDX-License-Identifier: Apache-2.0 */
/* Boxes to files and back. */
#ifndef BOX_SNAPSHOT_H
#define BOX_SNAPSHOT_H

#include "box/box.h"

/* As the vial_box_* of the same name. @trust: load one that came from elsewhere */
int box_snapshot(struct vial_box *b, const char *path, int fd, struct vial_err *err);
int box_create_from(struct vial *v, const char *path, const struct vial_spec *spec, bool trust,
		    struct vial_box **ret, struct vial_err *err);

#endif
