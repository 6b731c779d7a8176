/* SPDX-License-Identifier: Apache-2.0 */
/* Who this machine is: what a machine restored from a template must not share with its siblings. */
#ifndef AGENT_IDENTITY_H
#define AGENT_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/cgroup.h"
#include "vial/error.h"
#include "wire/agent_msg.h"

#define IDENTITY_HOSTNAME_MAX 64
#define IDENTITY_MACHINE_ID   32 /* hex digits */

enum identity_file { ID_HOSTNAME, ID_HOSTS, ID_MACHINE_ID, ID_FILES };

/**
 * struct identity - the state of this machine's identity
 * @sizes:	of what was last written to @files
 * @files:	in memory; bound over the files of the same names in the guest's /etc
 * @urandom:	/dev/urandom, opened before any root that could replace it
 * @hwrng:	/dev/hwrng, likewise; -1 if there is none
 */
struct identity {
	int urandom;
	int hwrng;
	int files[ID_FILES];
	size_t sizes[ID_FILES];
	bool bound;
	char hostname[IDENTITY_HOSTNAME_MAX + 1];
	char machine_id[IDENTITY_MACHINE_ID + 1];
	uint64_t memory_max;
	uint32_t n_cpus, online;
};

/* identity_init() - call once /dev and /sys are mounted, before the root is set up */
void identity_init(struct identity *id);

/**
 * identity_refresh() - become the machine @m describes: entropy first, then clock, names, limits
 * @rooted:	the root is set up: write its files too
 * Return: 0 or a VIAL_E_* in @err.
 */
int identity_refresh(struct identity *id, struct cgroups *cs, const struct agent_refresh *m, bool rooted,
		     struct vial_err *err);

/* identity_write() - /etc/hostname, /etc/hosts, /etc/machine-id and a missing /etc/resolv.conf; failures are logged */
void identity_write(struct identity *id);

#endif
