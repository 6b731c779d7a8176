// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <string.h>

#include "agent/modules.h"

static const char dep[] = "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n"
			  "no colon here\n"
			  "kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/a/virtio.ko kernel/b/virtio_ring.ko\n"
			  "kernel/x/virtio_blk_more.ko:\n"
			  "virtio.ko:\n"
			  "kernel/x/last.ko:";

static void is(const char *name, const char *line)
{
	const char *p;
	size_t n;

	assert_int_equal(modules_dep_find(dep, name, &p, &n), 0);
	assert_int_equal(n, strlen(line));
	assert_memory_equal(p, line, n);
}

static void found(void **state)
{
	(void)state;
	is("erofs", "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko");
	is("virtio_rng", "kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/a/virtio.ko kernel/b/virtio_ring.ko");
	is("virtio", "virtio.ko:");
	is("last", "kernel/x/last.ko:");
}

static void not_found(void **state)
{
	static const char *const names[] = { "virtio_blk", "libcrc32c", "ero", "no colon here", "", "ko" };
	const char *p;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(modules_dep_find(dep, names[i], &p, &n), -ENOENT);
	assert_int_equal(modules_dep_find("", "x", &p, &n), -ENOENT);
	assert_int_equal(modules_dep_find(":\n::\n.ko:\n/:", "x", &p, &n), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(found), cmocka_unit_test(not_found) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
