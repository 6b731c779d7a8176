// SPDX-License-Identifier: Apache-2.0
// Reading and writing MSRs through KVM.
#include "vmm/x86/msrs.h"

#include <errno.h>
#include <string.h>

#include "base/attr.h"

_Static_assert(sizeof(struct msr) == sizeof(struct kvm_msr_entry), "arrays of them are handed to KVM");

/* As KVM wants them: a head, then the entries. */
union batch {
	struct kvm_msrs head;
	uint8_t room[sizeof(struct kvm_msrs) + MSRS_MAX * sizeof(struct msr)];
};

/* Ranges that are not state of our guests: performance counters (not shown to them), Hyper-V's, nested VMX. */
static const struct {
	uint32_t first, last;
} never[] = {
	{ 0xc1, 0xc8 },
	{ 0x186, 0x18d },
	{ 0x309, 0x30c },
	{ 0x345, 0x345 },
	{ 0x38d, 0x390 },
	{ 0x480, 0x493 },
	{ 0x4b564d02, 0x4b564d02 }, /* asynchronous page faults */
	{ 0x4b564d06, 0x4b564d07 },
	{ 0x40000000, 0x400001ff },
	{ 0xc0000300, 0xc0000302 },
	{ 0xc0010000, 0xc0010007 },
	{ 0xc0010200, 0xc001020b },
};

static bool is_state(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		if (index >= never[i].first && index <= never[i].last)
			return false;
	return true;
}

int msr_list_host(const struct kvm *k, struct msr_list *ret)
{
	union {
		struct kvm_msr_list head;
		uint32_t room[1 + MSRS_MAX];
	} all = { .head.nmsrs = MSRS_MAX };
	int r = kvm_call(k, k->fd, KVM_GET_MSR_INDEX_LIST, &all);

	if (r < 0)
		return r;
	ret->n = 0;
	for (uint32_t i = 0; i < MIN(all.head.nmsrs, (uint32_t)MSRS_MAX); i++)
		if (is_state(all.room[1 + i]))
			ret->index[ret->n++] = all.room[1 + i];
	return 0;
}

bool msr_list_has(const struct msr_list *l, uint32_t index)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->index[i] == index)
			return true;
	return false;
}

static int call(const struct vcpu *v, unsigned long req, union batch *b, const struct msr *m, size_t n)
{
	memset(&b->head, 0, sizeof(b->head));
	b->head.nmsrs = (uint32_t)n;
	memcpy(b->room + sizeof(b->head), m, n * sizeof(*m));
	return kvm_call(&v->vm->kvm, v->fd, req, b);
}

int msrs_get(const struct vcpu *v, const struct msr_list *l, struct msr *ret)
{
	union batch b;
	size_t got = 0, next = 0;

	/* KVM stops at the first it cannot read (this CPU lacks it, say): leave that one out and go on behind it. */
	while (next < l->n) {
		size_t n = l->n - next;

		for (size_t i = 0; i < n; i++)
			ret[got + i] = (struct msr){ .index = l->index[next + i] };
		int r = call(v, KVM_GET_MSRS, &b, ret + got, n);
		if (r < 0)
			return r;
		memcpy(ret + got, b.room + sizeof(b.head), (size_t)r * sizeof(*ret));
		got += (size_t)r;
		next += (size_t)r + 1;
	}
	return (int)got;
}

int msrs_set(const struct vcpu *v, const struct msr *m, size_t n)
{
	union batch b;

	return n > MSRS_MAX ? -E2BIG : call(v, KVM_SET_MSRS, &b, m, n);
}
