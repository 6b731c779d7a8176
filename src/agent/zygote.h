/* SPDX-License-Identifier: Apache-2.0 */
/* A command's process that waits, all made, for what it is to run. */
#ifndef AGENT_ZYGOTE_H
#define AGENT_ZYGOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/cgroup.h"
#include "agent/spawner.h"
#include "wire/agent_msg.h"

#define ZYGOTE_REQUEST_MAX KIB(48) /* goes into its pipe (64 KiB) without waiting */

/**
 * struct zygote - the waiting process, seen from PID 1
 * @pid:	0: there is none
 * @request_fd:	takes one Exec message
 * @ready_fd:	ends when it has come to wait; -1 after that was seen
 * @out_fds, @in_fd, @status_fd: as in struct cmd
 */
struct zygote {
	pid_t pid;
	struct cgroup cgroup;
	int request_fd, ready_fd, status_fd;
	int in_fd, out_fds[2];
};

#define ZYGOTE_NONE                         \
	((struct zygote){ .cgroup.fd = -1,  \
			  .request_fd = -1, \
			  .ready_fd = -1,   \
			  .status_fd = -1,  \
			  .in_fd = -1,      \
			  .out_fds = { -1, -1 } })

/* zygote_make() - 0 or -errno */
int zygote_make(struct cgroups *cs, struct spawner *spawner, struct zygote *ret);
/* zygote_drop() - kill it if it is there */
void zygote_drop(struct cgroups *cs, struct zygote *z);
/* zygote_gone() - it was reaped */
void zygote_gone(struct cgroups *cs, struct zygote *z);
bool zygote_is_ready(struct zygote *z);
/**
 * zygote_take() - have it run @exec, the payload of an Exec frame that asks for no terminal
 * @ret:	pid, group and descriptors; the caller's
 * Return: 0; or -errno: nothing was started, it stays or is dropped.
 */
int zygote_take(struct cgroups *cs, struct zygote *z, struct slice exec, struct zygote *ret);

#endif
