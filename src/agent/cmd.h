/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a command; for exec.c (starting) and cmds.c (living and ending) only. */
#ifndef AGENT_CMD_H
#define AGENT_CMD_H

#include "agent/exec.h"
#include "agent/stream.h"
#include "agent/zygote.h"

#define CMDS_MAX 512 /* running at a time */

struct cmds {
	struct loop *loop;
	struct cgroups *cgroups;
	struct cmd *list;
	size_t n;
	bool held;
	bool busy; /* commands have ended here since the machine was made or restored */
	int signal_fd;
	struct loop_src *signal_src;
	struct loop_src *idle; /* armed when something is to be tidied */
	struct zygote zygote;
	struct spawner spawner;
	bool keep_zygote;      /* one is wanted */
	struct loop_src *tick; /* armed when a command may have ended, or children are left to reap */
};

/**
 * struct cmd - one command
 * @ev, @user:	NULL when dropped or detached
 * @status_fd:	-1 when it is known whether the program was started
 */
struct cmd {
	struct cmds *cmds;
	struct cmd *next;
	const struct cmd_events *ev;
	void *user;
	struct cgroup cgroup;
	pid_t pid;
	int status_fd;
	struct loop_src *status_src;
	struct loop_src *timeout;
	struct out_stream out[2];
	struct in_stream in;
	bool tty, init;
	bool started, failed, exited, timed_out;
	bool over; /* to be freed in an idle moment */
	int wait_status;
};

struct cmd *cmd_new(struct cmds *cs); /* in the table, all descriptors -1; NULL without memory */
void cmd_free(struct cmd *c);	      /* out of the table; closes everything */
/* cmds_tidy_meanwhile() - a command was started: tidy up after those before it */
void cmds_tidy_meanwhile(struct cmds *cs);
/* cmd_watch() - the child runs: watch for its start; 0 or -errno */
int cmd_watch(struct cmd *c);

#endif
