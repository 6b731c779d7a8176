// SPDX-License-Identifier: Apache-2.0
// A process with threads is frozen, and woken more than once; what cannot be frozen says so.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "engine/frozen.h"

#define WAIT_MS 20000

/* struct subject - a process with its ends of descriptors 0 and 1, the latter also being its 2 */
struct subject {
	pid_t pid;
	int to, from;
};

static void place(int fd, int as)
{
	if (dup2(fd, as) < 0)
		_exit(127);
}

static struct subject start(const char *path, char *const *argv, char *const *envp, int image,
			    const struct frozen *f)
{
	struct subject s;
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	s.pid = fork();
	assert_true(s.pid >= 0);
	if (s.pid == 0) {
		place(in[0], 0);
		place(out[1], 1);
		place(out[1], 2);
		place(image, FROZEN_FD_IMAGE);
		for (size_t i = 0; f && i < f->n_fds; i++)
			place(f->fds[i], FROZEN_FD_FILE + (int)i);
		for (int fd = 3; fd < FROZEN_FD_IMAGE; fd++)
			close(fd);
		execve(path, argv, envp);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	s.to = in[1];
	s.from = out[0];
	return s;
}

static struct subject start_subject(const char *what, int image)
{
	char *argv[] = { (char *)"subject", (char *)(uintptr_t)what, NULL };
	char *envp[] = { (char *)"LD_PRELOAD=" FREEZE_LIBRARY, NULL };

	return start(SUBJECT, argv, envp, image, NULL);
}

static int new_image(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* A line of what it says, or what it said before it ended. */
static void read_line(const struct subject *s, char *text, size_t n)
{
	size_t at = 0;

	while (at + 1 < n) {
		struct pollfd p = { .fd = s->from, .events = POLLIN };
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		if (read(s->from, text + at, 1) != 1 || text[at++] == '\n')
			break;
	}
	text[at] = '\0';
}

/* How many rounds there were; @ret_random: may be NULL */
static long ask_both(const struct subject *s, unsigned long long *ret_random)
{
	char text[80], *end;

	assert_int_equal(write(s->to, "x", 1), 1);
	read_line(s, text, sizeof(text));
	long n = strtol(text, &end, 10);
	if (n <= 0)
		fail_msg("it said: %s", text);
	if (ret_random)
		*ret_random = strtoull(end, NULL, 16);
	return n;
}

static long ask(const struct subject *s)
{
	return ask_both(s, NULL);
}

static int end(struct subject *s)
{
	int status = -1;

	close(s->to);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	close(s->from);
	return status;
}

static struct frozen finish(int image)
{
	static const char *const anywhere[] = { "/", NULL };
	static const uint8_t args[32];
	struct frozen f = { .n_fds = 0 };

	assert_int_equal(frozen_finish(image, args), 0);
	assert_int_equal(frozen_check(image, anywhere, &f), 0);
	return f;
}

static void test_woken_thrice(void **state _unused_)
{
	_cleanup_fd_ int image = new_image();
	struct subject s = start_subject(NULL, image);
	char *argv[] = { (char *)"thawed", NULL }, *none[] = { NULL };
	unsigned long long random[3];
	long before = ask(&s);

	assert_int_equal(kill(s.pid, FROZEN_SIGNAL), 0);
	assert_int_equal(end(&s), 0);
	struct frozen f = finish(image);
	assert_true(f.n_fds >= 3); /* itself, the C library, the loader */
	for (int i = 0; i < 3; i++) {
		s = start(THAW, argv, none, image, &f);
		long n = ask_both(&s, &random[i]);
		assert_true(n > before);
		assert_true(ask(&s) > n);
		int status = end(&s);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0); /* the subject's own checks */
	}
	assert_true(random[0] != random[1] && random[1] != random[2] && random[0] != random[2]);
	frozen_done(&f);
}

static void test_at_any_moment(void **state _unused_)
{
	char *argv[] = { (char *)"thawed", NULL }, *none[] = { NULL };

	for (int i = 0; i < 20; i++) {
		_cleanup_fd_ int image = new_image();
		struct subject s = start_subject(NULL, image);
		ask(&s);
		usleep((useconds_t)(i * 137)); /* wherever its threads are by then */
		assert_int_equal(kill(s.pid, FROZEN_SIGNAL), 0);
		assert_int_equal(end(&s), 0);
		struct frozen f = finish(image);
		s = start(THAW, argv, none, image, &f);
		ask(&s);
		assert_int_equal(end(&s), 0);
		frozen_done(&f);
	}
}

static void refused(const char *what, const char *word)
{
	_cleanup_fd_ int image = new_image();
	struct subject s = start_subject(what, image);
	char text[200];

	ask(&s);
	assert_int_equal(kill(s.pid, FROZEN_SIGNAL), 0);
	read_line(&s, text, sizeof(text));
	assert_non_null(strstr(text, word));
	int status = end(&s);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0);
	assert_int_equal(frozen_check(image, NULL, NULL), -EBADMSG);
}

static void test_refusals(void **state _unused_)
{
	refused("shared", "shared memory");
	refused("timer", "descriptor of unknown kind");
	refused("file", "a file that is not among those given");
	refused("epoll", "registered with epoll");
	refused("high", "a descriptor of too high a number");
	refused("thread", "a thread that is not known of");
}

static void test_damaged(void **state _unused_)
{
	_cleanup_fd_ int image = new_image();
	char *argv[] = { (char *)"thawed", NULL }, *none[] = { NULL };
	char text[200];

	assert_int_equal(ftruncate(image, FROZEN_HEAD_BYTES), 0);
	struct subject s = start(THAW, argv, none, image, NULL);
	read_line(&s, text, sizeof(text));
	assert_non_null(strstr(text, "not a frozen process"));
	assert_int_equal(WEXITSTATUS(end(&s)), 70);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_woken_thrice),
		cmocka_unit_test(test_at_any_moment),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_damaged),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
