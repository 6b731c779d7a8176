// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * Under an emulator that translates, most of a restored machine's first command is the translation of kernel code that
 * nobody has run there since the restore: executing a program, its first page faults and calls, its end. One vCPU would
 * translate it while the other, having dealt with the host's first message, waits for nothing. So a process is
 * saved with the template that waits for that same message, on the last vCPU, and then goes the way of a command
 * once: it looks a program up, executes scout_program.c and ends. The agent takes about as long to get to
 * the real command. Nothing depends on the scout; where nothing is translated it costs microseconds.
 *
 * It runs nothing of the image: the program is our own, from memory.
 */
#include "agent/scout.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define FD_WAKE 0
#define FD_EXE	1

static const unsigned char program[] = {
#include "scout_program.h"
};

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

static int program_fd(void)
{
	_cleanup_fd_ int fd = memfd_create("scout", MFD_CLOEXEC);

	if (fd < 0 || fd_write_full(fd, program, sizeof(program)) < 0)
		return -1;
	return fd_reopen(fd, O_RDONLY); /* what is open for writing cannot be executed */
}

static void go(void)
{
	char *argv[] = { (char *)"scout", NULL };
	char *env[] = { (char *)"PATH=/", NULL };
	struct pollfd p = { .fd = FD_WAKE, .events = POLLIN };
	struct stat st;

	if (poll(&p, 1, -1) <= 0)
		return;
	(void)stat("/etc/passwd", &st);
	(void)stat("/bin/sh", &st);
	(void)syscall(SYS_execveat, FD_EXE, "", argv, env, AT_EMPTY_PATH);
}

void scout_wait(int wake_fd)
{
	_cleanup_fd_ int exe = program_fd();

	if (exe < 0 || fork() != 0)
		return;
	/* Both descriptors are above 2, which PID 1 keeps open. */
	if (go_elsewhere() && dup2(wake_fd, FD_WAKE) >= 0 && dup2(exe, FD_EXE) >= 0) {
		(void)syscall(SYS_close_range, FD_EXE + 1U, ~0U, 0U);
		go();
	}
	_exit(0);
}
