// SPDX-License-Identifier: Apache-2.0
/*
 * The shell is not a command: it has no session and no control group, so a quiesce does not freeze it; a keeper process
 * of its own starts it again. Console machines are not made into templates.
 */
#include "agent/console.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/child.h"
#include "base/log.h"

#define RESPAWN_S 1 /* between two shells, so that one that fails at once does not fill the console */

static void run_shell(char *path)
{
	char *argv[] = { path, NULL };
	char *env[] = { (char[]){ "PATH=" CHILD_DEFAULT_PATH }, (char[]){ "HOME=/root" },
			(char[]){ "TERM=vt100" }, NULL };
	int fd = open("/dev/console", O_RDWR);
	sigset_t none;

	if (fd < 0)
		_exit(127);
	setsid();
	(void)ioctl(fd, TIOCSCTTY, 1);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	(void)syscall(SYS_close_range, 3U, ~0U, 0U);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (chdir(env[1] + strlen("HOME=")) < 0 && chdir("/") < 0)
		_exit(127);
	execve(path, argv, env);
	_exit(127);
}

static void keep_shell(char *path) _noreturn_;

static void keep_shell(char *path)
{
	for (;;) {
		pid_t pid = fork();
		if (pid == 0)
			run_shell(path);
		while (pid > 0 && waitpid(pid, NULL, 0) < 0)
			;
		sleep(RESPAWN_S);
	}
}

void console_shell(struct loop *l _unused_, struct slice path)
{
	char *copy = path.n ? strndup((const char *)path.p, path.n) : NULL;
	pid_t pid;

	if (!copy)
		return;
	pid = fork();
	if (pid == 0) {
		(void)syscall(SYS_close_range, 3U, ~0U, 0U);
		keep_shell(copy);
	}
	if (pid < 0)
		log_warn("no shell on the console: out of processes or memory");
	free(copy);
}
