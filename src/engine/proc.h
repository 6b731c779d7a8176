/* SPDX-License-Identifier: Apache-2.0 */
/* The jailed process that is a machine: what starting, watching and ending it has in common on both engines. */
#ifndef ENGINE_PROC_H
#define ENGINE_PROC_H

#include "base/attr.h"
#include "base/loop.h"
#include "base/str.h"
#include "jail/jail.h"

#define PROC_STDERR_MAX \
	4096 /* bytes of its messages that are kept and logged; the rest is read and dropped */
#define PROC_FILE_EXTRA		(512ULL << 20)
#define PROC_QCOW2_TABLES_SHIFT 6 /* tables take less than 1/64 of the data */

/**
 * struct proc - one process; proc_init() first, proc_done() always
 * @child:	@pid is -1 before its start and after its end
 * @name:	in the log; borrowed
 * @exited:	called once from the loop, with waitpid's status, when it has ended
 */
struct proc {
	struct jail_child child;
	struct loop *loop;
	const char *name;
	void (*exited)(void *data, int status);
	void *data;
	int stderr_fd;
	struct loop_src *exit_src, *stderr_src;
	struct buf messages;
};

void proc_init(struct proc *p, struct loop *loop, const char *name, void (*exited)(void *data, int status),
	       void *data);
/* proc_done() - ends it if it runs, without @exited, and waits for it */
void proc_done(struct proc *p);

/* proc_stderr() - a pipe for its messages; the child's end is the caller's; 0 or -errno */
int proc_stderr(struct proc *p, int *ret_theirs);

/**
 * proc_spawn() - start it in the jail that every machine has: namespaces, nothing of our environment, dies with its parent
 * @o:		path, argv, envp, fds, paths, profile, rlimits, notify, strict, without; the rest is filled in
 */
int proc_spawn(struct proc *p, struct jail_opts o, struct vial_err *err);

/* proc_watch() - call @exited from now on, and read its messages; 0 or -errno */
int proc_watch(struct proc *p);

/* proc_drain() - after its end: read what is left of its messages */
void proc_drain(struct proc *p);

/* proc_kill() - SIGKILL; @exited follows */
void proc_kill(struct proc *p);

/* proc_signal() - 0 or -errno */
int proc_signal(struct proc *p, int sig);

#endif
