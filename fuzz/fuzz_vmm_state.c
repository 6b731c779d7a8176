// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile machine state file, past its digest. Input: a byte for the number of memory files, then the file's TLV list. What
 * the parser lets through must be whole: a map covers exactly the memory with files that are there, and every page shows the file
 * that it names; vCPUs' parts reach KVM (played here) in sizes it can read, and what is saved of such a vCPU can be
 * loaded again; a CPU table is comparable.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/snapshot/vcpu_state.h"

#define PAGES_MAX (1u << 20) /* of maps that are looked at page by page */
#define XSAVE	  4096

/* What is mapped, and what is read, so that a run stays short */
#define MAPPED_MAX  MIB(64)
#define LAYERS_MAX  4
#define EXTENTS_MAX 64
#define READ_MAX    256 /* pages */

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
	case KVM_GET_MSRS: {
		struct kvm_msrs *m = arg;

		FUZZ_CHECK(m->nmsrs > 0 && m->nmsrs <= MSRS_MAX);
		if (m->entries[0].index == MSR_TSC_DEADLINE)
			return 0; /* this CPU lacks it */
		m->entries[0].data = 7;
		return 1;
	}
	default:
		read_all(arg, req >> 16 & 0x3fff); /* _IOC_SIZE */
		return 0;
	}
}

/* shows() - each extent's first page is its file's */
static void shows(const struct memmap *map, const struct gmem *mem)
{
	for (size_t i = 0; i < map->n; i++)
		FUZZ_CHECK(mem->base[map->e[i].page * GMEM_PAGE] == map->e[i].layer);
}

/* check_memory() - make memory of the map: files whose pages hold the layer's number */
static void check_memory(const struct memmap *map, uint64_t bytes)
{
	int fds[LAYERS_MAX] = { -1, -1, -1, -1 };
	uint64_t filed = 0;
	struct gmem mem;

	if (bytes > MAPPED_MAX || map->layers > LAYERS_MAX || map->n > EXTENTS_MAX ||
	    gmem_new_anon(&mem, bytes) < 0)
		return;
	for (uint32_t l = 0; l < map->layers; l++) {
		fds[l] = memfd_create("layer", MFD_CLOEXEC);
		FUZZ_CHECK(fds[l] >= 0 && ftruncate(fds[l], (off_t)bytes) == 0);
	}
	for (size_t i = 0; i < map->n; i++) {
		uint8_t layer = (uint8_t)map->e[i].layer;

		if (layer)
			FUZZ_CHECK(pwrite(fds[layer - 1], &layer, 1, (off_t)(map->e[i].page * GMEM_PAGE)) ==
				   1);
		filed += layer ? map->e[i].n : 0;
	}
	FUZZ_CHECK(memmap_apply(map, &mem, fds) == 0);
	shows(map, &mem);
	gmem_done(&mem);
	FUZZ_CHECK(gmem_new_anon(&mem, bytes) == 0);
	if (filed <= READ_MAX) {
		FUZZ_CHECK(memmap_read(map, &mem, fds) == 0);
		shows(map, &mem);
	}
	/* A file that is too short is found before anything is mapped. */
	if (map->layers > 0)
		FUZZ_CHECK(ftruncate(fds[0], 1) == 0 && memmap_apply(map, &mem, fds) == -ENODATA);
	gmem_done(&mem);
	for (uint32_t l = 0; l < map->layers; l++)
		close(fds[l]);
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
	check_memory(&map, s->memory);
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
	for (uint32_t i = 0; i < s->n_vcpus; i++) {
		_cleanup_buf_ struct buf out = { 0 };
		/* By itself: reading past it is seen. */
		_cleanup_free_ uint8_t *alone = malloc(s->vcpus[i].n + 1);

		FUZZ_CHECK(alone != NULL);
		memcpy(alone + 1, s->vcpus[i].p, s->vcpus[i].n);
		if (vcpu_load(&v, &msrs, alone + 1, s->vcpus[i].n) < 0)
			continue;
		FUZZ_CHECK(vcpu_save(&v, &msrs, &out) == 0);
		FUZZ_CHECK(vcpu_load(&v, &msrs, out.data, out.len) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct buf b = { 0 };
	char brand[CPUID_BRAND];
	static bool small_pages;
	struct saved s;

	/* Huge pages make guests fast; here each would be cleared for one byte. */
	if (!small_pages)
		small_pages = prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0;
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
