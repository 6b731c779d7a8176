/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the jail folder: what the parent prepares so that the child has only system calls left to make. */
#ifndef JAIL_PLAN_H
#define JAIL_PLAN_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#include "jail/jail.h"

#define JAIL_FDS_MAX \
	400 /* one for each layer of an image, each snapshot of a disk, each library of a frozen QEMU */
#define JAIL_PATHS_MAX	 64
#define JAIL_RLIMITS_MAX 16

#define JAIL_BIND_PATH 1024 /* longest path that can be shown in a root of its own */

/* struct jail_bind - one tree of the child's root directory */
struct jail_bind {
	char path[JAIL_BIND_PATH]; /* absolute; the same in both roots */
	bool write;
	bool dir;
	bool dev;
};

struct jail_root {
	size_t n;
	struct jail_bind binds[JAIL_PATHS_MAX + 2]; /* the program and its loader come on top */
};

/* enum jail_step - where the child was when it failed; step_names in spawn.c */
enum jail_step {
	STEP_FDS,
	STEP_NAMESPACES, /* this and the next: if the host refuses, the parent starts again without */
	STEP_ROOT,
	STEP_RLIMITS,
	STEP_UID,
	STEP_CAPS,
	STEP_PARENT,
	STEP_NNP,
	STEP_LANDLOCK,
	STEP_SECCOMP,
	STEP_LISTENER,
	STEP_EXEC,
	N_STEPS,
};

/* struct jail_report - the child's only message besides the listener */
struct jail_report {
	int step;
	int err; /* errno */
};

enum filter_variant { FILTER_SELF, FILTER_SPAWN, FILTER_NOTIFY };

/**
 * struct jail_plan - one start, prepared
 * @opts:	as the caller gave it
 * @sock:	child's end of the report socket (SEQPACKET)
 * @null_fd:	/dev/null, -1 if 0, 1 and 2 are all named
 * @ruleset_fd:	Landlock ruleset, -1 without
 * @parent_fd:	pidfd of the parent, -1 without die_with_parent
 * @prog:	filter, private copy: the child writes its pid into it
 * @prog_len:	0 without seccomp
 * @clone_flags: namespaces
 * @uid_map, @gid_map: text for /proc/self/{uid,gid}_map with CLONE_NEWUSER
 * @root:	binds for the new mount namespace; used with CLONE_NEWNS
 * @exec_path:	what to execute: opts->path, or its real path where that is not absolute
 * @exec_fd:	the same, opened (O_PATH) for a child whose new uid may not walk there; else -1
 * @cap_last:	highest capability of this kernel
 * @uid_drop:	change to opts->uid and gid
 * @caps_drop:	give up all capabilities
 */
struct jail_plan {
	const struct jail_opts *opts;
	int sock;
	int null_fd;
	int ruleset_fd;
	int parent_fd;
	struct sock_filter *prog;
	size_t prog_len;
	bool notify;
	unsigned long clone_flags;
	char uid_map[48];
	char gid_map[48];
	struct jail_root root;
	const char *exec_path;
	int exec_fd;
	int cap_last;
	bool uid_drop;
	bool caps_drop;
};

/* jail_child_run() - all the child does, from clone to execve; async-signal-safe; never returns */
_noreturn_ void jail_child_run(struct jail_plan *p);

/**
 * filter_copy() - malloc'ed copy of a profile's filter
 * @ret_len:	instructions
 * Return: NULL if out of memory.
 */
struct sock_filter *filter_copy(enum jail_profile profile, enum filter_variant v, size_t *ret_len);
/* filter_set_pid() - put @pid where the filter says "only to itself"; async-signal-safe */
void filter_set_pid(struct sock_filter *prog, size_t len, unsigned int pid);
/* filter_load() - seccomp(SET_MODE_FILTER); async-signal-safe; 0 or listener's fd, or -errno */
int filter_load(struct sock_filter *prog, size_t len, bool notify);
/* filter_available() - does this kernel take filters that end the process? */
bool filter_available(void);
/* filter_notify_available() - user notifications with CONTINUE? */
bool filter_notify_available(void);

/**
 * landlock_ruleset() - a ruleset of all rights this kernel knows
 * @paths:	@n allowed hierarchies; a read-only one that does not exist is skipped
 * @program:	file that may be executed, with its ELF interpreter; NULL for none
 * @scope_signals: from ABI 6 also refuse signals to processes outside
 * Return: fd, -EOPNOTSUPP or -ENOSYS if the kernel has no Landlock, other -errno with @ret_bad the path at
 * fault.
 */
int landlock_ruleset(const struct jail_path *paths, size_t n, const char *program, bool scope_signals,
		     const char **ret_bad);
/* landlock_lock() - apply @ruleset_fd to the calling thread; async-signal-safe; 0 or -errno */
int landlock_lock(int ruleset_fd);

/**
 * root_plan() - what @o's child shall see; trees in @r->binds
 * Return: 0; -E2BIG if "/" itself or a path too long is asked for; other -errno.
 */
int root_plan(struct jail_root *r, const struct jail_opts *o);
/* root_enter() - in a new mount namespace: make it so; async-signal-safe; 0 or -errno */
int root_enter(const struct jail_root *r);

/**
 * elf_interp() - the program loader that an ELF file names
 * @ret:	filled with @size bytes at most, NUL-terminated
 * Return: 0, -ENOENT if static or not ELF, or -errno.
 */
int elf_interp(const char *path, char *ret, size_t size);

#endif
