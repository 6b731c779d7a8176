/* SPDX-License-Identifier: Apache-2.0 */
/* A process that forks for PID 1. */
#ifndef AGENT_SPAWNER_H
#define AGENT_SPAWNER_H

#include <sys/types.h>

#include "agent/child.h"

/* struct spawner - @pid: 0: there is none; @fd: its socket, or -1 */
struct spawner {
	pid_t pid;
	int fd;
};

#define SPAWNER_NONE ((struct spawner){ .fd = -1 })

/**
 * spawner_clone() - a child of PID 1 in the group @cgroup_fd that does child_wait(@w); the spawner is made if there is none
 * @w:	borrowed
 * Return: pid, or -errno: there is no such child, nor will be.
 */
pid_t spawner_clone(struct spawner *s, int cgroup_fd, const struct child_waiting *w);
/* spawner_gone() - it was reaped */
void spawner_gone(struct spawner *s);

#endif
