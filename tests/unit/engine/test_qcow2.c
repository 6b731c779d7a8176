// SPDX-License-Identifier: Apache-2.0
// Empty qcow2 images, and what qemu-img says of them.
#include "test.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "engine/qcow2.h"

extern char **environ;

/* Runs qemu-img with its output in @out; its exit status, 127 if there is none. */
static int qemu_img(const char *verb, const char *path, char *out, size_t n)
{
	char *argv[] = { (char *)"qemu-img",
			 (char *)(uintptr_t)verb,
			 (char *)"--output=json",
			 (char *)"-f",
			 (char *)"qcow2",
			 (char *)(uintptr_t)path,
			 NULL };
	posix_spawn_file_actions_t fa;
	int p[2], status, r;
	pid_t pid;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, p[1], 1);
	r = posix_spawnp(&pid, "qemu-img", &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(p[1]);
	ssize_t got = r == 0 ? fd_read_full(p[0], out, n - 1) : 0;
	close(p[0]);
	if (r != 0)
		return 127;
	out[MAX(got, 0)] = '\0';
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void check_size(uint64_t bytes)
{
	char path[] = "/tmp/vial-qcow2-XXXXXX", out[4096], want[64];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(qcow2_init(fd, bytes), 0);
	close(fd);
	int r = qemu_img("check", path, out, sizeof(out));
	if (r == 127) {
		unlink(path);
		print_message("qemu-img is not here\n");
		skip();
	}
	assert_int_equal(r, 0);
	assert_int_equal(qemu_img("info", path, out, sizeof(out)), 0);
	unlink(path);
	snprintf(want, sizeof(want), "\"virtual-size\": %llu,", (unsigned long long)bytes);
	assert_non_null(strstr(out, want));
	assert_null(strstr(out, "backing"));
}

static void test_qemu_agrees(void **state _unused_)
{
	check_size(512);
	check_size(512ULL << 20);
	check_size((512ULL << 20) + 512);
	check_size(10ULL << 30);
	check_size(1ULL << 44);
}

static void test_refused(void **state _unused_)
{
	_cleanup_fd_ int fd = memfd_create("q", 0);

	assert_int_equal(qcow2_init(fd, 0), -EINVAL);
	assert_int_equal(qcow2_init(fd, 513), -EINVAL);
	assert_int_equal(qcow2_init(fd, (1ULL << 44) + 512), -EINVAL);
	assert_int_equal(qcow2_init(fd, UINT64_MAX - 511), -EINVAL);
	assert_int_equal(lseek(fd, 0, SEEK_END), 0);
	assert_int_equal(qcow2_init(-1, 512), -EBADF);
}

static int check_changed(off_t at, uint8_t value)
{
	_cleanup_fd_ int fd = memfd_create("q", 0);

	assert_int_equal(qcow2_init(fd, 1 << 30), 0);
	assert_int_equal(pwrite(fd, &value, 1, at), 1);
	return qcow2_check(fd, 1 << 30);
}

/* [QEMU docs/interop/qcow2: header] */
static void test_check(void **state _unused_)
{
	static const struct {
		off_t at;
		uint8_t value;
	} bad[] = {
		{ 0, 'q' },  /* magic */ { 7, 2 },		 /* version */
		{ 15, 104 }, /* backing file */ { 19, 4 },	 /* its name's length */
		{ 23, 12 },  /* clusters */ { 24, 1 },		 /* size */
		{ 35, 1 },   /* encryption */ { 39, 1 },	 /* too small an L1 table */
		{ 40, 1 },   /* L1 beyond the file */ { 47, 1 }, /* not on a cluster */
		{ 48, 1 },   /* refcounts beyond */ { 57, 1 },	 /* too many of them */
		{ 63, 1 },   /* snapshots */ { 79, 4 },		 /* external data file */
		{ 99, 6 },					 /* refcount width */
	};
	_cleanup_fd_ int fd = memfd_create("q", 0);

	assert_int_equal(qcow2_init(fd, 1 << 30), 0);
	assert_int_equal(qcow2_check(fd, 1 << 30), 0);
	assert_int_equal(qcow2_check(fd, 1 << 20), -EBADMSG);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(check_changed(bad[i].at, bad[i].value), -EBADMSG);
	assert_int_equal(ftruncate(fd, 65536), 0); /* shorter than its tables */
	assert_int_equal(qcow2_check(fd, 1 << 30), -EBADMSG);
	assert_int_equal(ftruncate(fd, 50), 0);
	assert_int_equal(qcow2_check(fd, 1 << 30), -EBADMSG);
	assert_int_equal(qcow2_check(-1, 1 << 30), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_qemu_agrees),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
