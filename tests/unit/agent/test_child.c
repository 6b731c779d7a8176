// SPDX-License-Identifier: Apache-2.0
// The search for programs, and child_run() itself in a forked process of the test.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/child.h"
#include "base/fd.h"
#include "base/mem.h"

static char dir[] = "/tmp/test-child-XXXXXX";

static void put(const char *name, mode_t mode, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	close(fd);
	chmod(path, mode);
}

static int setup(void **state)
{
	char path[PATH_MAX];

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/one", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/two", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/one/folder", dir);
	mkdir(path, 0755);
	put("one/plain", 0644, "");
	put("two/plain", 0755, "#!/bin/sh\nexit 5\n");
	put("two/folder", 0755, "#!/bin/sh\nexit 6\n");
	put("two/noexec", 0644, "");
	put("two/badformat", 0755, "\x01\x02\x03");
	put("two/badinterp", 0755, "#!/no/such/interpreter\n");
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "one/plain",     "two/plain",     "two/folder", "two/noexec",
					     "two/badformat", "two/badinterp", "one/folder", "one",
					     "two",	      "" };
	char path[PATH_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		remove(path);
	}
	return 0;
}

static int search(const char *name, const char *path)
{
	_cleanup_free_ char *file = NULL;

	return child_find_program(name, path, &file);
}

static void path_search(void **state)
{
	char path[PATH_MAX], file[PATH_MAX];
	_cleanup_free_ char *got = NULL;

	(void)state;
	snprintf(path, sizeof(path), "/nowhere:%s/one:%s/two", dir, dir);
	snprintf(file, sizeof(file), "%s/two/plain", dir);
	assert_int_equal(child_find_program("plain", path, &got), 0); /* not the one without x */
	assert_string_equal(got, file);
	free(take_ptr(got));
	snprintf(file, sizeof(file), "%s/two/folder", dir);
	assert_int_equal(child_find_program("folder", path, &got), 0); /* not the directory */
	assert_string_equal(got, file);
	assert_int_equal(search("noexec", path), -EACCES);
	assert_int_equal(search("nosuch", path), -ENOENT);
	assert_int_equal(search("", path), -ENOENT);
	assert_int_equal(search("nosuch", ""), -ENOENT);
	assert_int_equal(search("nosuch", ":::"), -ENOENT);
	assert_int_equal(search("/any/path", path), 0); /* left to execve */
}

/* struct outcome - of one child_run() */
struct outcome {
	struct child_failure failure; /* kind is -1 if there was none */
	int status;
};

static struct outcome run(struct child_spec s, const char *const *argv)
{
	_cleanup_strv_ struct strv args = { 0 }, env = { 0 };
	struct outcome o = { .failure.kind = UINT32_MAX };
	int p[2];

	for (; *argv; argv++)
		strv_add(&args, *argv);
	strv_addf(&env, "PATH=%s/one:%s/two:/usr/bin:/bin", dir, dir);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_true(null >= 0);
	s.argv = &args;
	s.env = &env;
	s.cwd = s.cwd ? s.cwd : "";
	s.user = s.user ? s.user : "0:0";
	for (int i = 0; i < 3; i++)
		s.stdio[i] = null;
	s.status_fd = p[1];
	pid_t pid = fork();
	if (pid == 0)
		child_run(&s);
	close(p[1]);
	ssize_t n = fd_read_full(p[0], &o.failure, sizeof(o.failure));
	assert_true(n == 0 || n == (ssize_t)sizeof(o.failure));
	assert_int_equal(waitpid(pid, &o.status, 0), pid);
	close(p[0]);
	close(null);
	return o;
}

#define SPEC(...)      ((struct child_spec){ .status_fd = -1, __VA_ARGS__ })
#define RUN(spec, ...) run(spec, (const char *const[]){ __VA_ARGS__, NULL })

static bool is_root(void)
{
	return geteuid() == 0;
}

static void runs(void **state)
{
	(void)state;
	if (!is_root())
		skip(); /* users are switched: root's work */
	for (int init = 0; init < 2; init++) {
		struct outcome o = RUN(SPEC(.init = init), "plain");
		assert_int_equal(o.failure.kind, UINT32_MAX);
		assert_int_equal(WEXITSTATUS(o.status), 5);
		o = RUN(SPEC(.init = init), "sh", "-c", "kill -TERM $$");
		assert_true(WIFSIGNALED(o.status));
		assert_int_equal(WTERMSIG(o.status), SIGTERM);
	}
	struct outcome o = RUN(SPEC(.user = "12345:54321"), "sh", "-c", "test $(id -u).$(id -g) = 12345.54321");
	assert_int_equal(o.status, 0);
	o = RUN(SPEC(.cwd = "/usr"), "sh", "-c", "test $PWD = /usr && test $HOME && ! test -e /proc/self/fd/3");
	assert_int_equal(o.status, 0);
	struct agent_rlimit files = { .resource = 7, .soft = 33, .hard = 44 };
	o = RUN(SPEC(.rlimits = &files, .n_rlimits = 1), "sh", "-c", "test $(ulimit -n) = 33");
	assert_int_equal(o.status, 0);
}

static void failures(void **state)
{
	(void)state;
	if (!is_root())
		skip();
	assert_int_equal(RUN(SPEC(), "nosuch").failure.kind, AGENT_FAIL_NOT_FOUND);
	assert_int_equal(RUN(SPEC(.init = true), "nosuch").failure.kind, AGENT_FAIL_NOT_FOUND);
	assert_int_equal(RUN(SPEC(), "badinterp").failure.kind, AGENT_FAIL_NOT_FOUND);
	assert_int_equal(RUN(SPEC(), "badformat").failure.kind, AGENT_FAIL_NOT_EXECUTABLE);
	assert_int_equal(RUN(SPEC(), "noexec").failure.kind, AGENT_FAIL_NOT_EXECUTABLE);
	assert_int_equal(RUN(SPEC(), "/").failure.kind, AGENT_FAIL_NOT_EXECUTABLE);
	assert_int_equal(RUN(SPEC(.cwd = "/no/such"), "plain").failure.kind, AGENT_FAIL_BAD_CWD);
	assert_int_equal(RUN(SPEC(.user = "no-such-user"), "plain").failure.kind, AGENT_FAIL_BAD_USER);
	struct agent_rlimit bad = { .resource = 12345 };
	assert_int_equal(RUN(SPEC(.rlimits = &bad, .n_rlimits = 1), "plain").failure.kind, AGENT_FAIL_BAD_REQUEST);
	char *longarg = malloc(200001);
	memset(longarg, 'x', 200000);
	longarg[200000] = '\0';
	assert_int_equal(RUN(SPEC(), "plain", longarg).failure.kind, AGENT_FAIL_TOO_LONG);
	free(longarg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(path_search),
		cmocka_unit_test(runs),
		cmocka_unit_test(failures),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
