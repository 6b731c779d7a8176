// SPDX-License-Identifier: Apache-2.0
// The parts of building that need no machine: kernels, the stub, the initrd.
#include "test.h"

#include "engine/template.h"

static int check_bytes(const uint8_t *p, size_t n, struct vial_err *err)
{
	_cleanup_fd_ int fd = fd_memfd("kernel", p, n);

	*err = (struct vial_err)VIAL_ERR_INIT;
	assert_true(fd >= 0);
	return kernel_check(fd, "some/vmlinuz", err);
}

static void test_kernel_check(void **state _unused_)
{
	uint8_t image[1024] = { 0 };
	struct vial_err err;

	assert_int_equal(check_bytes(image, sizeof(image), &err), VIAL_E_INVALID);
	assert_non_null(strstr(err.msg, "kernel 'some/vmlinuz': not a Linux kernel"));
	assert_int_equal(check_bytes(image, 0, &err), VIAL_E_INVALID);
	memcpy(image + 0x202, "HdrS", 4);
	assert_int_equal(check_bytes(image, sizeof(image), &err), VIAL_E_INVALID);
	assert_non_null(strstr(err.msg, "not a 64-bit"));
	image[0x236] = 1;
	assert_int_equal(check_bytes(image, sizeof(image), &err), 0);
	assert_int_equal(check_bytes(image, 0x237, &err), VIAL_E_INVALID); /* cut */
	memset(image, 0, sizeof(image));
	memcpy(image, "\177ELF\2\1", 6);
	assert_int_equal(check_bytes(image, sizeof(image), &err), 0);
	image[4] = 1; /* 32 bits */
	assert_int_equal(check_bytes(image, sizeof(image), &err), VIAL_E_INVALID);
	assert_true(kernel_check(-1, "gone", NULL) < 0);
}

static void test_stub(void **state _unused_)
{
	_cleanup_fd_ int fd = template_kernel_stub();
	uint8_t stub[9000];
	ssize_t n;

	assert_true(fd >= 0);
	n = pread(fd, stub, sizeof(stub), 0);
	/* The boot protocol's header: setup sectors, magic, version, loaded high; more than its setup. */
	assert_true(n > 512 * (1 + stub[0x1f1]));
	assert_memory_equal(stub + 0x202, "HdrS", 4);
	assert_int_equal(stub[0x206] | stub[0x207] << 8, 0x020c);
	assert_int_equal(stub[0x211] & 1, 1);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
}

static void test_initrd(void **state _unused_)
{
	struct template_spec s = { .initrd_fds = { fd_memfd("a", "abcde", 5), fd_memfd("b", "four", 4),
						   fd_memfd("c", "", 0), fd_memfd("d", "x", 1) },
				   .n_initrd = 4 };
	_cleanup_fd_ int fd = -1, again = -1;
	char all[64];

	/* Wherever the parts were read to before. */
	assert_int_equal(lseek(s.initrd_fds[0], 3, SEEK_SET), 3);
	fd = template_initrd(&s);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, all, sizeof(all), 0), 16);
	assert_memory_equal(all, "abcde\0\0\0fourx\0\0\0", 16);
	again = template_initrd(&s);
	assert_int_equal(pread(again, all, sizeof(all), 0), 16);
	for (size_t i = 0; i < 4; i++)
		close(s.initrd_fds[i]);
	s.initrd_fds[0] = -1;
	assert_int_equal(template_initrd(&s), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel_check),
		cmocka_unit_test(test_stub),
		cmocka_unit_test(test_initrd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
