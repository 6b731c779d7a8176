// SPDX-License-Identifier: Apache-2.0
/*
 * seccomp-gen: seccomp filters from the "#syscalls" tags in the sources.
 *
 * Theory of operation
 *
 * Purpose: runs at build time, so that our programs link only libc. It walks a source directory, collects
 * lines
 *
 *	 * #syscalls:<set> <call>[=<rule>] …
 *
 * of comments and writes a C header with one BPF array per profile and variant. A call without a rule is
 * allowed whatever its arguments; with a rule, only with the arguments that rule describes (several rules
 * of one call add up).
 *
 * Sets:	a profile's name (monitor, qemu, unpack, vmm, vmm_io, vmm_vcpu); "all" belongs to every
 *		profile but those of single threads (vmm_io, vmm_vcpu);
 *		"start" to the variants loaded before execve (what ld.so needs), "lock" to those of our own
 *		programs, which call jail_self() in main();
 *		"<profile>/notify" is asked of the supervisor in the notify variant, allowed in the others;
 *		"kill" ends the process; "enosys" pretends an old kernel, so that callers fall back.
 * Variants:	self (loaded by the program itself), spawn (before execve), notify (spawn, supervised).
 * Everything else is refused with EPERM; other architectures and x32 end the process.
 *
 * The pid placeholder FILTER_PID in the output is replaced by the process's own pid before loading
 * (jail/filter.c).
 * Trust: the tree being built. An unknown call, set or rule is an error: a typo never loosens or breaks a
 * filter silently.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_TAGS  2048
#define MAX_FILES 2048
/* Unlikely as a constant of any rule; a pid is at most 2^22. */
#define FILTER_PID 0x7ffe5a5au

#define LOW32 0xffffffffu
#define NS_FLAGS                                                                                   \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | \
	 CLONE_NEWCGROUP)
/* any way to write, create or truncate; O_TMPFILE's own bit is in its value together with O_DIRECTORY */
#define WRITE_FLAGS (O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY))

struct tag {
	char set[32];
	char call[40];
	char rule[24];
	const char *file;
	int line;
};

/* struct rule - allowed when argument @arg, masked by @mask, equals @value; one row per alternative */
struct rule {
	const char *name;
	unsigned int arg;
	uint64_t mask;
	uint64_t value;
};

static const struct rule rules[] = {
	{ "self", 0, LOW32, FILTER_PID },
	{ "zero", 0, LOW32, 0 },
	{ "noexec", 2, PROT_EXEC, 0 },
	/* socketpair: a datagram socket could send to any that has a name */
	{ "stream", 1, LOW32, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC },
	{ "thread", 0, CLONE_THREAD | NS_FLAGS, CLONE_THREAD },
	{ "rdonly1", 1, WRITE_FLAGS, 0 },
	{ "rdonly2", 2, WRITE_FLAGS, 0 },
	/* No F_SETOWN, F_SETOWN_EX, F_SETSIG: by these the kernel sends any signal to any process. */
	{ "safe", 1, LOW32, F_DUPFD },
	{ "safe", 1, LOW32, F_DUPFD_CLOEXEC },
	{ "safe", 1, LOW32, F_GETFD },
	{ "safe", 1, LOW32, F_SETFD },
	{ "safe", 1, LOW32, F_GETFL },
	{ "safe", 1, LOW32, F_SETFL },
	{ "safe", 1, LOW32, F_GETLK },
	{ "safe", 1, LOW32, F_SETLK },
	{ "safe", 1, LOW32, F_SETLKW },
	{ "safe", 1, LOW32, F_OFD_GETLK },
	{ "safe", 1, LOW32, F_OFD_SETLK },
	{ "safe", 1, LOW32, F_OFD_SETLKW },
	{ "safe", 1, LOW32, F_GETPIPE_SZ },
	{ "safe", 1, LOW32, F_SETPIPE_SZ },
	{ "safe", 1, LOW32, F_ADD_SEALS },
	{ "safe", 1, LOW32, F_GET_SEALS },
	/* prctl: only what names a thread, tunes its timers or reads */
	{ "harmless", 0, LOW32, PR_SET_NAME },
	{ "harmless", 0, LOW32, PR_GET_NAME },
	{ "harmless", 0, LOW32, PR_SET_TIMERSLACK },
	{ "harmless", 0, LOW32, PR_GET_TIMERSLACK },
	{ "harmless", 0, LOW32, PR_GET_DUMPABLE },
	{ "harmless", 0, LOW32, PR_CAPBSET_READ },
	{ "harmless", 0, LOW32, PR_GET_NO_NEW_PRIVS },
	{ "harmless", 0, LOW32, PR_SET_VMA },
	/* prctl: what jail_self() does */
	{ "lock", 0, LOW32, PR_SET_NO_NEW_PRIVS },
	{ "lock", 0, LOW32, PR_SET_DUMPABLE },
	/* ioctl: TCGETS (isatty), FIONREAD, FIONBIO */
	{ "tty", 1, LOW32, 0x5401 },
	{ "tty", 1, LOW32, 0x541b },
	{ "tty", 1, LOW32, 0x5421 },
	/* ioctl: all of /dev/kvm and its descriptors */
	{ "kvm", 1, 0xff00, 0xae00 },
	/* ioctl: what a vCPU thread needs of them: KVM_RUN, KVM_SIGNAL_MSI, KVM_IRQ_LINE */
	{ "vcpu", 1, LOW32, 0xae80 },
	{ "vcpu", 1, LOW32, 0x4020aea5 },
	{ "vcpu", 1, LOW32, 0x4008ae61 },
	/* ioctl: what vial-vmm's I/O thread needs of them while the machine runs and is saved */
	{ "kvmio", 1, LOW32, 0x4020aea5 }, /* KVM_SIGNAL_MSI */
	{ "kvmio", 1, LOW32, 0x4008ae61 }, /* KVM_IRQ_LINE */
	{ "kvmio", 1, LOW32, 0x0000aead }, /* KVM_KVMCLOCK_CTRL */
	{ "kvmio", 1, LOW32, 0x8004ae98 }, /* KVM_GET_MP_STATE */
	{ "kvmio", 1, LOW32, 0x8090ae81 }, /* KVM_GET_REGS */
	{ "kvmio", 1, LOW32, 0x8138ae83 }, /* KVM_GET_SREGS */
	{ "kvmio", 1, LOW32, 0x8188aea6 }, /* KVM_GET_XCRS */
	{ "kvmio", 1, LOW32, 0x9000aea4 }, /* KVM_GET_XSAVE */
	{ "kvmio", 1, LOW32, 0x9000aecf }, /* KVM_GET_XSAVE2 */
	{ "kvmio", 1, LOW32, 0x8080aea1 }, /* KVM_GET_DEBUGREGS */
	{ "kvmio", 1, LOW32, 0x8400ae8e }, /* KVM_GET_LAPIC */
	{ "kvmio", 1, LOW32, 0x8040ae9f }, /* KVM_GET_VCPU_EVENTS */
	{ "kvmio", 1, LOW32, 0xc008ae88 }, /* KVM_GET_MSRS */
	{ "kvmio", 1, LOW32, 0x8030ae7c }, /* KVM_GET_CLOCK */
	{ "kvmio", 1, LOW32, 0xc208ae62 }, /* KVM_GET_IRQCHIP */
	{ "kvmio", 1, LOW32, 0x4010ae42 }, /* KVM_GET_DIRTY_LOG */
	{ "kvmio", 1, LOW32, 0x4020ae46 }, /* KVM_SET_USER_MEMORY_REGION */
	/* ioctl: a seccomp listener's */
	{ "notif", 1, 0xff00, 0x2100 },
	/* ioctl: BLKGETSIZE64, BLKSSZGET, BLKPBSZGET, BLKROGET, BLKDISCARD, BLKZEROOUT, FS_IOC_FIEMAP */
	{ "blk", 1, LOW32, 0x80081272 },
	{ "blk", 1, LOW32, 0x1268 },
	{ "blk", 1, LOW32, 0x127b },
	{ "blk", 1, LOW32, 0x125e },
	{ "blk", 1, LOW32, 0x1277 },
	{ "blk", 1, LOW32, 0x127f },
	{ "blk", 1, LOW32, 0xc020660b },
};

static const char *const profiles[] = { "monitor", "qemu", "unpack", "vmm", "vmm_io", "vmm_vcpu" };
/* of threads whose process is locked in already: nothing of "all" */
static const char *const bare[] = { "vmm_io", "vmm_vcpu" };
enum variant { SELF, SPAWN, NOTIFY, N_VARIANTS };
static const char *const variants[] = { "self", "spawn", "notify" };

static struct tag tags[MAX_TAGS];
static size_t n_tags;
static char *files[MAX_FILES];
static size_t n_files;
static uint32_t arch;

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "seccomp-gen: %s: %s\n", what, why);
	exit(1);
}

static _Noreturn void fail_tag(const struct tag *t, const char *why)
{
	fprintf(stderr, "%s:%d: #syscalls:%s %s: %s\n", t->file, t->line, t->set, t->call, why);
	exit(1);
}

static bool set_known(const char *set)
{
	char notify[40];

	static const char *const common[] = { "all", "start", "lock", "kill", "enosys" };

	for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
		if (!strcmp(set, common[i]))
			return true;
	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
		snprintf(notify, sizeof(notify), "%s/notify", profiles[i]);
		if (!strcmp(set, profiles[i]) || !strcmp(set, notify))
			return true;
	}
	return false;
}

static void check_tag(const struct tag *t)
{
	bool known = t->rule[0] == '\0';

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		known |= !strcmp(t->rule, rules[i].name);
	if (!known)
		fail_tag(t, "unknown rule");
	if (!set_known(t->set))
		fail_tag(t, "unknown set");
	/* A call that only another architecture has gets a negative number: known, but nothing to do here. */
	if (seccomp_syscall_resolve_name(t->call) == __NR_SCMP_ERROR)
		fail_tag(t, "unknown system call");
}

static void add_call(const char *set, char *word, const char *file, int line)
{
	struct tag *t = &tags[n_tags];
	char *rule = strchr(word, '=');

	if (n_tags == MAX_TAGS)
		fail(file, "too many tags");
	if (rule)
		*rule++ = '\0';
	snprintf(t->set, sizeof(t->set), "%s", set);
	snprintf(t->call, sizeof(t->call), "%s", word);
	snprintf(t->rule, sizeof(t->rule), "%s", rule ? rule : "");
	t->file = file;
	t->line = line;
	check_tag(t);
	n_tags++;
}

/* read_line() - a tag stands at the start of a comment line: " * #syscalls:set call call" */
static void read_line(char *text, const char *file, int line)
{
	static const char key[] = "#syscalls:";
	char *p = text + strspn(text, " \t/*"), *save = NULL;

	if (strncmp(p, key, sizeof(key) - 1) != 0)
		return;
	char *set = strtok_r(p + sizeof(key) - 1, " \t\n", &save);
	if (!set)
		fail(file, "#syscalls without a set");
	for (char *word; (word = strtok_r(NULL, " \t\n", &save));) {
		if (!strcmp(word, "*/"))
			break;
		add_call(set, word, file, line);
	}
}

static const char *remember(const char *path)
{
	if (n_files == MAX_FILES)
		fail(path, "too many files");
	files[n_files] = strdup(path);
	if (!files[n_files])
		fail(path, "out of memory");
	return files[n_files++];
}

static void read_file(const char *path)
{
	char *line = NULL;
	size_t cap = 0;
	int n = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		fail(path, strerror(errno));
	path = remember(path);
	while (getline(&line, &cap, f) >= 0)
		read_line(line, path, ++n);
	free(line);
	fclose(f);
}

static void walk(const char *dir)
{
	struct dirent **list;
	int n = scandir(dir, &list, NULL, alphasort);

	if (n < 0)
		fail(dir, strerror(errno));
	remember(dir); /* so that a new file makes the header stale, too */
	for (int i = 0; i < n; i++) {
		char path[4096];
		const char *name = list[i]->d_name, *dot = strrchr(name, '.');
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", dir, name);
		if (name[0] != '.' && stat(path, &st) == 0) {
			if (S_ISDIR(st.st_mode))
				walk(path);
			else if (dot && (!strcmp(dot, ".c") || !strcmp(dot, ".h")))
				read_file(path);
		}
		free(list[i]);
	}
	free(list);
}

static void must(int rc, const struct tag *t)
{
	if (rc < 0)
		fail_tag(t, strerror(-rc));
}

static void add_tag(scmp_filter_ctx ctx, const struct tag *t, uint32_t action)
{
	int nr = seccomp_syscall_resolve_name_arch(arch, t->call);

	if (nr < 0)
		return;
	if (t->rule[0] == '\0') {
		must(seccomp_rule_add(ctx, action, nr, 0), t);
		return;
	}
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		const struct rule *r = &rules[i];

		if (!strcmp(t->rule, r->name))
			must(seccomp_rule_add(ctx, action, nr, 1,
					      SCMP_CMP(r->arg, SCMP_CMP_MASKED_EQ, r->mask, r->value)),
			     t);
	}
}

static bool is_bare(const char *profile)
{
	for (size_t i = 0; i < sizeof(bare) / sizeof(bare[0]); i++)
		if (!strcmp(bare[i], profile))
			return true;
	return false;
}

/* action_of() - what @profile's @v does for calls of @set; false: the set is not part of it */
static bool action_of(const char *set, const char *profile, enum variant v, uint32_t *ret)
{
	char notify[40];

	snprintf(notify, sizeof(notify), "%s/notify", profile);
	*ret = SCMP_ACT_ALLOW;
	if (!strcmp(set, profile))
		return true;
	if (!strcmp(set, "all"))
		return !is_bare(profile);
	if (!strcmp(set, "start"))
		return v != SELF;
	if (!strcmp(set, "lock"))
		return v != SELF && strcmp(profile, "qemu") != 0;
	if (!strcmp(set, notify)) {
		*ret = v == NOTIFY ? SCMP_ACT_NOTIFY : SCMP_ACT_ALLOW;
		return true;
	}
	*ret = !strcmp(set, "kill") ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(ENOSYS);
	return !strcmp(set, "kill") || !strcmp(set, "enosys");
}

/* rank() - asked > whole call > with rules > killed, ENOSYS: the strongest claim on a call counts */
static int rank(const struct tag *t, uint32_t action)
{
	if (action == SCMP_ACT_NOTIFY)
		return 3;
	if (action == SCMP_ACT_ALLOW)
		return t->rule[0] ? 1 : 2;
	return 0;
}

static bool beaten(const struct tag *t, uint32_t action, const char *profile, enum variant v)
{
	for (size_t i = 0; i < n_tags; i++) {
		uint32_t other;

		if (strcmp(tags[i].call, t->call) != 0 || !action_of(tags[i].set, profile, v, &other))
			continue;
		if (rank(&tags[i], other) > rank(t, action))
			return true;
	}
	return false;
}

static void write_bpf(scmp_filter_ctx ctx, FILE *out, const char *profile, const char *variant)
{
	struct sock_filter insn;
	FILE *tmp = tmpfile();
	size_t n = 0;

	if (!tmp || seccomp_export_bpf(ctx, fileno(tmp)) < 0)
		fail(profile, "cannot export");
	fprintf(out, "\nstatic const struct sock_filter filter_%s_%s[] = {\n", profile, variant);
	rewind(tmp);
	for (; fread(&insn, sizeof(insn), 1, tmp) == 1; n++)
		fprintf(out, "\t{ 0x%x, %u, %u, 0x%x },\n", insn.code, insn.jt, insn.jf, insn.k);
	fprintf(out, "};\n");
	if (n == 0 || n > BPF_MAXINSNS)
		fail(profile, "filter is empty or too long");
	fclose(tmp);
}

static void write_filter(FILE *out, const char *profile, enum variant v)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));

	if (!ctx)
		fail(profile, "out of memory");
	if (seccomp_arch_exist(ctx, arch) < 0 &&
	    (seccomp_arch_add(ctx, arch) < 0 || seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE) < 0))
		fail(profile, "architecture");
	if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0)
		fail(profile, "attribute");
	for (size_t i = 0; i < n_tags; i++) {
		uint32_t action;

		if (action_of(tags[i].set, profile, v, &action) && !beaten(&tags[i], action, profile, v))
			add_tag(ctx, &tags[i], action);
	}
	write_bpf(ctx, out, profile, variants[v]);
	seccomp_release(ctx);
}

static void write_deps(const char *path, const char *target)
{
	FILE *f = fopen(path, "we");

	if (!f)
		fail(path, strerror(errno));
	fprintf(f, "%s:", target);
	for (size_t i = 0; i < n_files; i++) {
		fputc(' ', f);
		for (const char *p = files[i]; *p; p++)
			fprintf(f, *p == ' ' ? "\\ " : "%c", *p);
	}
	fputc('\n', f);
	if (fclose(f) != 0)
		fail(path, strerror(errno));
}

int main(int argc, char **argv)
{
	if (argc != 5)
		fail("usage", "seccomp-gen <arch> <source directory> <output header> <dependency file>");
	arch = seccomp_arch_resolve_name(argv[1]);
	if (!arch)
		fail(argv[1], "unknown architecture");
	seccomp_api_set(6); /* what the running system can do, not the building one, decides later */
	walk(argv[2]);
	FILE *out = fopen(argv[3], "we");
	if (!out)
		fail(argv[3], strerror(errno));
	fprintf(out,
		"/* Made by tools/seccomp-gen from the #syscalls tags; do not edit. */\n"
		"#define FILTER_PID 0x%xu\n",
		FILTER_PID);
	for (size_t p = 0; p < sizeof(profiles) / sizeof(profiles[0]); p++)
		for (enum variant v = SELF; v < N_VARIANTS; v++)
			write_filter(out, profiles[p], v);
	if (fclose(out) != 0)
		fail(argv[3], strerror(errno));
	write_deps(argv[4], argv[3]);
	return 0;
}
