// SPDX-License-Identifier: Apache-2.0
// What is written of changed memory, ahead and while the guest stands, and that a machine made of it sees the same bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory_fixture.h"
#include "vmm/snapshot/delta.h"

static struct delta none; /* nothing is written ahead */

static void test_changed(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file();
	int fds[] = { fd0, fd1 };
	struct gmem m;
	struct stat st;

	(void)state;
	base(&map, fd0);
	restored(&m, &map, fds);
	guest_writes(&m, 3, 'x');
	guest_writes(&m, 700, 0);    /* zeros over bytes */
	guest_writes(&m, 5000, 'y'); /* in what was nothing: no log needed */
	assert_int_equal(gmem_write(&m, gpa(900 * GMEM_PAGE), "dev", 3), 0); /* a device */
	assert_int_equal(delta_write(&vm, &map, &none, fd1, &out), 0);
	assert_int_equal(out.layers, 2);
	assert_int_equal(memmap_layer(&out, 3), 2);
	assert_int_equal(memmap_layer(&out, 200), 1);
	assert_int_equal(fstat(fd1, &st), 0);
	assert_true(st.st_blocks * 512 <= 64 * 1024);
	expect_same(&m, &out, fds);
	/* Saved again without going over to it, the same changes are there still. */
	_cleanup_(memmap_done) struct memmap again = { 0 };
	_cleanup_fd_ int fd2 = file();
	assert_int_equal(delta_write(&vm, &map, &none, fd2, &again), 0);
	fds[1] = fd2;
	expect_same(&m, &again, fds);
	gmem_done(&m);
}

/* A stretch that was read into anonymous memory: as long as nobody writes there, it is not written out again. */
static void test_filled(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, around = { 0 };
	const struct memmap_extent filled = { 512, 512, 0 };
	_cleanup_fd_ int fd0 = file();
	struct gmem m;

	(void)state;
	base(&map, fd0);
	assert_int_equal(memmap_overlay(&map, &filled, 1, &around), 0);
	for (int changed = 0; changed < 2; changed++) {
		_cleanup_(memmap_done) struct memmap out = { 0 };
		_cleanup_fd_ int fd1 = file();
		int fds[] = { fd0, fd1 };
		struct stat st;

		assert_int_equal(gmem_new_anon(&m, SIZE), 0);
		assert_int_equal(memmap_apply(&around, &m, fds), 0);
		m.origin = mmap(NULL, MIB(2), PROT_READ, MAP_PRIVATE, fd0, MIB(2));
		assert_true(m.origin != MAP_FAILED);
		m.origin_off = m.origin_len = MIB(2);
		m.origin_layer = 1;
		memcpy(m.base + MIB(2), m.origin, MIB(2));
		use(&m, &around, true);
		guest_writes(&m, 3, 'x');
		m.base[MIB(2) + 7] = changed ? 'c' : 'b';
		assert_int_equal(delta_write(&vm, &around, &none, fd1, &out), 0);
		assert_int_equal(memmap_layer(&out, 512), changed ? 2 : 1);
		assert_int_equal(fstat(fd1, &st), 0);
		assert_int_equal(st.st_blocks * 512 >= (blkcnt_t)MIB(2), changed);
		expect_same(&m, &out, fds);
		/* Once it goes on over the file, a log tells what changes there. */
		assert_int_equal(memory_remap(&vm, &out, fd1), 0);
		for (size_t i = 0; i < vm.n_slots; i++)
			assert_true(vm.slots[i].log || vm.slots[i].off != MIB(2));
		gmem_done(&m);
	}
}

static void test_remap_and_go_on(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, one = { 0 }, two = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file(), fd2 = file();
	int fds[] = { fd0, fd1, fd2 };
	struct gmem m;

	(void)state;
	base(&map, fd0);
	restored(&m, &map, fds);
	guest_writes(&m, 3, 'x');
	guest_writes(&m, 5000, 'y');
	assert_int_equal(delta_write(&vm, &map, &none, fd1, &one), 0);
	slot_calls = 0;
	assert_int_equal(memory_remap(&vm, &one, fd1), 0);
	assert_true(slot_calls > 0); /* the long anonymous stretch has a log from now on */
	assert_int_equal(m.base[3 * GMEM_PAGE], 'x');
	assert_int_equal(m.base[5000 * GMEM_PAGE], 'y');
	guest_writes(&m, 4, 'z');
	guest_writes(&m, 5000, 'w');
	assert_int_equal(delta_write(&vm, &one, &none, fd2, &two), 0);
	assert_int_equal(two.layers, 3);
	assert_int_equal(memmap_layer(&two, 3), 2);
	assert_int_equal(memmap_layer(&two, 5000), 3);
	expect_same(&m, &two, fds);
	char c;
	assert_int_equal(pread(fd1, &c, 1, 5000 * (off_t)GMEM_PAGE), 1);
	assert_int_equal(c, 'y'); /* what the children see did not change */
	gmem_done(&m);
}

/* Going over to a file that cannot be mapped: the next one must hold all that differs from the older files still. */
static void test_remap_fails(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, one = { 0 }, two = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file(), fd2 = file();
	int fds[] = { fd0, fd2 };
	struct gmem m;

	(void)state;
	base(&map, fd0);
	restored(&m, &map, fds);
	guest_writes(&m, 3, 'x');
	assert_int_equal(delta_write(&vm, &map, &none, fd1, &one), 0);
	assert_true(memory_remap(&vm, &one, -1) < 0);
	guest_writes(&m, 4, 'z');
	assert_int_equal(delta_write(&vm, &map, &none, fd2, &two), 0);
	expect_same(&m, &two, fds);
	gmem_done(&m);
}

static void test_scattered(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file();
	int fds[] = { fd0, fd1 };
	struct gmem m;

	(void)state;
	assert_int_equal(ftruncate(fd0, SIZE), 0);
	memmap_add(&map, PAGES, 1);
	restored(&m, &map, fds);
	for (uint64_t p = 0; p < PAGES; p += 2)
		guest_writes(&m, p, 's');
	assert_int_equal(delta_write(&vm, &map, &none, fd1, &out), 0);
	assert_true(out.n < 16); /* joined, not thousands of mappings */
	expect_same(&m, &out, fds);
	gmem_done(&m);
}

static void test_too_scattered(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file(), fd2 = file();
	int fds[] = { fd0, fd1, fd2 };
	struct gmem m;

	(void)state;
	assert_int_equal(ftruncate(fd0, SIZE) | ftruncate(fd1, SIZE), 0);
	assert_int_equal(pwrite(fd1, "old", 3, GMEM_PAGE), 3);
	for (uint64_t p = 0; p < PAGES; p++) /* as after forks without end */
		assert_int_equal(memmap_add(&map, 1, p & 1 ? 2 : 1), 0);
	restored(&m, &map, fds);
	for (uint64_t p = 2; p < PAGES; p += 2)
		guest_writes(&m, p, p % 3 ? 's' : 0);
	assert_int_equal(delta_write(&vm, &map, &none, fd2, &out), 0);
	assert_true(out.n < 32);
	assert_int_equal(out.layers, 3);
	expect_same(&m, &out, fds);
	gmem_done(&m);
}

/* written - KiB of @fd that are no hole */
static int64_t written(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_blocks / 2;
}

/* A machine over @fd0 in which much has changed, and a delta of it that is begun. */
static void begun(struct gmem *m, struct memmap *map, struct delta *d, int fd0, int fd)
{
	base(map, fd0);
	restored(m, map, &fd0);
	for (uint64_t p = 0; p < 300; p++)
		guest_writes(m, p, 'x');
	for (uint64_t p = 4096; p < 5120; p++)
		guest_writes(m, p, 'y');
	assert_int_equal(delta_begin(d, &vm, map, fcntl(fd, F_DUPFD_CLOEXEC, 0)), 0);
	for (size_t i = 0; i < vm.n_slots; i++)
		assert_true(vm.slots[i].log); /* what is anonymous is watched, too */
}

static void test_ahead(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file();
	int fds[] = { fd0, fd1 };
	struct delta d = { 0 };
	struct gmem m;

	(void)state;
	begun(&m, &map, &d, fd0, fd1);
	while (delta_step(&d, &m, 64) > 0)
		;
	assert_false(delta_round(&d, &vm)); /* nothing has changed since */
	int64_t before = written(fd1);
	assert_true(before >= (300 + 1024) * 4);
	guest_writes(&m, 7, 'z');    /* copied already */
	guest_writes(&m, 8, 0);	     /* copied, and zeros now */
	guest_writes(&m, 600, 'n');  /* not looked at until now: a file's … */
	guest_writes(&m, 9000, 'n'); /* … and what was nothing */
	assert_int_equal(gmem_write(&m, gpa(4097 * GMEM_PAGE), "dev", 3), 0);
	assert_int_equal(delta_write(&vm, &map, &d, fd1, &out), 0);
	assert_in_range(written(fd1) - before, 8, 64); /* the rest only */
	assert_int_equal(memmap_layer(&out, 600), 2);
	assert_int_equal(memmap_layer(&out, 9000), 2);
	assert_int_equal(memmap_layer(&out, 700), 1);
	assert_int_equal(memmap_layer(&out, 12000), 0);
	expect_same(&m, &out, fds);
	assert_int_equal(memory_remap(&vm, &out, fd1), 0);
	delta_done(&d);
	guest_writes(&m, 5, 'q');
	assert_int_equal(m.base[8 * GMEM_PAGE], 0);
	assert_int_equal(m.base[9000 * GMEM_PAGE], 'n');
	gmem_done(&m);
}

/* The guest writes without end: rounds do not, and what is left is written at last. */
static void test_rounds_end(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file();
	int fds[] = { fd0, fd1 }, rounds = 0;
	struct delta d = { 0 };
	struct gmem m;

	(void)state;
	begun(&m, &map, &d, fd0, fd1);
	do {
		for (uint64_t p = 0; p < 600; p++)
			guest_writes(&m, p, (char)('a' + rounds));
		while (delta_step(&d, &m, 64) > 0)
			;
	} while (delta_round(&d, &vm) && ++rounds < 100);
	assert_int_equal(rounds, 1); /* the next would have as much to do */
	assert_int_equal(delta_write(&vm, &map, &d, fd1, &out), 0);
	expect_same(&m, &out, fds);
	delta_drop(&d, &m);
	gmem_done(&m);
}

/* In the middle of a round the machine is paused: what was found and not copied is not forgotten. */
static void test_ahead_cut_short(void **state)
{
	for (int steps = 0; steps < 3; steps++) {
		_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
		_cleanup_fd_ int fd0 = file(), fd1 = file();
		int fds[] = { fd0, fd1 };
		struct delta d = { 0 };
		struct gmem m;

		begun(&m, &map, &d, fd0, fd1);
		for (int i = 0; i < steps; i++)
			assert_int_equal(delta_step(&d, &m, 200), 1);
		guest_writes(&m, 5, 'z');
		assert_int_equal(delta_write(&vm, &map, &d, fd1, &out), 0);
		expect_same(&m, &out, fds);
		delta_drop(&d, &m);
		gmem_done(&m);
	}
	(void)state;
}

/* The snapshot does not come, or goes to another file: all counts as changed again. */
static void test_ahead_dropped(void **state)
{
	for (int through = 0; through < 2; through++) {
		_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
		_cleanup_fd_ int fd0 = file(), fd1 = file(), fd2 = file();
		int fds[] = { fd0, fd2 };
		struct delta d = { 0 };
		struct gmem m;

		begun(&m, &map, &d, fd0, fd1);
		while (through && delta_step(&d, &m, 64) > 0)
			;
		guest_writes(&m, 5000, 0);
		delta_drop(&d, &m);
		assert_null(d.copied);
		assert_int_equal(delta_write(&vm, &map, &d, fd2, &out), 0);
		expect_same(&m, &out, fds);
		gmem_done(&m);
	}
	(void)state;
}

/* Written ahead, and then too scattered after all: the file is written anew, without what stood in it. */
static void test_ahead_then_scattered(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd0 = file(), fd1 = file(), fd2 = file();
	int fds[] = { fd0, fd1, fd2 };
	struct delta d = { 0 };
	struct gmem m;

	(void)state;
	assert_int_equal(ftruncate(fd0, SIZE) | ftruncate(fd1, SIZE), 0);
	for (uint64_t p = 0; p < PAGES; p++)
		assert_int_equal(memmap_add(&map, 1, p & 1 ? 2 : 1), 0);
	restored(&m, &map, fds);
	guest_writes(&m, 9, 'w');
	assert_int_equal(delta_begin(&d, &vm, &map, fcntl(fd2, F_DUPFD_CLOEXEC, 0)), 0);
	assert_int_equal(delta_step(&d, &m, 64), 0);
	guest_writes(&m, 9, 0);
	for (uint64_t p = 2; p < PAGES; p += 2)
		guest_writes(&m, p, p % 3 ? 's' : 0);
	assert_int_equal(delta_write(&vm, &map, &d, fd2, &out), 0);
	assert_true(out.n < 32);
	expect_same(&m, &out, fds);
	delta_drop(&d, &m);
	gmem_done(&m);
}

/* Memory that was filled from a file: written once it changes, not before. */
static void test_ahead_filled(void **state)
{
	for (int changed = 0; changed < 3; changed++) {
		_cleanup_(memmap_done) struct memmap map = { 0 }, around = { 0 }, out = { 0 };
		const struct memmap_extent hole = { 512, 512, 0 };
		_cleanup_fd_ int fd0 = file(), fd1 = file();
		int fds[] = { fd0, fd1 };
		struct delta d = { 0 };
		struct gmem m;

		base(&map, fd0);
		assert_int_equal(memmap_overlay(&map, &hole, 1, &around), 0);
		assert_int_equal(gmem_new_anon(&m, SIZE), 0);
		assert_int_equal(memmap_apply(&around, &m, fds), 0);
		m.origin = mmap(NULL, MIB(2), PROT_READ, MAP_PRIVATE, fd0, MIB(2));
		m.origin_off = m.origin_len = MIB(2);
		m.origin_layer = 1;
		memcpy(m.base + MIB(2), m.origin, MIB(2));
		use(&m, &around, true);
		if (changed == 1)
			guest_writes(&m, 600, 'a');
		assert_int_equal(delta_begin(&d, &vm, &around, fcntl(fd1, F_DUPFD_CLOEXEC, 0)), 0);
		while (delta_step(&d, &m, 64) > 0)
			;
		if (changed == 2)
			guest_writes(&m, 700, 'b');
		assert_int_equal(delta_write(&vm, &around, &d, fd1, &out), 0);
		assert_int_equal(memmap_layer(&out, 512), changed ? 2 : 1);
		expect_same(&m, &out, fds);
		delta_drop(&d, &m);
		gmem_done(&m);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_remap_and_go_on),
		cmocka_unit_test(test_scattered),
		cmocka_unit_test(test_too_scattered),
		cmocka_unit_test(test_filled),
		cmocka_unit_test(test_remap_fails),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_rounds_end),
		cmocka_unit_test(test_ahead_cut_short),
		cmocka_unit_test(test_ahead_dropped),
		cmocka_unit_test(test_ahead_then_scattered),
		cmocka_unit_test(test_ahead_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
