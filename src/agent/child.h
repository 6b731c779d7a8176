/* SPDX-License-Identifier: Apache-2.0 */
/* What runs between clone and exec. */
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/users.h"
#include "base/attr.h"
#include "base/str.h"
#include "wire/agent_msg.h"

#define CHILD_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* struct child_failure - why no program was started; written whole to the status pipe (less than PIPE_BUF) */
struct child_failure {
	uint32_t kind; /* enum agent_fail */
	int32_t sys_errno;
	char message[AGENT_TEXT_MAX];
};

/**
 * struct child_spec - what to run; strings and arrays are borrowed
 * @argv:	at least one
 * @env:	completed by the child (HOME, TERM, PATH are added if missing)
 * @cwd:	"" is "/"
 * @stdio:	become descriptors 0, 1, 2
 * @status_fd:	CLOEXEC; closed by the exec, or one struct child_failure comes through it
 * @init:	run under a reaper that forwards signals
 * @users:	may save reading the files; may be NULL
 */
struct child_spec {
	const struct strv *argv;
	struct strv *env;
	const char *cwd;
	const char *user;
	const struct agent_rlimit *rlimits;
	size_t n_rlimits;
	int stdio[3];
	int status_fd;
	bool tty;
	bool init;
	const struct users_cache *users;
};

/**
 * struct child_waiting - what a process that waits for its request is given; closed or moved by it
 * @request_fd:	a uint32_t, then that many bytes: an Exec message
 * @ready_fd:	closed when it waits
 */
struct child_waiting {
	int stdio[3];
	int status_fd;
	int request_fd;
	int ready_fd;
};

/* child_wait() - in the child: split off a reaper, wait for a request without terminal, become its program */
void child_wait(const struct child_waiting *w) _noreturn_;

/* child_run() - in the child: become the program */
void child_run(const struct child_spec *s) _noreturn_;

/**
 * child_find_program() - where execvp would look for @name
 * @path:	value of PATH; an empty part is the current directory
 * @ret:	malloc'ed path to give to execve
 * Return: 0, -ENOENT, -EACCES (found, but nobody may run it), -EISDIR, -ENAMETOOLONG, -ENOMEM.
 */
int child_find_program(const char *name, const char *path, char **ret);

#endif
