// SPDX-License-Identifier: Apache-2.0
#include "engine/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

#define DRAIN_READS 128 /* no more than the pipe can hold, should somebody else have its other end open */

void proc_init(struct proc *p, struct loop *loop, const char *name, void (*exited)(void *data, int status),
	       void *data)
{
	*p = (struct proc){ .child = { -1, -1, -1, 0 },
			    .loop = loop,
			    .name = name,
			    .exited = exited,
			    .data = data,
			    .stderr_fd = -1,
			    .messages.limit = PROC_STDERR_MAX + 1 };
}

void proc_done(struct proc *p)
{
	loop_src_free(p->exit_src);
	loop_src_free(p->stderr_src);
	if (p->child.pid > 0) {
		proc_kill(p);
		waitpid(p->child.pid, NULL, 0);
	}
	fd_close(&p->child.pidfd);
	fd_close(&p->child.notify_fd);
	fd_close(&p->stderr_fd);
	buf_done(&p->messages);
}

int proc_stderr(struct proc *p, int *ret_theirs)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	p->stderr_fd = fds[0];
	*ret_theirs = fds[1];
	return fd_set_nonblock(fds[0], true);
}

int proc_spawn(struct proc *p, struct jail_opts o, struct vial_err *err)
{
	static char *const no_env[] = { NULL };

	o.envp = o.envp ? o.envp : no_env;
	o.uid = (uid_t)-1;
	o.gid = (gid_t)-1;
	o.namespaces = true;
	o.die_with_parent = true;
	return jail_spawn(&o, &p->child, err);
}

static void on_stderr(struct loop_src *src, uint32_t events _unused_, void *data)
{
	struct proc *p = data;
	char text[512];
	ssize_t r = read(p->stderr_fd, text, sizeof(text));

	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (r <= 0) {
		loop_src_free(src);
		p->stderr_src = NULL;
		return;
	}
	if (p->messages.len + (size_t)r > PROC_STDERR_MAX)
		return;
	buf_append(&p->messages, text, (size_t)r);
	log_info("%s: %.*s", p->name, (int)r, text);
}

static void on_exit_ready(struct loop_src *src, uint32_t events _unused_, void *data)
{
	struct proc *p = data;
	int status = 0;

	if (waitpid(p->child.pid, &status, WNOHANG) != p->child.pid)
		return;
	loop_src_free(src);
	p->exit_src = NULL;
	p->child.pid = -1;
	p->exited(p->data, status);
}

int proc_watch(struct proc *p)
{
	int r = loop_add_fd(p->loop, p->child.pidfd, EPOLLIN, on_exit_ready, p, &p->exit_src);

	return r ?: loop_add_fd(p->loop, p->stderr_fd, EPOLLIN, on_stderr, p, &p->stderr_src);
}

void proc_drain(struct proc *p)
{
	for (int i = 0; i < DRAIN_READS && p->stderr_src; i++)
		on_stderr(p->stderr_src, EPOLLIN, p);
}

void proc_kill(struct proc *p)
{
	if (p->child.pid > 0)
		(void)jail_kill(p->child.pidfd);
}

int proc_signal(struct proc *p, int sig)
{
	if (p->child.pid <= 0)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, p->child.pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}
