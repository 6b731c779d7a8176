// SPDX-License-Identifier: Apache-2.0
// Starting a command: descriptors, control group, clone. What the child does is in child.c.
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "agent/child.h"
#include "agent/cmd.h"
#include "agent/exec_ends.h"
#include "agent/pty.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#define PIPE_SIZE      (256 * 1024)
#define TIMEOUT_MAX_MS (10ULL * 365 * 24 * 3600 * 1000)

/* struct ends - the child's descriptors, closed here after the clone */
struct ends {
	int stdio[3];
	int status;
};

static void ends_close(struct ends *e)
{
	/* A PTY's slave stands for all three. */
	if (e->stdio[1] == e->stdio[0])
		e->stdio[1] = -1;
	if (e->stdio[2] == e->stdio[0])
		e->stdio[2] = -1;
	for (int i = 0; i < 3; i++)
		fd_close(&e->stdio[i]);
	fd_close(&e->status);
}

int exec_pipe(int ours, bool data, int *ret_ours, int *ret_theirs)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	if (data)
		(void)fcntl(p[0], F_SETPIPE_SZ, PIPE_SIZE); /* smaller is slower, not wrong */
	(void)fcntl(p[ours], F_SETFL, O_NONBLOCK | (ours ? O_WRONLY : O_RDONLY));
	*ret_ours = p[ours];
	*ret_theirs = p[!ours];
	return 0;
}

static int open_pipes(struct cmd *c, const struct agent_exec *x, struct ends *e)
{
	int r = 0;

	if (x->want_stdin)
		r = exec_pipe(1, true, &c->in.fd, &e->stdio[0]);
	else if ((e->stdio[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		r = -errno;
	for (int i = 0; r == 0 && i < 2; i++)
		r = exec_pipe(0, true, &c->out[i].fd, &e->stdio[1 + i]);
	return r;
}

static int open_tty(struct cmd *c, const struct agent_exec *x, struct ends *e)
{
	int slave, r = pty_open(x->rows, x->cols, &c->out[0].fd, &slave);

	if (r < 0)
		return r;
	e->stdio[0] = e->stdio[1] = e->stdio[2] = slave;
	r = fd_set_nonblock(c->out[0].fd, true);
	if (r < 0 || !x->want_stdin)
		return r;
	c->in.fd = fcntl(c->out[0].fd, F_DUPFD_CLOEXEC, 3);
	return c->in.fd < 0 ? -errno : 0;
}

static int open_ends(struct cmd *c, const struct agent_exec *x, struct ends *e)
{
	int p[2];
	int r = x->tty ? open_tty(c, x, e) : open_pipes(c, x, e);

	if (r < 0)
		return r;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	c->status_fd = p[0];
	e->status = p[1];
	return fd_set_nonblock(p[0], true);
}

pid_t exec_clone(int cgroup_fd, bool sibling)
{
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP | (sibling ? CLONE_PARENT : 0),
		.exit_signal = sibling ? 0 : SIGCHLD, /* a sibling's is ours */
		.cgroup = (uint64_t)cgroup_fd,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 ? -errno : (pid_t)pid;
}

static char *slice_dup(struct slice s)
{
	char *p = s.n > 0 && memchr(s.p, '\0', s.n) ? NULL : malloc(s.n + 1);

	if (!p)
		return NULL;
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

static int spawn(struct cmd *c, struct agent_exec *x, struct ends *e)
{
	_cleanup_free_ char *cwd = slice_dup(x->cwd);
	_cleanup_free_ char *user = slice_dup(x->user);
	struct child_spec spec = {
		.argv = &x->argv,
		.env = &x->env,
		.cwd = cwd,
		.user = user,
		.rlimits = x->rlimits,
		.n_rlimits = x->n_rlimits,
		.stdio = { e->stdio[0], e->stdio[1], e->stdio[2] },
		.status_fd = e->status,
		.tty = x->tty,
		.init = x->init,
	};

	if (!cwd || !user)
		return -EINVAL; /* a NUL in them, or no memory for a line */
	c->pid = exec_clone(c->cgroup.fd, false);
	if (c->pid == 0)
		child_run(&spec);
	return c->pid < 0 ? c->pid : 0;
}

static void set_timeout(struct cmd *c, uint64_t ms)
{
	if (ms > 0)
		loop_timer_set(c->timeout, clock_mono_ns() + MIN(ms, TIMEOUT_MAX_MS) * NS_PER_MS);
}

static int start(struct cmd *c, struct agent_exec *x)
{
	struct ends e = { { -1, -1, -1 }, -1 };
	int r = open_ends(c, x, &e);

	if (r == 0)
		r = cgroup_open(c->cmds->cgroups, &c->cgroup);
	if (r == 0)
		r = cmd_watch(c);
	if (r == 0)
		r = spawn(c, x, &e);
	ends_close(&e);
	if (r == 0)
		set_timeout(c, x->timeout_ms);
	return r;
}

/* Return: whether the process that waits for this has taken it. */
static bool start_waiting(struct cmd *c, const struct agent_exec *x, struct slice frame)
{
	struct zygote z;

	if (x->tty || zygote_take(c->cmds->cgroups, &c->cmds->zygote, frame, &z) < 0)
		return false;
	c->pid = z.pid;
	c->cgroup = z.cgroup;
	c->status_fd = z.status_fd;
	c->out[0].fd = z.out_fds[0];
	c->out[1].fd = z.out_fds[1];
	if (x->want_stdin)
		c->in.fd = z.in_fd;
	else
		fd_close(&z.in_fd);
	return true;
}

static int start_any(struct cmd *c, struct agent_exec *x, struct slice frame)
{
	if (!start_waiting(c, x, frame))
		return start(c, x);
	set_timeout(c, x->timeout_ms);
	int r = cmd_watch(c);
	if (r < 0)
		(void)cgroup_kill(&c->cgroup);
	return r;
}

static int fail_kind(int neg_errno)
{
	switch (neg_errno) {
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
	case -ENOSPC:
		return -AGENT_FAIL_LIMIT;
	case -ENOMEM:
		return -AGENT_FAIL_NO_MEMORY;
	case -EINVAL:
		return -AGENT_FAIL_BAD_REQUEST;
	default:
		return -AGENT_FAIL_OTHER;
	}
}

int cmd_start(struct cmds *cs, struct agent_exec *x, struct slice frame, const struct cmd_events *ev,
	      void *user, struct cmd **ret, int *ret_errno)
{
	struct cmd *c;
	int r;

	*ret_errno = 0;
	if (cs->n >= CMDS_MAX)
		return -AGENT_FAIL_LIMIT;
	if (x->argv.n == 0)
		return -AGENT_FAIL_BAD_REQUEST;
	c = cmd_new(cs);
	if (!c)
		return -AGENT_FAIL_NO_MEMORY;
	c->tty = c->in.tty = x->tty;
	c->init = x->init;
	c->in.window = x->want_stdin ? AGENT_WINDOW : 0;
	c->out[0].credit = c->out[1].credit = x->window;
	r = start_any(c, x, frame);
	if (r < 0) {
		cmd_free(c);
		*ret_errno = -r;
		return fail_kind(r);
	}
	cmds_tidy_meanwhile(cs);
	c->ev = ev;
	c->user = user;
	*ret = c;
	return 0;
}
