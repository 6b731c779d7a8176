// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * Starting a command costs a control group, pipes and a fork. All of that can be done before anybody asks:
 * the zygote is a child in its own group, with the pipes it will use, that blocks in a read of the
 * request. Then only that read, the exec and the exit are left. A template holds
 * one, so it is there when a box starts from it; another is made when the box is idle (cmds.c).
 *
 * The request is the Exec message as the host sent it: the child decodes it again (child.c). It may be killed
 * by the guest's root at any time: PID 1 then sees its end as that of any child.
 */
#include "agent/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/exec_ends.h"
#include "base/fd.h"

static void close_ours(struct zygote *z)
{
	fd_close(&z->request_fd);
	fd_close(&z->ready_fd);
	fd_close(&z->status_fd);
	fd_close(&z->in_fd);
	fd_close(&z->out_fds[0]);
	fd_close(&z->out_fds[1]);
}

static int make_pipes(struct zygote *z, struct child_waiting *w)
{
	int r = exec_pipe(1, true, &z->in_fd, &w->stdio[0]);

	for (int i = 0; r == 0 && i < 2; i++)
		r = exec_pipe(0, true, &z->out_fds[i], &w->stdio[1 + i]);
	r = r ?: exec_pipe(0, false, &z->status_fd, &w->status_fd);
	r = r ?: exec_pipe(0, false, &z->ready_fd, &w->ready_fd);
	return r ?: exec_pipe(1, false, &z->request_fd, &w->request_fd);
}

static void close_theirs(struct child_waiting *w)
{
	for (int i = 0; i < 3; i++)
		fd_close(&w->stdio[i]);
	fd_close(&w->status_fd);
	fd_close(&w->ready_fd);
	fd_close(&w->request_fd);
}

int zygote_make(struct cgroups *cs, struct spawner *spawner, struct zygote *ret)
{
	struct zygote z = ZYGOTE_NONE;
	struct child_waiting w = { { -1, -1, -1 }, -1, -1, -1 };
	int r = make_pipes(&z, &w);

	if (r == 0)
		r = cgroup_open(cs, &z.cgroup);
	if (r == 0) {
		z.pid = spawner_clone(spawner, z.cgroup.fd, &w);
		r = z.pid < 0 ? z.pid : 0;
	}
	close_theirs(&w);
	if (r < 0) {
		close_ours(&z);
		cgroup_close(cs, &z.cgroup);
		return r;
	}
	*ret = z;
	return 0;
}

void zygote_gone(struct cgroups *cs, struct zygote *z)
{
	close_ours(z);
	cgroup_close(cs, &z->cgroup);
	*z = ZYGOTE_NONE;
}

void zygote_drop(struct cgroups *cs, struct zygote *z)
{
	if (z->pid == 0)
		return;
	(void)cgroup_kill(&z->cgroup);
	zygote_gone(cs, z);
}

bool zygote_is_ready(struct zygote *z)
{
	struct pollfd p = { .fd = z->ready_fd, .events = POLLIN };

	if (z->ready_fd >= 0 && poll(&p, 1, 0) > 0)
		fd_close(&z->ready_fd);
	return z->ready_fd < 0;
}

int zygote_take(struct cgroups *cs, struct zygote *z, struct slice exec, struct zygote *ret)
{
	uint8_t request[sizeof(uint32_t) + ZYGOTE_REQUEST_MAX];
	uint32_t n = (uint32_t)exec.n;

	if (z->pid == 0 || exec.n > ZYGOTE_REQUEST_MAX)
		return -ENOENT;
	memcpy(request, &n, sizeof(n));
	memcpy(request + sizeof(n), exec.p, n);
	/* One write of less than what the pipe holds: all or nothing. */
	if (write(z->request_fd, request, sizeof(n) + n) != (ssize_t)(sizeof(n) + n)) {
		zygote_drop(cs, z);
		return -EPIPE;
	}
	fd_close(&z->request_fd);
	fd_close(&z->ready_fd);
	*ret = *z;
	*z = ZYGOTE_NONE;
	return 0;
}
