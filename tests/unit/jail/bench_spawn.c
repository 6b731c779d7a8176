// SPDX-License-Identifier: Apache-2.0
/*
 * What the jail costs: medians of starting a trivial program and of QEMU up to its first QMP answer, plain and
 * jailed.
 *	bench_spawn [runs] [uid]
 * As root, give a uid for the jailed ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "jail/jail.h"

#define RUNS_MAX 2000

static const char *const libs[] = {
	"/usr/lib", "/lib", "/lib64", "/usr/share/qemu", "/usr/share/seabios", "/etc/ld.so.cache", NULL
};
static const struct jail_path lib_paths[] = {
	{ "/usr/lib", JAIL_READ },	  { "/lib", JAIL_READ },
	{ "/lib64", JAIL_READ },	  { "/etc/ld.so.cache", JAIL_READ },
	{ "/usr/share/qemu", JAIL_READ }, { "/usr/share/seabios", JAIL_READ },
};
static char *const qemu_argv[] = { (char *)"qemu-system-x86_64",
				   (char *)"-M",
				   (char *)"q35",
				   (char *)"-nodefaults",
				   (char *)"-no-user-config",
				   (char *)"-display",
				   (char *)"none",
				   (char *)"-S",
				   (char *)"-accel",
				   (char *)"tcg",
				   (char *)"-chardev",
				   (char *)"socket,id=q,fd=3",
				   (char *)"-mon",
				   (char *)"chardev=q,mode=control",
				   NULL };
static char *const true_argv[] = { (char *)"true", NULL };
static uid_t drop = (uid_t)-1;
static unsigned int missing;

static _noreturn_ void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void wait_gone(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) < 0)
		fail("waitpid");
}

static double plain_true(void)
{
	char *const env[] = { NULL };
	uint64_t t = clock_mono_ns();
	pid_t pid;

	if (posix_spawn(&pid, "/bin/true", NULL, NULL, true_argv, env))
		fail("posix_spawn");
	double ms = (double)(clock_mono_ns() - t) / 1e6;
	wait_gone(pid);
	return ms;
}

static double spawn_true(bool namespaces, unsigned int without)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct jail_child c;
	struct jail_opts o = { .path = "/bin/true",
			       .argv = true_argv,
			       .paths = lib_paths,
			       .n_paths = 4,
			       .profile = JAIL_UNPACK,
			       .uid = drop,
			       .gid = drop,
			       .namespaces = namespaces,
			       .die_with_parent = true,
			       .without = without };
	uint64_t t = clock_mono_ns();

	if (jail_spawn(&o, &c, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	double ms = (double)(clock_mono_ns() - t) / 1e6;
	missing = c.missing;
	close(c.pidfd);
	wait_gone(c.pid);
	return ms;
}

static double full_true(void)
{
	return spawn_true(true, 0);
}

static double flat_true(void)
{
	return spawn_true(false, 0);
}

static int decide(void *data, const char *path, int flags)
{
	(void)data;
	return jail_open_beneath(libs, path, flags);
}

/* greeted() - serve the child's opens until QMP has answered (its greeting comes before modules are loaded) */
static void greeted(int sock, int notify_fd)
{
	static const char hello[] = "{'execute':'qmp_capabilities'}";
	char buf[4096];

	if (write(sock, hello, sizeof(hello) - 1) < 0)
		fail("write");
	for (;;) {
		struct pollfd pfd[2] = { { .fd = sock, .events = POLLIN },
					 { .fd = notify_fd, .events = POLLIN } };

		if (poll(pfd, 2, 10000) <= 0)
			fail("no greeting");
		if (pfd[0].revents) {
			ssize_t n = read(sock, buf, sizeof(buf) - 1);
			if (n <= 0)
				fail("QEMU ended");
			buf[n] = '\0';
			if (strstr(buf, "\"return\""))
				return;
		}
		if (pfd[1].revents)
			jail_notify_serve(notify_fd, decide, NULL, NULL);
	}
}

static double run_qemu(const struct jail_opts *base)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct jail_child c;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		fail("socketpair");
	struct jail_fd fds[] = { { 2, 2 }, { pair[1], 3 } };
	struct jail_opts o = *base;
	o.path = "/usr/bin/qemu-system-x86_64";
	o.argv = qemu_argv;
	o.fds = fds;
	o.n_fds = 2;
	uint64_t t = clock_mono_ns();
	if (jail_spawn(&o, &c, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	close(pair[1]);
	greeted(pair[0], c.notify_fd);
	double ms = (double)(clock_mono_ns() - t) / 1e6;
	missing = c.missing;
	if (c.notify_fd >= 0)
		close(c.notify_fd);
	kill(c.pid, SIGKILL);
	wait_gone(c.pid);
	close(c.pidfd);
	close(pair[0]);
	return ms;
}

static double qemu_plain(void)
{
	struct jail_opts o = {
		.profile = JAIL_NONE, .uid = (uid_t)-1, .gid = (gid_t)-1, .without = JAIL_NO_LANDLOCK
	};

	return run_qemu(&o);
}

static double qemu_jailed(void)
{
	struct jail_opts o = { .profile = JAIL_QEMU,
			       .uid = drop,
			       .gid = drop,
			       .namespaces = true,
			       .die_with_parent = true,
			       .notify = true,
			       .paths = lib_paths,
			       .n_paths = 6 };

	return run_qemu(&o);
}

static void measure(const char *name, double (*fn)(void), int runs)
{
	static double ms[RUNS_MAX];

	missing = 0;
	for (int i = 0; i < runs; i++)
		ms[i] = fn();
	qsort(ms, (size_t)runs, sizeof(ms[0]), compare);
	printf("%-40s p50 %7.2f ms  p90 %7.2f ms  missing 0x%x\n", name, ms[runs / 2], ms[runs * 9 / 10],
	       missing);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int runs = argc > 1 ? atoi(argv[1]) : 200;

	if (argc > 2)
		drop = (uid_t)atoi(argv[2]);
	if (runs < 1 || runs > RUNS_MAX)
		return 2;
	measure("true, posix_spawn", plain_true, runs);
	measure("true, jail_spawn", full_true, runs);
	measure("true, jail_spawn without namespaces", flat_true, runs);
	if (access("/usr/bin/qemu-system-x86_64", X_OK) == 0) {
		measure("QEMU to QMP answer, plain", qemu_plain, MIN(runs, 30));
		measure("QEMU to QMP answer, profile + notify", qemu_jailed, MIN(runs, 30));
	}
	return 0;
}
