// SPDX-License-Identifier: Apache-2.0
// What the host's KVM can do.
#include "vmm/kvm.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "base/err.h"

#define XSAVE_SIZE 4096 /* of struct kvm_xsave without KVM_CAP_XSAVE2 */
#define XSAVE_MAX  (1 << 16)

static const struct {
	unsigned int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "user memory" },
	{ KVM_CAP_IRQCHIP, "an interrupt controller" },
	{ KVM_CAP_EXT_CPUID, "CPUID" },
	{ KVM_CAP_MP_STATE, "multi-processor state" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_SIGNAL_MSI, "MSI injection" },
	{ KVM_CAP_VCPU_EVENTS, "vCPU events" },
	{ KVM_CAP_DEBUGREGS, "debug registers" },
	{ KVM_CAP_XSAVE, "XSAVE" },
	{ KVM_CAP_ADJUST_CLOCK, "an adjustable clock" },
	{ KVM_CAP_GET_TSC_KHZ, "a TSC of known frequency" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exits" },
};

static int real_ioctl(int fd, unsigned long req, void *arg)
{
	int r = ioctl(fd, req, arg);

	return r < 0 ? -errno : r;
}

int kvm_check(const struct kvm *k, int fd, unsigned int cap)
{
	int r = kvm_call_n(k, fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

static void find_optional(struct kvm *k)
{
	int xsave = kvm_check(k, k->fd, KVM_CAP_XSAVE2);

	k->split_irqchip = kvm_check(k, k->fd, KVM_CAP_SPLIT_IRQCHIP);
	k->tsc_deadline = kvm_check(k, k->fd, KVM_CAP_TSC_DEADLINE_TIMER);
	k->tsc_control = kvm_check(k, k->fd, KVM_CAP_TSC_CONTROL);
	k->kvmclock_ctrl = kvm_check(k, k->fd, KVM_CAP_KVMCLOCK_CTRL);
	k->xcrs = kvm_check(k, k->fd, KVM_CAP_XCRS);
	k->xsave_size = xsave > XSAVE_SIZE && xsave <= XSAVE_MAX ? (uint32_t)xsave : XSAVE_SIZE;
}

int kvm_open(struct kvm *ret, int fd, kvm_ioctl_fn *call, struct vial_err *err)
{
	struct kvm k = { .fd = fd, .call = call ? call : real_ioctl };
	int version = kvm_call_n(&k, fd, KVM_GET_API_VERSION, 0);

	if (version < 0)
		return err_sys(err, version, "kvm");
	if (version != KVM_API_VERSION)
		return err_set(err, VIAL_E_UNSUPPORTED, "kvm: version %d of its interface instead of %d",
			       version, KVM_API_VERSION);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!kvm_check(&k, fd, needed[i].cap))
			return err_set(err, VIAL_E_UNSUPPORTED, "kvm: this host's has no %s", needed[i].name);
	int run_size = kvm_call_n(&k, fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_size < (int)sizeof(struct kvm_run))
		return err_set(err, VIAL_E_UNSUPPORTED, "kvm: no room for a virtual CPU's state");
	k.run_size = (size_t)run_size;
	find_optional(&k);
	*ret = k;
	return 0;
}
