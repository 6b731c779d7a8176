/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's parts, held together. */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "agent/cgroup.h"
#include "agent/exec.h"
#include "agent/identity.h"
#include "agent/port.h"
#include "agent/filesync.h"
#include "agent/power.h"
#include "agent/root.h"
#include "base/loop.h"

struct session;

struct agent {
	struct loop *loop;
	struct transport *transport;
	struct cgroups *cgroups;
	struct cmds *cmds;
	struct identity identity;
	struct root root;
	struct power power;
	struct filesync filesync;
	struct session *sessions;
	struct loop_src *sweep; /* armed when a session is dead */
};

#endif
