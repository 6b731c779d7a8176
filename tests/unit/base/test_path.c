// SPDX-License-Identifier: Apache-2.0
// Tests of base/path.c.
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"

static int make_dir(void **state)
{
	static char dir[64];

	memcpy(dir, "/tmp/vial-test-path-XXXXXX", sizeof("/tmp/vial-test-path-XXXXXX"));
	*state = mkdtemp(dir);
	return *state && chdir(dir) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
	return path_rm_rf_at(AT_FDCWD, *state);
}

static void makes_parents(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(path_mkdir_p("a/b/c", 0700), 0);
	assert_int_equal(stat("a/b/c", &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(chmod("a", 0755), 0);
	assert_int_equal(path_mkdir_p("a/b/c", 0700), 0);
	assert_int_equal(stat("a", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
}

static void refuses_a_file_in_the_way(void **state)
{
	(void)state;
	assert_int_equal(fd_write_file_at(AT_FDCWD, "file", "x", 1, 0600), 0);
	assert_int_equal(path_mkdir_p("file/d", 0700), -ENOTDIR);
}

static void removes_trees_and_spares_link_targets(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(path_mkdir_p("victim", 0700), 0);
	assert_int_equal(fd_write_file_at(AT_FDCWD, "victim/keep", "x", 1, 0600), 0);
	assert_int_equal(path_mkdir_p("tree/x/y", 0700), 0);
	assert_int_equal(fd_write_file_at(AT_FDCWD, "tree/x/file", "x", 1, 0400), 0);
	assert_int_equal(symlink("../victim", "tree/link"), 0);
	assert_int_equal(symlink("victim", "toplink"), 0);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, "tree"), 0);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, "toplink"), 0);
	assert_int_equal(lstat("tree", &st), -1);
	assert_int_equal(lstat("toplink", &st), -1);
	assert_int_equal(lstat("victim/keep", &st), 0);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, "tree"), 0);
}

static void empties_and_keeps_the_directory(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(path_mkdir_p("tree/a/b", 0755), 0);
	assert_int_equal(symlink("tree", "link"), 0);
	assert_int_equal(path_empty_at(AT_FDCWD, "link") < 0, 1);
	assert_int_equal(lstat("tree/a/b", &st), 0);
	assert_int_equal(path_empty_at(AT_FDCWD, "tree"), 0);
	assert_int_equal(lstat("tree/a", &st), -1);
	assert_int_equal(rmdir("tree"), 0);
	assert_int_equal(path_empty_at(AT_FDCWD, "tree"), 0);
}

/* A file of an overlay over two file systems has another device number than its directory. Returns false without mounts. */
static bool mount_overlay(void)
{
	struct stat dir, file;

	/* A mount namespace of this process's own: the other tests see nothing of it. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    path_mkdir_p("low", 0700) < 0 || path_mkdir_p("up", 0700) < 0 ||
	    path_mkdir_p("merged", 0700) < 0 || mount("t", "low", "tmpfs", 0, NULL) < 0 ||
	    mount("t", "up", "tmpfs", 0, NULL) < 0 || mkdir("low/dir", 0700) < 0 ||
	    fd_write_file_at(AT_FDCWD, "low/dir/file", "x", 1, 0600) < 0 || mkdir("up/u", 0700) < 0 ||
	    mkdir("up/w", 0700) < 0 ||
	    mount("o", "merged", "overlay", 0, "lowerdir=low,upperdir=up/u,workdir=up/w,xino=off") < 0)
		return false;
	return stat("merged/dir", &dir) == 0 && stat("merged/dir/file", &file) == 0 &&
	       dir.st_dev != file.st_dev;
}

static void removes_trees_on_an_overlay(void **state)
{
	struct stat st;

	(void)state;
	if (!mount_overlay())
		skip(); /* mounting is root's work, and containers may not have overlayfs */
	assert_int_equal(path_rm_rf_at(AT_FDCWD, "merged/dir"), 0);
	assert_int_equal(lstat("merged/dir", &st), -1);
	assert_int_equal(
		umount2("merged", MNT_DETACH) | umount2("up", MNT_DETACH) | umount2("low", MNT_DETACH), 0);
}

static void finds_this_program(void **state)
{
	_cleanup_free_ char *dir = NULL;

	(void)state;
	assert_int_equal(path_self_dir(&dir), 0);
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(faccessat(fd, "test-base-path", X_OK, 0), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(makes_parents, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(refuses_a_file_in_the_way, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(removes_trees_and_spares_link_targets, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(empties_and_keeps_the_directory, make_dir, remove_dir),
		cmocka_unit_test(finds_this_program),
		cmocka_unit_test_setup_teardown(removes_trees_on_an_overlay, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
