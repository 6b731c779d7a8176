// SPDX-License-Identifier: Apache-2.0
// Tests of base/fd.c.
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"

static void pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void close_and_take(void **state)
{
	int fd = fd_memfd("t", "", 0);
	int taken;

	(void)state;
	assert_true(fd >= 0);
	taken = take_fd(fd);
	assert_int_equal(fd, -1);
	fd_close(&taken);
	assert_int_equal(taken, -1);
	fd_close(&taken);
}

static void flags(void **state)
{
	_cleanup_fd_ int fd = fd_memfd("t", "", 0);

	(void)state;
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fd_set_cloexec(fd, false), 0);
	assert_false(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fd_set_nonblock(fd, true), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_nonblock(fd, false), 0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
}

static void read_full_stops_at_the_end(void **state)
{
	int fds[2];
	char text[8];

	(void)state;
	pair(fds);
	assert_int_equal(fd_write_full(fds[0], "abc", 3), 0);
	close(fds[0]);
	assert_int_equal(fd_read_full(fds[1], text, sizeof(text)), 3);
	assert_memory_equal(text, "abc", 3);
	close(fds[1]);
}

static void read_all_has_a_limit(void **state)
{
	_cleanup_fd_ int fd = fd_memfd("t", "0123456789", 10);
	_cleanup_free_ char *text = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(fd_read_all(fd, 9, &text, &n), -EFBIG);
	assert_null(text);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_all(fd, 10, &text, &n), 0);
	assert_int_equal(n, 10);
	assert_string_equal(text, "0123456789");
}

static void file_is_replaced_whole(void **state)
{
	char dir[] = "/tmp/vial-test-fd-XXXXXX";
	_cleanup_free_ char *text = NULL;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dirfd >= 0);
	assert_int_equal(fd_write_file_at(dirfd, "f", "one", 3, 0600), 0);
	int old = openat(dirfd, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fd_write_file_at(dirfd, "f", "second", 6, 0640), 0);
	assert_int_equal(fd_read_file_at(dirfd, "f", 100, &text, NULL), 0);
	assert_string_equal(text, "second");
	/* Whoever had the old one open still reads all of it. */
	char before[4] = { 0 };
	assert_int_equal(fd_read_full(old, before, 4), 3);
	assert_string_equal(before, "one");
	assert_int_equal(fstatat(dirfd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(fd_read_file_at(dirfd, "none", 100, &text, NULL), -ENOENT);
	close(old);
	close(dirfd);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, dir), 0);
}

static void descriptors_are_passed(void **state)
{
	_cleanup_fd_ int fd = fd_memfd("t", "payload", 7);
	int fds[2], got[FD_PASS_MAX];
	size_t n_got = 99;
	char text[8] = { 0 };

	(void)state;
	pair(fds);
	int send[3] = { fd, fd, fd };
	assert_int_equal(fd_send(fds[0], "hi", 2, send, 3), 2);
	assert_int_equal(fd_recv(fds[1], text, sizeof(text), got, &n_got), 2);
	assert_string_equal(text, "hi");
	assert_int_equal(n_got, 3);
	assert_true(fcntl(got[2], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(pread(got[2], text, 7, 0), 7);
	assert_memory_equal(text, "payload", 7);
	for (size_t i = 0; i < n_got; i++)
		close(got[i]);
	assert_int_equal(fd_send(fds[0], "x", 1, NULL, 0), 1);
	assert_int_equal(fd_recv(fds[1], text, sizeof(text), got, &n_got), 1);
	assert_int_equal(n_got, 0);
	close(fds[0]);
	assert_int_equal(fd_recv(fds[1], text, sizeof(text), got, &n_got), 0);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(close_and_take),
		cmocka_unit_test(flags),
		cmocka_unit_test(read_full_stops_at_the_end),
		cmocka_unit_test(read_all_has_a_limit),
		cmocka_unit_test(file_is_replaced_whole),
		cmocka_unit_test(descriptors_are_passed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
