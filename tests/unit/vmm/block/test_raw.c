// SPDX-License-Identifier: Apache-2.0
// Raw disks: whole reads and writes, zeros, who may write, and files that shrink.
#include "disk.h"

static void test_read_write(void **state _unused_)
{
	uint8_t out[4096], in[4096];
	uint64_t seed = 1;

	close(new_file("r", MIB(1)));
	struct block *b = open_raw("r", O_RDWR);
	assert_int_equal(b->size, MIB(1));
	assert_false(b->read_only);
	fill_random(&seed, out, sizeof(out));
	/* Scattered, with an empty and an odd entry */
	struct iovec v[] = { { out, 100 }, { out, 0 }, { out + 100, 3996 } };
	assert_int_equal(block_writev(b, v, 3, 512), 0);
	assert_int_equal(read_at(b, in, sizeof(in), 512), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(block_flush(b), 0);
	assert_int_equal(block_write_zeroes(b, 1024, 512, true), 0);
	memset(out + 512, 0, 512);
	assert_int_equal(block_write_zeroes(b, 2048, 512, false), 0);
	memset(out + 1536, 0, 512);
	assert_int_equal(block_discard(b, 4096, 512), 0);
	memset(out + 3584, 0, 512); /* Linux punches: zeros */
	assert_int_equal(read_at(b, in, sizeof(in), 512), 0);
	assert_memory_equal(in, out, sizeof(in));
	block_close(b);
}

static void test_bounds(void **state _unused_)
{
	uint8_t buf[2048] = { 0 };
	struct iovec huge[] = { { buf, SIZE_MAX / 2 }, { buf, 512 } };

	close(new_file("r", MIB(1)));
	struct block *b = open_raw("r", O_RDWR);
	assert_int_equal(read_at(b, buf, 512, MIB(1) - 512), 0);
	assert_int_equal(read_at(b, buf, 1024, MIB(1) - 512), -ERANGE);
	assert_int_equal(read_at(b, buf, 512, MIB(1)), -ERANGE);
	assert_int_equal(read_at(b, buf, 512, UINT64_MAX - 511), -ERANGE);
	assert_int_equal(read_at(b, buf, 0, MIB(1)), 0);
	assert_int_equal(read_at(b, buf, 512, 1), -EINVAL);
	assert_int_equal(read_at(b, buf, 511, 0), -EINVAL);
	assert_int_equal(block_readv(b, huge, 2, 0), -EOVERFLOW);
	assert_int_equal(write_at(b, buf, 1024, MIB(1) - 512), -ERANGE);
	assert_int_equal(block_discard(b, MIB(1), 512), -ERANGE);
	assert_int_equal(block_discard(b, 512, UINT64_MAX - 511), -ERANGE);
	assert_int_equal(block_write_zeroes(b, 0, MIB(1) + 512, true), -ERANGE);
	block_close(b);
}

static void test_read_only(void **state _unused_)
{
	uint8_t buf[1024];

	close(new_file("r", 1000));
	assert_int_equal(sh("yes | head -c 1000 >r"), 0);
	struct block *b = open_raw("r", O_RDONLY);
	assert_true(b->read_only);
	assert_int_equal(b->size, 1024);
	assert_int_equal(write_at(b, buf, 512, 0), -EROFS);
	assert_int_equal(block_discard(b, 0, 512), -EROFS);
	assert_int_equal(block_write_zeroes(b, 0, 512, true), -EROFS);
	assert_int_equal(block_flush(b), 0);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(read_at(b, buf, 1024, 0), 0);
	assert_int_equal(buf[999], '\n');
	for (int i = 1000; i < 1024; i++)
		assert_int_equal(buf[i], 0);
	/* Bytes that were there are not made up when they are gone. */
	assert_int_equal(truncate(at("r"), 600), 0);
	assert_int_equal(read_at(b, buf, 512, 0), 0);
	assert_int_equal(read_at(b, buf, 512, 512), -EIO);
	block_close(b);
}

static void refused(int fd, int code)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b = NULL;

	assert_int_equal(raw_open(fd, BLOCK_SYNC, &b, &err), code);
	assert_null(b);
	assert_true(err.msg[0]);
	close(fd);
}

static void test_refused(void **state _unused_)
{
	int p[2];

	close(new_file("r", 1000));
	refused(open_file("r", O_RDWR), VIAL_E_INVALID);
	refused(open_file("r", O_WRONLY), VIAL_E_DENIED);
	close(new_file("r", 1024));
	refused(open_file("r", O_RDWR | O_APPEND), VIAL_E_DENIED);
	close(new_file("r", 0));
	refused(open_file("r", O_RDONLY), VIAL_E_INVALID);
	refused(open("/dev/null", O_RDWR | O_CLOEXEC), VIAL_E_IO);
	refused(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), VIAL_E_IO);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	refused(p[0], VIAL_E_IO);
	close(p[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, make_dir_on_disk, remove_dir);
}
