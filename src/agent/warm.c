// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * Under an emulator that translates, most of a restored machine's first command is the translation of kernel code that
 * was not yet run there: some 10 000 blocks. The agent meanwhile takes up its connection on one vCPU; so this
 * process, saved in the middle of its work, goes on at once on another and has much of it translated when the
 * command comes. A snapshot waits until it has done some rounds. It executes itself again and again, for as long as PID 1 holds the other side of a pipe, which
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
#define FD_BEGUN   5
#define ROUNDS_MIN 3
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

/* @fds become FD_RUN and the next; nothing above stays. */
static bool place_fds(const int fds[3])
{
	int high[3];

	/* Above all three first: any may be in another's place. */
	for (int i = 0; i < 3; i++)
		high[i] = fcntl(fds[i], F_DUPFD, FD_BEGUN + 1);
	for (int i = 0; i < 3; i++)
		if (high[i] < 0 || dup2(high[i], FD_RUN + i) < 0)
			return false;
	(void)syscall(SYS_close_range, FD_BEGUN + 1U, ~0U, 0U);
	return true;
}

void warm_start(struct warm *w)
{
	int p[2], b[2];

	if (w->exe < 0 || w->run >= 0 || pipe2(p, O_CLOEXEC) < 0)
		return;
	if (pipe2(b, O_CLOEXEC) < 0) {
		close(p[0]);
		close(p[1]);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		const int fds[] = { p[0], w->exe, b[1] };
		if (go_elsewhere() && place_fds(fds))
			next_round(FD_EXE, 0);
		_exit(0);
	}
	close(p[0]);
	close(b[1]);
	w->run = p[1];
	w->begun = b[0];
	if (pid < 0)
		warm_stop(w);
}

void warm_stop(struct warm *w)
{
	fd_close(&w->run);
	fd_close(&w->begun);
}

bool warm_has_begun(struct warm *w)
{
	struct pollfd p = { .fd = w->begun, .events = POLLIN };

	if (w->begun >= 0 && poll(&p, 1, 0) > 0)
		fd_close(&w->begun);
	return w->begun < 0;
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

	if (round == ROUNDS_MIN)
		close(FD_BEGUN);
	touch_root();
	if (round < ROUNDS_MAX && poll(&p, 1, 0) == 0)
		next_round(FD_EXE, round + 1);
	return 0;
}
