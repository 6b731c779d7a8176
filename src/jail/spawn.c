// SPDX-License-Identifier: Apache-2.0
/*
 * The parent's side of jail_spawn().
 *
 * Theory of operation
 *
 * Purpose: prepare all that needs memory or may fail in interesting ways, clone, and wait for the outcome.
 * Clone: raw, like fork, with CLONE_PIDFD and the namespaces. glibc's fork would run the atfork handlers of
 * whatever program loaded us. CLONE_VM is not used although it is faster: changing the uid of a child that
 * shares memory makes the parent non-dumpable. Without @notify, CLONE_VFORK: the parent sleeps until execve
 * or exit, so success does not depend on the report socket's end of file (another thread's forked child may
 * hold a copy of it). With @notify the child's own execve waits for its supervisor, which is us: we answer
 * it here, once, and the caller answers everything after. Signals are blocked over the clone: a handler of
 * the caller must not run in the child.
 * Host refuses namespaces: clone fails (EPERM, ENOSPC, EUSERS, EINVAL), or the child fails in one of the
 * namespace steps (AppArmor on Ubuntu gives the namespace but no rights in it). Either way we start over
 * without.
 * Limits: JAIL_FDS_MAX, JAIL_PATHS_MAX, JAIL_RLIMITS_MAX.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "jail/plan.h"

static const char *const step_names[N_STEPS] = {
	[STEP_FDS] = "descriptors",	      [STEP_NAMESPACES] = "namespaces",
	[STEP_ROOT] = "root directory",	      [STEP_RLIMITS] = "resource limits",
	[STEP_UID] = "change user",	      [STEP_CAPS] = "drop capabilities",
	[STEP_PARENT] = "parent has gone",    [STEP_NNP] = "no_new_privs",
	[STEP_LANDLOCK] = "landlock",	      [STEP_SECCOMP] = "seccomp",
	[STEP_LISTENER] = "seccomp listener", [STEP_EXEC] = "execute",
};

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)

/* struct start - one jail_spawn() on its way */
struct start {
	struct jail_plan plan;
	struct vial_err *err;
	char *real_path; /* of a program not given by an absolute path */
	int sock;	 /* our end */
	int listener;
	pid_t pid;
	int pidfd;
	unsigned int missing;
};

static void start_done(struct start *s)
{
	free(s->plan.prog);
	free(s->real_path);
	fd_close(&s->plan.sock);
	fd_close(&s->plan.null_fd);
	fd_close(&s->plan.ruleset_fd);
	fd_close(&s->plan.parent_fd);
	fd_close(&s->plan.exec_fd);
	fd_close(&s->sock);
	fd_close(&s->listener);
	fd_close(&s->pidfd);
}

static int sys_fail(struct start *s, int neg_errno, const char *what)
{
	return err_sys(s->err, neg_errno, "start %s: %s", s->plan.opts->path, what);
}

/* lacks() - the host does not give @bit: noted, or an error under @strict */
static int lacks(struct start *s, unsigned int bit, const char *what)
{
	s->missing |= bit;
	if (!s->plan.opts->strict)
		return 0;
	return err_set(s->err, VIAL_E_UNSUPPORTED,
		       "start %s: this host gives no %s (--strict refuses to go on without)",
		       s->plan.opts->path, what);
}

static int check(const struct jail_opts *o, struct vial_err *err)
{
	if (o->n_fds > JAIL_FDS_MAX || o->n_paths > JAIL_PATHS_MAX || o->n_rlimits > JAIL_RLIMITS_MAX)
		return err_set(err, VIAL_E_INVALID, "start %s: too many descriptors, paths or limits",
			       o->path);
	for (size_t i = 0; i < o->n_fds; i++)
		if (o->fds[i].fd < 0 || o->fds[i].as < 0 || o->fds[i].as > 1023)
			return err_set(err, VIAL_E_INVALID, "start %s: bad descriptor %d as %d", o->path,
				       o->fds[i].fd, o->fds[i].as);
	if ((o->uid == (uid_t)-1) != (o->gid == (gid_t)-1))
		return err_set(err, VIAL_E_INVALID, "start %s: uid and gid go together", o->path);
	if ((unsigned int)o->profile > JAIL_VMM)
		return err_set(err, VIAL_E_INVALID, "start %s: no such profile", o->path);
	return 0;
}

static int prepare_landlock(struct start *s)
{
	const struct jail_opts *o = s->plan.opts;
	const char *bad = NULL;
	int rc = -EOPNOTSUPP;

	if (!(o->without & JAIL_NO_LANDLOCK))
		rc = landlock_ruleset(o->paths, o->n_paths, o->path, true, &bad);
	if (rc == -EOPNOTSUPP || rc == -ENOSYS)
		return lacks(s, JAIL_NO_LANDLOCK, "Landlock");
	if (rc < 0)
		return sys_fail(s, rc, bad ? bad : "landlock");
	s->plan.ruleset_fd = rc;
	return 0;
}

static int prepare_filter(struct start *s)
{
	const struct jail_opts *o = s->plan.opts;

	if (o->profile == JAIL_NONE)
		return 0;
	if ((o->without & JAIL_NO_SECCOMP) || !filter_available())
		return lacks(s, JAIL_NO_SECCOMP, "seccomp");
	s->plan.notify = o->notify && !(s->missing & JAIL_NO_NOTIFY);
	free(s->plan.prog);
	s->plan.prog =
		filter_copy(o->profile, s->plan.notify ? FILTER_NOTIFY : FILTER_SPAWN, &s->plan.prog_len);
	if (!s->plan.prog)
		return sys_fail(s, -ENOMEM, "seccomp");
	return 0;
}

static int prepare_notify(struct start *s)
{
	const struct jail_opts *o = s->plan.opts;

	if (!o->notify)
		return 0;
	if (o->profile == JAIL_NONE || (o->without & (JAIL_NO_NOTIFY | JAIL_NO_SECCOMP)) ||
	    !filter_notify_available())
		return lacks(s, JAIL_NO_NOTIFY, "seccomp user notification");
	return 0;
}

static int last_capability(void)
{
	int cap = 0;

	while (cap < 63 && prctl(PR_CAPBSET_READ, cap + 1, 0, 0, 0) >= 0)
		cap++;
	return cap;
}

static int prepare_ids(struct start *s)
{
	const struct jail_opts *o = s->plan.opts;
	struct jail_plan *p = &s->plan;
	uid_t uid = geteuid();
	gid_t gid = getegid();

	/* An ordinary user who names himself has nothing to drop. */
	p->uid_drop = o->uid != (uid_t)-1 && !(uid != 0 && o->uid == uid && o->gid == gid);
	p->clone_flags = 0;
	if (o->namespaces && (o->without & JAIL_NO_USERNS)) {
		int rc = lacks(s, JAIL_NO_USERNS, "user namespaces");
		if (rc < 0)
			return rc;
	}
	if (o->namespaces && !(s->missing & JAIL_NO_USERNS))
		p->clone_flags = NAMESPACES | (uid != 0 ? CLONE_NEWUSER : 0);
	p->caps_drop = p->uid_drop || p->clone_flags;
	p->cap_last = last_capability();
	snprintf(p->uid_map, sizeof(p->uid_map), "%u %u 1\n", uid, uid);
	snprintf(p->gid_map, sizeof(p->gid_map), "%u %u 1\n", gid, gid);
	return 0;
}

/* prepare_root() - a child with a root of its own cannot use a path that is relative to our directory */
static int prepare_root(struct start *s)
{
	const struct jail_opts *o = s->plan.opts;

	s->plan.exec_path = o->path;
	if (s->plan.uid_drop && !o->notify && s->plan.exec_fd < 0) {
		s->plan.exec_fd = open(o->path, O_PATH | O_CLOEXEC);
		if (s->plan.exec_fd < 0)
			return sys_fail(s, -errno, step_names[STEP_EXEC]);
	}
	if (!s->plan.clone_flags)
		return 0;
	if (o->path[0] != '/' || strstr(o->path, "/../") || strstr(o->path, "/./")) {
		s->real_path = realpath(o->path, NULL);
		if (!s->real_path)
			return sys_fail(s, -errno, step_names[STEP_EXEC]);
		s->plan.exec_path = s->real_path;
	}
	int rc = root_plan(&s->plan.root, o);
	return rc < 0 ? sys_fail(s, rc, step_names[STEP_ROOT]) : 0;
}

static int prepare(struct start *s)
{
	int rc = prepare_landlock(s);

	if (rc == 0)
		rc = prepare_notify(s);
	if (rc == 0)
		rc = prepare_filter(s);
	if (rc == 0)
		rc = prepare_ids(s);
	if (rc == 0)
		rc = prepare_root(s);
	if (rc < 0)
		return rc;
	s->plan.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (s->plan.null_fd < 0)
		return sys_fail(s, -errno, "/dev/null");
	if (!s->plan.opts->die_with_parent)
		return 0;
	s->plan.parent_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	return s->plan.parent_fd < 0 ? sys_fail(s, -errno, "pidfd of this process") : 0;
}

/* clone_child() - 0 with pid and pidfd set, or -errno; the child does not return */
static int clone_child(struct start *s)
{
	unsigned long flags = s->plan.clone_flags | CLONE_PIDFD | SIGCHLD;
	sigset_t all, old;
	int pidfd = -1;

	if (!s->plan.notify)
		flags |= CLONE_VFORK;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	long pid = syscall(SYS_clone, flags, NULL, &pidfd, NULL, NULL);
	if (pid == 0)
		jail_child_run(&s->plan);
	int rc = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		return rc;
	s->pid = (pid_t)pid;
	s->pidfd = pidfd;
	return 0;
}

int jail_kill(int pidfd)
{
	return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
}

static void reap(struct start *s)
{
	jail_kill(s->pidfd);
	while (waitpid(s->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	fd_close(&s->pidfd);
	fd_close(&s->listener);
}

/*
 * hear() - one message of the child
 * Return: 1 a report of failure, 2 the listener came, 0 end of file, -EAGAIN nothing yet, or other -errno.
 */
static int hear(struct start *s, struct jail_report *ret)
{
	int fds[FD_PASS_MAX];
	size_t n_fds = 0;
	ssize_t n = fd_recv(s->sock, ret, sizeof(*ret), fds, &n_fds);

	if (n <= 0)
		return (int)n;
	if (n != sizeof(*ret) || ret->step < 0 || ret->step >= N_STEPS || n_fds > 1) {
		for (size_t i = 0; i < n_fds; i++)
			close(fds[i]);
		return -EPROTO;
	}
	if (n_fds == 0)
		return 1;
	fd_close(&s->listener);
	s->listener = fds[0];
	return 2;
}

static int no_open(void *data _unused_, const char *path _unused_, int flags _unused_)
{
	return -EACCES;
}

/* await_notified() - answer the child's own execve, wait for the socket to close with it */
static int await_notified(struct start *s, struct jail_report *ret)
{
	unsigned int execs = 1;

	for (;;) {
		struct pollfd pfd[3] = {
			{ .fd = s->sock, .events = POLLIN },
			{ .fd = s->pidfd, .events = POLLIN },
			{ .fd = s->listener, .events = POLLIN }, /* -1 until it comes: skipped */
		};
		if (poll(pfd, 3, -1) < 0 && errno != EINTR)
			return -errno;
		if (pfd[0].revents) {
			int rc = hear(s, ret);
			if (rc != 2 && rc != -EAGAIN)
				return rc;
		} else if (pfd[1].revents) {
			return -ECHILD;
		} else if (pfd[2].revents & POLLIN) {
			jail_notify_serve(s->listener, no_open, NULL, &execs);
			/* Only the first execve is ours to answer; opens that follow wait for the caller. */
			if (execs == 0)
				return hear(s, ret);
		}
	}
}

/* outcome() - 0 when the program runs, 1 with the child's report, or -errno */
static int outcome(struct start *s, struct jail_report *ret)
{
	int rc = s->plan.notify ? await_notified(s, ret) : hear(s, ret);

	/*
	 * After CLONE_VFORK, nothing to hear means execve, or a child that was killed on its way. The two
	 * cannot be told apart (the program may have ended already), and need not be: the caller watches
	 * its pidfd anyway.
	 */
	return rc == -EAGAIN ? 0 : rc;
}

static int open_socket(struct start *s)
{
	int pair[2];

	fd_close(&s->sock);
	fd_close(&s->plan.sock);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return sys_fail(s, -errno, "socketpair");
	s->sock = pair[0];
	s->plan.sock = pair[1];
	return s->plan.notify ? 0 : fd_set_nonblock(s->sock, true) < 0 ? sys_fail(s, -EIO, "socketpair") : 0;
}

/* degrade() - after a failure: 1 if a weaker attempt is worth it (noted), else the error */
static int degrade(struct start *s, enum jail_step step, int err)
{
	int rc;

	if (s->plan.clone_flags && (step == STEP_NAMESPACES || step == STEP_ROOT))
		rc = lacks(s, JAIL_NO_USERNS, "user namespaces");
	else if (s->plan.notify && step == STEP_SECCOMP && err == EBUSY)
		rc = lacks(s, JAIL_NO_NOTIFY, "seccomp user notification (another supervisor is above)");
	else
		return sys_fail(s, -err, step_names[step]);
	if (rc == 0)
		rc = prepare_filter(s);
	if (rc == 0)
		rc = prepare_ids(s);
	return rc < 0 ? rc : 1;
}

/* attempt() - 0 when the program runs, 1 to try again with less, or an error */
static int attempt(struct start *s)
{
	struct jail_report report = { 0 };
	int rc = open_socket(s);

	if (rc < 0)
		return rc;
	rc = clone_child(s);
	if (rc < 0)
		return degrade(s, s->plan.clone_flags ? STEP_NAMESPACES : STEP_FDS, -rc);
	if (s->plan.notify)
		fd_close(&s->plan.sock); /* so that end of file can come */
	rc = outcome(s, &report);
	if (rc == 0)
		return 0;
	reap(s);
	if (rc < 0)
		return sys_fail(s, rc, "died before it ran");
	return degrade(s, (enum jail_step)report.step, report.err);
}

int jail_spawn(const struct jail_opts *o, struct jail_child *ret, struct vial_err *err)
{
	_cleanup_(start_done) struct start s = {
		.plan = { .opts = o,
			  .sock = -1,
			  .null_fd = -1,
			  .ruleset_fd = -1,
			  .parent_fd = -1,
			  .exec_fd = -1 },
		.err = err,
		.sock = -1,
		.listener = -1,
		.pidfd = -1,
	};
	int rc = check(o, err);

	if (rc < 0)
		return rc;
	rc = prepare(&s);
	if (rc < 0)
		return rc;
	do
		rc = attempt(&s);
	while (rc == 1);
	if (rc < 0)
		return rc;
	ret->pid = s.pid;
	ret->pidfd = take_fd(s.pidfd);
	ret->notify_fd = take_fd(s.listener);
	ret->missing = s.missing;
	return 0;
}
