// SPDX-License-Identifier: Apache-2.0
// Facts about files, kept by identity.
#include "test.h"

#include "base/sha256.h"
#include "engine/filecache.h"

static void identity(int fd, struct stat *st)
{
	assert_int_equal(fstat(fd, st), 0);
}

static void test_put_get(void **state _unused_)
{
	char name[32], value[FILECACHE_VALUE_MAX], big[FILECACHE_VALUE_MAX + 10];
	int dir = make_dir(name);
	struct stat st, other;

	identity(dir, &st);
	assert_int_equal(filecache_get(dir, "k", &st, value), -ENOENT);
	filecache_put(dir, "k", &st, "fact");
	assert_int_equal(filecache_get(dir, "k", &st, value), 0);
	assert_string_equal(value, "fact");
	assert_int_equal(filecache_get(dir, "other", &st, value), -ENOENT);
	other = st;
	other.st_ctim.tv_nsec ^= 1;
	assert_int_equal(filecache_get(dir, "k", &other, value), -ENOENT);
	other = st;
	other.st_ino++;
	assert_int_equal(filecache_get(dir, "k", &other, value), -ENOENT);
	/* What does not fit, or says nothing, is no answer. */
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	filecache_put(dir, "k", &st, big);
	assert_int_equal(filecache_get(dir, "k", &st, value), -ENOENT);
	filecache_put(dir, "k", &st, "");
	assert_int_equal(filecache_get(dir, "k", &st, value), -ENOENT);
	rm_dir(name, dir);
}

static void test_digest(void **state _unused_)
{
	static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	char name[32], hex[65];
	int dir = make_dir(name), file = openat(dir, "f", O_RDWR | O_CREAT, 0600);
	struct stat st;

	assert_int_equal(fd_write_full(file, "abc", 3), 0);
	assert_int_equal(filecache_digest(dir, file, "f", hex, NULL), 0);
	assert_string_equal(hex, abc);
	/* It is the cache that answers: what stands there is believed. */
	identity(file, &st);
	memset(hex, 'f', 64);
	filecache_put(dir, "sha256", &st, hex);
	assert_int_equal(filecache_digest(dir, file, "f", hex, NULL), 0);
	assert_string_not_equal(hex, abc);
	/* A changed file is another file; a cut entry is none. */
	assert_int_equal(pwrite(file, "xyz!", 4, 0), 4);
	assert_int_equal(filecache_digest(dir, file, "f", hex, NULL), 0);
	assert_memory_not_equal(hex, "ffff", 4);
	identity(file, &st);
	filecache_put(dir, "sha256", &st, "short");
	assert_int_equal(filecache_digest(dir, file, "f", hex, NULL), 0);
	assert_int_equal(strlen(hex), 64);
	close(file);
	rm_dir(name, dir);
}

static void test_no_cache(void **state _unused_)
{
	char hex[65], name[32];
	int dir = make_dir(name), file = openat(dir, "f", O_RDWR | O_CREAT, 0600);
	struct vial_err err = VIAL_ERR_INIT;

	assert_int_equal(filecache_digest(-1, file, "f", hex, NULL), 0);
	assert_int_equal(strlen(hex), 64);
	close(file);
	assert_true(filecache_digest(dir, -1, "kernel 'x'", hex, &err) < 0);
	assert_non_null(strstr(err.msg, "kernel 'x'"));
	rm_dir(name, dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_no_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
