// SPDX-License-Identifier: Apache-2.0
// Building the CPUID table. Leaf numbers and bits: Intel SDM 2A CPUID, AMD APM 3 appendix E, KVM's cpuid.rst.
#include "vmm/x86/cpuid.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

#define BIT(n) (1u << (n))

#define LEAF_KVM       0x40000000u
#define LEAF_KVM_FEAT  0x40000001u
#define LEAF_HV_TIMING 0x40000010u /* eax: TSC kHz, ebx: LAPIC timer kHz */
#define LAPIC_KHZ      1000000u	   /* KVM's LAPIC timer runs at 1 GHz */

/* id_bits() - how many bits of an APIC id tell cores apart, for @n of them */
static uint32_t id_bits(uint32_t n)
{
	uint32_t bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

static const struct kvm_cpuid_entry2 *look(const struct cpuid *c, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->e[i].function == leaf && c->e[i].index == index)
			return &c->e[i];
	return NULL;
}

static struct kvm_cpuid_entry2 *find(struct cpuid *c, uint32_t leaf, uint32_t index)
{
	return (struct kvm_cpuid_entry2 *)(uintptr_t)look(c, leaf, index);
}

static struct kvm_cpuid_entry2 *find_or_add(struct cpuid *c, uint32_t leaf, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = find(c, leaf, index);

	if (e || c->n == CPUID_MAX)
		return e;
	e = &c->e[c->n++];
	*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = index };
	return e;
}

static void remove_leaf(struct cpuid *c, uint32_t leaf)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->n; i++)
		if (c->e[i].function != leaf)
			c->e[kept++] = c->e[i];
	c->n = kept;
}

/* strip() - features that a snapshot cannot carry or that we do not give */
static void strip(struct cpuid *c)
{
	struct kvm_cpuid_entry2 *e;

	if ((e = find(c, 1, 0)))
		e->ecx &= ~(BIT(5) | BIT(15) | BIT(3)); /* VMX, PDCM, MONITOR */
	if ((e = find(c, 7, 0))) {
		e->ebx &= ~(BIT(2) | BIT(25)); /* SGX, PT */
		e->ecx &= ~BIT(29);	       /* ENQCMD */
	}
	if ((e = find(c, 0x80000001u, 0)))
		e->ecx &= ~(BIT(2) | BIT(23) | BIT(24) | BIT(28)); /* SVM, performance counters */
	if ((e = find(c, LEAF_KVM_FEAT, 0)))
		e->eax &= ~(BIT(KVM_FEATURE_ASYNC_PF) | BIT(KVM_FEATURE_ASYNC_PF_VMEXIT) |
			    BIT(KVM_FEATURE_ASYNC_PF_INT));
	remove_leaf(c, 0xa);
	remove_leaf(c, 0x12);
	remove_leaf(c, 0x14);
	remove_leaf(c, 0x8000000au);
	remove_leaf(c, 0x80000022u);
}

/* set_timers() - a kernel must see timers that need no calibration against a PIT */
static void set_timers(struct cpuid *c, const struct kvm *k, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *e = find(c, 1, 0);

	if (e) {
		e->ecx |= BIT(31); /* a hypervisor is there */
		e->ecx &= ~BIT(24);
		e->ecx |= k->tsc_deadline ? BIT(24) : 0;
	}
	e = find_or_add(c, 6, 0);
	if (e) {
		e->eax = BIT(2); /* ARAT: the LAPIC timer never stops */
		e->ebx = e->ecx = e->edx = 0;
	}
	e = find(c, LEAF_KVM, 0);
	struct kvm_cpuid_entry2 *t = e ? find_or_add(c, LEAF_HV_TIMING, 0) : NULL;
	if (t) {
		e->eax = LEAF_HV_TIMING;
		t->eax = tsc_khz;
		t->ebx = LAPIC_KHZ;
		t->ecx = t->edx = 0;
	}
}

/* set_extended_topology() - leaf 0xb (and 0x1f): threads of a core, then cores of the package */
static void set_extended_topology(struct cpuid *c, uint32_t leaf, uint32_t n)
{
	enum { INDEXED = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };

	remove_leaf(c, leaf);
	for (uint32_t level = 0; level < 3; level++) {
		struct kvm_cpuid_entry2 *e = find_or_add(c, leaf, level);

		if (!e)
			return;
		e->flags = INDEXED;
		e->eax = level == 1 ? id_bits(n) : 0;
		e->ebx = level == 0 ? 1 : level == 1 ? n : 0;
		e->ecx = level | (level < 2 ? (level + 1) << 8 : 0);
	}
}

/* share_caches() - leaf 4 (Intel) and 0x8000001d (AMD): L3 is everybody's, the others each core's own */
static void share_caches(struct cpuid *c, uint32_t n)
{
	for (uint32_t i = 0; i < c->n; i++) {
		struct kvm_cpuid_entry2 *e = &c->e[i];
		uint32_t level = e->eax >> 5 & 7;
		uint32_t shared = level >= 3 ? n - 1 : 0;

		if (e->function != 4 && e->function != 0x8000001du)
			continue;
		if ((e->eax & 0x1f) == 0)
			continue; /* no such cache */
		e->eax &= 0x3fff;
		e->eax |= shared << 14;
		if (e->function == 4)
			e->eax |= MIN((1u << id_bits(n)) - 1, 63u) << 26;
	}
}

static void set_topology(struct cpuid *c, uint32_t n)
{
	struct kvm_cpuid_entry2 *e = find(c, 1, 0), *max = find(c, 0, 0);

	if (e) {
		e->ebx = (e->ebx & 0x0000ffff) | (1u << id_bits(n)) << 16;
		e->edx = (e->edx & ~BIT(28)) | (n > 1 ? BIT(28) : 0); /* HTT: more than one logical CPU */
	}
	if (max && max->eax >= 0xb)
		set_extended_topology(c, 0xb, n);
	if (max && max->eax >= 0x1f)
		set_extended_topology(c, 0x1f, n);
	share_caches(c, n);
	if ((e = find(c, 0x80000008u, 0)))
		e->ecx = (n - 1) | id_bits(n) << 12;
	if ((e = find(c, 0x80000001u, 0)))
		e->ecx = (e->ecx & ~BIT(1)) | (n > 1 ? BIT(1) : 0); /* legacy way to say multi-core */
	if ((e = find(c, 0x8000001eu, 0)))
		e->eax = e->ebx = e->ecx = e->edx = 0;
}

int cpuid_host(const struct kvm *k, uint32_t n_vcpus, uint32_t tsc_khz, struct cpuid *ret,
	       struct vial_err *err)
{
	union {
		struct kvm_cpuid2 head; /* ends in an array without a length */
		uint8_t room[sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
	} all = { .head.nent = CPUID_MAX };
	int r = kvm_call(k, k->fd, KVM_GET_SUPPORTED_CPUID, &all);

	if (r < 0)
		return err_sys(err, r, "kvm: CPUID");
	if (all.head.nent > CPUID_MAX)
		return err_set(err, VIAL_E_UNSUPPORTED, "kvm: CPUID table of %u entries", all.head.nent);
	ret->n = all.head.nent;
	memcpy(ret->e, all.room + sizeof(all.head), ret->n * sizeof(ret->e[0]));
	strip(ret);
	set_timers(ret, k, tsc_khz);
	set_topology(ret, n_vcpus);
	return 0;
}

/* set_ids() - the places where a CPU finds its own APIC id */
static void set_ids(struct kvm_cpuid_entry2 *e, uint32_t id)
{
	if (e->function == 1)
		e->ebx = (e->ebx & 0x00ffffff) | id << 24;
	if (e->function == 0xb || e->function == 0x1f)
		e->edx = id;
	if (e->function == 0x8000001eu) {
		e->eax = id;
		e->ebx = id; /* core id; one thread each */
	}
}

int cpuid_apply(const struct cpuid *c, struct vcpu *v, struct vial_err *err)
{
	union {
		struct kvm_cpuid2 head;
		uint8_t room[sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
	} all = { .head.nent = MIN(c->n, (uint32_t)CPUID_MAX) };

	for (uint32_t i = 0; i < all.head.nent; i++) {
		struct kvm_cpuid_entry2 e = c->e[i];

		set_ids(&e, v->id);
		memcpy(all.room + sizeof(all.head) + i * sizeof(e), &e, sizeof(e));
	}
	int r = kvm_call(&v->vm->kvm, v->fd, KVM_SET_CPUID2, &all);
	return r < 0 ? err_sys(err, r, "kvm: CPUID of virtual CPU %u", v->id) : 0;
}

void cpuid_brand(const struct cpuid *c, char ret[CPUID_BRAND])
{
	memset(ret, 0, CPUID_BRAND);
	for (uint32_t i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *e = look(c, 0x80000002u + i, 0);
		uint32_t words[4];

		if (!e) {
			strcpy(ret, "unknown CPU");
			return;
		}
		words[0] = e->eax;
		words[1] = e->ebx;
		words[2] = e->ecx;
		words[3] = e->edx;
		memcpy(ret + 16 * i, words, sizeof(words));
	}
	str_defuse(ret);
}

/* Registers that are sets of features, a bit each: what the guest was shown must be here, too. */
static const struct {
	uint32_t leaf, index;
	bool eax, ebx, ecx, edx;
} features[] = {
	{ 1, 0, false, false, true, true },
	{ 7, 0, false, true, true, true },
	{ 7, 1, true, true, false, true },
	{ 0xd, 0, true, false, false, true }, /* XCR0 */
	{ 0xd, 1, true, false, true, true },
	{ LEAF_KVM_FEAT, 0, true, false, false, false },
	{ 0x80000001u, 0, false, false, true, true },
	{ 0x80000007u, 0, false, false, false, true },
	{ 0x80000008u, 0, false, true, false, false },
	{ 0x80000021u, 0, true, false, false, false },
};

#define OSXSAVE BIT(27) /* of leaf 1 ecx: what the guest did, not what the CPU can */

static bool has_features(const struct cpuid *saved, const struct cpuid *host, uint32_t *ret_leaf)
{
	static const struct kvm_cpuid_entry2 none;

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		uint32_t leaf = features[i].leaf, index = features[i].index;
		const struct kvm_cpuid_entry2 *s = look(saved, leaf, index);
		const struct kvm_cpuid_entry2 *h = look(host, leaf, index);
		uint32_t lacks = 0;

		s = s ? s : &none;
		h = h ? h : &none;
		lacks |= features[i].eax ? s->eax & ~h->eax : 0;
		lacks |= features[i].ebx ? s->ebx & ~h->ebx : 0;
		lacks |= features[i].ecx ? s->ecx & ~h->ecx & ~(leaf == 1 ? OSXSAVE : 0) : 0;
		lacks |= features[i].edx ? s->edx & ~h->edx : 0;
		*ret_leaf = leaf;
		if (lacks)
			return false;
	}
	return true;
}

static bool same_model(const struct cpuid *a, const struct cpuid *b)
{
	const struct kvm_cpuid_entry2 *va = look(a, 0, 0);
	const struct kvm_cpuid_entry2 *vb = look(b, 0, 0);
	const struct kvm_cpuid_entry2 *ma = look(a, 1, 0);
	const struct kvm_cpuid_entry2 *mb = look(b, 1, 0);
	const uint32_t stepping = 0xf;

	return va && vb && ma && mb && va->ebx == vb->ebx && va->ecx == vb->ecx && va->edx == vb->edx &&
	       (ma->eax & ~stepping) == (mb->eax & ~stepping);
}

int cpuid_usable(const struct cpuid *saved, const struct cpuid *host, struct vial_err *err)
{
	char was[CPUID_BRAND], is[CPUID_BRAND];
	uint32_t leaf = 0;

	cpuid_brand(saved, was);
	cpuid_brand(host, is);
	if (!same_model(saved, host))
		return err_set(err, VIAL_E_UNSUPPORTED, "it was saved on another CPU model: %s; this is %s",
			       was, is);
	if (!has_features(saved, host, &leaf))
		return err_set(
			err, VIAL_E_UNSUPPORTED,
			"it was saved on a CPU (%s) with features that this one (%s) lacks: CPUID leaf 0x%x",
			was, is, leaf);
	return 0;
}
