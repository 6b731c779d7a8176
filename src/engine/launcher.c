// SPDX-License-Identifier: Apache-2.0
// Starting vial-monitor from the library.
#include "engine/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "jail/jail.h"

void launcher_init(struct launcher *l)
{
	memset(l, 0, sizeof(*l));
	l->lifeline = -1;
	l->pidfd = -1;
}

int launcher_add(struct launcher *l, uint32_t role, int fd)
{
	if (l->launch.n_roles == LAUNCH_FDS_MAX)
		return -EMFILE;
	l->fds[l->launch.n_roles] = fd;
	l->launch.roles[l->launch.n_roles++] = role;
	return 0;
}

int launcher_add_own(struct launcher *l, uint32_t role, int fd)
{
	int r = fd < 0 ? fd : launcher_add(l, role, fd);

	if (r == 0)
		l->own[l->launch.n_roles - 1] = true;
	else if (fd >= 0)
		close(fd);
	return r;
}

int launcher_add_host(struct launcher *l, const struct engine_host *h)
{
	l->launch.engine = h->engine;
	l->launch.program = strdup(h->program);
	l->launch.accel = strdup(h->accel);
	l->launch.machine = strdup(h->machine);
	if (!l->launch.program || !l->launch.accel || !l->launch.machine)
		return -ENOMEM;
	if (h->engine != LAUNCH_KVM)
		return 0;
	/* Opened here: a box's own uid is not in the group kvm. */
	int fd = open(ENGINE_KVM_NODE, O_RDWR | O_CLOEXEC);
	return launcher_add_own(l, LAUNCH_FD_KVM, fd < 0 ? -errno : fd);
}

static int add_lifeline(struct launcher *l)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	l->lifeline = sv[0];
	int r = launcher_add_own(l, LAUNCH_FD_LIFELINE, sv[1]);
	return r ?: launcher_add_own(l, LAUNCH_FD_CLIENT, (int)syscall(SYS_pidfd_open, getpid(), 0));
}

static void close_own(struct launcher *l)
{
	for (size_t i = 0; i < l->launch.n_roles; i++)
		if (l->own[i])
			fd_close(&l->fds[i]);
}

int launcher_start(struct launcher *l, const char *monitor_path, uid_t uid, gid_t gid, struct vial_err *err)
{
	_cleanup_buf_ struct buf blob = { 0 };
	_cleanup_fd_ int blob_fd = -1;
	char *const argv[] = { (char *)"vial-monitor", l->launch.id, NULL };
	char *const envp[] = { NULL };
	struct jail_fd fds[LAUNCH_FDS_MAX + 1];
	struct jail_child child;
	size_t n = 0;
	int r = add_lifeline(l);

	r = r ?: launch_encode(&l->launch, &blob);
	if (r == 0)
		r = blob_fd = fd_memfd("vial-launch", blob.data, blob.len);
	if (r < 0)
		return err_sys(err, r, "start the box's monitor");
	fds[n++] = (struct jail_fd){ blob_fd, LAUNCH_FD_BLOB };
	for (size_t i = 0; i < l->launch.n_roles; i++)
		fds[n++] = (struct jail_fd){ l->fds[i], LAUNCH_FD_FIRST + (int)i };
	const struct jail_opts o = {
		.path = monitor_path,
		.argv = argv,
		.envp = envp,
		.fds = fds,
		.n_fds = n,
		.profile = JAIL_NONE, /* it has children to start first: it locks itself in, jail_self() */
		.uid = uid,
		.gid = gid,
		.without = JAIL_NO_LANDLOCK | l->launch.without,
	};
	r = jail_spawn(&o, &child, err);
	if (r < 0)
		return r;
	l->pid = child.pid;
	l->pidfd = child.pidfd;
	close_own(l);
	return 0;
}

void launcher_end(struct launcher *l)
{
	fd_close(&l->lifeline);
	if (l->pid > 0) {
		while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	l->pid = 0;
	fd_close(&l->pidfd);
}

void launcher_done(struct launcher *l)
{
	launcher_end(l);
	close_own(l);
	launch_done(&l->launch);
}
