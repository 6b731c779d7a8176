// SPDX-License-Identifier: Apache-2.0
// The head of a frozen process: what is refused, and which files it may name.
#include "test.h"

#include <sys/mman.h>

#include "engine/frozen.h"
#include "engine/qemu_args.h"

static const char *const tmp_only[] = { "/tmp", NULL };

static int64_t ns(struct timespec t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void describe(const char *path, struct frozen_file *f)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	*f = (struct frozen_file){ .dev = st.st_dev,
				   .ino = st.st_ino,
				   .size = (uint64_t)st.st_size,
				   .mtime_ns = ns(st.st_mtim),
				   .ctime_ns = ns(st.st_ctim) };
	snprintf(f->path, sizeof(f->path), "%s", path);
}

/* struct fixture - a valid head that names one file below a directory of its own */
struct fixture {
	char dir[32];
	int dir_fd;
	char file[64];
	struct frozen_head head;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->dir_fd = make_dir(f->dir);
	snprintf(f->file, sizeof(f->file), "%s/lib.so", f->dir);
	assert_int_equal(fd_write_file_at(f->dir_fd, "lib.so", "x", 1, 0600), 0);
	memcpy(f->head.magic, FROZEN_MAGIC, sizeof(f->head.magic));
	f->head.n_files = 1;
	f->head.n_refs = 3;
	f->head.n_maps = 1;
	f->head.n_vdso = 1;
	describe(f->file, &f->head.files[0]);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	rm_dir(f->dir, f->dir_fd);
	free(f);
	return 0;
}

static int image_of(const struct fixture *f, size_t n)
{
	return fd_memfd("image", &f->head, n);
}

static int check(const struct fixture *f, const char *const *prefixes)
{
	_cleanup_(frozen_done) struct frozen got = { .n_fds = 0 };
	_cleanup_fd_ int image = image_of(f, sizeof(f->head));
	int r = frozen_check(image, prefixes, &got);

	assert_int_equal(got.n_fds, r == 0 && prefixes ? f->head.n_files : 0);
	return r;
}

static void test_good(void **state)
{
	assert_int_equal(check(*state, NULL), 0);
	assert_int_equal(check(*state, tmp_only), 0);
}

static void test_malformed(void **state)
{
	struct fixture *f = *state, good = *f;

	for (size_t n = 0; n < sizeof(f->head); n += 509) {
		_cleanup_fd_ int image = image_of(f, n);
		assert_int_equal(frozen_check(image, NULL, NULL), -EBADMSG);
	}
	f->head.magic[7]++;
	assert_int_equal(check(f, NULL), -EBADMSG);
	*f = good;
	f->head.n_files = FROZEN_FILES_MAX + 1;
	assert_int_equal(check(f, NULL), -EBADMSG);
	*f = good;
	f->head.n_refs = FROZEN_REFS_MAX + 1;
	assert_int_equal(check(f, NULL), -EBADMSG);
	*f = good;
	f->head.n_maps = FROZEN_MAPS_MAX + 1;
	assert_int_equal(check(f, NULL), -EBADMSG);
	*f = good;
	memset(f->head.files[0].path, 'x', sizeof(f->head.files[0].path));
	assert_int_equal(check(f, NULL), -EBADMSG);
	*f = good;
}

static void test_file_changes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fd_write_file_at(f->dir_fd, "lib.so", "yy", 2, 0600), 0);
	assert_int_equal(check(f, NULL), -ESTALE);
	assert_int_equal(check(f, tmp_only), -ESTALE);
	assert_int_equal(unlinkat(f->dir_fd, "lib.so", 0), 0);
	assert_int_equal(check(f, NULL), -ENOENT);
	assert_int_equal(check(f, tmp_only), -ENOENT);
}

/* A process that was taken over before it was frozen may name any file of the user's. */
static void test_file_elsewhere(void **state)
{
	struct fixture *f = *state;
	char link[80];

	describe("/etc/passwd", &f->head.files[0]);
	assert_int_equal(check(f, NULL), 0); /* looked at only */
	assert_int_equal(check(f, tmp_only), -EACCES);
	snprintf(link, sizeof(link), "%s/link", f->dir);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	snprintf(f->head.files[0].path, sizeof(f->head.files[0].path), "%s", link);
	assert_int_equal(check(f, tmp_only), -EACCES);
	snprintf(f->head.files[0].path, sizeof(f->head.files[0].path), "%s/../../etc/passwd", f->dir);
	assert_int_equal(check(f, tmp_only), -EACCES);
}

static void test_arguments(void **state)
{
	struct fixture *f = *state;
	_cleanup_(qemu_cmd_done) struct qemu_cmd cmd = { .vmdk_fd = -1 };
	_cleanup_fd_ int image = image_of(f, sizeof(f->head));
	uint8_t args[32];

	assert_int_equal(strv_add(&cmd.argv, "qemu"), 0);
	assert_int_equal(strv_add(&cmd.argv, "-m"), 0);
	cmd.n_fds = 2;
	frozen_args(&cmd, args);
	assert_false(frozen_args_match(image, &cmd));
	assert_int_equal(frozen_finish(image, args), 0);
	assert_true(frozen_args_match(image, &cmd));
	cmd.n_fds = 3;
	assert_false(frozen_args_match(image, &cmd));
	cmd.n_fds = 2;
	assert_int_equal(strv_add(&cmd.argv, "2048"), 0);
	assert_false(frozen_args_match(image, &cmd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_malformed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file_elsewhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_arguments, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
