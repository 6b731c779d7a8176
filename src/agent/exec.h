/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: from an Exec message to its exit. */
#ifndef AGENT_EXEC_H
#define AGENT_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/cgroup.h"
#include "base/loop.h"
#include "wire/agent_msg.h"

struct cmds;
struct cmd;

/**
 * struct cmd_events - what a command tells its session; @user is cmd_start()'s
 * @send:	one message to the host; false if there is no way (the session is over then)
 * @room:	whether output may be read now: little enough is queued
 * @ended:	the command is over and is freed right after this call; Exited or Failed was sent
 */
struct cmd_events {
	bool (*send)(void *user, const struct agent_guest_msg *m);
	bool (*room)(void *user);
	void (*ended)(void *user);
};

int cmds_new(struct loop *l, struct cgroups *cs, struct cmds **ret); /* 0 or -errno */
/* cmds_hold() - stop reading output of all commands, or go on */
void cmds_hold(struct cmds *cs, bool on);
/* cmds_root_ready() - commands can be run from now on: have a process wait for the first */
void cmds_root_ready(struct cmds *cs);
/* cmds_tidy() - do now what waits for an idle moment: let go of ended commands, make the waiting process */
void cmds_tidy(struct cmds *cs);
/* cmds_settled() - what cmds_tidy() has begun is done */
bool cmds_settled(struct cmds *cs);
/* cmds_alive() - whether a process of a command may be there */
bool cmds_alive(const struct cmds *cs);
/* cmds_stop_waiting() - the waiting process ends and no other is made */
void cmds_stop_waiting(struct cmds *cs);
/* cmds_pump() - read output of commands that had no room */
void cmds_pump(struct cmds *cs);

/**
 * cmd_start() - run a command; Started or Failed, output, then Exited come through @ev
 * @x:		borrowed; its env is completed
 * @frame:	the payload that @x was decoded from
 * Return: 0, or an enum agent_fail as its negative with errno in @ret_errno: nothing was started and
 *         nothing sent.
 */
int cmd_start(struct cmds *cs, struct agent_exec *x, struct slice frame, const struct cmd_events *ev,
	      void *user, struct cmd **ret, int *ret_errno);
/* The session's requests; -EPROTO if the host broke the protocol (beyond credit, wrong stream). */
int cmd_stdin(struct cmd *c, const struct agent_data *d);
void cmd_stdin_end(struct cmd *c);
int cmd_credit(struct cmd *c, const struct agent_credit *credit);
int cmd_signal(struct cmd *c, uint32_t number);
int cmd_resize(struct cmd *c, uint32_t rows, uint32_t cols);
/* cmd_drop() - the session is gone for good: kill the command; no more events */
void cmd_drop(struct cmd *c);
/* cmd_detach() - the session is gone by a RESET: the command runs on, its output is thrown away; no more events */
void cmd_detach(struct cmd *c);

#endif
