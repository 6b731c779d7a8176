/* SPDX-License-Identifier: Apache-2.0 */
/* A process that goes ahead of a restored machine's first command, on another vCPU. */
#ifndef AGENT_SCOUT_H
#define AGENT_SCOUT_H

#include <sys/types.h>

/**
 * scout_wait() - leave a process behind that wakes with the agent, does what a command's process does, and ends
 * @wake_fd:	readable when the host speaks; borrowed
 * With one vCPU, or when something fails, there is none.
 */
void scout_wait(int wake_fd);

#endif
