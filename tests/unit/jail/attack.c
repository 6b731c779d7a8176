// SPDX-License-Identifier: Apache-2.0
/*
 * One attack, tried from inside a jail (or outside, to see that it works there).
 *	attack <profile to enter, 0: none> <bits to leave out> <name> <victim pid> <argument> <own directory>
 * Exit status: 0 it worked, 1 refused, 2 usage, 3 the jail could not be set up. Dying of SIGSYS counts as
 * refused, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail.h"

static pid_t victim;
static const char *arg;

/* Each attack returns true if it worked. */

static bool read_file(void)
{
	char c;
	int fd = open(arg, O_RDONLY);

	return fd >= 0 && read(fd, &c, 1) == 1;
}

static bool list_dir(void)
{
	char buf[1024];
	int fd = open(arg, O_RDONLY | O_DIRECTORY);

	return fd >= 0 && syscall(SYS_getdents64, fd, buf, sizeof(buf)) > 0;
}

static bool write_file(void)
{
	int fd = open(arg, O_WRONLY | O_CREAT, 0600);

	return fd >= 0 && write(fd, "x", 1) == 1;
}

static bool creat_file(void)
{
	return creat(arg, 0600) >= 0;
}

static bool remove_file(void)
{
	return unlink(arg) == 0;
}

static bool read_openat2(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = { .flags = O_RDONLY };

	return syscall(SYS_openat2, AT_FDCWD, arg, &how, sizeof(how)) >= 0;
}

static bool victim_mem(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", victim);
	return open(path, O_RDWR) >= 0;
}

static bool any_socket(int family, int type)
{
	return socket(family, type, 0) >= 0 || errno == EAFNOSUPPORT;
}

static bool socket_unix(void)
{
	return any_socket(AF_UNIX, SOCK_STREAM);
}

static bool socket_inet(void)
{
	return any_socket(AF_INET, SOCK_STREAM);
}

static bool socket_inet6(void)
{
	return any_socket(AF_INET6, SOCK_DGRAM);
}

static bool socket_netlink(void)
{
	return any_socket(AF_NETLINK, SOCK_RAW);
}

static bool socket_packet(void)
{
	return any_socket(AF_PACKET, SOCK_RAW);
}

static bool socket_vsock(void)
{
	return any_socket(AF_VSOCK, SOCK_STREAM);
}

static bool socket_pair(void)
{
	int pair[2];

	/* The monitor may make a pair of streams; a datagram socket could send to any other by name. */
	return socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0;
}

static bool connect_unix(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", arg);
	return fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

static bool exec_shell(void)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"exit 0", NULL };

	execv("/bin/sh", argv);
	return false;
}

static bool exec_memfd(void)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"exit 0", NULL };
	char buf[65536];
	int from = open("/bin/sh", O_RDONLY), to = (int)syscall(SYS_memfd_create, "x", 0);
	ssize_t n;

	if (from < 0 || to < 0)
		return false;
	while ((n = read(from, buf, sizeof(buf))) > 0)
		if (write(to, buf, (size_t)n) != n)
			return false;
	syscall(SYS_execveat, to, "", argv, NULL, AT_EMPTY_PATH);
	return false;
}

static bool fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool trace(void)
{
	return ptrace(PTRACE_SEIZE, victim, NULL, NULL) == 0;
}

static bool write_memory(void)
{
	char c = 'x';
	struct iovec local = { &c, 1 }, remote = { (void *)(uintptr_t)&victim, 1 };

	/* EFAULT: it was let in, there is only nothing at our address over there. */
	return process_vm_writev(victim, &local, 1, &remote, 1, 0) == 1 || errno == EFAULT;
}

static bool read_memory(void)
{
	char c;
	struct iovec local = { &c, 1 }, remote = { (void *)(uintptr_t)&victim, 1 };

	return process_vm_readv(victim, &local, 1, &remote, 1, 0) == 1 || errno == EFAULT;
}

static bool steal_fd(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);

	/* Where pidfd_open is refused, the second call must be, too: try it on a descriptor that is none. */
	return syscall(SYS_pidfd_getfd, pidfd, 0, 0) >= 0;
}

static bool signal_kill(void)
{
	return kill(victim, SIGCONT) == 0;
}

static bool signal_thread(void)
{
	return syscall(SYS_tgkill, victim, victim, SIGCONT) == 0 || syscall(SYS_tkill, victim, SIGCONT) == 0;
}

static bool signal_all(void)
{
	return kill(-1, 0) == 0;
}

static bool signal_group(void)
{
	return kill(0, 0) == 0;
}

static bool signal_queue(void)
{
	siginfo_t info = { .si_signo = SIGCONT, .si_code = SI_QUEUE };

	return syscall(SYS_rt_sigqueueinfo, victim, SIGCONT, &info) == 0;
}

static bool signal_pidfd(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);

	return pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0) == 0;
}

/* SIGIO to another process: needs no kill() */
static bool signal_by_owner(void)
{
	return fcntl(0, F_SETOWN, victim) == 0;
}

static bool limit_other(void)
{
	struct rlimit r;

	return prlimit(victim, RLIMIT_NOFILE, NULL, &r) == 0;
}

static bool renice_other(void)
{
	/* The lowest: outside the jail that is always allowed, whatever the tests themselves run at. */
	return setpriority(PRIO_PROCESS, (id_t)victim, 19) == 0;
}

static bool pin_other(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	return sched_setaffinity(victim, sizeof(set), &set) == 0;
}

static bool become_root(void)
{
	return setresuid(0, 0, 0) == 0;
}

static bool mount_tmpfs(void)
{
	return mount("x", "/mnt", "tmpfs", 0, NULL) == 0;
}

static bool change_root(void)
{
	return chroot("/") == 0;
}

static bool load_module(void)
{
	return syscall(SYS_finit_module, -1, "", 0) == 0 || errno == EBADF || errno == EINVAL;
}

static bool load_bpf(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
	};

	return syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)) >= 0;
}

static bool user_namespace(void)
{
	return unshare(CLONE_NEWUSER) == 0;
}

static bool clone_namespace(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool clone3_process(void)
{
	uint64_t args[8] = { [4] = SIGCHLD };
	long pid = syscall(SYS_clone3, args, sizeof(args));

	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool add_keyring(void)
{
	return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1) >= 0;
}

static bool perf_event(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.size = sizeof(attr),
					.exclude_kernel = 1 };

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) >= 0;
}

static bool io_ring(void)
{
	struct io_uring_params p = { 0 };

	return syscall(SYS_io_uring_setup, 1, &p) >= 0;
}

static bool user_fault(void)
{
	return syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */) >= 0;
}

static bool exec_memory(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	       MAP_FAILED;
}

static bool exec_protect(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED && mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool inherited_fd(void)
{
	return fcntl(atoi(arg), F_GETFD) >= 0;
}

static bool tty_inject(void)
{
	char c = 'x';

	return ioctl(0, TIOCSTI, &c) == 0 || errno == ENOTTY;
}

static bool shared_memory(void)
{
	return syscall(SYS_shmget, 0, 4096, 0600) >= 0;
}

static bool dumpable(void)
{
	struct rlimit r = { 1, 1 };

	return setrlimit(RLIMIT_CORE, &r) == 0;
}

#ifdef __x86_64__
/* The 32-bit entry has other numbers, which a careless filter misreads. 20 is getpid there. */
static bool call_ia32(void)
{
	long rc;

	__asm__ volatile("int $0x80" : "=a"(rc) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
	return rc > 0;
}
#endif

static const struct {
	const char *name;
	bool (*fn)(void);
} attacks[] = {
	{ "read-file", read_file },
	{ "list-dir", list_dir },
	{ "write-file", write_file },
	{ "creat-file", creat_file },
	{ "remove-file", remove_file },
	{ "read-openat2", read_openat2 },
	{ "victim-mem", victim_mem },
	{ "socket-unix", socket_unix },
	{ "socket-inet", socket_inet },
	{ "socket-inet6", socket_inet6 },
	{ "socket-netlink", socket_netlink },
	{ "socket-packet", socket_packet },
	{ "socket-vsock", socket_vsock },
	{ "socketpair", socket_pair },
	{ "connect-unix", connect_unix },
	{ "exec-shell", exec_shell },
	{ "exec-memfd", exec_memfd },
	{ "fork", fork_child },
	{ "ptrace", trace },
	{ "write-memory", write_memory },
	{ "read-memory", read_memory },
	{ "pidfd-getfd", steal_fd },
	{ "kill", signal_kill },
	{ "tgkill", signal_thread },
	{ "kill-all", signal_all },
	{ "kill-group", signal_group },
	{ "sigqueue", signal_queue },
	{ "pidfd-signal", signal_pidfd },
	{ "fcntl-setown", signal_by_owner },
	{ "prlimit", limit_other },
	{ "setpriority", renice_other },
	{ "setaffinity", pin_other },
	{ "setuid-root", become_root },
	{ "mount", mount_tmpfs },
	{ "chroot", change_root },
	{ "load-module", load_module },
	{ "bpf", load_bpf },
	{ "unshare-user", user_namespace },
	{ "clone-user", clone_namespace },
	{ "clone3", clone3_process },
	{ "keyctl", add_keyring },
	{ "perf-event", perf_event },
	{ "io-uring", io_ring },
	{ "userfaultfd", user_fault },
	{ "exec-memory", exec_memory },
	{ "exec-mprotect", exec_protect },
	{ "inherited-fd", inherited_fd },
	{ "tty-inject", tty_inject },
	{ "shmget", shared_memory },
	{ "core-limit", dumpable },
#ifdef __x86_64__
	{ "ia32-call", call_ia32 },
#endif
};

/* lock_in() - as our own programs do at the start of main() */
static void lock_in(int profile, unsigned int without, const char *dir)
{
	const struct jail_path path = { dir, profile == JAIL_MONITOR ? JAIL_WRITE : JAIL_READ };
	bool named = profile == JAIL_MONITOR;
	struct vial_err err = VIAL_ERR_INIT;

	if (profile == JAIL_NONE)
		return;
	if (jail_self((enum jail_profile)profile, &path, named ? 1 : 0, without, &err) < 0) {
		fprintf(stderr, "attack: %s\n", err.msg);
		exit(3);
	}
}

int main(int argc, char **argv)
{
	if (argc != 7)
		return 2;
	victim = atoi(argv[4]);
	arg = argv[5];
	lock_in(atoi(argv[1]), (unsigned int)atoi(argv[2]), argv[6]);
	for (size_t i = 0; i < ARRAY_SIZE(attacks); i++)
		if (!strcmp(argv[3], attacks[i].name))
			return attacks[i].fn() ? 0 : 1;
	return 2;
}
