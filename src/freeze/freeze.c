// SPDX-License-Identifier: Apache-2.0
/*
 * vial-freeze.so: lets the process that preloads it be frozen and brought back.
 *
 * Theory of operation
 *
 * Purpose: freezing. On FROZEN_SIGNAL the other threads are stopped wherever they are, by a signal that none of them blocks; what the
 * kernel keeps for the process (descriptors, signal actions) is noted in our own variables; memory is written (dump.c); the process
 * ends. Registers need no code: the kernel has put those of each thread into the frame of its signal handler, and returning
 * from that handler is how each goes on, in the other process.
 * Waking: thaw.c has mapped the memory and jumps into context_go(), so that the main thread comes out of context_save() for the second
 * time. It makes descriptors of the same numbers, signal actions and threads, each of which comes out of its own
 * context_save(), and all return from their handlers. A system call that a signal interrupted is begun again by the
 * kernel's own rules, or returns EINTR.
 * What cannot be noted afterwards is noted when it happens: the calls that make event descriptors and threads are wrapped. Whatever
 * is not known of refuses: a process with a descriptor of another kind, with shared memory, is not frozen.
 * Random numbers that a library makes from a state in its memory would be the same in every process that is woken, and a guest is
 * given them for its own (RDRAND, virtio-rng): they are taken from the kernel instead.
 * glibc keeps a thread's id in its control block, at a place that has been the same since 2.4 (TID_OFFSET); it is checked before
 * it is believed, and clone() writes the new id there.
 * Who is trusted: all of this is QEMU's process, before a guest has run anything but an image's own first commands.
 */
#include <asm/prctl.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/poll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "freeze/freeze.h"
#include "freeze/sys.h"

#define EXPORT	      __attribute__((visibility("default")))
#define PARK_SIGNAL   SIGFPE /* QEMU leaves it unblocked in all its threads */
#define PARK_WAIT_S   5
#define TID_OFFSET    0x2d0
#define THREADS_MAX   128
#define SIGNALS_MAX   64
#define RSEQ_SIG      0x53053053
#define EXIT_FAILED   71
#define STAT_BYTES    1024
#define FDS_LOOKED_AT 4096
#define NO_RANDOM     (-206) /* GNUTLS_E_RANDOM_FAILED */
/* Together more than an allocator has left of what it asked for at first, each less than what it would map by itself (128 KiB). */
#define HEAP_PIECES	 3
#define HEAP_PIECE_BYTES 65536

/* struct kernel_action - struct sigaction as the system call has it */
struct kernel_action {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

enum fd_kind { FD_UNKNOWN, FD_EVENT, FD_EPOLL, FD_SIGNAL, FD_SAME, FD_REF };

/**
 * struct fd_note - a descriptor of the process
 * @open:	at the freeze
 * @fl, @fd_flags: as F_GETFL and F_GETFD gave them
 * @value:	events counted, signals waited for, or the number of the reference
 */
struct fd_note {
	enum fd_kind kind;
	bool open;
	long fl, fd_flags;
	uint64_t value;
};

/* struct thread - @tid is 0 where the place is free */
struct thread {
	int tid;
	uint64_t fs;
	uint64_t robust, robust_len;
	struct context context;
};

static struct fd_note notes[FROZEN_FDS_MAX];
static int n_awaited;
static struct thread threads[THREADS_MAX];
static struct thread main_thread;
static struct kernel_action actions[SIGNALS_MAX + 1];
static char name[16];
static long timer_slack;
static uint32_t n_refs;
static int parked;
static bool too_much;

/* Of glibc 2.35 and later. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

__asm__(".text\n"
	".globl context_save\n"
	".hidden context_save\n"
	".type context_save, @function\n"
	"context_save:\n"
	"	mov %rbx, 0(%rdi)\n"
	"	mov %rbp, 8(%rdi)\n"
	"	mov %r12, 16(%rdi)\n"
	"	mov %r13, 24(%rdi)\n"
	"	mov %r14, 32(%rdi)\n"
	"	mov %r15, 40(%rdi)\n"
	"	lea 8(%rsp), %rax\n"
	"	mov %rax, 48(%rdi)\n"
	"	mov (%rsp), %rax\n"
	"	mov %rax, 56(%rdi)\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	".globl context_go\n"
	".hidden context_go\n"
	".type context_go, @function\n"
	"context_go:\n"
	"	mov 0(%rdi), %rbx\n"
	"	mov 8(%rdi), %rbp\n"
	"	mov 16(%rdi), %r12\n"
	"	mov 24(%rdi), %r13\n"
	"	mov 32(%rdi), %r14\n"
	"	mov 40(%rdi), %r15\n"
	"	mov 48(%rdi), %rsp\n"
	"	mov $1, %eax\n"
	"	jmp *56(%rdi)\n");

static void __attribute__((noreturn)) give_up(const char *why, uint64_t number)
{
	char room[24];
	const char *const text[] = { "vial-freeze: ", why, " (", number_text(number, 16, room), ")\n", NULL };

	say(text);
	sys(SYS_exit_group, EXIT_FAILED);
	__builtin_unreachable();
}

/* ---- noting what happens ---- */

static int result(long r)
{
	if (r >= 0)
		return (int)r;
	errno = (int)-r;
	return -1;
}

static long note(long fd, enum fd_kind kind, uint64_t value)
{
	if (fd >= 0 && fd < FROZEN_FDS_MAX)
		notes[fd] = (struct fd_note){ .kind = kind, .value = value };
	return fd;
}

EXPORT int eventfd(unsigned int count, int flags)
{
	return result(note(sys(SYS_eventfd2, count, flags), FD_EVENT, 0));
}

EXPORT int epoll_create1(int flags)
{
	return result(note(sys(SYS_epoll_create1, flags), FD_EPOLL, 0));
}

EXPORT int epoll_create(int size __attribute__((unused)))
{
	return epoll_create1(0);
}

/*
 * What was registered could be closed, which takes it out again without a call that is seen here. QEMU registers only when it
 * waits for more than 64 descriptors; so whoever has done it is not frozen.
 */
EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	long r = sys(SYS_epoll_ctl, epfd, op, fd, event);

	if (r >= 0 && op == EPOLL_CTL_ADD)
		__atomic_fetch_add(&n_awaited, 1, __ATOMIC_SEQ_CST);
	else if (r >= 0 && op == EPOLL_CTL_DEL)
		__atomic_fetch_sub(&n_awaited, 1, __ATOMIC_SEQ_CST);
	return result(r);
}

EXPORT int signalfd(int fd, const sigset_t *mask, int flags)
{
	return result(note(sys(SYS_signalfd4, fd, mask, 8, flags), FD_SIGNAL, *(const uint64_t *)mask));
}

/* QEMU makes its signalfd by number where it was built for old libraries. */
EXPORT long syscall(long number, ...)
{
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	long r = sys6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == SYS_signalfd || number == SYS_signalfd4)
		note(r, FD_SIGNAL, *(const uint64_t *)a[1]);
	if (r >= 0 || r < -4095)
		return r;
	errno = (int)-r;
	return -1;
}

static int random_bytes(void *to, size_t n)
{
	for (uint8_t *p = to; n;) {
		long r = sys(SYS_getrandom, p, n, 0);
		if (r < 0 && r != -EINTR)
			return -1;
		p += r > 0 ? r : 0;
		n -= r > 0 ? (size_t)r : 0;
	}
	return 0;
}

/* In place of GnuTLS's and libgcrypt's, one of which QEMU was built with. */
int gnutls_rnd(int level, void *data, size_t n);
void gcry_randomize(void *buffer, size_t n, int level);

EXPORT int gnutls_rnd(int level __attribute__((unused)), void *data, size_t n)
{
	return random_bytes(data, n) < 0 ? NO_RANDOM : 0;
}

EXPORT void gcry_randomize(void *buffer, size_t n, int level __attribute__((unused)))
{
	if (random_bytes(buffer, n) < 0)
		give_up("there are no random numbers", n);
}

struct start {
	void *(*run)(void *);
	void *arg;
};

static uint64_t own_fs(void)
{
	uint64_t fs = 0;

	sys(SYS_arch_prctl, ARCH_GET_FS, &fs);
	return fs;
}

static void note_thread(struct thread *t)
{
	t->fs = own_fs();
	sys(SYS_get_robust_list, 0, &t->robust, &t->robust_len);
}

static void *run_noted(void *p)
{
	struct start s = *(struct start *)p;
	struct thread *t = NULL;
	int tid = (int)sys(SYS_gettid);

	free(p);
	for (int i = 0; i < THREADS_MAX && !t; i++) {
		int none = 0;
		if (__atomic_compare_exchange_n(&threads[i].tid, &none, tid, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			t = &threads[i];
	}
	if (t)
		note_thread(t);
	else
		too_much = true;
	void *r = s.run(s.arg);
	if (t) {
		t->fs = 0;
		__atomic_store_n(&t->tid, 0, __ATOMIC_SEQ_CST);
	}
	return r;
}

EXPORT int pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	struct start *s = malloc(sizeof(*s));

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	if (!s || !real) {
		free(s);
		return EAGAIN;
	}
	*s = (struct start){ run, arg };
	int r = real(ret, attr, run_noted, s);
	if (r != 0)
		free(s);
	return r;
}

/* ---- freezing ---- */

static struct thread *find_thread(int tid)
{
	for (int i = 0; i < THREADS_MAX; i++)
		if (threads[i].tid == tid)
			return &threads[i];
	return NULL;
}

/* What the kernel knew of the thread that ran here, told to it anew for the one that runs here now. */
static void introduce(const struct thread *t)
{
	if (t->robust)
		sys(SYS_set_robust_list, t->robust, t->robust_len);
	if (&__rseq_size && __rseq_size)
		sys(SYS_rseq, t->fs + (uint64_t)__rseq_offset, 32, 0, RSEQ_SIG);
}

/* PARK_SIGNAL's handler. */
static void park(int sig)
{
	struct thread *t = find_thread((int)sys(SYS_gettid));

	if (!t || sig != PARK_SIGNAL)
		give_up("a thread that is not known of, or a floating-point error", (uint64_t)sig);
	if (context_save(&t->context) == 0) {
		__atomic_fetch_add(&parked, 1, __ATOMIC_SEQ_CST);
		sys(SYS_futex, &parked, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
		for (;;)
			sys(SYS_futex, &t->context.rip, FUTEX_WAIT | FUTEX_PRIVATE_FLAG,
			    (uint32_t)t->context.rip, NULL);
	}
	introduce(t);
}

static void check_tid(const struct thread *t)
{
	if (t->fs == 0)
		give_up("a thread is just beginning", (uint64_t)t->tid);
	if (*(const int *)(t->fs + TID_OFFSET) != t->tid)
		give_up("this C library keeps thread ids somewhere else", t->fs);
}

/* All threads of the process, whoever made them: the 20th field of its line, of which the second, a name, ends at the last ')'. */
static int count_threads(void)
{
	char text[STAT_BYTES];
	long n = sys(SYS_pread64, FREEZE_FD_STAT, text, sizeof(text), 0), at = n;
	int field = 2, count = 0;

	while (at > 0 && text[at - 1] != ')')
		at--;
	for (; at > 0 && at < n && field <= 20; at++) {
		if (text[at] == ' ')
			field++;
		else if (field == 20)
			count = count * 10 + (text[at] - '0');
	}
	if (count == 0)
		give_up("its threads cannot be counted", (uint64_t)n);
	return count;
}

static int count_noted(int pid)
{
	int n = 0;

	for (int i = 0; i < THREADS_MAX; i++) {
		struct thread *t = &threads[i];
		if (t->tid && sys(SYS_tgkill, pid, t->tid, 0) < 0)
			t->tid = 0; /* it ended by pthread_exit() */
		n += t->tid && t->fs;
	}
	return n;
}

/*
 * A thread that was made but has not run yet is not noted, one that is about to end not any more: a process without them would
 * wait for them, or for what they had locked. Both are soon over.
 */
static void settle(int pid)
{
	static const struct timespec moment = { 0, 1000000 };

	for (int i = 0; count_noted(pid) + 1 != count_threads(); i++) {
		if (i == PARK_WAIT_S * 1000)
			give_up("it has a thread that is not known of", (uint64_t)count_threads());
		sys(SYS_nanosleep, &moment, NULL);
	}
}

static void park_all(void)
{
	static const struct timespec patience = { PARK_WAIT_S, 0 };
	int pid = (int)sys(SYS_getpid), wanted = 0, now;

	settle(pid);
	for (int i = 0; i < THREADS_MAX; i++) {
		struct thread *t = &threads[i];
		if (t->tid == 0)
			continue;
		if (sys(SYS_tgkill, pid, t->tid, PARK_SIGNAL) < 0) {
			t->tid = 0; /* it ended by pthread_exit() */
			continue;
		}
		check_tid(t);
		wanted++;
	}
	while ((now = __atomic_load_n(&parked, __ATOMIC_SEQ_CST)) < wanted)
		if (sys(SYS_futex, &parked, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, now, &patience) == -ETIMEDOUT)
			give_up("a thread does not stop", (uint64_t)(wanted - now));
	if (count_threads() != wanted + 1)
		give_up("threads came or went meanwhile", (uint64_t)wanted);
}

static uint64_t count_of(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	static const struct timespec now;
	uint64_t n = 0;

	if (sys(SYS_ppoll, &p, 1, &now, NULL, 8) == 1 && (p.revents & POLLIN))
		sys(SYS_read, fd, &n, sizeof(n));
	return n;
}

/* The reference that is the same file opened in the same way: 0 and up, or -1. */
static int ref_of(const struct stat *st, long fl)
{
	for (uint32_t i = 0; i < n_refs; i++) {
		struct stat other;
		if (sys(SYS_fstat, FROZEN_FD_REF + i, &other) == 0 && other.st_ino == st->st_ino &&
		    other.st_dev == st->st_dev &&
		    ((sys(SYS_fcntl, FROZEN_FD_REF + i, F_GETFL, 0) ^ fl) & O_ACCMODE) == 0)
			return (int)i;
	}
	return -1;
}

static void note_open(int fd)
{
	struct fd_note *n = &notes[fd];
	struct stat st;
	int ref;

	n->fl = sys(SYS_fcntl, fd, F_GETFL, 0);
	n->fd_flags = sys(SYS_fcntl, fd, F_GETFD, 0);
	n->open = true;
	if (sys(SYS_fstat, fd, &st) < 0)
		give_up("a descriptor cannot be looked at", (uint64_t)fd);
	if (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		n->kind = FD_SAME; /* thaw starts with it */
		if (fd > 5)
			give_up("a descriptor that cannot be made again", (uint64_t)fd);
	} else if (S_ISREG(st.st_mode)) {
		ref = ref_of(&st, n->fl);
		if (ref < 0)
			give_up("a file that is not among those given", (uint64_t)fd);
		n->kind = FD_REF;
		n->value = (uint64_t)ref;
	} else if ((st.st_mode & S_IFMT) != 0 || n->kind == FD_UNKNOWN || n->kind >= FD_SAME) {
		give_up("a descriptor of unknown kind", (uint64_t)fd);
	} else if (n->kind == FD_EVENT) {
		n->value = count_of(fd);
	}
}

/* QEMU gets such a one when it has used up all numbers below. */
static void refuse_high(void)
{
	for (int fd = FROZEN_FD_REF + (int)n_refs; fd < FDS_LOOKED_AT; fd++)
		if ((fd < FREEZE_FD_MAPS || fd > FREEZE_FD_STAT) && sys(SYS_fcntl, fd, F_GETFD, 0) >= 0)
			give_up("a descriptor of too high a number", (uint64_t)fd);
}

static void note_kernel_state(void)
{
	while (n_refs < FROZEN_REFS_MAX && sys(SYS_fcntl, FROZEN_FD_REF + n_refs, F_GETFD, 0) >= 0)
		n_refs++;
	refuse_high();
	for (int fd = 0; fd < FROZEN_FDS_MAX; fd++) {
		if (sys(SYS_fcntl, fd, F_GETFD, 0) >= 0)
			note_open(fd);
		else
			notes[fd].open = false;
	}
	for (int sig = 1; sig <= SIGNALS_MAX; sig++)
		sys(SYS_rt_sigaction, sig, NULL, &actions[sig], 8);
	sys(SYS_prctl, PR_GET_NAME, name);
	timer_slack = sys(SYS_prctl, PR_GET_TIMERSLACK);
}

/* ---- waking ---- */

static void make_descriptor(int fd)
{
	const struct fd_note *n = &notes[fd];
	long flags = n->fl & O_NONBLOCK, cloexec = n->fd_flags & FD_CLOEXEC ? O_CLOEXEC : 0, made = -1;

	switch (n->kind) {
	case FD_EVENT:
		made = sys(SYS_eventfd2, n->value, flags);
		break;
	case FD_EPOLL:
		made = sys(SYS_epoll_create1, 0);
		break;
	case FD_SIGNAL:
		made = sys(SYS_signalfd4, -1, &n->value, 8, flags);
		break;
	case FD_REF:
		made = FROZEN_FD_REF + (long)n->value;
		break;
	case FD_SAME:
	case FD_UNKNOWN:
		sys(SYS_fcntl, fd, F_SETFL, n->fl);
		sys(SYS_fcntl, fd, F_SETFD, n->fd_flags);
		return;
	}
	if (made < 0)
		give_up("a descriptor cannot be made again", (uint64_t)fd);
	if (made == fd) {
		sys(SYS_fcntl, fd, F_SETFD, n->fd_flags);
		return;
	}
	if (sys(SYS_dup3, made, fd, cloexec) < 0)
		give_up("a descriptor cannot get its number", (uint64_t)fd);
	if (n->kind == FD_REF)
		sys(SYS_fcntl, fd, F_SETFL, n->fl);
	else
		sys(SYS_close, made);
}

static void make_descriptors(void)
{
	for (int fd = 0; fd < FROZEN_FDS_MAX; fd++)
		if (notes[fd].open)
			make_descriptor(fd);
	sys(SYS_close, FROZEN_FD_IMAGE);
	for (uint32_t i = 0; i < n_refs; i++)
		sys(SYS_close, FROZEN_FD_REF + i);
	for (int fd = FROZEN_FD_FILE; fd < FROZEN_FD_END && sys(SYS_close, fd) == 0; fd++)
		;
}

/* A thread like those of pthread_create(), whose stack and control block are there already. */
static void make_thread(const struct thread *t)
{
	const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				    CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	const struct context *place = &t->context;
	uint64_t fs = t->fs, tid_at = fs + TID_OFFSET;
	register const struct context *c __asm__("r12") = place;
	register uint64_t r10 __asm__("r10") = tid_at;
	register uint64_t r8 __asm__("r8") = fs;
	long r;

	__asm__ volatile("syscall\n"
			 "	test %%rax, %%rax\n"
			 "	jnz 1f\n"
			 "	mov %%r12, %%rdi\n"
			 "	jmp context_go\n"
			 "1:\n"
			 : "=a"(r)
			 : "a"(SYS_clone), "D"(flags), "S"(t->context.rsp), "d"(tid_at), "r"(r10), "r"(r8),
			   "r"(c)
			 : "rcx", "r11", "memory");
	if (r < 0)
		give_up("a thread cannot be made again", (uint64_t)r);
}

static void wake(void)
{
	uint64_t tid_at = main_thread.fs + TID_OFFSET;

	*(int *)tid_at = (int)sys(SYS_set_tid_address, tid_at);
	introduce(&main_thread);
	for (int sig = 1; sig <= SIGNALS_MAX; sig++)
		if (actions[sig].handler)
			sys(SYS_rt_sigaction, sig, &actions[sig], NULL, 8);
	make_descriptors();
	sys(SYS_munmap, FROZEN_LOW, FROZEN_LOW_END - FROZEN_LOW);
	sys(SYS_prctl, PR_SET_NAME, name);
	if (timer_slack > 0)
		sys(SYS_prctl, PR_SET_TIMERSLACK, timer_slack); /* of the threads made next, too */
	for (int i = 0; i < THREADS_MAX; i++)
		if (threads[i].tid)
			make_thread(&threads[i]);
}

/* FROZEN_SIGNAL's handler. */
static void freeze(int sig)
{
	int pid = (int)sys(SYS_getpid);
	uint64_t number = 0;

	if (sys(SYS_gettid) != pid) {
		sys(SYS_tgkill, pid, pid, sig);
		return;
	}
	if (too_much)
		give_up("more threads than can be noted", THREADS_MAX);
	if (__atomic_load_n(&n_awaited, __ATOMIC_SEQ_CST) != 0)
		give_up("descriptors are registered with epoll", (uint64_t)n_awaited);
	main_thread.tid = pid;
	note_thread(&main_thread);
	check_tid(&main_thread);
	park_all();
	note_kernel_state();
	if (context_save(&main_thread.context) == 0) {
		const char *why = dump_write(&main_thread.context, main_thread.fs, n_refs, &number);
		if (why)
			give_up(why, number);
		sys(SYS_exit_group, 0);
	}
	wake();
}

/* ---- start ---- */

static void open_as(const char *path, int fd)
{
	long r = sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

	if (r < 0)
		return; /* told of when they are missed */
	sys(SYS_dup3, r, fd, O_CLOEXEC);
	sys(SYS_close, r);
}

/*
 * The end of the heap that brk() moves is known to the kernel, which has another in the process that is woken, and to the allocator,
 * which would give back what it never got. So brk() is made to fail, by a page in its way, before there is much in that heap; an
 * allocator goes on with mmap() then, and takes a brk() that succeeds later, elsewhere, for what it is: memory elsewhere.
 */
static void end_heap(void)
{
	const size_t page = 4096;
	uintptr_t end = ((uintptr_t)sbrk(0) + page - 1) & ~(page - 1);
	void *volatile pieces[HEAP_PIECES]; /* volatile: for the allocator, not for us */

	sys(SYS_mmap, end, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	for (int i = 0; i < HEAP_PIECES; i++)
		pieces[i] = malloc(HEAP_PIECE_BYTES);
	for (int i = 0; i < HEAP_PIECES; i++)
		free(pieces[i]);
}

static void __attribute__((constructor)) begin(void)
{
	struct sigaction a = { .sa_flags = SA_RESTART };

	end_heap();
	open_as("/proc/self/maps", FREEZE_FD_MAPS);
	open_as("/proc/self/pagemap", FREEZE_FD_PAGEMAP);
	open_as("/proc/self/stat", FREEZE_FD_STAT);
	sigfillset(&a.sa_mask);
	a.sa_handler = freeze;
	(void)sigaction(FROZEN_SIGNAL, &a, NULL);
	a.sa_handler = park;
	(void)sigaction(PARK_SIGNAL, &a, NULL);
}
