/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing what files hold in memory to the disks, before a snapshot: otherwise each copy of the machine would do it for itself.
 * It may take long and cannot be broken off, so a process of its own does it.
 */
#ifndef AGENT_FILESYNC_H
#define AGENT_FILESYNC_H

#include "base/loop.h"

struct agent;

typedef void filesync_done_fn(void *user);

/* struct filesync - one at a time; zeroed at first */
struct filesync {
	int pipe; /* its end is the process's; only while @src */
	struct loop_src *src;
	struct loop_src *timer;
	filesync_done_fn *done;
	void *user;
};

/**
 * filesync_start() - have it done; @done when it is, or after FILESYNC_MAX_MS: it is a favour, not a promise
 * Return: 0 (@done will be called, not from here), -EBUSY if one is under way, or -errno.
 */
int filesync_start(struct agent *a, filesync_done_fn *done, void *user);
/* filesync_forget() - @user is gone: its @done is not called */
void filesync_forget(struct agent *a, const void *user);

#endif
