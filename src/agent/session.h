/* SPDX-License-Identifier: Apache-2.0 */
/* The agent protocol on one connection. */
#ifndef AGENT_SESSION_H
#define AGENT_SESSION_H

#include "agent/chan.h"

struct agent;

/* session_events - for a transport, with the struct agent as owner */
extern const struct chan_events session_events;

/* sessions_init() - 0 or -errno */
int sessions_init(struct agent *a);

#endif
