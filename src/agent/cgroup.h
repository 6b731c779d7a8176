/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control groups (v2): all commands live below CGROUP_PARENT, each in a group of its own, so that
 * killing one reaches every process it started and freezing the parent stops them all.
 */
#ifndef AGENT_CGROUP_H
#define AGENT_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/loop.h"

#define CGROUP_ROOT   "/sys/fs/cgroup"
#define CGROUP_PARENT CGROUP_ROOT "/vial"

struct cgroups;

/* struct cgroup - one command's group */
struct cgroup {
	unsigned int id;
	int fd; /* its directory */
};

/* cgroups_new() - mount cgroup2 at CGROUP_ROOT if needed, make the parent and a spare; 0 or -errno */
int cgroups_new(struct loop *l, struct cgroups **ret);

int cgroups_parent_fd(const struct cgroups *cs);
/* cgroups_set_memory() - limit of all commands together in bytes, 0: none; 0 or -errno */
int cgroups_set_memory(struct cgroups *cs, uint64_t bytes);
/* cgroups_freeze() - ask for it, or for thaw; what happened is in cgroups_is_frozen(); 0 or -errno */
int cgroups_freeze(struct cgroups *cs, bool on);
bool cgroups_is_frozen(struct cgroups *cs);
/* cgroups_populated() - whether any command's process is left */
bool cgroups_populated(struct cgroups *cs);
int cgroups_kill_all(struct cgroups *cs); /* 0 or -errno */
/* cgroups_signal_all() - to each process of every command, as far as that is possible */
void cgroups_signal_all(struct cgroups *cs, int sig);
/* cgroups_wait() - until @done holds or @deadline_ns; blocks. Return: whether it holds */
bool cgroups_wait(struct cgroups *cs, bool (*done)(struct cgroups *cs), uint64_t deadline_ns);
/* cgroups_events_fd() - polls EPOLLPRI when frozen or populated may have changed; borrowed */
int cgroups_events_fd(const struct cgroups *cs);

/* cgroups_make_spare() - have the next cgroup_open() find one made */
void cgroups_make_spare(struct cgroups *cs);
/* cgroups_left_over() - whether a closed group still has processes */
bool cgroups_left_over(const struct cgroups *cs);

/* cgroup_open() - a fresh group; 0 or -errno */
int cgroup_open(struct cgroups *cs, struct cgroup *ret);
/* cgroup_close() - done with @g; the directory goes as soon as its last process has */
void cgroup_close(struct cgroups *cs, struct cgroup *g);
int cgroup_kill(const struct cgroup *g); /* 0 or -errno */
/* cgroup_signal() - to every process of @g but @except (0: none), and its descendants' groups; 0 or -errno */
int cgroup_signal(const struct cgroup *g, int sig, pid_t except);
/* cgroup_oom_kills() - how many of its processes the kernel killed for lack of memory */
uint64_t cgroup_oom_kills(const struct cgroup *g);

#endif
