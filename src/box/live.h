/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a running box as a whole; as the vial_box_* of the same name. */
#ifndef BOX_LIVE_H
#define BOX_LIVE_H

#include "box/box.h"

#define FORK_MAX 256 /* children of one call */

int box_pause(struct vial_box *b, struct vial_err *err);
int box_resume(struct vial_box *b, struct vial_err *err);
int box_update(struct vial_box *b, const struct vial_limits *l, struct vial_err *err);
int box_fork(struct vial_box *b, size_t n, struct vial_box **ret, struct vial_err *err);

#endif
