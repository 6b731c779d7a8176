/* SPDX-License-Identifier: Apache-2.0 */
/* Register state of a vCPU that starts to boot. */
#ifndef VMM_X86_REGS_H
#define VMM_X86_REGS_H

#include <stdint.h>

#include "vial/error.h"
#include "vmm/vm.h"

/* enum regs_mode - 64 bits with paging (Linux boot protocol 2.12), or 32 bits without (PVH) */
enum regs_mode { REGS_LONG, REGS_PVH };

/**
 * struct regs_entry - where the first vCPU begins
 * @ip:		guest-physical
 * @arg:	guest-physical: boot_params in rsi, or hvm_start_info in ebx
 */
struct regs_entry {
	enum regs_mode mode;
	uint64_t ip;
	uint64_t arg;
};

/**
 * regs_setup() - make @v ready to enter, with GDT and (REGS_LONG) page tables of the first 4 GiB in guest memory
 * For the first vCPU; the others wait for INIT as they are created.
 */
int regs_setup(struct vcpu *v, const struct regs_entry *entry, struct vial_err *err);

#endif
