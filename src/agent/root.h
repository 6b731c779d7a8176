/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts: the machine's own, and the root file system that commands see. */
#ifndef AGENT_ROOT_H
#define AGENT_ROOT_H

#include <stdbool.h>

#include "agent/disks.h"
#include "vial/error.h"
#include "wire/agent_msg.h"

/**
 * struct root - the root file system; zero-initialise
 * @base_fd:	its writable disk's mount (upper, or root with root_rw), kept for power-off; -1 if none
 */
struct root {
	struct disks disks;
	bool ready;
	int base_fd;
};

/* root_boot_early() - /dev, /proc, /sys of the initramfs */
void root_boot_early(void);
/* root_boot_late() - after modules: the rest below /dev, loopback up; the initramfs' files go, their memory with them */
void root_boot_late(void);

/**
 * root_setup() - find the disks, mount them, put an overlay above, move into it
 * A failure half-way leaves a machine that is good for power-off only.
 * Return: 0 or a VIAL_E_* in @err.
 */
int root_setup(struct root *r, const struct agent_setup *m, struct vial_err *err);

/* root_release() - sync and make the disks clean, as far as open files allow */
void root_release(struct root *r);

#endif
