// SPDX-License-Identifier: Apache-2.0
// The state directory: where it is, who runs as what, what dead boxes leave.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "box/home.h"

#define ID_ALIVE "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_DEAD	 "dddddddddddddddddddddddddddddddd"
#define ID_BARE	 "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

static char top[32], path[64];

static int setup(void **state)
{
	struct vial_opts o = { .size = sizeof(o), .home = path };
	struct vial_err err = VIAL_ERR_INIT;
	struct vial *v = NULL;

	strcpy(top, "/tmp/vial-test-XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/a/b", top);
	if (home_open(&o, &v, &err) < 0)
		fail_msg("%s", err.msg);
	*state = v;
	return 0;
}

static int teardown(void **state)
{
	home_close(*state);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, top), 0);
	return 0;
}

static void test_made(void **state)
{
	static const char *const subs[] = { "boxes", "templates", "cache", "images" };
	struct vial *v = *state;
	struct stat st;

	assert_string_equal(v->path, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		assert_int_equal(fstatat(v->fd, subs[i], &st, AT_SYMLINK_NOFOLLOW), 0);
		assert_true(S_ISDIR(st.st_mode));
	}
	/* Again: what is there is taken as it is. */
	struct vial *again = NULL;
	assert_int_equal(home_open(&(struct vial_opts){ .size = sizeof(struct vial_opts), .home = path },
				   &again, NULL),
			 0);
	home_close(again);
}

static void test_symlink_refused(void **state _unused_)
{
	struct vial_opts o = { .size = sizeof(o), .home = path };
	struct vial_err err = VIAL_ERR_INIT;
	struct vial *v = NULL;
	char boxes[80];

	snprintf(boxes, sizeof(boxes), "%s/boxes", path);
	assert_int_equal(rmdir(boxes), 0);
	assert_int_equal(symlink("/tmp", boxes), 0);
	assert_true(home_open(&o, &v, &err) < 0);
	assert_non_null(strstr(err.msg, "/boxes"));
	assert_null(v);
}

static void lock_box(struct vial *v, const char *id, int *ret_lock)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char name[64];

	assert_int_equal(mkdirat(v->boxes_fd, id, 0700), 0);
	snprintf(name, sizeof(name), "%s/lock", id);
	*ret_lock = openat(v->boxes_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(fcntl(*ret_lock, F_OFD_SETLK, &lock), 0);
}

static bool there(struct vial *v, const char *name)
{
	return faccessat(v->boxes_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_sweep(void **state)
{
	struct vial *v = *state;
	int alive, dead, making;

	lock_box(v, ID_ALIVE, &alive);
	lock_box(v, ID_DEAD, &dead);
	close(dead);
	assert_int_equal(mkdirat(v->boxes_fd, ID_BARE, 0700), 0);
	assert_int_equal(mkdirat(v->boxes_fd, "." ID_BARE, 0700), 0); /* one being made */
	assert_int_equal(mkdirat(v->boxes_fd, "other", 0700), 0);
	making = openat(v->boxes_fd, ".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(making, LOCK_SH), 0);
	home_sweep(v);
	assert_true(there(v, ID_ALIVE));
	assert_false(there(v, ID_DEAD));
	assert_false(there(v, ID_BARE));
	assert_true(there(v, "." ID_BARE));
	assert_true(there(v, "other"));
	close(alive);
	close(making);
	home_sweep(v);
	assert_false(there(v, ID_ALIVE));
	assert_false(there(v, "." ID_BARE)); /* nobody is making one */
}

static void test_uids(void **state)
{
	uid_t a, b;
	int la, lb;

	if (geteuid() != 0) {
		assert_int_equal(home_uid(*state, &a, &la, NULL), 0);
		assert_int_equal(a, (uid_t)-1);
		assert_int_equal(la, -1);
		return;
	}
	for (int i = 0; i < 50; i++) {
		assert_int_equal(home_uid(*state, &a, &la, NULL), 0);
		assert_int_equal(home_uid(*state, &b, &lb, NULL), 0);
		assert_true(a >= HOME_UID_BASE && a < HOME_UID_BASE + HOME_UID_COUNT);
		assert_true(b >= HOME_UID_BASE && b < HOME_UID_BASE + HOME_UID_COUNT);
		assert_int_not_equal(a, b);
		close(la);
		close(lb);
	}
}

/* All but one taken: that one is found; then none is left. */
static void test_last_uid(void **state)
{
	struct vial *v = *state;
	struct flock most = { .l_type = F_WRLCK, .l_start = 0, .l_len = 4711 };
	struct flock rest = { .l_type = F_WRLCK, .l_start = 4712, .l_len = HOME_UID_COUNT - 4712 };
	struct vial_err err = VIAL_ERR_INIT;
	int lock, none;
	uid_t uid;

	if (geteuid() != 0)
		skip();
	int fd = openat(v->fd, "uids.lock", O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &most), 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &rest), 0);
	assert_int_equal(home_uid(v, &uid, &lock, &err), 0);
	assert_int_equal(uid, HOME_UID_BASE + 4711);
	assert_int_equal(home_uid(v, &uid, &none, &err), VIAL_E_LIMIT);
	assert_int_equal(none, -1);
	close(lock);
	close(fd);
}

static void refused(struct vial_opts o, const char *text)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct vial *v = NULL;

	o.size = sizeof(o);
	assert_true(home_open(&o, &v, &err) < 0);
	if (!strstr(err.msg, text))
		fail_msg("%s", err.msg);
	assert_null(v);
}

static void test_options(void **state _unused_)
{
	refused((struct vial_opts){ .home = path, .engine = "xen" }, "engine 'xen'");
	refused((struct vial_opts){ .home = path, .log_level = "loud" }, "log level 'loud'");
	refused((struct vial_opts){ .home = "/dev/null/x" }, "set VIAL_HOME to another");
}

static void test_where(void **state _unused_)
{
	char *vars[] = { (char *)"VIAL_HOME", (char *)"XDG_DATA_HOME", (char *)"HOME" }, *old[3];
	struct vial *v = NULL;
	char want[100];

	for (size_t i = 0; i < 3; i++) {
		old[i] = getenv(vars[i]) ? strdup(getenv(vars[i])) : NULL;
		unsetenv(vars[i]);
	}
	refused((struct vial_opts){ 0 }, "set VIAL_HOME");
	setenv("HOME", path, 1);
	assert_int_equal(home_open(NULL, &v, NULL), 0);
	snprintf(want, sizeof(want), "%s/.local/share/vial", path);
	assert_string_equal(v->path, want);
	home_close(v);
	setenv("XDG_DATA_HOME", "relative", 1); /* [XDG base directory: to be ignored] */
	assert_int_equal(home_open(NULL, &v, NULL), 0);
	assert_string_equal(v->path, want);
	home_close(v);
	setenv("XDG_DATA_HOME", top, 1);
	assert_int_equal(home_open(NULL, &v, NULL), 0);
	snprintf(want, sizeof(want), "%s/vial", top);
	assert_string_equal(v->path, want);
	home_close(v);
	setenv("VIAL_HOME", path, 1);
	assert_int_equal(home_open(NULL, &v, NULL), 0);
	assert_string_equal(v->path, path);
	home_close(v);
	for (size_t i = 0; i < 3; i++) {
		if (old[i])
			setenv(vars[i], old[i], 1);
		else
			unsetenv(vars[i]);
		free(old[i]);
	}
}

static void test_helpers(void **state)
{
	struct vial *v = *state;
	struct vial_err err = VIAL_ERR_INIT;
	char *helper = NULL;

	free(v->libexec);
	v->libexec = strdup("/bin");
	assert_int_equal(home_helper(v, "sh", &helper, &err), 0);
	assert_string_equal(helper, "/bin/sh");
	free(helper);
	assert_int_equal(home_helper(v, "no-such", &helper, &err), VIAL_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "/bin/no-such"));
	err = (struct vial_err)VIAL_ERR_INIT;
	assert_int_equal(home_asset(v, "no-such", NULL, &err), VIAL_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "vial init"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_made, setup, teardown),
		cmocka_unit_test_setup_teardown(test_symlink_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_uids, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_uid, setup, teardown),
		cmocka_unit_test_setup_teardown(test_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_where, setup, teardown),
		cmocka_unit_test_setup_teardown(test_helpers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
