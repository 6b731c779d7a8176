// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * A fork shares all memory until one side writes to it, and each first write after it is a fault: in an emulated machine a
 * tenth of a millisecond, a dozen times for each command, in PID 1, while somebody waits for it. So PID 1 is forked
 * once, and the copy is what is forked from then on. It asks for nothing: descriptors come with each request over a socket, the
 * new process is a child of PID 1 (CLONE_PARENT), the answer is its pid.
 *
 * The guest's root may stop or kill it. PID 1 waits ANSWER_MS for an answer; then the spawner is killed, and whatever it may have
 * made meanwhile ends by itself: nobody writes to its request pipe. The next request makes another.
 */
#include "agent/spawner.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/exec_ends.h"
#include "base/fd.h"
#include "base/mem.h"

#define ANSWER_MS 2000
#define PAGE	  4096UL

/* In the order in which they are sent. */
enum { FD_STDIN, FD_STDOUT, FD_STDERR, FD_STATUS, FD_REQUEST, FD_READY, FD_CGROUP, N_FDS };

_Static_assert(N_FDS <= FD_PASS_MAX, "they go in one message");

/* ---- the spawner ---- */

static int32_t clone_one(int sock, const int *fds)
{
	struct child_waiting w = { { fds[FD_STDIN], fds[FD_STDOUT], fds[FD_STDERR] },
				   fds[FD_STATUS],
				   fds[FD_REQUEST],
				   fds[FD_READY] };
	pid_t pid = exec_clone(fds[FD_CGROUP], true);

	if (pid == 0) {
		close(sock);
		close(fds[FD_CGROUP]);
		child_wait(&w);
	}
	return pid;
}

static void _noreturn_ serve(int sock)
{
	for (;;) {
		int fds[FD_PASS_MAX];
		size_t n;
		char c;
		ssize_t got = fd_recv(sock, &c, sizeof(c), fds, &n);
		if (got <= 0)
			_exit(0);
		int32_t answer = n == N_FDS ? clone_one(sock, fds) : -EPROTO;
		while (n > 0)
			close(fds[--n]);
		(void)send(sock, &answer, sizeof(answer), MSG_NOSIGNAL);
	}
}

/* ---- PID 1 ---- */

static void own(uintptr_t from, uintptr_t to)
{
	for (uintptr_t at = from; at < to; at += PAGE) {
		volatile char *p = (volatile char *)at;
		char c = *p;
		*p = c;
	}
}

/* Takes back now what is shared with the spawner, rather than at each first write. The stack's end does so by itself. */
static void own_memory(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		char mode[8], name[32] = "";
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %31s", &from, &to, mode, name) >= 3 &&
		    strcmp(mode, "rw-p") == 0 && strcmp(name, "[stack]") != 0)
			own(from, to);
	}
	if (f)
		fclose(f);
}

static int start(struct spawner *s)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0) {
		if (dup2(sv[1], 3) < 0)
			_exit(1);
		(void)syscall(SYS_close_range, 4U, ~0U, 0U);
		serve(3);
	}
	int err = errno;
	close(sv[1]);
	if (pid < 0) {
		close(sv[0]);
		return -err;
	}
	*s = (struct spawner){ .pid = pid, .fd = sv[0] };
	own_memory();
	return 0;
}

static pid_t answer(struct spawner *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	int32_t pid;

	if (poll(&p, 1, ANSWER_MS) > 0 &&
	    recv(s->fd, &pid, sizeof(pid), MSG_DONTWAIT) == (ssize_t)sizeof(pid))
		return pid;
	(void)kill(s->pid, SIGKILL);
	return -ETIMEDOUT;
}

pid_t spawner_clone(struct spawner *s, int cgroup_fd, const struct child_waiting *w)
{
	const int fds[N_FDS] = { w->stdio[0],	w->stdio[1], w->stdio[2], w->status_fd,
				 w->request_fd, w->ready_fd, cgroup_fd };
	int r = s->pid == 0 ? start(s) : 0;

	if (r < 0)
		return r;
	ssize_t sent = fd_send(s->fd, "", 1, fds, N_FDS);
	return sent == 1 ? answer(s) : -EPIPE;
}

void spawner_gone(struct spawner *s)
{
	fd_close(&s->fd);
	*s = SPAWNER_NONE;
}
