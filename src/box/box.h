/* SPDX-License-Identifier: Apache-2.0 */
/* A box of this process: from specification to a running monitor. */
#ifndef BOX_BOX_H
#define BOX_BOX_H

#include "box/home.h"
#include "box/spec.h"
#include "engine/launcher.h"
#include "image/image.h"
#include "wire/frame.h"

#define BOX_SOCKET "s" /* in the box's directory */

/**
 * struct vial_box - a box of this process
 * @home:	borrowed; outlives the box
 * @dir_made:	boxes/<id> exists and is ours to remove until the monitor runs
 * @console_fd:	our end of the serial console, -1
 */
struct vial_box {
	struct vial *home;
	struct vial_spec *spec;
	struct image image;
	char id[33];
	bool dir_made;
	bool started;
	int console_fd;
	struct launcher launcher;
	struct frame_in lifeline_in;
};

int box_create(struct vial *v, const struct vial_spec *spec, struct vial_box **ret, struct vial_err *err);
int box_start(struct vial_box *b, struct vial_err *err);
int box_stop(struct vial_box *b, uint32_t timeout_ms, struct vial_err *err);
void box_free(struct vial_box *b);
DEFINE_CLEANUP(struct vial_box, box_free)

/* box_prepare() - build the template @spec needs; @force: anew */
int box_prepare(struct vial *v, const struct vial_spec *spec, bool force, struct vial_err *err);

#endif
