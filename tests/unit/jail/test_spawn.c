// SPDX-License-Identifier: Apache-2.0
// jail_spawn(): what the child gets, how failures and missing layers are told.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "jail/jail.h"

static const struct jail_path libs[] = {
	{ "/usr", JAIL_READ },
	{ "/bin", JAIL_READ },
	{ "/lib", JAIL_READ },
	{ "/lib64", JAIL_READ },
	{ "/etc/ld.so.cache", JAIL_READ },
};

static uid_t box_uid(void)
{
	return getuid() == 0 ? 65500 : (uid_t)-1;
}

static struct jail_opts options(char *const *argv)
{
	return (struct jail_opts){ .path = argv[0],
				   .argv = argv,
				   .paths = libs,
				   .n_paths = ARRAY_SIZE(libs),
				   .uid = box_uid(),
				   .gid = box_uid(),
				   .namespaces = true,
				   .die_with_parent = true };
}

static int wait_end(struct jail_child *c)
{
	int status;

	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	close(c->pidfd);
	return status;
}

/* output_of() - run with fd 1 into a pipe; what it wrote */
static void output_of(struct jail_opts *o, const struct jail_fd *more, size_t n, char *ret, size_t size,
		      int *ret_status)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct jail_child c;
	struct jail_fd fds[8];
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	fds[0] = (struct jail_fd){ p[1], 1 };
	for (size_t i = 0; i < n; i++)
		fds[i + 1] = more[i];
	o->fds = fds;
	o->n_fds = n + 1;
	if (jail_spawn(o, &c, &err) < 0)
		fail_msg("%s", err.msg);
	close(p[1]);
	ssize_t got = fd_read_full(p[0], ret, size - 1);
	assert_true(got >= 0);
	ret[got] = '\0';
	close(p[0]);
	*ret_status = wait_end(&c);
}

static void test_descriptors(void **state)
{
	char *const argv[] = { (char *)"/bin/sh", (char *)"-c",
			       (char *)"cat <&3; cat <&4; cat; for i in 5 6 7 8 9; do "
				       "(: <&$i) 2>/dev/null && echo open; done",
			       NULL };
	struct jail_opts o = options(argv);
	char out[64];
	int status, a = fcntl(fd_memfd("a", "A", 1), F_DUPFD, 20),
		    b = fcntl(fd_memfd("b", "B", 1), F_DUPFD, 20);

	(void)state;
	assert_true(a >= 20 && b >= 20);
	/* Exchanged numbers, and strays without CLOEXEC in between: neither may disturb the other. */
	assert_int_equal(dup2(a, 4), 4);
	assert_int_equal(dup2(b, 3), 3);
	dup2(a, 7);
	const struct jail_fd swap[] = { { 4, 3 }, { 3, 4 } };
	output_of(&o, swap, 2, out, sizeof(out), &status);
	assert_string_equal(out, "AB");
	close(3), close(4), close(7), close(a), close(b);
}

static void test_environment(void **state)
{
	char *const argv[] = { (char *)"/usr/bin/env", NULL };
	char *const env[] = { (char *)"ONLY=this", NULL };
	struct jail_opts o = options(argv);
	char out[64];
	int status;

	(void)state;
	setenv("SECRET", "1", 1);
	output_of(&o, NULL, 0, out, sizeof(out), &status);
	assert_string_equal(out, "");
	o.envp = env;
	output_of(&o, NULL, 0, out, sizeof(out), &status);
	assert_string_equal(out, "ONLY=this\n");
}

static void test_identity(void **state)
{
	/* As root also without groups. pid 1: of its own namespace. */
	bool root = getuid() == 0;
	char *const argv[] = { (char *)"/bin/sh", (char *)"-c",
			       (char *)(root ? "id -u; id -g; id -G; ulimit -c; ulimit -n; echo $$"
					     : "id -u; id -g; ulimit -c; ulimit -n; echo $$"),
			       NULL };
	const struct jail_rlimit lim = { RLIMIT_NOFILE, 99 };
	struct jail_opts o = options(argv);
	char out[128], want[128];
	int status;

	(void)state;
	o.rlimits = &lim;
	o.n_rlimits = 1;
	output_of(&o, NULL, 0, out, sizeof(out), &status);
	if (root)
		snprintf(want, sizeof(want), "65500\n65500\n65500\n0\n99\n1\n");
	else
		snprintf(want, sizeof(want), "%u\n%u\n0\n99\n1\n", getuid(), getgid());
	assert_string_equal(out, want);
}

static void test_ignored_signals(void **state)
{
	char *const argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)"kill -PIPE $$; echo survived",
			       NULL };
	struct jail_opts o = options(argv);
	char out[64];
	int status;

	(void)state;
	o.namespaces = false; /* the first process of a pid namespace is not ended by its own signals */
	signal(SIGPIPE, SIG_IGN);
	output_of(&o, NULL, 0, out, sizeof(out), &status);
	signal(SIGPIPE, SIG_DFL);
	assert_string_equal(out, "");
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

static void test_failures_are_named(void **state)
{
	char *const none[] = { (char *)"/nonexistent/program", NULL };
	char *const dir[] = { (char *)"/usr", NULL };
	struct vial_err err = VIAL_ERR_INIT;
	struct jail_opts o = options(none);
	struct jail_child c = { .pid = 77 };

	(void)state;
	assert_int_equal(jail_spawn(&o, &c, &err), VIAL_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "/nonexistent/program"));
	assert_int_equal(c.pid, 77);
	err_clear(&err);
	o = options(dir);
	assert_int_equal(jail_spawn(&o, &c, &err), VIAL_E_DENIED);
	assert_string_equal(err.msg, "start /usr: execute: Permission denied");
	err_clear(&err);
	char *const ok[] = { (char *)"/bin/true", NULL };
	const struct jail_rlimit bad = { 9999, 1 };
	o = options(ok);
	o.rlimits = &bad;
	o.n_rlimits = 1;
	assert_int_equal(jail_spawn(&o, &c, &err), VIAL_E_IO);
	assert_string_equal(err.msg, "start /bin/true: resource limits: Invalid argument");
	err_clear(&err);
	o = options(ok);
	o.uid = 5;
	o.gid = (gid_t)-1;
	assert_int_equal(jail_spawn(&o, &c, &err), VIAL_E_INVALID);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie of a failed start is left */
}

static void test_missing_layers(void **state)
{
	static const struct {
		unsigned int bit;
		const char *name;
	} layers[] = {
		{ JAIL_NO_LANDLOCK, "Landlock" },
		{ JAIL_NO_USERNS, "user namespaces" },
		{ JAIL_NO_SECCOMP, "no seccomp" },
		{ JAIL_NO_NOTIFY, "user notification" },
	};
	char *const argv[] = { (char *)"/bin/true", NULL };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
		struct vial_err err = VIAL_ERR_INIT;
		struct jail_opts o = options(argv);
		struct jail_child c;

		o.profile = JAIL_UNPACK;
		o.notify = layers[i].bit == JAIL_NO_NOTIFY;
		o.without = layers[i].bit;
		assert_int_equal(jail_spawn(&o, &c, &err), 0);
		assert_int_equal(c.missing, layers[i].bit);
		assert_int_equal(wait_end(&c), 0);
		o.strict = true;
		assert_int_equal(jail_spawn(&o, &c, &err), VIAL_E_UNSUPPORTED);
		assert_non_null(strstr(err.msg, layers[i].name));
	}
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(10);
	close(fd);
}

/* no_more_namespaces() - in a user namespace of its own whose limits are 0: a host that forbids them */
static void no_more_namespaces(void)
{
	char map[32];
	uid_t uid = getuid();

	if (uid == 0 && (setresgid(65501, 65501, 65501) || setresuid(65501, 65501, 65501)))
		_exit(11);
	uid = getuid();
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (unshare(CLONE_NEWUSER) < 0)
		_exit(77);
	snprintf(map, sizeof(map), "0 %u 1", uid);
	put("/proc/self/uid_map", map);
	put("/proc/sys/user/max_user_namespaces", "0");
	put("/proc/sys/user/max_mnt_namespaces", "0");
}

static void test_host_without_namespaces(void **state)
{
	char *const argv[] = { (char *)"/bin/true", NULL };
	int status;

	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		struct vial_err err = VIAL_ERR_INIT;
		struct jail_opts o = options(argv);
		struct jail_child c;

		no_more_namespaces();
		o.uid = o.gid = (uid_t)-1;
		if (jail_spawn(&o, &c, &err) != 0 || c.missing != JAIL_NO_USERNS)
			_exit(1);
		waitpid(c.pid, &status, 0);
		o.strict = true;
		if (status != 0 || jail_spawn(&o, &c, &err) != VIAL_E_UNSUPPORTED ||
		    !strstr(err.msg, "user namespaces"))
			_exit(2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void dies_with_parent(bool namespaces)
{
	char *const argv[] = { (char *)"/bin/sleep", (char *)"1000", NULL };
	struct pollfd pfd = { .events = POLLIN };
	int p[2], status;
	char c;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct jail_opts o = options(argv);
		struct jail_fd out = { p[1], 1 };
		struct jail_child child;

		o.namespaces = namespaces;
		o.fds = &out;
		o.n_fds = 1;
		_exit(jail_spawn(&o, &child, NULL) == 0 ? 0 : 1);
	}
	close(p[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	pfd.fd = p[0];
	assert_int_equal(poll(&pfd, 1, 10000), 1); /* end of file: the sleeper is gone */
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
}

static void test_dies_with_parent(void **state)
{
	(void)state;
	dies_with_parent(true);
	dies_with_parent(false);
}

/* A caller that has locked itself in must still be able to start children in namespaces of their own. */
static void test_from_non_dumpable(void **state)
{
	char *const argv[] = { (char *)"/bin/true", NULL };
	struct vial_err err = VIAL_ERR_INIT;
	struct jail_opts o = options(argv);
	struct jail_child c;

	(void)state;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	int rc = jail_spawn(&o, &c, &err);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	assert_int_equal(rc, 0);
	assert_int_equal(c.missing, 0);
	assert_int_equal(wait_end(&c), 0);
}

/* Under Landlock nobody mounts: the child goes without a root of its own, and the caller is told. */
static void test_from_under_landlock(void **state)
{
	char *const argv[] = { (char *)"/bin/true", NULL };
	static const struct jail_path paths[] = { { "/", JAIL_WRITE } };
	int status;

	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		struct vial_err err = VIAL_ERR_INIT;
		struct jail_opts o = options(argv);
		struct jail_child c;
		int locked = jail_self(JAIL_NONE, paths, 1, 0, &err);

		if (locked & JAIL_NO_LANDLOCK)
			_exit(0);
		if (locked != 0 || jail_spawn(&o, &c, &err) != 0 || c.missing != JAIL_NO_USERNS)
			_exit(1);
		_exit(waitpid(c.pid, &status, 0) == c.pid && status == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int make_file(const char *dir, const char *name)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return close(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
}

/* The monitor among boxes: its own directory can go, nothing of another box. */
static int remove_boxes(const char *top)
{
	char own[64], other[64], file[80];
	struct vial_err err = VIAL_ERR_INIT;

	snprintf(own, sizeof(own), "%s/own", top);
	snprintf(other, sizeof(other), "%s/other", top);
	if (mkdir(own, 0700) < 0 || mkdir(other, 0700) < 0 || make_file(own, "s") < 0 ||
	    make_file(other, "s") < 0)
		return 1;
	const struct jail_path paths[] = { { top, JAIL_RMDIR }, { own, JAIL_WRITE } };
	int locked = jail_self(JAIL_NONE, paths, ARRAY_SIZE(paths), 0, &err);
	if (locked & JAIL_NO_LANDLOCK)
		return 0;
	snprintf(file, sizeof(file), "%s/s", other);
	if (locked != 0 || unlink(file) == 0 || errno != EACCES || make_file(other, "t") == 0 ||
	    rmdir(other) == 0)
		return 2;
	if (rename(file, own) == 0 || open(file, O_RDONLY | O_CLOEXEC) >= 0)
		return 3;
	snprintf(file, sizeof(file), "%s/s", own);
	return unlink(file) < 0 || rmdir(own) < 0 ? 4 : 0;
}

static void test_removes_its_own_directory_only(void **state)
{
	char top[] = "/tmp/vial-test-XXXXXX";
	int status;

	(void)state;
	assert_non_null(mkdtemp(top));
	pid_t pid = fork();
	if (pid == 0)
		_exit(remove_boxes(top));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, top), 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_ignored_signals),
		cmocka_unit_test(test_failures_are_named),
		cmocka_unit_test(test_missing_layers),
		cmocka_unit_test(test_host_without_namespaces),
		cmocka_unit_test(test_dies_with_parent),
		cmocka_unit_test(test_from_non_dumpable),
		cmocka_unit_test(test_from_under_landlock),
		cmocka_unit_test(test_removes_its_own_directory_only),
	};

	return cmocka_run_group_tests_name("jail/spawn", tests, NULL, NULL);
}
