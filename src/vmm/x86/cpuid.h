/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPU the guest sees: what KVM and the host's CPU can do, with exact topology (one package, a core per vCPU, no
 * hyper-threads), timers that need no PIT, and without what a snapshot could not carry (nested virtualisation,
 * performance counters, Intel PT, SGX, asynchronous page faults).
 */
#ifndef VMM_X86_CPUID_H
#define VMM_X86_CPUID_H

#include <stdint.h>

#include "vial/error.h"
#include "vmm/vm.h"

#define CPUID_MAX   256
#define CPUID_BRAND 49 /* brand string with NUL */

/* struct cpuid - the table, the same for all vCPUs but for their ids, which cpuid_apply() puts in */
struct cpuid {
	uint32_t n;
	struct kvm_cpuid_entry2 e[CPUID_MAX];
};

/**
 * cpuid_host() - the table for a machine of @n_vcpus on this host
 * @tsc_khz:	the guest's TSC frequency
 */
int cpuid_host(const struct kvm *k, uint32_t n_vcpus, uint32_t tsc_khz, struct cpuid *ret,
	       struct vial_err *err);
/* cpuid_apply() - give it to a vCPU */
int cpuid_apply(const struct cpuid *c, struct vcpu *v, struct vial_err *err);
/* cpuid_brand() - "AMD EPYC …", control characters replaced; "unknown CPU" if it has no name */
void cpuid_brand(const struct cpuid *c, char ret[CPUID_BRAND]);

/**
 * cpuid_usable() - can a machine saved with @saved go on here?
 * @saved:	hostile
 * @host:	cpuid_host() of this host for the same number of vCPUs
 * It can on a CPU of the same vendor, family and model that has every feature the guest was shown.
 * Return: 0 or VIAL_E_UNSUPPORTED with both CPUs' names and the first difference.
 */
int cpuid_usable(const struct cpuid *saved, const struct cpuid *host, struct vial_err *err);

#endif
