// SPDX-License-Identifier: Apache-2.0
/*
 * Saving and restoring a vCPU.
 *
 * The order of restoring matters (KVM's api.rst and its source):
 *	sregs		first: modes decide how all else is checked; sets the APIC base
 *	XCRs, XSAVE	XCR0 before the state whose layout it describes
 *	regs, debugregs
 *	LAPIC		before the deadline MSR, which means nothing in another timer mode
 *	MSRs		the TSC first of them, then what counts in it; the deadline last
 *	MP state	after the LAPIC: it would be overwritten by pending INIT, SIPI
 *	events		last: pending exceptions, NMIs, interrupt shadow
 * Saving begins with the MP state, since asking for it lets KVM settle INIT and SIPI.
 */
#include "vmm/snapshot/vcpu_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum vcpu_tag {
	TAG_MP = 1,
	TAG_REGS,
	TAG_SREGS,
	TAG_XCRS,
	TAG_XSAVE,
	TAG_DEBUG,
	TAG_LAPIC,
	TAG_MSRS,
	TAG_EVENTS,
	TAGS_N,
};

/* The parts that are one structure and two ioctls, in the order of saving. */
static const struct part {
	uint16_t tag;
	uint16_t size;
	unsigned long get, set;
} parts[] = {
	{ TAG_MP, sizeof(struct kvm_mp_state), KVM_GET_MP_STATE, KVM_SET_MP_STATE },
	{ TAG_REGS, sizeof(struct kvm_regs), KVM_GET_REGS, KVM_SET_REGS },
	{ TAG_SREGS, sizeof(struct kvm_sregs), KVM_GET_SREGS, KVM_SET_SREGS },
	{ TAG_XCRS, sizeof(struct kvm_xcrs), KVM_GET_XCRS, KVM_SET_XCRS },
	{ TAG_DEBUG, sizeof(struct kvm_debugregs), KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS },
	{ TAG_LAPIC, sizeof(struct kvm_lapic_state), KVM_GET_LAPIC, KVM_SET_LAPIC },
	{ TAG_EVENTS, sizeof(struct kvm_vcpu_events), KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS },
};

#define PART_MAX sizeof(struct kvm_lapic_state)

static const uint16_t load_order[] = { TAG_SREGS, TAG_XCRS, TAG_XSAVE, TAG_REGS,  TAG_DEBUG,
				       TAG_LAPIC, TAG_MSRS, TAG_MP,    TAG_EVENTS };

static const struct part *part_of(uint16_t tag)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].tag == tag)
			return &parts[i];
	return NULL;
}

static bool wanted(const struct vcpu *v, uint16_t tag)
{
	return tag != TAG_XCRS || v->vm->kvm.xcrs;
}

static int save_xsave(struct vcpu *v, struct buf *out)
{
	const struct kvm *k = &v->vm->kvm;
	_cleanup_free_ void *area = calloc(1, k->xsave_size);
	bool two = k->xsave_size > sizeof(struct kvm_xsave);

	if (!area)
		return -ENOMEM;
	int r = kvm_call(k, v->fd, two ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area);
	if (r < 0)
		return r;
	tlv_put(out, TAG_XSAVE, area, k->xsave_size);
	return 0;
}

static int save_msrs(struct vcpu *v, const struct msr_list *l, struct buf *out)
{
	_cleanup_free_ struct msr *m = calloc(MSRS_MAX, sizeof(*m));

	if (!m)
		return -ENOMEM;
	int n = msrs_get(v, l, m);
	if (n < 0)
		return n;
	tlv_put(out, TAG_MSRS, m, (size_t)n * sizeof(*m));
	return 0;
}

int vcpu_save(struct vcpu *v, const struct msr_list *msrs, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		uint8_t part[PART_MAX] = { 0 };

		if (!wanted(v, parts[i].tag))
			continue;
		int r = kvm_call(&v->vm->kvm, v->fd, parts[i].get, part);
		if (r < 0)
			return r;
		tlv_put(out, parts[i].tag, part, parts[i].size);
	}
	int r = save_xsave(v, out);
	if (r == 0)
		r = save_msrs(v, msrs, out);
	return r < 0 ? r : buf_ok(out) ? 0 : -ENOMEM;
}

static int load_xsave(struct vcpu *v, const struct tlv *t)
{
	const struct kvm *k = &v->vm->kvm;
	_cleanup_free_ void *area = calloc(1, MAX(k->xsave_size, (uint32_t)t->n));

	if (!area)
		return -ENOMEM;
	memcpy(area, t->p, t->n);
	return kvm_call(k, v->fd, KVM_SET_XSAVE, area);
}

/* rank() - TSC before all, its deadline behind all */
static int rank(uint32_t index)
{
	return index == MSR_TSC ? 0 : index == MSR_TSC_DEADLINE ? 2 : 1;
}

static int load_msrs(struct vcpu *v, const struct msr_list *l, const struct tlv *t)
{
	_cleanup_free_ struct msr *m = calloc(MSRS_MAX, sizeof(*m));
	size_t n = t->n / sizeof(*m), done = 0, kept = 0;

	if (!m)
		return -ENOMEM;
	if (t->n % sizeof(*m) || n > MSRS_MAX)
		return -EBADMSG;
	for (int want = 0; want <= 2; want++)
		for (size_t i = 0; i < n; i++) {
			struct msr one;

			memcpy(&one, t->p + i * sizeof(one), sizeof(one));
			one.reserved = 0;
			if (rank(one.index) == want && msr_list_has(l, one.index))
				m[kept++] = one;
		}
	/* One that KVM refuses may hold what it holds anyway on this host: zero. Anything else is an error. */
	while (done < kept) {
		int r = msrs_set(v, m + done, kept - done);
		if (r < 0)
			return r;
		done += (size_t)r;
		if (done < kept && m[done++].value != 0)
			return -EINVAL;
	}
	return 0;
}

static int load_part(struct vcpu *v, const struct msr_list *msrs, const struct tlv *t)
{
	const struct part *part = part_of(t->tag);
	uint8_t copy[PART_MAX];

	if (t->tag == TAG_XSAVE)
		return load_xsave(v, t);
	if (t->tag == TAG_MSRS)
		return load_msrs(v, msrs, t);
	memcpy(copy, t->p, part->size); /* aligned */
	return kvm_call(&v->vm->kvm, v->fd, part->set, copy);
}

/* split() - the list into @ret, by tag; each must be there once, with the right size */
static int split(const struct vcpu *v, const void *p, size_t n, struct tlv ret[TAGS_N])
{
	struct tlv_in in = { p, n };
	struct tlv t;
	int r;

	memset(ret, 0, TAGS_N * sizeof(*ret));
	while ((r = tlv_next(&in, &t)) > 0) {
		const struct part *part = part_of(t.tag);

		if (t.tag == 0 || t.tag >= TAGS_N || ret[t.tag].p)
			return -EBADMSG;
		if (part && t.n != part->size)
			return -EBADMSG;
		if (t.tag == TAG_XSAVE &&
		    (t.n < sizeof(struct kvm_xsave) || t.n > MAX(v->vm->kvm.xsave_size, 4096u)))
			return -EBADMSG;
		ret[t.tag] = t;
	}
	for (uint16_t tag = 1; r == 0 && tag < TAGS_N; tag++)
		if (!ret[tag].p != !wanted(v, tag))
			return -EBADMSG;
	return r;
}

int vcpu_load(struct vcpu *v, const struct msr_list *msrs, const void *p, size_t n)
{
	struct tlv list[TAGS_N];
	int r = split(v, p, n, list);

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(load_order); i++)
		if (list[load_order[i]].p)
			r = load_part(v, msrs, &list[load_order[i]]);
	return r < 0 ? r : 0;
}
