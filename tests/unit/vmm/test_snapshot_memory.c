// SPDX-License-Identifier: Apache-2.0
// What is written of memory, and that a machine made of it sees the same bytes. KVM's log is played.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/snapshot/memory.h"

#define SIZE  MIB(64)
#define PAGES (SIZE / GMEM_PAGE)

static uint64_t kvm_log[PAGES / 64]; /* as KVM would keep it, for the whole memory */
static int slot_calls;
static struct vm vm;

static int fake_ioctl(int fd, unsigned long req, void *arg)
{
	(void)fd;
	if (req == KVM_GET_DIRTY_LOG) {
		struct kvm_dirty_log *log = arg;
		const struct vm_slot *s = &vm.slots[log->slot];

		for (uint64_t p = 0; p < s->len / GMEM_PAGE; p++) {
			uint64_t all = s->off / GMEM_PAGE + p;
			uint64_t bit = kvm_log[all / 64] >> (all % 64) & 1;

			((uint64_t *)log->dirty_bitmap)[p / 64] |= bit << (p % 64);
			kvm_log[all / 64] &= ~(1ULL << (all % 64));
		}
		return 0;
	}
	slot_calls += req == KVM_SET_USER_MEMORY_REGION;
	return 0;
}

static void guest_writes(struct gmem *m, uint64_t page, char c)
{
	memset(m->base + page * GMEM_PAGE, c, GMEM_PAGE);
	kvm_log[page / 64] |= 1ULL << (page % 64);
}

static void use(struct gmem *m, const struct memmap *map, bool log)
{
	vm = (struct vm){ .mem = m, .kvm = { .call = fake_ioctl }, .fd = -1 };
	vm.n_slots = memory_slots(map, m, log, vm.slots);
	memset(kvm_log, 0, sizeof(kvm_log));
	if (log)
		assert_int_equal(gmem_dirty_start(m), 0);
}

static int file(void)
{
	return memfd_create("t", MFD_CLOEXEC);
}

static void expect_same(const struct gmem *want, const struct memmap *map, const int *fds)
{
	struct gmem got;

	assert_int_equal(gmem_new_anon(&got, SIZE), 0);
	assert_int_equal(memmap_apply(map, &got, fds), 0);
	assert_memory_equal(want->base, got.base, SIZE);
	gmem_done(&got);
}

static void test_all(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 }, out = { 0 };
	_cleanup_fd_ int fd = file();
	struct gmem m;
	struct stat st;

	(void)state;
	assert_int_equal(gmem_new_anon(&m, SIZE), 0);
	memmap_add(&map, PAGES, 0);
	m.base[5 * GMEM_PAGE + 7] = 1;
	m.base[SIZE - 1] = 2;
	assert_int_equal(memory_write_all(&m, &map, fd, &out), 0);
	assert_int_equal(fstat(fd, &st), 0); /* before reading: that may fill holes of a memfd */
	assert_int_equal(st.st_size, SIZE);
	assert_true(st.st_blocks * 512 <= 64 * 1024); /* two pages of data, the rest holes */
	expect_same(&m, &out, &fd);
	assert_int_equal(memmap_layer(&out, 600), 0); /* nothing in that chunk: anonymous */
	assert_int_equal(memmap_layer(&out, 6), 1);
	gmem_done(&m);
}

static long page_faults(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return u.ru_minflt;
}

static void test_punch(void **state)
{
	_cleanup_(memmap_done) struct memmap out = { 0 };
	_cleanup_fd_ int fd = file();
	struct gmem m;
	struct stat st;
	long faults;

	(void)state;
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(gmem_new_file(&m, SIZE, fd, true), 0);
	memset(m.base, 1, MIB(4));
	memset(m.base + GMEM_PAGE, 0, MIB(4) - 2 * GMEM_PAGE); /* freed again */
	m.base[MIB(33)] = 3;
	m.base[SIZE - 1] = 4;
	faults = page_faults();
	assert_int_equal(memory_punch(&m, fd, &out), 0);
	assert_in_range(page_faults() - faults, 0, PAGES / 4); /* holes were not read */
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 <= 64 * 1024);
	assert_int_equal(memmap_layer(&out, 1), 1);
	assert_int_equal(memmap_layer(&out, MIB(4) / GMEM_PAGE), 0);
	assert_int_equal(memmap_layer(&out, MIB(33) / GMEM_PAGE), 1);
	assert_int_equal(memmap_layer(&out, PAGES - 1), 1);
	expect_same(&m, &out, &fd);
	gmem_done(&m);
}

/* restored - memory over @fds as @map says, with a log */
static void restored(struct gmem *m, const struct memmap *map, const int *fds)
{
	assert_int_equal(gmem_new_anon(m, SIZE), 0);
	assert_int_equal(memmap_apply(map, m, fds), 0);
	use(m, map, true);
}

static void base(struct memmap *map, int fd)
{
	_cleanup_(memmap_done) struct memmap anon = { 0 };
	struct gmem m;

	assert_int_equal(gmem_new_anon(&m, SIZE), 0);
	memmap_add(&anon, PAGES, 0);
	memset(m.base, 'b', MIB(4)); /* pages 0 to 1023; the rest is nothing */
	assert_int_equal(memory_write_all(&m, &anon, fd, map), 0);
	gmem_done(&m);
}

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
	assert_int_equal(memory_write_changed(&vm, &map, fd1, &out), 0);
	assert_int_equal(out.layers, 2);
	assert_int_equal(memmap_layer(&out, 3), 2);
	assert_int_equal(memmap_layer(&out, 200), 1);
	assert_int_equal(fstat(fd1, &st), 0);
	assert_true(st.st_blocks * 512 <= 64 * 1024);
	expect_same(&m, &out, fds);
	/* Saved again without going over to it, the same changes are there still. */
	_cleanup_(memmap_done) struct memmap again = { 0 };
	_cleanup_fd_ int fd2 = file();
	assert_int_equal(memory_write_changed(&vm, &map, fd2, &again), 0);
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
		assert_int_equal(memory_write_changed(&vm, &around, fd1, &out), 0);
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
	assert_int_equal(memory_write_changed(&vm, &map, fd1, &one), 0);
	slot_calls = 0;
	assert_int_equal(memory_remap(&vm, &one, fd1), 0);
	assert_true(slot_calls > 0); /* the long anonymous stretch has a log from now on */
	assert_int_equal(m.base[3 * GMEM_PAGE], 'x');
	assert_int_equal(m.base[5000 * GMEM_PAGE], 'y');
	guest_writes(&m, 4, 'z');
	guest_writes(&m, 5000, 'w');
	assert_int_equal(memory_write_changed(&vm, &one, fd2, &two), 0);
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
	assert_int_equal(memory_write_changed(&vm, &map, fd1, &one), 0);
	assert_true(memory_remap(&vm, &one, -1) < 0);
	guest_writes(&m, 4, 'z');
	assert_int_equal(memory_write_changed(&vm, &map, fd2, &two), 0);
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
	assert_int_equal(memory_write_changed(&vm, &map, fd1, &out), 0);
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
	assert_int_equal(memory_write_changed(&vm, &map, fd2, &out), 0);
	assert_true(out.n < 32);
	assert_int_equal(out.layers, 3);
	expect_same(&m, &out, fds);
	gmem_done(&m);
}

static void test_slots(void **state)
{
	_cleanup_(memmap_done) struct memmap map = { 0 };
	struct gmem m = { .size = 6ULL << 30 };
	struct vm_slot s[VM_SLOTS_MAX];
	uint64_t total = 0;

	(void)state;
	for (int i = 0; i < 40; i++) {
		memmap_add(&map, 512, 1);
		memmap_add(&map, 16384, 0); /* 64 MiB of nothing */
	}
	memmap_add(&map, m.size / GMEM_PAGE - 40 * (512 + 16384), 0);
	size_t n = memory_slots(&map, &m, true, s);
	assert_true(n <= VM_SLOTS_MAX);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(s[i].off, total);
		assert_true(s[i].off >= GMEM_LOW_MAX || s[i].off + s[i].len <= GMEM_LOW_MAX);
		for (uint64_t p = s[i].off; !s[i].log && p < s[i].off + s[i].len; p += MIB(2))
			assert_int_equal(memmap_layer(&map, p / GMEM_PAGE), 0);
		total += s[i].len;
	}
	assert_int_equal(total, m.size);
	assert_int_equal(memory_slots(&map, &m, false, s), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),	    cmocka_unit_test(test_punch),
		cmocka_unit_test(test_changed),	    cmocka_unit_test(test_remap_and_go_on),
		cmocka_unit_test(test_scattered),   cmocka_unit_test(test_too_scattered),
		cmocka_unit_test(test_filled),	    cmocka_unit_test(test_slots),
		cmocka_unit_test(test_remap_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
