// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile machine state file, past its digest. Input: a byte for the number of memory files, then the file's TLV list. What
 * the parser lets through must be whole: a map covers exactly the memory with files that are there; vCPUs' parts
 * reach KVM (played here) in sizes it can read; a CPU table is comparable.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/snapshot/vcpu_state.h"

#define PAGES_MAX (1u << 20) /* of maps that are looked at page by page */
#define XSAVE	  4096

static volatile uint8_t sink;

/* read_all() - as the kernel would: the sanitizer sees a length that is too short */
static void read_all(const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sink ^= ((const uint8_t *)p)[i];
}

static int fake_kvm(int fd, unsigned long req, void *arg)
{
	(void)fd;
	switch (req) {
	case KVM_SET_XSAVE:
		read_all(arg, XSAVE);
		return 0;
	case KVM_SET_MSRS: {
		const struct kvm_msrs *m = arg;

		FUZZ_CHECK(m->nmsrs <= MSRS_MAX);
		read_all(m->entries, m->nmsrs * sizeof(m->entries[0]));
		return m->nmsrs && m->entries[0].data == 13 ? 0 : (int)m->nmsrs; /* some are refused */
	}
	default:
		read_all(arg, req >> 16 & 0x3fff); /* _IOC_SIZE */
		return 0;
	}
}

static void check_map(const struct saved *s, uint32_t layers)
{
	struct memmap map = { 0 };
	uint64_t pages = s->memory / GMEM_PAGE, next = 0;

	if (memmap_load(&map, s->map.p, s->map.n, pages, layers) < 0)
		return;
	for (size_t i = 0; i < map.n; i++) {
		FUZZ_CHECK(map.e[i].page == next && map.e[i].n > 0 && map.e[i].layer <= layers);
		FUZZ_CHECK(memmap_layer(&map, next) == map.e[i].layer);
		next += map.e[i].n;
	}
	FUZZ_CHECK(next == pages);
	if (pages > 4 && pages <= PAGES_MAX) {
		struct memmap_extent over[] = { { 1, 1, layers + 1 }, { (pages - 1), 1, layers + 1 } };
		struct memmap both = { 0 };

		FUZZ_CHECK(memmap_overlay(&map, over, 2, &both) == 0 || map.n + 3 > MEMMAP_EXTENTS_MAX);
		FUZZ_CHECK(map.n + 3 > MEMMAP_EXTENTS_MAX || memmap_layer(&both, 1) == layers + 1);
		memmap_done(&both);
	}
	memmap_done(&map);
}

static void check_vcpus(const struct saved *s)
{
	static struct vm vm;
	static const struct msr_list msrs = { .n = 3, .index = { MSR_TSC, MSR_TSC_DEADLINE, 0x174 } };
	struct vcpu v = { .vm = &vm };

	vm.kvm = (struct kvm){ .call = fake_kvm, .xsave_size = XSAVE, .xcrs = s->n_vcpus & 1 };
	for (uint32_t i = 0; i < s->n_vcpus; i++)
		(void)vcpu_load(&v, &msrs, s->vcpus[i].p, s->vcpus[i].n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct buf b = { 0 };
	char brand[CPUID_BRAND];
	struct saved s;

	if (size == 0)
		return 0;
	state_begin(&b);
	buf_append(&b, data + 1, size - 1);
	FUZZ_CHECK(state_end(&b) == 0);
	if (saved_parse(b.data, b.len, &s, &err) < 0) {
		FUZZ_CHECK(err.msg[0]);
		return 0;
	}
	FUZZ_CHECK(s.n_vcpus <= VM_VCPUS_MAX && s.cpuid.n <= CPUID_MAX);
	check_map(&s, data[0] % MEMMAP_LAYERS_MAX);
	check_vcpus(&s);
	cpuid_brand(&s.cpuid, brand);
	FUZZ_CHECK(cpuid_usable(&s.cpuid, &s.cpuid, NULL) <= 0);
	saved_done(&s);
	return 0;
}
