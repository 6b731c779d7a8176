// SPDX-License-Identifier: Apache-2.0
/*
 * qemu-system in its profile, used as the engine uses it: blockdevs over /dev/fdset (raw, qcow2 made
 * inside, vmdk), a memory file that QEMU wants read-write and gets read-only, migration out and in by
 * descriptor. Needs no guest: firmware is enough to touch the disks.
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/str.h"
#include "jail/jail.h"

#define QEMU	"/usr/bin/qemu-system-x86_64"
#define BOX_UID 65500
#define MEM	"/template"

static const char *const prefixes[] = {
	"/usr/lib", "/lib", "/lib64", "/usr/share/qemu", "/usr/share/seabios", "/etc/ld.so.cache", NULL
};

/* struct vm - one jailed QEMU and what its supervisor hands out */
struct vm {
	struct jail_child child;
	int qmp;
	int mem; /* O_RDONLY */
	unsigned int mem_opens;
	unsigned int refused;
	char text[65536]; /* last reply and the events before it */
};

static int decide(void *data, const char *path, int flags)
{
	struct vm *vm = data;

	if (!strcmp(path, MEM)) {
		vm->mem_opens++;
		return fcntl(vm->mem, F_DUPFD_CLOEXEC, 3);
	}
	int fd = jail_open_beneath(prefixes, path, flags);
	if (fd == -EACCES)
		vm->refused++;
	return fd;
}

/* turn() - wait for either; true when QMP has something */
static bool turn(struct vm *vm)
{
	struct pollfd pfd[2] = { { .fd = vm->qmp, .events = POLLIN },
				 { .fd = vm->child.notify_fd, .events = POLLIN } };

	if (poll(pfd, 2, 20000) <= 0)
		fail_msg("QEMU says nothing; last: %s", vm->text);
	if (pfd[1].revents & POLLIN)
		jail_notify_serve(vm->child.notify_fd, decide, vm, NULL);
	return pfd[0].revents != 0;
}

/* hear() - until @word was said */
static void hear(struct vm *vm, const char *word)
{
	size_t len = 0;

	vm->text[0] = '\0';
	while (!strstr(vm->text, word)) {
		if (!turn(vm))
			continue;
		ssize_t n = read(vm->qmp, vm->text + len, sizeof(vm->text) - 1 - len);
		if (n <= 0)
			fail_msg("QEMU closed QMP waiting for %s; said: %s", word, vm->text);
		len += (size_t)n;
		vm->text[len] = '\0';
		if (strstr(vm->text, "\"error\""))
			fail_msg("QMP: %s", vm->text);
	}
}

static void say_fd(struct vm *vm, const char *text, int fd)
{
	assert_int_equal(fd_send(vm->qmp, text, strlen(text), &fd, fd >= 0), (ssize_t)strlen(text));
	hear(vm, "\"return\"");
}

static void say(struct vm *vm, const char *text)
{
	say_fd(vm, text, -1);
}

static int temp_file(off_t size)
{
	char path[] = "/tmp/vial-qemu-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static void start(struct vm *vm, int mem, int raw, int qcow, bool incoming)
{
	char *argv[] = {
		(char *)"qemu-system-x86_64",
		(char *)"-nodefaults",
		(char *)"-no-user-config",
		(char *)"-display",
		(char *)"none",
		(char *)"-M",
		(char *)"q35,memory-backend=m",
		(char *)"-m",
		(char *)"64",
		(char *)"-smp",
		(char *)"2",
		(char *)"-accel",
		(char *)"tcg,tb-size=32,thread=multi",
		(char *)"-object",
		(char *)"memory-backend-file,id=m,size=64M,share=off,mem-path=" MEM,
		(char *)"-add-fd",
		(char *)"fd=4,set=1",
		(char *)"-add-fd",
		(char *)"fd=5,set=2",
		(char *)"-blockdev",
		(char *)"driver=file,node-name=raw,filename=/dev/fdset/1",
		(char *)"-blockdev",
		(char *)"driver=file,node-name=other,filename=/dev/fdset/2,discard=unmap",
		(char *)"-device",
		(char *)"virtio-blk-pci,drive=raw,share-rw=on",
		(char *)"-device",
		(char *)"virtio-rng-pci",
		(char *)"-device",
		(char *)"virtio-serial-pci",
		(char *)"-chardev",
		(char *)"socket,id=q,fd=3",
		(char *)"-mon",
		(char *)"chardev=q,mode=control",
		(char *)"-S",
		incoming ? (char *)"-incoming" : NULL,
		(char *)"defer",
		NULL,
	};
	static const struct jail_path paths[] = { { "/usr/lib", JAIL_READ },
						  { "/lib", JAIL_READ },
						  { "/lib64", JAIL_READ },
						  { "/usr/share/qemu", JAIL_READ },
						  { "/usr/share/seabios", JAIL_READ },
						  { "/etc/ld.so.cache", JAIL_READ } };
	struct vial_err err = VIAL_ERR_INIT;
	int pair[2];

	*vm = (struct vm){ .mem = mem };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	struct jail_fd fds[] = { { 2, 2 }, { pair[1], 3 }, { raw, 4 }, { qcow, 5 } };
	uid_t uid = getuid() == 0 ? BOX_UID : (uid_t)-1;
	struct jail_opts o = { .path = QEMU,
			       .argv = argv,
			       .fds = fds,
			       .n_fds = 4,
			       .paths = paths,
			       .n_paths = 6,
			       .profile = JAIL_QEMU,
			       .uid = uid,
			       .gid = uid,
			       .namespaces = true,
			       .die_with_parent = true,
			       .notify = true };
	if (jail_spawn(&o, &vm->child, &err) < 0)
		fail_msg("%s", err.msg);
	close(pair[1]);
	vm->qmp = pair[0];
	say(vm, "{'execute':'qmp_capabilities'}");
}

static void end(struct vm *vm)
{
	int status;

	say(vm, "{'execute':'quit'}");
	while (waitpid(vm->child.pid, &status, WNOHANG) == 0)
		poll(&(struct pollfd){ .fd = vm->child.pidfd, .events = POLLIN }, 1, 20000);
	assert_int_equal(status, 0);
	close(vm->child.pidfd);
	fd_close(&vm->child.notify_fd);
	close(vm->qmp);
}

static void make_qcow2(struct vm *vm)
{
	say(vm, "{'execute':'blockdev-create','arguments':{'job-id':'j','options':{'driver':'qcow2','file':'"
		"other',"
		"'size':16777216}}}");
	if (!strstr(vm->text, "concluded"))
		hear(vm, "concluded");
	say(vm, "{'execute':'job-dismiss','arguments':{'id':'j'}}");
	say(vm, "{'execute':'blockdev-add','arguments':{'driver':'qcow2','node-name':'q2','file':'other'}}");
	say(vm, "{'execute':'human-monitor-command','arguments':{'command-line':'qemu-io q2 \"write -P 7 0 "
		"1M\"'}}");
	say(vm, "{'execute':'human-monitor-command','arguments':{'command-line':'qemu-io q2 \"write -z 2M "
		"1M\"'}}");
	say(vm, "{'execute':'human-monitor-command','arguments':{'command-line':'qemu-io q2 \"discard 0 "
		"64k\"'}}");
	say(vm, "{'execute':'human-monitor-command','arguments':{'command-line':'qemu-io q2 \"flush\"'}}");
}

static void migrate_done(struct vm *vm)
{
	for (;;) {
		say(vm, "{'execute':'query-migrate'}");
		assert_null(strstr(vm->text, "failed"));
		if (strstr(vm->text, "completed"))
			return;
	}
}

static void test_engine_use(void **state)
{
	static struct vm a, b;
	int mem_rw = temp_file(MIB(64)), raw = temp_file(MIB(8)), other = temp_file(0), stream = temp_file(0);
	char path[64];
	struct stat before, after;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", mem_rw);
	int mem = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(mem >= 0);
	fstat(mem, &before);
	start(&a, mem, raw, other, false);
	assert_true(a.mem_opens >= 1);
	assert_int_equal(a.child.missing, 0);
	make_qcow2(&a);
	fstat(other, &after);
	assert_true(after.st_size > (off_t)MIB(1));
	say(&a, "{'execute':'cont'}");
	say(&a, "{'execute':'stop'}");
	say_fd(&a, "{'execute':'getfd','arguments':{'fdname':'out'}}", stream);
	say(&a, "{'execute':'migrate','arguments':{'uri':'fd:out'}}");
	migrate_done(&a);
	/* Once running, it opens nothing any more: the listener is closed. */
	fd_close(&a.child.notify_fd);
	say(&a, "{'execute':'query-status'}");
	end(&a);

	assert_true(lseek(stream, 0, SEEK_END) > 0);
	lseek(stream, 0, SEEK_SET);
	start(&b, mem, raw, other, true);
	say_fd(&b, "{'execute':'getfd','arguments':{'fdname':'in'}}", stream);
	say(&b, "{'execute':'migrate-incoming','arguments':{'uri':'fd:in'}}");
	migrate_done(&b);
	say(&b, "{'execute':'cont'}");
	end(&b);
	fstat(mem, &after);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	assert_int_equal(before.st_blocks,
			 after.st_blocks); /* the guest's memory went nowhere near the file */
	close(mem_rw), close(mem), close(raw), close(other), close(stream);
}

/* A path that the supervisor does not hand out does not open, whatever QEMU is told. */
static void test_open_refused(void **state)
{
	static struct vm a;
	int mem = temp_file(MIB(64)), raw = temp_file(MIB(8)), other = temp_file(0);

	(void)state;
	start(&a, mem, raw, other, false);
	static const char ask[] = "{'execute':'blockdev-add','arguments':{'driver':'file','node-name':'p',"
				  "'filename':'/etc/passwd','read-only':true}}";
	assert_int_equal(fd_write_full(a.qmp, ask, sizeof(ask) - 1), 0);
	while (!turn(&a))
		;
	ssize_t n = read(a.qmp, a.text, sizeof(a.text) - 1);
	assert_true(n > 0);
	a.text[n] = '\0';
	assert_non_null(strstr(a.text, "\"error\""));
	end(&a);
	close(mem), close(raw), close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_engine_use),
		cmocka_unit_test(test_open_refused),
	};

	if (access(QEMU, X_OK) != 0) {
		fprintf(stderr, "no %s\n", QEMU);
		return 77;
	}
	return cmocka_run_group_tests_name("jail/qemu", tests, NULL, NULL);
}
