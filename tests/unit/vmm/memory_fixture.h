/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory for the tests of snapshots, with KVM's log played. */
#ifndef TEST_VMM_MEMORY_FIXTURE_H
#define TEST_VMM_MEMORY_FIXTURE_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

static inline void guest_writes(struct gmem *m, uint64_t page, char c)
{
	memset(m->base + page * GMEM_PAGE, c, GMEM_PAGE);
	kvm_log[page / 64] |= 1ULL << (page % 64);
}

static inline void use(struct gmem *m, const struct memmap *map, bool log)
{
	vm = (struct vm){ .mem = m, .kvm = { .call = fake_ioctl }, .fd = -1 };
	vm.n_slots = memory_slots(map, m, log, vm.slots);
	memset(kvm_log, 0, sizeof(kvm_log));
	if (log)
		assert_int_equal(gmem_dirty_start(m), 0);
}

static inline int file(void)
{
	return memfd_create("t", MFD_CLOEXEC);
}

static inline void expect_same(const struct gmem *want, const struct memmap *map, const int *fds)
{
	struct gmem got;

	assert_int_equal(gmem_new_anon(&got, SIZE), 0);
	assert_int_equal(memmap_apply(map, &got, fds), 0);
	assert_memory_equal(want->base, got.base, SIZE);
	gmem_done(&got);
}

/* restored - memory over @fds as @map says, with a log */
static inline void restored(struct gmem *m, const struct memmap *map, const int *fds)
{
	assert_int_equal(gmem_new_anon(m, SIZE), 0);
	assert_int_equal(memmap_apply(map, m, fds), 0);
	use(m, map, true);
}

static inline void base(struct memmap *map, int fd)
{
	_cleanup_(memmap_done) struct memmap anon = { 0 };
	struct gmem m;

	assert_int_equal(gmem_new_anon(&m, SIZE), 0);
	memmap_add(&anon, PAGES, 0);
	memset(m.base, 'b', MIB(4)); /* pages 0 to 1023; the rest is nothing */
	assert_int_equal(memory_write_all(&m, &anon, fd, map), 0);
	gmem_done(&m);
}

#endif
