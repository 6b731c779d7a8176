// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * The child is a fork of PID 1, alone in its own control group. Everything that touches the guest's root on
 * behalf of a command happens here and not in PID 1: the user's lookup, the search for the program. A
 * file system that hangs then hangs one command. Failures go through the status pipe, which
 * a successful exec closes.
 *
 * With @init the child stays as a reaper and the program is its child: orphans of the program come to
 * it, signals sent to its pid go on to the program, and it ends as the program ended.
 */
#include "agent/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/sysfile.h"
#include "agent/users.h"
#include "base/fd.h"
#include "base/mem.h"

static void fail(const struct child_spec *s, enum agent_fail kind, int err, const char *fmt, ...)
	_printf_(4, 5) _noreturn_;

static void fail(const struct child_spec *s, enum agent_fail kind, int err, const char *fmt, ...)
{
	struct child_failure f = { .kind = kind, .sys_errno = err };
	size_t at;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f.message, sizeof(f.message), fmt, ap);
	va_end(ap);
	at = strlen(f.message);
	if (err)
		snprintf(f.message + at, sizeof(f.message) - at, ": %s", strerror(err));
	(void)fd_write_full(s->status_fd, &f, sizeof(f));
	_exit(127);
}

static enum agent_fail kind_of(int err)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		return AGENT_FAIL_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EISDIR:
	case ENOEXEC:
	case ELIBBAD:
	case ETXTBSY:
	case ELOOP:
		return AGENT_FAIL_NOT_EXECUTABLE;
	case E2BIG:
		return AGENT_FAIL_TOO_LONG;
	case ENOMEM:
		return AGENT_FAIL_NO_MEMORY;
	case EAGAIN:
	case EMFILE:
	case ENFILE:
		return AGENT_FAIL_LIMIT;
	default:
		return AGENT_FAIL_OTHER;
	}
}

/* 0 if execve may be tried on @path. */
static int check_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return S_ISREG(st.st_mode) && (st.st_mode & 0111) ? 0 : -EACCES;
}

int child_find_program(const char *name, const char *path, char **ret)
{
	int result = -ENOENT;

	if (!*name)
		return -ENOENT;
	if (strchr(name, '/')) {
		*ret = strdup(name);
		return *ret ? 0 : -ENOMEM;
	}
	for (;;) {
		_cleanup_free_ char *file = NULL;
		size_t len = strcspn(path, ":");
		file = malloc(len + strlen(name) + sizeof("./"));
		if (!file)
			return -ENOMEM;
		strcpy(stpcpy(mempcpy(file, path, len), len ? "/" : "./"), name);
		int r = check_program(file);
		if (r == 0) {
			*ret = take_ptr(file);
			return 0;
		}
		if (r == -EACCES || (r == -EISDIR && result == -ENOENT))
			result = r;
		if (!path[len])
			return result;
		path += len + 1;
	}
}

static void default_env(const struct child_spec *s, const char *name, const char *value)
{
	_cleanup_free_ char *line = NULL;

	if (strv_getenv(s->env, name))
		return;
	line = malloc(strlen(name) + strlen(value) + 2);
	if (line)
		strcpy(stpcpy(stpcpy(line, name), "="), value);
	if (!line || strv_add(s->env, line) < 0)
		fail(s, AGENT_FAIL_NO_MEMORY, ENOMEM, "environment");
}

static void set_stdio(const struct child_spec *s)
{
	if (setsid() < 0)
		fail(s, AGENT_FAIL_OTHER, errno, "setsid");
	for (int i = 0; i < 3; i++)
		if (dup2(s->stdio[i], i) < 0)
			fail(s, AGENT_FAIL_OTHER, errno, "stdio");
	if (s->tty && ioctl(0, TIOCSCTTY, 0) < 0)
		fail(s, AGENT_FAIL_OTHER, errno, "controlling terminal");
}

static rlim_t rlim_value(uint64_t v)
{
	return v == UINT64_MAX ? RLIM_INFINITY : (rlim_t)v;
}

static void set_rlimits(const struct child_spec *s)
{
	for (size_t i = 0; i < s->n_rlimits; i++) {
		const struct agent_rlimit *l = &s->rlimits[i];
		struct rlimit rl = { rlim_value(l->soft), rlim_value(l->hard) };
		if (setrlimit((__rlimit_resource_t)l->resource, &rl) < 0)
			fail(s, AGENT_FAIL_BAD_REQUEST, errno, "resource limit %u", l->resource);
	}
}

static const struct user *look_up_user(const struct child_spec *s)
{
	struct user *u = malloc(sizeof(*u));
	int r = u ? users_load(s->user, u) : -ENOMEM;

	if (r == -ENOENT)
		fail(s, AGENT_FAIL_BAD_USER, 0, "no user '%.100s' in the guest's /etc/passwd", s->user);
	if (r == -ESRCH)
		fail(s, AGENT_FAIL_BAD_USER, 0, "no such group in the guest's /etc/group: '%.100s'", s->user);
	if (r < 0)
		fail(s, r == -ENOMEM ? AGENT_FAIL_NO_MEMORY : AGENT_FAIL_BAD_USER, -r, "user '%.100s'",
		     s->user);
	return u;
}

/* Groups first, the user last: after that there is no way back. */
static void become(const struct child_spec *s, const struct user *u)
{
	if (u->uid == 0 && u->gid == 0 && u->n_groups == 0)
		return; /* that is what PID 1 is */
	if (setgroups(u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
		fail(s, errno == EAGAIN ? AGENT_FAIL_LIMIT : AGENT_FAIL_BAD_USER, errno, "become user %u:%u",
		     u->uid, u->gid);
}

static void enter_cwd(const struct child_spec *s)
{
	const char *cwd = *s->cwd ? s->cwd : "/";

	if (chdir(cwd) < 0)
		fail(s, AGENT_FAIL_BAD_CWD, errno, "working directory '%.200s'", cwd);
}

static void exec_failed(const struct child_spec *s, const char *file, int err)
{
	struct stat st;

	if (err == EACCES && stat(file, &st) == 0 && S_ISDIR(st.st_mode))
		err = EISDIR;
	if (err == ENOENT && stat(file, &st) == 0)
		fail(s, AGENT_FAIL_NOT_FOUND, err, "%.200s: its interpreter or loader is missing", file);
	fail(s, kind_of(err), err, "%.200s", file);
}

static void exec_program(const struct child_spec *s)
{
	const char *path = strv_getenv(s->env, "PATH");
	const char *name = s->argv->v[0];
	char *file = NULL;
	sigset_t none;
	int r = child_find_program(name, path ? path : CHILD_DEFAULT_PATH, &file);

	if (r == -ENOENT)
		fail(s, AGENT_FAIL_NOT_FOUND, ENOENT, "%.200s: not found in PATH", name);
	if (r < 0)
		fail(s, kind_of(-r), -r, "%.200s", name);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(file, s->argv->v, s->env->v);
	exec_failed(s, file, errno);
}

/* Its session and descriptors are made. */
static void become_program(const struct child_spec *s)
{
	const struct user *u = s->users && !*s->user ? users_cached(s->users) : NULL;

	if (!u)
		u = look_up_user(s);
	default_env(s, "PATH", CHILD_DEFAULT_PATH);
	default_env(s, "HOME", u->home);
	if (s->tty)
		default_env(s, "TERM", "xterm");
	set_rlimits(s);
	enter_cwd(s);
	become(s, u);
	exec_program(s);
}

/* Ends the reaper as the program ended. */
static void end_like(int status)
{
	if (WIFSIGNALED(status)) {
		struct rlimit no_core = { 0, 0 };
		sigset_t one;
		(void)setrlimit(RLIMIT_CORE, &no_core);
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
		sigemptyset(&one);
		sigaddset(&one, WTERMSIG(status));
		sigprocmask(SIG_UNBLOCK, &one, NULL);
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void reap_until(pid_t program)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == program)
			end_like(status);
}

/* The reaper holds none of the command's descriptors: a closed stdin must be seen. */
static void reap(pid_t program)
{
	sigset_t all;

	(void)syscall(SYS_close_range, 0U, ~0U, 0U);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	reap_until(program);
	for (;;) {
		siginfo_t si;
		int sig = sigwaitinfo(&all, &si);
		if (sig == SIGCHLD)
			reap_until(program);
		else if (sig > 0)
			(void)kill(program, sig);
	}
}

static void split_reaper(const struct child_spec *s)
{
	pid_t program;

	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	program = fork();
	if (program < 0)
		fail(s, AGENT_FAIL_LIMIT, errno, "fork");
	if (program > 0)
		reap(program);
}

/* PID 1 blocks signals and ignores SIGPIPE, and has no handlers. */
static void shed_pid1(void)
{
	signal(SIGPIPE, SIG_DFL);
	umask(022);
	(void)sysfile_write(AT_FDCWD, "/proc/self/oom_score_adj", "0");
}

void child_run(const struct child_spec *s)
{
	(void)syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
	shed_pid1();
	if (s->init)
		split_reaper(s);
	set_stdio(s);
	become_program(s);
	_exit(127);
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Other commands' pipes must not stay open here for as long as this waits. */
static void close_others(const struct child_waiting *w)
{
	int keep[] = { w->stdio[0], w->status_fd, w->request_fd, w->ready_fd };
	unsigned int from = 3;

	qsort(keep, ARRAY_SIZE(keep), sizeof(keep[0]), compare_ints);
	for (size_t i = 0; i < ARRAY_SIZE(keep); i++) {
		if ((unsigned int)keep[i] > from)
			(void)syscall(SYS_close_range, from, (unsigned int)keep[i] - 1, 0U);
		from = (unsigned int)keep[i] + 1;
	}
	(void)syscall(SYS_close_range, from, ~0U, 0U);
}

static char *text_of(struct slice s)
{
	return s.n > 0 && memchr(s.p, '\0', s.n) ? NULL : strndup(s.n ? (const char *)s.p : "", s.n);
}

static void run_request(const struct child_waiting *w, const struct users_cache *users, const uint8_t *p,
			size_t n)
{
	struct child_spec s = { .status_fd = w->status_fd, .users = users };
	struct agent_host_msg m;

	if (agent_host_msg_decode(p, n, &m) < 0 || m.type != AGENT_HOST_EXEC)
		fail(&s, AGENT_FAIL_BAD_REQUEST, EINVAL, "request");
	s.argv = &m.exec.argv;
	s.env = &m.exec.env;
	s.cwd = text_of(m.exec.cwd);
	s.user = text_of(m.exec.user);
	s.rlimits = m.exec.rlimits;
	s.n_rlimits = m.exec.n_rlimits;
	if (!s.cwd || !s.user)
		fail(&s, AGENT_FAIL_BAD_REQUEST, EINVAL, "working directory or user");
	if (m.exec.want_stdin && dup2(w->stdio[0], 0) < 0)
		fail(&s, AGENT_FAIL_OTHER, errno, "stdio");
	if (m.exec.init) {
		split_reaper(&s);
		if (setsid() < 0)
			fail(&s, AGENT_FAIL_OTHER, errno, "setsid");
	}
	become_program(&s);
}

void child_wait(const struct child_waiting *w)
{
	struct child_spec s = { .status_fd = w->status_fd };
	struct users_cache users;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint32_t n;

	/* The pipes are above 2, which PID 1 keeps open. */
	if (null < 0 || dup2(null, 0) < 0 || dup2(w->stdio[1], 1) < 0 || dup2(w->stdio[2], 2) < 0)
		_exit(127);
	close_others(w);
	shed_pid1();
	if (setsid() < 0)
		_exit(127);
	users_cache_fill(&users);
	close(w->ready_fd);
	if (fd_read_full(w->request_fd, &n, sizeof(n)) != (ssize_t)sizeof(n))
		_exit(127); /* nobody wants it any more */
	uint8_t *request = malloc(n);
	if (!request || fd_read_full(w->request_fd, request, n) != (ssize_t)n)
		fail(&s, AGENT_FAIL_NO_MEMORY, ENOMEM, "request");
	run_request(w, &users, request, n);
	_exit(127);
}
