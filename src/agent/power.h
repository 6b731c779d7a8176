/* SPDX-License-Identifier: Apache-2.0 */
/* Quiesce, thaw and power-off. */
#ifndef AGENT_POWER_H
#define AGENT_POWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "vial/error.h"

struct agent;

/* power_done_fn - what was asked for has been done (@err empty) or has failed */
typedef void power_done_fn(void *user, const struct vial_err *err);

/**
 * struct power - one request at a time
 * @frozen:	commands are frozen, or are being frozen, until power_thaw()
 * @quiet:	from power_quiesce() to power_thaw()
 * @by:		whose quiesce it was, while that lives
 */
struct power {
	struct loop_src *events; /* of the commands' control group */
	struct loop_src *timer;
	struct loop_src *off;
	power_done_fn *done; /* a quiesce is under way */
	void *user;
	uint64_t settled_ns, deadline_ns;
	bool frozen, quiet;
	const void *by;
};

int power_init(struct agent *a); /* 0 or -errno */

/**
 * power_quiesce() - freeze every command, stop reading output, let what is queued leave, then call @done
 * @for_template: prepare for many machines made of this one, and let the kernel settle first
 * Disks that no root uses yet lose their driver, so that others can take their place.
 * Return: 0 (@done will be called, not from here), or a VIAL_E_* in @err.
 */
int power_quiesce(struct agent *a, bool for_template, power_done_fn *done, void *user, struct vial_err *err);
/* power_forget() - @user is gone: its quiesce goes on, @done is not called */
void power_forget(struct agent *a, const void *user);
int power_thaw(struct agent *a, struct vial_err *err); /* 0 or a VIAL_E_* */

/* power_stop() - end all commands, make the disks clean; blocks for a few seconds at most */
void power_stop(struct agent *a);
/* power_off() - at the end of this turn of the loop: let queued output leave, then switch off */
void power_off(struct agent *a);

#endif
