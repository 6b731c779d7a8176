/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/kvm: every ioctl of the VMM goes through one function pointer, so that tests can play other hosts.
 *
 * #syscalls:vmm ioctl=kvm
 * #syscalls:vmm_io ioctl=kvmio
 * #syscalls:vmm_vcpu ioctl=vcpu
 */
#ifndef VMM_KVM_H
#define VMM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vial/error.h"

/* kvm_ioctl_fn - as ioctl(2), but -errno on failure */
typedef int kvm_ioctl_fn(int fd, unsigned long req, void *arg);

/**
 * struct kvm - the host's KVM
 * @fd:		/dev/kvm; the caller's
 * @vm_fd:	a machine that was made already (ahead.h), for vm_new() to take; 0: none
 * @call:	the real ioctl, or a test's
 * @run_size:	bytes of a vCPU's struct kvm_run mapping
 * @split_irqchip: LAPICs in the kernel, IOAPIC ours; otherwise all in the kernel
 * @tsc_deadline: the LAPIC timer has this mode; @tsc_control: KVM_SET_TSC_KHZ to any value; @kvmclock_ctrl: the guest
 *		can be told that it was paused
 * @xcrs:	the CPU has XSAVE, so extended control registers
 * @xsave_size:	bytes of a vCPU's XSAVE area (4096, or more with KVM_CAP_XSAVE2)
 */
struct kvm {
	int fd;
	int vm_fd;
	kvm_ioctl_fn *call;
	size_t run_size;
	bool split_irqchip;
	bool tsc_deadline;
	bool tsc_control;
	bool kvmclock_ctrl;
	bool xcrs;
	uint32_t xsave_size;
};

/**
 * kvm_open() - check that this KVM has what we need
 * @fd:		/dev/kvm, borrowed
 * @call:	NULL: the real ioctl
 * Return: 0, or VIAL_E_UNSUPPORTED with the missing capability's name.
 */
int kvm_open(struct kvm *ret, int fd, kvm_ioctl_fn *call, struct vial_err *err);

/* kvm_check() - value of a capability, 0 if it is missing; @fd: system or VM */
int kvm_check(const struct kvm *k, int fd, unsigned int cap);

/* kvm_call() - one ioctl with a pointer; >= 0 or -errno. EINTR is not retried */
static inline int kvm_call(const struct kvm *k, int fd, unsigned long req, const void *arg)
{
	return k->call(fd, req, (void *)(uintptr_t)arg);
}
/* kvm_call_n() - one ioctl with a number */
static inline int kvm_call_n(const struct kvm *k, int fd, unsigned long req, unsigned long arg)
{
	return k->call(fd, req, (void *)arg);
}

#endif
