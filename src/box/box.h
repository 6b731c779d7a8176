/* SPDX-License-Identifier: Apache-2.0 */
/* A box of this process: from specification to a running monitor. */
#ifndef BOX_BOX_H
#define BOX_BOX_H

#include "box/home.h"
#include "box/spec.h"
#include "engine/launcher.h"
#include "engine/template.h"
#include "image/image.h"
#include "wire/frame.h"

struct saved;

/**
 * struct vial_box - a box of this process
 * @home:	borrowed; outlives the box
 * @console_fd:	our end of the serial console, -1
 * @from:	the saved machine it is started from; NULL: a template. Owned
 * @mids:	of its writable disk, read-only: what it does not write (any more), the lowest first; owned
 * @upper_from:	what its writable disk begins as, -1: empty
 * @upper_ro:	what it writes, read-only; -1 before the start
 * @mem_fd, @deltas: the files its memory was mapped from, read-only, @n_deltas over the first; owned. -1: a fork cannot
 *		build on them (QEMU's own, or booted with a console)
 * @recording:	started only to see what a start touches (warm.h)
 * @pause_us:	how long it stood still for the last snapshot or fork
 */
struct vial_box {
	struct vial *home;
	struct vial_spec *spec;
	struct image image;
	char id[33];
	bool started;
	int console_fd;
	struct launcher launcher;
	struct frame_in lifeline_in;
	struct saved *from;
	int mids[LAUNCH_UPPERS_MAX];
	size_t n_mids;
	int upper_from;
	int upper_ro;
	int mem_fd;
	int deltas[LAUNCH_UPPERS_MAX];
	size_t n_deltas;
	bool recording;
	uint32_t pause_us;
};

int box_create(struct vial *v, const struct vial_spec *spec, struct vial_box **ret, struct vial_err *err);
int box_start(struct vial_box *b, struct vial_err *err);
int box_stop(struct vial_box *b, uint32_t timeout_ms, struct vial_err *err);
void box_free(struct vial_box *b);
DEFINE_CLEANUP(struct vial_box, box_free)

/* box_prepare() - build the template @spec needs; @force: anew */
int box_prepare(struct vial *v, const struct vial_spec *spec, bool force, struct vial_err *err);

/* box_new() - an empty one of @v with an id; 0 or an error */
int box_new(struct vial *v, struct vial_box **ret, struct vial_err *err);
/* box_open_image() - the root disk that its specification names */
int box_open_image(struct vial_box *b, struct vial_err *err);
/* box_forget_memory() - forks of it write all of its memory from now on */
void box_forget_memory(struct vial_box *b);
/* box_file() - a file without a name in the state directory; descriptor or -errno */
int box_file(struct vial *v);
/* box_template_env() - who builds templates and the like: @uid */
struct template_env box_template_env(struct vial *v, const char *monitor, uid_t uid);

#endif
