// SPDX-License-Identifier: Apache-2.0
// Supervised opens: what the decision function sees, what the child gets, jail_open_beneath()'s judgement.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "jail/jail.h"

static const char *const prefixes[] = { "/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", NULL };
static char last_path[4200];
static int last_flags;

static int decide(void *data, const char *path, int flags)
{
	const char *text = data;

	if (strncmp(path, "/magic", 6) == 0) {
		strcpy(last_path, path);
		last_flags = flags;
		return fd_memfd("magic", text, strlen(text));
	}
	return jail_open_beneath(prefixes, path, flags);
}

/* supervised() - run to its end; exit status, and the first bytes of its output in @out */
static int supervised(char *const *argv, bool kill_early, char *out, size_t size)
{
	static const struct jail_path libs[] = {
		{ "/usr", JAIL_READ }, { "/bin", JAIL_READ }, { "/lib", JAIL_READ }, { "/lib64", JAIL_READ }
	};
	uid_t uid = getuid() == 0 ? 65500 : (uid_t)-1;
	struct vial_err err = VIAL_ERR_INIT;
	struct jail_child c;
	int p[2], status, rc = 0;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	struct jail_fd fd = { p[1], 1 };
	struct jail_opts o = { .path = argv[0],
			       .argv = argv,
			       .fds = &fd,
			       .n_fds = 1,
			       .paths = libs,
			       .n_paths = 4,
			       .profile = JAIL_QEMU,
			       .uid = uid,
			       .gid = uid,
			       .namespaces = true,
			       .notify = true };
	if (jail_spawn(&o, &c, &err) < 0)
		fail_msg("%s", err.msg);
	close(p[1]);
	for (;;) {
		struct pollfd pfd[2] = { { .fd = c.pidfd, .events = POLLIN },
					 { .fd = c.notify_fd, .events = POLLIN } };

		assert_true(poll(pfd, 2, 10000) > 0);
		if (kill_early) {
			/* The request is there, its process is not any more. */
			kill(c.pid, SIGKILL);
			assert_int_equal(poll(pfd, 1, 10000), 1);
			rc = jail_notify_serve(c.notify_fd, decide, (char *)"text", NULL);
			assert_true(rc == -ENOENT || rc == -EPIPE);
			break;
		}
		if (pfd[0].revents)
			break;
		rc = jail_notify_serve(c.notify_fd, decide, (char *)"text", NULL);
		assert_true(rc == 0 || rc == -ENOENT || rc == -EPIPE);
	}
	ssize_t n = fd_read_full(p[0], out, size - 1);
	out[MAX(n, 0)] = '\0';
	assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
	close(c.pidfd), close(c.notify_fd), close(p[0]);
	return status;
}

static void test_gets_what_was_decided(void **state)
{
	char *const argv[] = { (char *)"/bin/cat", (char *)"/magic/file", NULL };
	char out[64];

	(void)state;
	assert_int_equal(supervised(argv, false, out, sizeof(out)), 0);
	assert_string_equal(out, "text");
	assert_string_equal(last_path, "/magic/file");
	assert_int_equal(last_flags & O_ACCMODE, O_RDONLY);
}

static void test_long_paths(void **state)
{
	static char path[5000];
	char *const argv[] = { (char *)"/bin/cat", path, NULL };
	char out[64];

	(void)state;
	memset(path, 'x', sizeof(path) - 1);
	memcpy(path, "/magic", 6);
	path[4095] = '\0';
	assert_int_equal(supervised(argv, false, out, sizeof(out)), 0);
	assert_int_equal(strlen(last_path), 4095);
	path[4095] = 'x'; /* one more than PATH_MAX allows: the decision function never sees it */
	last_path[0] = '\0';
	assert_int_equal(WEXITSTATUS(supervised(argv, false, out, sizeof(out))), 1);
	assert_string_equal(last_path, "");
}

static void test_exec_refused(void **state)
{
	char *const argv[] = { (char *)"/usr/bin/env", (char *)"/bin/true", NULL };
	char out[64];

	(void)state;
	assert_int_equal(WEXITSTATUS(supervised(argv, false, out, sizeof(out))), 126);
}

static void test_vanished_request(void **state)
{
	char *const argv[] = { (char *)"/bin/cat", (char *)"/magic/file", NULL };
	char out[64];
	int status = 0;

	(void)state;
	status = supervised(argv, true, out, sizeof(out));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static int beneath(const char *dir, const char *name, int flags)
{
	char root[128], path[512];
	const char *const list[] = { root, NULL };

	snprintf(root, sizeof(root), "%s/in", dir);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = jail_open_beneath(list, path, flags);
	if (fd >= 0)
		close(fd);
	return MIN(fd, 0);
}

static void make(const char *dir, const char *name, const char *link)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (link)
		assert_int_equal(symlink(link, path), 0);
	else
		close(open(path, O_WRONLY | O_CREAT, 0644));
}

static void test_open_beneath(void **state)
{
	char dir[] = "/tmp/vial-beneath-XXXXXX", path[128];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/in", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/inside-not", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/in/fifo", dir);
	mkfifo(path, 0644);
	make(dir, "in/file", NULL);
	make(dir, "out", NULL);
	make(dir, "inside-not/file", NULL);
	make(dir, "in/to-out", "../out");
	make(dir, "in/to-file", "file");
	make(dir, "in/to-root", "/proc/self/root/etc/passwd");
	make(dir, "alias", "in");

	assert_int_equal(beneath(dir, "in/file", O_RDONLY), 0);
	assert_int_equal(beneath(dir, "in", O_RDONLY | O_DIRECTORY), 0);
	assert_int_equal(beneath(dir, "in/to-file", O_RDONLY), 0);
	assert_int_equal(beneath(dir, "alias/file", O_RDONLY),
			 0); /* where it is counts, not how it is called */
	assert_int_equal(beneath(dir, "in/missing", O_RDONLY), -ENOENT);
	assert_int_equal(beneath(dir, "out", O_RDONLY), -EACCES);
	assert_int_equal(beneath(dir, "in/../out", O_RDONLY), -EACCES);
	assert_int_equal(beneath(dir, "in/to-out", O_RDONLY), -EACCES);
	assert_int_equal(beneath(dir, "inside-not/file", O_RDONLY), -EACCES);
	assert_int_equal(beneath(dir, "in/to-root", O_RDONLY), -ELOOP);
	assert_int_equal(beneath(dir, "in/fifo", O_RDONLY), -EACCES);
	assert_int_equal(beneath(dir, "in/file", O_RDWR), -EACCES);
	assert_int_equal(beneath(dir, "in/file", O_WRONLY), -EACCES);
	assert_int_equal(beneath(dir, "in/file", O_RDONLY | O_TRUNC), -EACCES);
	assert_int_equal(beneath(dir, "in/new", O_RDONLY | O_CREAT), -EACCES);
	assert_int_equal(beneath(dir, "in", O_RDONLY | O_TMPFILE), -EACCES);
	assert_int_equal(jail_open_beneath(prefixes, "usr/lib", O_RDONLY), -EACCES);
	path_rm_rf_at(AT_FDCWD, dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gets_what_was_decided), cmocka_unit_test(test_long_paths),
		cmocka_unit_test(test_exec_refused),	      cmocka_unit_test(test_vanished_request),
		cmocka_unit_test(test_open_beneath),
	};

	return cmocka_run_group_tests_name("jail/notify", tests, NULL, NULL);
}
