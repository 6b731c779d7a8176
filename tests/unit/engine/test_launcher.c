// SPDX-License-Identifier: Apache-2.0
// Starting a monitor: what it gets, how it ends.
#include "test.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "engine/launcher.h"

static void prepare(struct launcher *l)
{
	launcher_init(l);
	l->launch.mode = LAUNCH_COLD;
	strcpy(l->launch.id, "00112233445566778899aabbccddeeff");
	assert_int_equal(launcher_add_own(l, LAUNCH_FD_EXTENT, fd_memfd("e", "content", 7)), 0);
}

static void test_start_and_end(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct launcher l;
	char text[400] = "";
	int leak = open("/dev/null", O_RDONLY); /* without CLOEXEC: still not for the monitor */

	prepare(&l);
	int extent = l.fds[0];
	if (launcher_start(&l, FAKE_MONITOR, (uid_t)-1, (gid_t)-1, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(l.pid > 0);
	assert_true(l.pidfd >= 0);
	assert_int_equal(fcntl(extent, F_GETFD), -1); /* ours is closed */
	assert_true(read(l.lifeline, text, sizeof(text) - 1) > 0);
	/* 0, 1, 2, the description and three roles. */
	assert_string_equal(text, "argc 2, argv[1] 00112233445566778899aabbccddeeff, id "
				  "00112233445566778899aabbccddeeff, extent content, fds 7, roles 3, "
				  "client 1\n");
	pid_t pid = l.pid;
	struct pollfd p = { .fd = l.pidfd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 0), 0); /* it lives as long as the lifeline */
	launcher_end(&l);
	assert_int_equal(l.pid, 0);
	assert_int_equal(l.lifeline, -1);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	launcher_done(&l);
	launcher_done(&l);
	close(leak);
}

static void test_no_such_program(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct launcher l;

	prepare(&l);
	int extent = l.fds[0];
	assert_true(launcher_start(&l, "/nonexistent/vial-monitor", (uid_t)-1, (gid_t)-1, &err) < 0);
	assert_non_null(strstr(err.msg, "/nonexistent/vial-monitor"));
	assert_int_equal(l.pid, 0);
	launcher_done(&l);
	assert_int_equal(fcntl(extent, F_GETFD), -1);
}

static void test_too_many_descriptors(void **state _unused_)
{
	struct launcher l;
	int fd;

	launcher_init(&l);
	for (int i = 0; i < LAUNCH_FDS_MAX; i++)
		assert_int_equal(launcher_add(&l, LAUNCH_FD_HOLD, 0), 0);
	assert_int_equal(launcher_add(&l, LAUNCH_FD_HOLD, 0), -EMFILE);
	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(launcher_add_own(&l, LAUNCH_FD_HOLD, fd), -EMFILE);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(launcher_add_own(&l, LAUNCH_FD_HOLD, -ENOSPC), -ENOSPC);
	/* No room for the lifeline is an error, not an overflow. */
	assert_true(launcher_start(&l, FAKE_MONITOR, (uid_t)-1, (gid_t)-1, NULL) < 0);
	launcher_done(&l);
	assert_true(fcntl(0, F_GETFD) >= 0); /* borrowed ones stay open */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_and_end),
		cmocka_unit_test(test_no_such_program),
		cmocka_unit_test(test_too_many_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
