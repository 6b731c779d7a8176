/* SPDX-License-Identifier: Apache-2.0 */
/* Starting vial-monitor from the library: launch description, descriptors, box uid. Client side. */
#ifndef ENGINE_LAUNCHER_H
#define ENGINE_LAUNCHER_H

#include <sys/types.h>

#include "base/attr.h"
#include "engine/host.h"
#include "vial/error.h"
#include "wire/launch.h"

/**
 * struct launcher - a description being put together, then a running monitor
 * @launch:	fill in; strings are owned by it
 * @fds:	what launch.roles speak of; owned here when @own says so
 * @lifeline:	our end, after launcher_start(); owned
 * @pid, @pidfd: the monitor, after launcher_start(); 0 and -1 before
 */
struct launcher {
	struct launch launch;
	int fds[LAUNCH_FDS_MAX];
	bool own[LAUNCH_FDS_MAX];
	int lifeline;
	pid_t pid;
	int pidfd;
};

void launcher_init(struct launcher *l);
/* launcher_add() - a descriptor for @role, borrowed (stays open until launcher_start() has returned) */
int launcher_add(struct launcher *l, uint32_t role, int fd);
/* launcher_add_own() - the same, closed by launcher_done(); closed at once on failure */
int launcher_add_own(struct launcher *l, uint32_t role, int fd);

/* launcher_add_host() - name the engine in the description, and what it needs of the host; 0 or -errno */
int launcher_add_host(struct launcher *l, const struct engine_host *h);

/**
 * launcher_start() - start the monitor; adds lifeline and client pidfd by itself
 * @monitor_path: vial-monitor
 * @uid, @gid:	what the box's processes run as, (uid_t)-1: unchanged
 */
int launcher_start(struct launcher *l, const char *monitor_path, uid_t uid, gid_t gid, struct vial_err *err);

/* launcher_end() - close the lifeline and wait until the monitor has taken everything down */
void launcher_end(struct launcher *l);
/* launcher_done() - launcher_end() and free */
void launcher_done(struct launcher *l);

#endif
