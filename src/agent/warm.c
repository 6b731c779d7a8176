// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * Under an emulator that translates, most of a restored machine's first command is the translation of kernel code that
 * was not yet run there: some 10 000 blocks. The agent meanwhile takes up its connection on one vCPU; so this
 * process, saved in the middle of its work, goes on at once on another and has much of it translated when the
 * command comes. It executes itself again and again, for as long as PID 1 holds the other side of a pipe, which
 * it lets go of at the first reset of its link: the end of this process is the last thing that is warmed.
 */
#include "agent/warm.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define FD_RUN	   3
#define FD_EXE	   4
#define ROUNDS_MAX 2000 /* a quiesce that lasts this long is not a template's */

void warm_init(struct warm *w)
{
	*w = WARM_NONE;
	w->exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
}

/* Not where the agent runs. Return: whether there is such a place. */
static bool go_elsewhere(void)
{
	cpu_set_t set;
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (n < 2 || n > CPU_SETSIZE)
		return false;
	CPU_ZERO(&set);
	CPU_SET((size_t)n - 1, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static void next_round(int exe, unsigned int round)
{
	char text[16];
	char *argv[] = { (char *)"vial-agent", (char *)WARM_ARG, text, NULL };
	char *env[] = { (char *)"HOME=/", NULL };

	snprintf(text, sizeof(text), "%u", round);
	(void)syscall(SYS_execveat, exe, "", argv, env, AT_EMPTY_PATH);
}

void warm_start(struct warm *w)
{
	int p[2];

	if (w->exe < 0 || w->run >= 0 || pipe2(p, O_CLOEXEC) < 0)
		return;
	pid_t pid = fork();
	if (pid == 0) {
		/* Above 4 first: either may be one of the two. */
		int run = fcntl(p[0], F_DUPFD, FD_EXE + 1), exe = fcntl(w->exe, F_DUPFD, FD_EXE + 1);
		if (go_elsewhere() && dup2(run, FD_RUN) == FD_RUN && dup2(exe, FD_EXE) == FD_EXE) {
			(void)syscall(SYS_close_range, FD_EXE + 1U, ~0U, 0U);
			next_round(FD_EXE, 0);
		}
		_exit(0);
	}
	close(p[0]);
	w->run = p[1];
	if (pid < 0)
		fd_close(&w->run);
}

void warm_stop(struct warm *w)
{
	fd_close(&w->run);
}

/* What a command's process does to the root on its way: a search, a small file. */
static void touch_root(void)
{
	struct stat st;
	char buf[512];
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd >= 0) {
		(void)!read(fd, buf, sizeof(buf));
		close(fd);
	}
	(void)stat("/bin/sh", &st);
}

int warm_main(int argc, char **argv)
{
	struct pollfd p = { .fd = FD_RUN };
	unsigned int round = argc > 2 ? (unsigned int)atoi(argv[2]) : ROUNDS_MAX;

	touch_root();
	if (round < ROUNDS_MAX && poll(&p, 1, 0) == 0)
		next_round(FD_EXE, round + 1);
	return 0;
}
