/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line for a launch description: the machine of engine/layout.h. */
#ifndef ENGINE_QEMU_ARGS_H
#define ENGINE_QEMU_ARGS_H

#include "base/str.h"
#include "vial/error.h"
#include "wire/launch.h"

/* Descriptors of the QEMU process; block devices follow from QEMU_FD_FIRST in the order of qemu_args(). */
enum { QEMU_FD_QMP = 3, QEMU_FD_AGENT = 4, QEMU_FD_CONSOLE = 5, QEMU_FD_STATE = 6, QEMU_FD_FIRST = 7 };

/* Names that the open supervisor maps to descriptors of the launch. */
#define QEMU_PATH_MEM	 "/vial/mem"
#define QEMU_PATH_KERNEL "/vial/kernel"
#define QEMU_PATH_INITRD "/vial/initrd"

/**
 * struct qemu_cmd - what to start
 * @argv:	program and arguments
 * @fds:	descriptors of ours that become QEMU_FD_FIRST, +1, … (borrowed)
 * @error:	0, or -errno of the first thing that failed while it was composed
 * @vmdk_fd:	descriptor file of a root of several extents; owned, -1 if there is one extent
 * @layers_set:	fdset of that file
 */
struct qemu_cmd {
	struct strv argv;
	int fds[LAUNCH_EXTENTS_MAX + LAUNCH_UPPERS_MAX + 8];
	size_t n_fds;
	int error;
	int vmdk_fd;
	int layers_set;
};

/* A file node below a format's, as members of a JSON object, with the number of its fdset to be filled in. */
#define QEMU_FILE_NODE(options) \
	"\"file\":{\"driver\":\"file\",\"locking\":\"off\"," options "\"filename\":\"/dev/fdset/%d\"}"
#define QEMU_READ_ONLY "\"read-only\":true,"
#define QEMU_DISCARD   "\"discard\":\"unmap\","
/* The node that joins a root's extents; it is taken away while a machine is saved. */
#define QEMU_LAYERS_NODE \
	"{\"driver\":\"vmdk\",\"node-name\":\"layers\"," QEMU_READ_ONLY QEMU_FILE_NODE(QEMU_READ_ONLY) "}"

int qemu_args(const struct launch *l, struct qemu_cmd *ret, struct vial_err *err);
void qemu_cmd_done(struct qemu_cmd *c);

#endif
