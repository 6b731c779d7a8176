/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's registers in the state file. */
#ifndef VMM_SNAPSHOT_VCPU_STATE_H
#define VMM_SNAPSHOT_VCPU_STATE_H

#include "base/str.h"
#include "vmm/vm.h"
#include "vmm/x86/msrs.h"
#include "wire/tlv.h"

/**
 * vcpu_save() - append a vCPU's state as a TLV list to @out; it is parked
 * Return: 0 or -errno of KVM.
 */
int vcpu_save(struct vcpu *v, const struct msr_list *msrs, struct buf *out);

/**
 * vcpu_load() - the reverse, for a vCPU that never ran and has its CPUID
 * @p:		@n hostile bytes
 * Return: 0; -EBADMSG if a part is missing, doubled, unknown or of the wrong size; -errno of KVM if it refuses a value.
 */
int vcpu_load(struct vcpu *v, const struct msr_list *msrs, const void *p, size_t n);

#endif
