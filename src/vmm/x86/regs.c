// SPDX-License-Identifier: Apache-2.0
// First registers of the first vCPU.
#include "vmm/x86/regs.h"

#include "base/err.h"
#include "vmm/boot/layout.h"
#include "vmm/x86/msrs.h"

enum { SEL_CODE = 0x10, SEL_DATA = 0x18, SEL_TSS = 0x20 };
enum { TYPE_CODE = 11, TYPE_DATA = 3, TYPE_TSS = 11 };

#define PTE_TABLE (1ULL | 1 << 1)	   /* present, writable */
#define PTE_LARGE (1ULL | 1 << 1 | 1 << 7) /* of 2 MiB */
#define LARGE	  (2ULL << 20)
#define PAGE	  4096ULL
#define GIBS	  4 /* mapped one to one */

#define CR0_PE	 1ULL
#define CR0_MP	 (1ULL << 1)
#define CR0_ET	 (1ULL << 4)
#define CR0_NE	 (1ULL << 5)
#define CR0_PG	 (1ULL << 31)
#define CR4_PAE	 (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)

#define MTRR_ON_WRITEBACK 0x806 /* enabled; everything is write-back */

static int write64(struct gmem *m, uint64_t at, uint64_t v)
{
	return gmem_write(m, gpa(at), &v, sizeof(v));
}

static int write_page_tables(struct gmem *m)
{
	uint64_t pdpt = LAYOUT_PML4 + PAGE, pd = pdpt + PAGE;
	int r = write64(m, LAYOUT_PML4, pdpt | PTE_TABLE);

	for (uint64_t i = 0; i < GIBS; i++)
		r |= write64(m, pdpt + 8 * i, (pd + PAGE * i) | PTE_TABLE);
	for (uint64_t i = 0; i < GIBS * 512; i++)
		r |= write64(m, pd + 8 * i, i * LARGE | PTE_LARGE);
	return r ? -1 : 0;
}

/* descriptor() - a segment as it stands in the GDT, for when the guest reloads it */
static uint64_t descriptor(const struct kvm_segment *s)
{
	uint64_t access = (uint64_t)s->type | (uint64_t)s->s << 4 | (uint64_t)s->present << 7;
	uint64_t flags = (uint64_t)s->l << 1 | (uint64_t)s->db << 2 | (uint64_t)s->g << 3;

	return (s->limit >> (s->g ? 12 : 0) & 0xffff) | access << 40 | 0xfULL << 48 | flags << 52;
}

static void set_segments(struct kvm_sregs *s, enum regs_mode mode)
{
	struct kvm_segment code = { .limit = 0xffffffff,
				    .selector = SEL_CODE,
				    .type = TYPE_CODE,
				    .present = 1,
				    .s = 1,
				    .l = mode == REGS_LONG,
				    .db = mode == REGS_PVH,
				    .g = 1 };
	struct kvm_segment data = code;
	struct kvm_segment tss = { .limit = 0x67, .selector = SEL_TSS, .type = TYPE_TSS, .present = 1 };

	data.selector = SEL_DATA;
	data.type = TYPE_DATA;
	data.l = 0;
	data.db = 1;
	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = tss;
	s->gdt.base = LAYOUT_GDT;
	s->gdt.limit = 5 * 8 - 1;
	s->idt.base = 0;
	s->idt.limit = 0;
}

static int write_gdt(struct gmem *m, const struct kvm_sregs *s)
{
	int r = write64(m, LAYOUT_GDT + SEL_CODE, descriptor(&s->cs));

	r |= write64(m, LAYOUT_GDT + SEL_DATA, descriptor(&s->ds));
	r |= write64(m, LAYOUT_GDT + SEL_TSS, descriptor(&s->tr) & ~(0xfULL << 48));
	return r ? -1 : 0;
}

/* Caching by type as firmware leaves it; without this Linux thinks that MTRRs are broken and gives up PAT. */
static int set_mtrr(const struct vcpu *v)
{
	struct msr m = { .index = MSR_MTRR_DEF, .value = MTRR_ON_WRITEBACK };
	int r = msrs_set(v, &m, 1);

	return r < 0 ? r : 0;
}

int regs_setup(struct vcpu *v, const struct regs_entry *entry, struct vial_err *err)
{
	const struct kvm *k = &v->vm->kvm;
	struct kvm_regs regs = { .rip = entry->ip, .rflags = 2, .rsp = LAYOUT_STACK };
	struct kvm_sregs s;
	int r = kvm_call(k, v->fd, KVM_GET_SREGS, &s);

	if (r < 0)
		return err_sys(err, r, "kvm: registers");
	set_segments(&s, entry->mode);
	s.cr0 = CR0_PE | CR0_ET;
	if (entry->mode == REGS_LONG) {
		s.cr0 |= CR0_MP | CR0_NE | CR0_PG;
		s.cr3 = LAYOUT_PML4;
		s.cr4 = CR4_PAE;
		s.efer = EFER_LME | EFER_LMA;
		regs.rsi = entry->arg;
	} else {
		regs.rbx = entry->arg;
	}
	if (write_gdt(v->vm->mem, &s) < 0 || write_page_tables(v->vm->mem) < 0)
		return err_set(err, VIAL_E_INVALID, "too little guest memory to boot");
	r = kvm_call(k, v->fd, KVM_SET_SREGS, &s);
	if (r >= 0)
		r = kvm_call(k, v->fd, KVM_SET_REGS, &regs);
	if (r >= 0)
		r = set_mtrr(v);
	return r < 0 ? err_sys(err, r, "kvm: registers") : 0;
}
