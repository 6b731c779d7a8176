// SPDX-License-Identifier: Apache-2.0
/*
 * Every attack of attack.c from inside every profile, with each combination of layers missing, as root
 * (then dropped to another uid) and as an ordinary user. An attack that does not work outside the jail
 * proves nothing: each is tried there first, and may fail only if it is in the table as one that some
 * kernels or users do not have.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "jail/jail.h"

#define BOX_UID	  65500 /* the jailed, when the test runs as root; the victim has the same */
#define PLAIN_UID 65501 /* the ordinary user */
#define STRAY_FD  77

enum { ROOT_ONLY = 1, SOME_HOSTS = 2 };
enum target { NOTHING, PASSWD, DIRECTORY, NEW_FILE, OLD_FILE, SOCKET, STRAY };

/* layers that must be there for the attack to be refused, per profile group; 0: seccomp alone does it */
enum { BY_NAME = 1, WRITES = 2, EXEC_MEM = 4 };

static const struct attack {
	const char *name;
	enum target target;
	unsigned int control;
	unsigned int needs;
} attacks[] = {
	{ "read-file", PASSWD, 0, BY_NAME },
	{ "list-dir", DIRECTORY, 0, BY_NAME },
	{ "write-file", NEW_FILE, 0, WRITES },
	{ "creat-file", NEW_FILE, 0, 0 },
	{ "remove-file", OLD_FILE, 0, WRITES },
	{ "read-openat2", PASSWD, 0, 0 },
	{ "victim-mem", NOTHING, 0, WRITES },
	{ "socket-unix", NOTHING, 0, 0 },
	{ "socket-inet", NOTHING, 0, 0 },
	{ "socket-inet6", NOTHING, 0, 0 },
	{ "socket-netlink", NOTHING, 0, 0 },
	{ "socket-packet", NOTHING, ROOT_ONLY, 0 },
	{ "socket-vsock", NOTHING, 0, 0 },
	{ "socketpair", NOTHING, 0, 0 },
	{ "connect-unix", SOCKET, 0, 0 },
	{ "exec-shell", NOTHING, 0, 0 },
	{ "exec-memfd", NOTHING, 0, 0 },
	{ "fork", NOTHING, 0, 0 },
	{ "ptrace", NOTHING, 0, 0 },
	{ "write-memory", NOTHING, 0, 0 },
	{ "read-memory", NOTHING, 0, 0 },
	{ "pidfd-getfd", NOTHING, 0, 0 },
	{ "kill", NOTHING, 0, 0 },
	{ "tgkill", NOTHING, 0, 0 },
	{ "kill-all", NOTHING, 0, 0 },
	{ "kill-group", NOTHING, 0, 0 },
	{ "sigqueue", NOTHING, 0, 0 },
	{ "pidfd-signal", NOTHING, 0, 0 },
	{ "fcntl-setown", NOTHING, 0, 0 },
	{ "prlimit", NOTHING, 0, 0 },
	{ "setpriority", NOTHING, 0, 0 },
	{ "setaffinity", NOTHING, 0, 0 },
	{ "setuid-root", NOTHING, ROOT_ONLY, 0 },
	{ "mount", NOTHING, ROOT_ONLY, 0 },
	{ "chroot", NOTHING, ROOT_ONLY, 0 },
	{ "load-module", NOTHING, ROOT_ONLY | SOME_HOSTS, 0 },
	{ "bpf", NOTHING, ROOT_ONLY | SOME_HOSTS, 0 },
	{ "unshare-user", NOTHING, SOME_HOSTS, 0 },
	{ "clone-user", NOTHING, SOME_HOSTS, 0 },
	{ "clone3", NOTHING, 0, 0 },
	{ "keyctl", NOTHING, SOME_HOSTS, 0 },
	{ "perf-event", NOTHING, SOME_HOSTS, 0 },
	{ "io-uring", NOTHING, SOME_HOSTS, 0 },
	{ "userfaultfd", NOTHING, SOME_HOSTS, 0 },
	{ "exec-memory", NOTHING, 0, EXEC_MEM },
	{ "exec-mprotect", NOTHING, 0, EXEC_MEM },
	{ "inherited-fd", STRAY, 0, 0 },
	{ "tty-inject", NOTHING, 0, 0 },
	{ "shmget", NOTHING, SOME_HOSTS, 0 },
	{ "core-limit", NOTHING, ROOT_ONLY | SOME_HOSTS, 0 },
#ifdef __x86_64__
	{ "ia32-call", NOTHING, SOME_HOSTS, 0 },
#endif
};

/* struct place - files for one user's run, writable by anybody: only the jail stands in the way */
struct place {
	char dir[64];
	char program[96];
	char own[96];
	char new_file[96];
	char old_file[96];
	char sock[96];
	int listener;
	pid_t victim;
	int victim_fd;
	uid_t box; /* -1: no drop */
};

static void make_file(const char *path, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	fchmod(fd, mode);
	close(fd);
}

static void copy_program(const struct place *p)
{
	char *buf = NULL;
	size_t n = 0;

	const char *from = getenv("VIAL_TEST_ATTACK");

	assert_int_equal(fd_read_file_at(AT_FDCWD, from ? from : ATTACK, MIB(32), &buf, &n), 0);
	int fd = open(p->program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, buf, n), 0);
	close(fd);
	free(buf);
}

static void start_victim(struct place *p)
{
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	p->victim = fork();
	if (p->victim == 0) {
		if (p->box != (uid_t)-1 &&
		    (setresgid(p->box, p->box, p->box) || setresuid(p->box, p->box, p->box)))
			_exit(1);
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
}

static void place_make(struct place *p, uid_t box)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	*p = (struct place){ .box = box };
	strcpy(p->dir, "/tmp/vial-jail-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	chmod(p->dir, 0777);
	snprintf(p->program, sizeof(p->program), "%s/attack", p->dir);
	snprintf(p->own, sizeof(p->own), "%s/own", p->dir);
	snprintf(p->new_file, sizeof(p->new_file), "%s/new", p->dir);
	snprintf(p->old_file, sizeof(p->old_file), "%s/old", p->dir);
	snprintf(p->sock, sizeof(p->sock), "%s/sock", p->dir);
	copy_program(p);
	assert_int_equal(mkdir(p->own, 0777), 0);
	chmod(p->own, 0777);
	p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(sa.sun_path, p->sock);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	chmod(p->sock, 0777);
	assert_int_equal(listen(p->listener, 100), 0);
	start_victim(p);
}

static void place_remove(struct place *p)
{
	kill(p->victim, SIGKILL);
	waitpid(p->victim, NULL, 0);
	close(p->listener);
	path_rm_rf_at(AT_FDCWD, p->dir);
}

static const char *target_of(const struct place *p, const struct attack *a)
{
	switch (a->target) {
	case PASSWD:
		return "/etc/passwd";
	case DIRECTORY:
		return "/usr/bin"; /* /etc exists in a root of its own, too, with ld.so.cache in it */
	case NEW_FILE:
		unlink(p->new_file);
		return p->new_file;
	case OLD_FILE:
		make_file(p->old_file, 0666);
		return p->old_file;
	case SOCKET:
		return p->sock;
	case STRAY:
		return "77";
	default:
		return "";
	}
}

/* verdict() - did it work? An error or SIGSYS: no. Anything else means that the test is broken */
static bool verdict(int status, const char *name)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return false;
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
		fail_msg("%s: the attacker could not even start (status 0x%x)", name, status);
	return WEXITSTATUS(status) == 0;
}

/* drain() - let the listener's queue never fill up */
static void drain(const struct place *p)
{
	struct pollfd pfd = { .fd = p->listener, .events = POLLIN };

	while (poll(&pfd, 1, 0) > 0)
		close(accept(p->listener, NULL, NULL));
}

static bool works_as(const struct place *p, const struct attack *a, uid_t uid)
{
	char victim[16];
	int status;

	snprintf(victim, sizeof(victim), "%d", p->victim);
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 2);
		if (uid != (uid_t)-1 && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
			_exit(2);
		execl(p->program, "attack", "0", "0", a->name, victim, target_of(p, a), p->own, NULL);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	drain(p);
	return verdict(status, a->name);
}

/* works_outside() - for the user, or the one the jailed become: a container's root may lack capabilities */
static bool works_outside(const struct place *p, const struct attack *a)
{
	return works_as(p, a, (uid_t)-1) || (p->box != (uid_t)-1 && works_as(p, a, p->box));
}

static const char *const open_prefixes[] = { "/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", NULL };

static int decide(void *data, const char *path, int flags)
{
	(void)data;
	return jail_open_beneath(open_prefixes, path, flags);
}

/* await() - the child's end, answering its opens meanwhile */
static int await(struct jail_child *c)
{
	int status;

	for (;;) {
		struct pollfd pfd[2] = { { .fd = c->pidfd, .events = POLLIN },
					 { .fd = c->notify_fd, .events = POLLIN } };

		assert_true(poll(pfd, 2, 20000) > 0);
		if (pfd[0].revents)
			break;
		jail_notify_serve(c->notify_fd, decide, NULL, NULL);
	}
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	close(c->pidfd);
	fd_close(&c->notify_fd);
	return status;
}

static bool works_inside(const struct place *p, const struct attack *a, enum jail_profile profile,
			 unsigned int without)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct jail_child c;
	char victim[16], self[16], bits[16];
	const struct jail_path paths[] = {
		{ "/usr/lib", JAIL_READ },
		{ "/lib", JAIL_READ },
		{ "/lib64", JAIL_READ },
		{ "/etc/ld.so.cache", JAIL_READ },
		{ p->own, profile == JAIL_MONITOR },
	};

	snprintf(victim, sizeof(victim), "%d", p->victim);
	snprintf(self, sizeof(self), "%d", profile == JAIL_QEMU ? JAIL_NONE : (int)profile);
	snprintf(bits, sizeof(bits), "%u", without);
	char *argv[] = { (char *)"attack",	  self,		  bits, (char *)a->name, victim,
			 (char *)target_of(p, a), (char *)p->own, NULL };
	struct jail_opts o = {
		.path = p->program,
		.argv = argv,
		.paths = paths,
		.n_paths = ARRAY_SIZE(paths),
		.profile = profile,
		.uid = p->box,
		.gid = p->box,
		.namespaces = true,
		.die_with_parent = true,
		.notify = profile == JAIL_QEMU,
		.without = without,
	};
	if (jail_spawn(&o, &c, &err) < 0)
		fail_msg("%s: %s", a->name, err.msg);
	assert_int_equal(c.missing & without, without);
	int status = await(&c);
	drain(p);
	return verdict(status, a->name);
}

/* promised() - does SECURITY.md say that this is refused with these layers? */
static bool promised(const struct attack *a, enum jail_profile profile, unsigned int without)
{
	bool names = profile == JAIL_MONITOR; /* may open by name: seccomp cannot judge names */

	if (a->needs == EXEC_MEM)
		return profile != JAIL_QEMU && !(without & JAIL_NO_SECCOMP);
	if (without & JAIL_NO_SECCOMP) /* alone, the other layers guard files and (namespaces) processes */
		return a->target == PASSWD || a->target == DIRECTORY || a->target == NEW_FILE ||
		       a->target == OLD_FILE;
	if (!(without & JAIL_NO_LANDLOCK) || !(without & JAIL_NO_USERNS))
		return true;
	if (a->needs == BY_NAME)
		return !names;
	if (a->needs == WRITES || !strcmp(a->name, "creat-file"))
		return profile != JAIL_MONITOR;
	return true;
}

static int try_all(const struct place *p, const bool *provable, enum jail_profile profile,
		   unsigned int without)
{
	int broken = 0;

	for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
		if (!provable[i] || !promised(&attacks[i], profile, without))
			continue;
		if (works_inside(p, &attacks[i], profile, without)) {
			print_error("uid %d, profile %d, without 0x%x: %s WORKED\n", (int)getuid(),
				    (int)profile, without, attacks[i].name);
			broken++;
		}
	}
	return broken;
}

static void prove(const struct place *p, bool *provable)
{
	for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
		const struct attack *a = &attacks[i];

		provable[i] = works_outside(p, a);
		if (provable[i])
			continue;
		print_message("uid %d: %s does not work here outside the jail, either: not tried\n",
			      (int)getuid(), a->name);
		if (!(a->control & SOME_HOSTS) && !((a->control & ROOT_ONLY) && getuid() != 0))
			fail_msg("%s must work outside the jail", a->name);
	}
}

static int run_matrix(uid_t box)
{
	static const unsigned int layers[] = {
		0,
		JAIL_NO_LANDLOCK,
		JAIL_NO_USERNS,
		JAIL_NO_LANDLOCK | JAIL_NO_USERNS,
		JAIL_NO_SECCOMP | JAIL_NO_NOTIFY | JAIL_NO_USERNS,
		JAIL_NO_SECCOMP | JAIL_NO_NOTIFY | JAIL_NO_LANDLOCK,
		JAIL_NO_NOTIFY, /* these three for QEMU only: */
		JAIL_NO_NOTIFY | JAIL_NO_LANDLOCK,
		JAIL_NO_NOTIFY | JAIL_NO_USERNS,
	};
	bool provable[ARRAY_SIZE(attacks)];
	struct place p;
	int broken = 0;

	place_make(&p, box);
	int stray = open("/etc/passwd", O_RDONLY);
	dup2(stray, STRAY_FD);
	close(stray);
	prove(&p, provable);
	for (enum jail_profile profile = JAIL_MONITOR; profile <= JAIL_VMM; profile++)
		for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
			unsigned int without = layers[i];

			if (profile != JAIL_QEMU && (without & JAIL_NO_NOTIFY) &&
			    !(without & JAIL_NO_SECCOMP))
				continue;
			if (profile != JAIL_QEMU)
				without &= ~(unsigned int)JAIL_NO_NOTIFY;
			broken += try_all(&p, provable, profile, without);
		}
	place_remove(&p);
	return broken;
}

static void test_as_root(void **state)
{
	(void)state;
	assert_int_equal(run_matrix(BOX_UID), 0);
}

static void test_as_user(void **state)
{
	int status;

	(void)state;
	if (getuid() != 0) {
		assert_int_equal(run_matrix((uid_t)-1), 0);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		char *const argv[] = { (char *)"test_attack", NULL };
		char self[64];

		/* By descriptor: the build directory may be closed to others. */
		snprintf(self, sizeof(self), "/proc/self/fd/%d", open("/proc/self/exe", O_RDONLY));
		int attack = open(ATTACK, O_RDONLY);
		char path[64];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", attack);
		setenv("VIAL_TEST_ATTACK", path, 1);
		if (setresgid(PLAIN_UID, PLAIN_UID, PLAIN_UID) || setresuid(PLAIN_UID, PLAIN_UID, PLAIN_UID))
			_exit(9);
		execv(self, argv);
		_exit(9);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest as_root[] = {
		cmocka_unit_test(test_as_root),
		cmocka_unit_test(test_as_user),
	};
	const struct CMUnitTest as_user[] = {
		cmocka_unit_test(test_as_user),
	};

	if (getuid() == 0)
		return cmocka_run_group_tests_name("jail/attack", as_root, NULL, NULL);
	return cmocka_run_group_tests_name("jail/attack, ordinary user", as_user, NULL, NULL);
}
