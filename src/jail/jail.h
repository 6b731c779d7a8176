/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail: starting a process that holds only what its job needs, and locking the calling process in.
 *
 * Theory of operation is in jail/README.md and docs/SECURITY.md.
 */
#ifndef JAIL_JAIL_H
#define JAIL_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/attr.h"
#include "vial/error.h"

/* enum jail_profile - which seccomp filter; their lists of system calls: jail/syscalls.h */
enum jail_profile {
	JAIL_NONE = 0, /* no filter: tests only */
	JAIL_MONITOR,  /* vial-monitor, after its children run */
	JAIL_QEMU,     /* qemu-system: opens go to the supervisor (jail_notify) */
	JAIL_UNPACK,   /* vial-unpack: stdin-like fds in, fds out */
	JAIL_VMM,      /* vial-vmm, until its threads run */
	/* for jail_thread() only: */
	JAIL_VMM_IO,   /* vial-vmm's I/O thread */
	JAIL_VMM_VCPU, /* its vCPU threads */
};

/* what the host refused; bits of jail_child.missing. --strict turns any into an error */
enum {
	JAIL_NO_LANDLOCK = 1 << 0,
	JAIL_NO_USERNS = 1 << 1,
	JAIL_NO_SECCOMP = 1 << 2,
	JAIL_NO_NOTIFY = 1 << 3, /* another supervisor is above us, or an old kernel */
	JAIL_NO_CGROUP = 1 << 4, /* reserved: no cgroups yet */
};

/* struct jail_fd - descriptor @fd of the caller becomes @as in the child; all others are closed */
struct jail_fd {
	int fd;
	int as;
};

/**
 * enum jail_access - what may be done below a path
 * @JAIL_READ:	read and execute
 * @JAIL_WRITE:	all but making device nodes
 * @JAIL_RMDIR:	remove empty directories and nothing else
 */
enum jail_access { JAIL_READ, JAIL_WRITE, JAIL_RMDIR };

/* struct jail_path - a file hierarchy the child may reach; JAIL_RMDIR is for jail_self() only */
struct jail_path {
	const char *path;
	enum jail_access access;
};

struct jail_rlimit {
	int resource;
	rlim_t value; /* soft and hard */
};

/**
 * struct jail_opts - a process to start
 * @path:	program; @argv, @envp NULL-terminated (nothing of the caller's environment passes)
 * @fds:	@n_fds entries; 0, 1 and 2 not named become /dev/null
 * @paths:	@n_paths hierarchies it may reach, by Landlock and, with @namespaces, in a root directory that
 *		shows nothing else. The program and its ELF interpreter are always there, readable and
 *		executable; its libraries must be named. One to read that does not exist is skipped
 * @profile:	seccomp filter
 * @uid, @gid:	(uid_t)-1: keep; otherwise drop to these, with no supplementary groups. Capabilities are
 *		all dropped with a uid or with namespaces, kept otherwise
 * @rlimits:	@n_rlimits entries; RLIMIT_CORE is always 0
 * @namespaces:	try user (not as root), mount, pid, ipc, uts namespaces where the host gives them. The child
 *		is pid 1 of its namespace: signals it sends to itself do not end it
 * @die_with_parent: PDEATHSIG SIGKILL with a getppid check (call from a single-threaded process only)
 * @notify:	opens and execve are supervised: see jail_notify_serve(). JAIL_QEMU only, from a
 *		single-threaded process
 * @strict:	anything missing is an error instead of a bit in @missing
 * @without:	JAIL_NO_* bits to pretend missing: tests only
 */
struct jail_opts {
	const char *path;
	char *const *argv;
	char *const *envp;
	const struct jail_fd *fds;
	size_t n_fds;
	const struct jail_path *paths;
	size_t n_paths;
	enum jail_profile profile;
	uid_t uid;
	gid_t gid;
	const struct jail_rlimit *rlimits;
	size_t n_rlimits;
	bool namespaces;
	bool die_with_parent;
	bool notify;
	bool strict;
	unsigned int without;
};

/**
 * struct jail_child - a started process
 * @pid:	in the caller's pid namespace
 * @pidfd:	owned by the caller
 * @notify_fd:	owned by the caller, -1 without @notify
 * @missing:	JAIL_NO_* bits the host did not give
 */
struct jail_child {
	pid_t pid;
	int pidfd;
	int notify_fd;
	unsigned int missing;
};

/**
 * jail_spawn() - start a jailed process
 * Returns after the child's execve succeeded or failed; whatever failed is told in @err by name.
 * Safe to call from a threaded program (only async-signal-safe work between fork and exec).
 */
int jail_spawn(const struct jail_opts *o, struct jail_child *ret, struct vial_err *err);

/* jail_kill() - SIGKILL by pidfd, the only way that JAIL_MONITOR's filter allows; 0 or -errno */
int jail_kill(int pidfd);

/**
 * jail_self() - lock the calling single-threaded process in, for good
 * @profile:	seccomp filter; @paths as in jail_opts
 * Sets no_new_privs, non-dumpable, Landlock (all of its ABI's file and, from ABI 6, scope rights), seccomp.
 * A program that was spawned in JAIL_UNPACK or JAIL_MONITOR still has what the loader
 * needs (opening for reading, execve, executable memory): it calls this first thing in main(), before it
 * reads a hostile byte. vial-monitor calls it once its children run and no longer need a supervisor: it can
 * then start nothing, read no child's memory (their opens get EACCES), and end them with jail_kill() only.
 * Not before the last jail_spawn(), not even with JAIL_NONE: a process under Landlock cannot give its
 * children a root directory of their own.
 * Return: JAIL_NO_* bits that are missing (>= 0), or an error.
 */
int jail_self(enum jail_profile profile, const struct jail_path *paths, size_t n_paths, unsigned int without,
	      struct vial_err *err);

/**
 * jail_thread() - narrow the calling thread's filter further, for good
 * @profile:	JAIL_VMM_IO or JAIL_VMM_VCPU, whose lists start from nothing instead of what everybody may do
 * @without:	JAIL_NO_SECCOMP: do nothing (tests)
 * After jail_self(). The threads that it starts inherit the filter.
 * Return: JAIL_NO_* bits that are missing (>= 0), or an error.
 */
int jail_thread(enum jail_profile profile, unsigned int without, struct vial_err *err);

/**
 * typedef jail_open_fn - decide one open of a supervised child
 * @path:	as the child gave it, NUL-terminated, at most PATH_MAX; hostile
 * @flags:	O_* of the open
 * Return: a descriptor to hand over (closed here afterwards), or -errno for the child.
 */
typedef int jail_open_fn(void *data, const char *path, int flags);

/**
 * jail_notify_serve() - answer one pending request of a supervised child; call when @notify_fd is readable
 * @execs_left:	how many execve are still allowed; counted down; NULL: none. jail_spawn() has answered the
 *		program's own start, so a supervisor has no reason to allow any
 * Never waits: without a pending request it returns 0. Closing @notify_fd makes all later requests fail
 * with ENOSYS. Works only while the caller may read the child's memory: from the process that spawned it,
 * before its own jail_self() (afterwards every open gets EACCES).
 * Return: 0, -ENOENT if the request vanished with its thread, other -errno if the listener is dead.
 */
int jail_notify_serve(int notify_fd, jail_open_fn *fn, void *data, unsigned int *execs_left);

/**
 * jail_open_beneath() - open for reading a regular file or directory that really lies below a prefix
 * @prefixes:	NULL-terminated absolute paths, of directories or single files; symlinks in them are followed
 * @path:	hostile; must be absolute. Symlinks are followed, and the file that is reached must be below a
 *		prefix, too; /proc's magic links are not followed
 * @flags:	as the child asked: anything but reading is refused; /dev/null is always given, read-write
 * For a jail_open_fn. Needs /proc.
 * Return: descriptor (CLOEXEC), -EACCES, or -errno of the open.
 */
int jail_open_beneath(const char *const *prefixes, const char *path, int flags);

#endif
