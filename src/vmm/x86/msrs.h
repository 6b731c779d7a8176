/* SPDX-License-Identifier: Apache-2.0 */
/* Model-specific registers: which ones make up a vCPU's state, reading and writing many at once. */
#ifndef VMM_X86_MSRS_H
#define VMM_X86_MSRS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/vm.h"

#define MSRS_MAX 512

#define MSR_TSC		 0x10u
#define MSR_MTRR_DEF	 0x2ffu
#define MSR_TSC_DEADLINE 0x6e0u

struct msr {
	uint32_t index;
	uint32_t reserved;
	uint64_t value;
};

/* struct msr_list - indexes that this host's KVM can read and write and that matter to a guest */
struct msr_list {
	uint32_t n;
	uint32_t index[MSRS_MAX];
};

/* msr_list_host() - 0 or -errno */
int msr_list_host(const struct kvm *k, struct msr_list *ret);
/* msr_list_has() - also false for what is never saved, whatever a file says */
bool msr_list_has(const struct msr_list *l, uint32_t index);

/**
 * msrs_get() - read what can be read of @l
 * @ret:	room for MSRS_MAX
 * Return: how many, or -errno.
 */
int msrs_get(const struct vcpu *v, const struct msr_list *l, struct msr *ret);
/* msrs_set() - write @n (at most MSRS_MAX) in this order; how many were taken (the next one was refused), or -errno */
int msrs_set(const struct vcpu *v, const struct msr *m, size_t n);

#endif
