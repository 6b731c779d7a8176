// SPDX-License-Identifier: Apache-2.0
/*
 * The child's side of jail_spawn(), from clone to execve.
 *
 * Theory of operation
 *
 * Purpose: give up rights one by one, in the order in which each step still has the rights it needs. The
 * caller may have threads whose locks were copied in whatever state, so only system calls are made here: no
 * allocation, no stdio, no locale.
 * Order and reasons:
 *	session, descriptors	from here on nothing inherited is left but what was asked for and our own
 *	namespaces, root	need the capabilities of the new user namespace (or of root)
 *	rlimits			before the uid changes: root may raise, too
 *	bounding set		needs CAP_SETPCAP, which goes with uid 0
 *	uid, gid		needs CAP_SETUID; after it, going back must fail
 *	capabilities		nothing below needs any
 *	PDEATHSIG		the kernel clears it when credentials change; then see if the parent is there
 *	no_new_privs		Landlock and seccomp want it
 *	Landlock		before seccomp, which would refuse it
 *	seccomp			last; from here: sendmsg of the listener, execve, or the report and exit
 * Failures: one struct jail_report on the socket. Its closing by execve (CLOEXEC) is the sign of success.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/plan.h"

static _noreturn_ void fail(const struct jail_plan *p, enum jail_step step, int err)
{
	struct jail_report r = { .step = (int)step, .err = err };

	/* Nobody to tell if this fails, too: the parent then sees a dead child. */
	ssize_t n _unused_ = write(p->sock, &r, sizeof(r));
	_exit(127);
}

static void default_signals(void)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} dfl = { .handler = SIG_DFL };

	/* Past glibc, which refuses its own two signals: an ignored one would stay ignored over execve. */
	for (int sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, &dfl, NULL, 8);
}

/* move_up() - a copy at @low or above, where it cannot collide with a number that the caller asked for */
static int move_up(const struct jail_plan *p, int fd, int low)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, low);

	if (up < 0)
		fail(p, STEP_FDS, errno);
	return up;
}

/* cloexec_from() - close_range() for kernels before 5.11: mark what /proc shows */
static int cloexec_from(int low)
{
	char buf[2048] __attribute__((aligned(8)));
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	for (;;) {
		long n = syscall(SYS_getdents64, dir, buf, sizeof(buf));

		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (long at = 0; at < n;) {
			unsigned short len;
			int fd = 0;

			memcpy(&len, buf + at + 16,
			       sizeof(len)); /* struct linux_dirent64: d_reclen, d_type, d_name */
			for (const char *c = buf + at + 19; *c >= '0' && *c <= '9'; c++)
				fd = fd * 10 + (*c - '0');
			if (buf[at + 19] != '.' && fd >= low && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
				return -errno;
			at += len;
		}
	}
}

static int close_all_from(int low)
{
	/* CLOEXEC rather than closing: our own few must live until execve. */
	if (syscall(SYS_close_range, (unsigned int)low, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return 0;
	return cloexec_from(low);
}

static void place(const struct jail_plan *p, int fd, int as)
{
	if (dup2(fd, as) < 0) /* clears CLOEXEC: @fd is never @as here */
		fail(p, STEP_FDS, errno);
}

static void arrange_fds(struct jail_plan *p)
{
	const struct jail_opts *o = p->opts;
	int up[JAIL_FDS_MAX], low = 3;
	bool named[3] = { false };

	for (size_t i = 0; i < o->n_fds; i++)
		low = MAX(low, o->fds[i].as + 1);
	p->sock = move_up(p, p->sock, low);
	if (p->ruleset_fd >= 0)
		p->ruleset_fd = move_up(p, p->ruleset_fd, low);
	if (p->parent_fd >= 0)
		p->parent_fd = move_up(p, p->parent_fd, low);
	p->null_fd = move_up(p, p->null_fd, low);
	if (p->exec_fd >= 0)
		p->exec_fd = move_up(p, p->exec_fd, low);
	for (size_t i = 0; i < o->n_fds; i++)
		up[i] = move_up(p, o->fds[i].fd, low);
	for (int fd = 0; fd < low; fd++)
		close(fd);
	for (size_t i = 0; i < o->n_fds; i++) {
		place(p, up[i], o->fds[i].as);
		if (o->fds[i].as < 3)
			named[o->fds[i].as] = true;
	}
	for (int fd = 0; fd < 3; fd++)
		if (!named[fd])
			place(p, p->null_fd, fd);
	int rc = close_all_from(low);
	if (rc < 0)
		fail(p, STEP_FDS, -rc);
}

static void write_proc(const struct jail_plan *p, const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail(p, STEP_NAMESPACES, errno);
	close(fd);
}

static void map_ids(const struct jail_plan *p)
{
	/* A non-dumpable caller, as jail_self() makes it, leaves us a /proc/self that belongs to root. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	/* An unprivileged process may map its gid only after giving up setgroups. [user_namespaces(7)] */
	write_proc(p, "/proc/self/setgroups", "deny");
	write_proc(p, "/proc/self/uid_map", p->uid_map);
	write_proc(p, "/proc/self/gid_map", p->gid_map);
}

static void limit(const struct jail_plan *p)
{
	static const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		fail(p, STEP_RLIMITS, errno);
	for (size_t i = 0; i < p->opts->n_rlimits; i++) {
		const struct jail_rlimit *l = &p->opts->rlimits[i];
		struct rlimit r = { l->value, l->value };

		if (setrlimit((__rlimit_resource_t)l->resource, &r) < 0)
			fail(p, STEP_RLIMITS, errno);
	}
}

static void drop_uid(const struct jail_plan *p)
{
	uid_t u = p->opts->uid, ru, eu, su;
	gid_t g = p->opts->gid, rg, eg, sg;

	/* Raw calls: glibc's would signal all threads of the caller to follow; this copy has none. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, g, g, g) < 0 ||
	    syscall(SYS_setresuid, u, u, u) < 0)
		fail(p, STEP_UID, errno);
	if (syscall(SYS_getresuid, &ru, &eu, &su) < 0 || syscall(SYS_getresgid, &rg, &eg, &sg) < 0)
		fail(p, STEP_UID, errno);
	if (ru != u || eu != u || su != u || rg != g || eg != g || sg != g)
		fail(p, STEP_UID, EPERM);
}

static void drop_bounding(const struct jail_plan *p)
{
	/* Without CAP_SETPCAP nothing is to be given up: no_new_privs makes the bounding set irrelevant. */
	for (int cap = 0; cap <= p->cap_last; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
			fail(p, STEP_CAPS, errno);
}

static void drop_caps(const struct jail_plan *p)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 }, now[2];

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0 || syscall(SYS_capget, &head, now) < 0)
		fail(p, STEP_CAPS, errno);
	if (now[0].effective | now[0].permitted | now[0].inheritable | now[1].effective | now[1].permitted |
	    now[1].inheritable)
		fail(p, STEP_CAPS, EPERM);
	if (p->uid_drop && p->opts->uid != 0 && syscall(SYS_setresuid, 0, 0, 0) == 0)
		fail(p, STEP_UID, EPERM);
}

static void die_with_parent(const struct jail_plan *p)
{
	struct pollfd gone = { .fd = p->parent_fd, .events = POLLIN };

	/* getppid() is 0 in a new pid namespace whether or not the parent lives: its pidfd tells. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		fail(p, STEP_PARENT, errno);
	if (poll(&gone, 1, 0) != 0)
		fail(p, STEP_PARENT, ESRCH);
}

static void send_listener(const struct jail_plan *p, int fd)
{
	struct jail_report r = { .step = STEP_LISTENER, .err = 0 };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(p->sock, &msg, 0) < 0)
		fail(p, STEP_LISTENER, errno);
	close(fd);
}

static void filter_calls(const struct jail_plan *p)
{
	filter_set_pid(p->prog, p->prog_len, (unsigned int)syscall(SYS_getpid));
	int rc = filter_load(p->prog, p->prog_len, p->notify);
	if (rc < 0)
		fail(p, STEP_SECCOMP, -rc);
	if (p->notify)
		send_listener(p, rc);
}

static _noreturn_ void execute(const struct jail_plan *p)
{
	static char *const no_env[] = { NULL };
	char *const *envp = p->opts->envp ? p->opts->envp : no_env;

	execve(p->exec_path, p->opts->argv, envp);
	/* Not by descriptor at once: the kernel would name the process after the descriptor's number. */
	if (errno == EACCES && p->exec_fd >= 0)
		syscall(SYS_execveat, p->exec_fd, "", p->opts->argv, envp, AT_EMPTY_PATH);
	fail(p, STEP_EXEC, errno);
}

void jail_child_run(struct jail_plan *p)
{
	unsigned long no_mask = 0;

	default_signals();
	setsid();
	arrange_fds(p);
	if (p->clone_flags & CLONE_NEWUSER)
		map_ids(p);
	if (p->clone_flags & CLONE_NEWNS) {
		int rc = root_enter(&p->root);
		if (rc < 0)
			fail(p, STEP_ROOT, -rc);
	}
	limit(p);
	if (p->caps_drop)
		drop_bounding(p);
	if (p->uid_drop)
		drop_uid(p);
	if (p->caps_drop)
		drop_caps(p);
	if (p->parent_fd >= 0)
		die_with_parent(p);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(p, STEP_NNP, errno);
	if (p->ruleset_fd >= 0) {
		int rc = landlock_lock(p->ruleset_fd);
		if (rc < 0)
			fail(p, STEP_LANDLOCK, -rc);
	}
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_mask, NULL, 8);
	if (p->prog_len)
		filter_calls(p);
	execute(p);
}
