// SPDX-License-Identifier: Apache-2.0
/*
 * A process to be frozen: subject [WHAT], started with vial-freeze.so. It does what QEMU does that matters here: threads that
 * hand a turn around, event descriptors, epoll, signalfd, heap and thread-local variables, floating point. A byte on descriptor 0 is
 * answered on descriptor 1 with how many rounds there were and a random number; its end makes it check itself and exit.
 * WHAT is something that cannot be frozen: "shared" memory, a "timer" descriptor, a "file" that nobody knows of, a descriptor
 * registered with "epoll", a "thread" that pthread_create() did not make, a descriptor of a
 * "high" number.
 */
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SLACK_NS    12345
#define WORKERS	    3
#define PIECES	    4000
#define PIECE_BYTES 1000
#define BIG_BYTES \
	(1 << 20) /* the allocator has a mapping for this alone, which it makes larger by mremap() */
#define GROWN_BYTES (64 << 20) /* more than the image has */

int gnutls_rnd(int level, void *data, size_t n);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long turn, sums[WORKERS + 1];
static __thread long mine;
static volatile sig_atomic_t signals;

static void *work(void *arg)
{
	long me = (long)arg;
	double x = 1;

	mine = me * 7;
	for (;;) {
		pthread_mutex_lock(&lock);
		while (turn != me)
			pthread_cond_wait(&changed, &lock);
		sums[me]++;
		turn = 0;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
		x = sqrt(x * x + 1); /* after n rounds: sqrt(n + 1) */
		if (mine != me * 7 || fabs(x - sqrt((double)sums[me] + 1)) > 1e-9)
			abort();
	}
	return NULL;
}

static void round_trip(void)
{
	pthread_mutex_lock(&lock);
	for (long i = 1; i <= WORKERS; i++) {
		turn = i;
		pthread_cond_broadcast(&changed);
		while (turn != 0)
			pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
}

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

/* Pieces that the allocator gets from the kernel a little at a time, and gives back when those at the end are free. */
static void fill(char **pieces)
{
	for (int i = 0; i < PIECES; i++) {
		pieces[i] = malloc(PIECE_BYTES);
		if (!pieces[i])
			_exit(24);
		memset(pieces[i], i, PIECE_BYTES);
	}
}

static void empty(char **pieces)
{
	for (int i = 0; i < PIECES; i++) {
		if (pieces[i][PIECE_BYTES - 1] != (char)i)
			_exit(10);
		free(pieces[i]);
	}
}

static void *nothing(void *arg)
{
	return arg;
}

static void grow(char *big)
{
	volatile char *grown = realloc(big, GROWN_BYTES);

	if (!grown || grown[0] != 'b' || grown[BIG_BYTES - 1] != 'b')
		_exit(12);
	for (size_t i = 0; i < GROWN_BYTES; i += 4096)
		grown[i] = 'g';
	free((void *)grown);
}

/* Exits with the number of what is not as it was. */
static void check(int epfd, int event, int sigfd, const char *heap, char **pieces, long rounds)
{
	struct epoll_event want = { .events = EPOLLIN, .data.u64 = 0x1122334455667788 }, ready;
	struct signalfd_siginfo info;
	pthread_t t;
	void *got;
	uint64_t n = 0;

	for (int i = 0; i < 3; i++) {
		empty(pieces);
		fill(pieces);
	}
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, event, &want) < 0 || epoll_wait(epfd, &ready, 1, 0) != 1 ||
	    ready.data.u64 != 0x1122334455667788)
		_exit(1);
	if (read(event, &n, sizeof(n)) != sizeof(n) || n != 3 || read(event, &n, sizeof(n)) >= 0)
		_exit(2);
	if (strcmp(heap, "on the heap") != 0)
		_exit(3);
	for (int i = 1; i <= WORKERS; i++)
		if (sums[i] != rounds)
			_exit(4);
	if (raise(SIGUSR2) != 0 || signals != 1)
		_exit(5);
	if (raise(SIGUSR1) != 0 || read(sigfd, &info, sizeof(info)) != sizeof(info) ||
	    info.ssi_signo != SIGUSR1)
		_exit(6);
	if (pthread_create(&t, NULL, nothing, &info) != 0 || pthread_join(t, &got) != 0 || got != &info)
		_exit(7);
	char *more = malloc(8 << 20);
	if (!more)
		_exit(8);
	memset(more, 1, 8 << 20);
	if (fcntl(event, F_GETFD) != FD_CLOEXEC)
		_exit(9);
	if (prctl(PR_GET_TIMERSLACK) != SLACK_NS)
		_exit(11);
	_exit(0);
}

static int wait_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return 0;
}

static int bare_thread(void)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	static char stack[65536] __attribute__((aligned(16)));

	return clone(wait_for_ever, stack + sizeof(stack), flags, NULL);
}

static void spoil(const char *what, int epfd, int event)
{
	struct epoll_event any = { .events = EPOLLIN };
	int r = 0;

	if (strcmp(what, "shared") == 0)
		r = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
	else if (strcmp(what, "timer") == 0)
		r = timerfd_create(CLOCK_MONOTONIC, 0) < 0;
	else if (strcmp(what, "file") == 0)
		r = open("/proc/self/exe", O_RDONLY) < 0;
	else if (strcmp(what, "epoll") == 0)
		r = epoll_ctl(epfd, EPOLL_CTL_ADD, event, &any) < 0;
	else if (strcmp(what, "high") == 0)
		r = fcntl(event, F_DUPFD, 700) < 0;
	else if (strcmp(what, "thread") == 0)
		r = bare_thread() < 0;
	if (r)
		_exit(20);
}

int main(int argc, char **argv)
{
	int event = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC), epfd = epoll_create1(EPOLL_CLOEXEC), sigfd;
	struct epoll_event once = { .events = EPOLLIN };
	char *heap = malloc(200000), *big = malloc(BIG_BYTES), **pieces = calloc(PIECES, sizeof(*pieces));
	sigset_t set;
	pthread_t t;
	long rounds = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigfd = signalfd(-1, &set, SFD_NONBLOCK);
	signal(SIGUSR2, on_signal);
	prctl(PR_SET_TIMERSLACK, SLACK_NS);
	strcpy(heap, "on the heap");
	memset(big, 'b', BIG_BYTES);
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, event, &once) < 0 ||
	    epoll_ctl(epfd, EPOLL_CTL_DEL, event, NULL) < 0)
		return 21;
	for (long i = 1; i <= WORKERS; i++)
		if (pthread_create(&t, NULL, work, (void *)i) != 0)
			return 22;
	fill(pieces);
	if (argc > 1)
		spoil(argv[1], epfd, event);
	for (;;) {
		struct pollfd in = { .fd = 0, .events = POLLIN };
		unsigned long long random;
		char c, text[60];

		round_trip();
		rounds++;
		if (poll(&in, 1, 1) <= 0)
			continue;
		if (read(0, &c, 1) != 1) {
			grow(big);
			check(epfd, event, sigfd, heap, pieces, rounds);
		}
		if (gnutls_rnd(0, &random, sizeof(random)) != 0)
			return 25;
		int n = snprintf(text, sizeof(text), "%ld %llx\n", rounds, random);
		if (write(1, text, (size_t)n) != n)
			return 23;
	}
}
