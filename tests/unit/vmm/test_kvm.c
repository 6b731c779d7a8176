// SPDX-License-Identifier: Apache-2.0
// Hosts that are not at hand: KVM played by a function.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/vm.h"

#define CALLS_MAX 64
enum { FAKE_VM = 1000 };

static struct {
	int version;
	unsigned int missing; /* a capability */
	unsigned long failing;
	int error;
	unsigned long calls[CALLS_MAX];
	size_t n;
	struct kvm_irq_level lines[4];
	size_t n_lines;
	struct kvm_msi msi;
	struct kvm_userspace_memory_region slots[4];
	size_t n_slots;
} fake;

/* A vCPU is a file as large as its kvm_run, so that it can be mapped. */
static int fake_vcpu(void)
{
	int fd = memfd_create("vcpu", MFD_CLOEXEC);

	return ftruncate(fd, 3 * 4096) < 0 ? -errno : fd;
}

static int fake_vm_call(unsigned long req, void *arg)
{
	switch (req) {
	case KVM_CREATE_VCPU:
		return fake_vcpu();
	case KVM_IRQ_LINE:
		fake.lines[fake.n_lines++] = *(struct kvm_irq_level *)arg;
		return 0;
	case KVM_SIGNAL_MSI:
		fake.msi = *(struct kvm_msi *)arg;
		return 1;
	case KVM_SET_USER_MEMORY_REGION:
		fake.slots[fake.n_slots++] = *(struct kvm_userspace_memory_region *)arg;
		return 0;
	default:
		return 0;
	}
}

static int fake_ioctl(int fd, unsigned long req, void *arg)
{
	if (fake.n < CALLS_MAX && req != KVM_CHECK_EXTENSION)
		fake.calls[fake.n++] = req;
	if (req == fake.failing)
		return fake.error;
	if (fd == FAKE_VM)
		return fake_vm_call(req, arg);
	switch (req) {
	case KVM_GET_API_VERSION:
		return fake.version;
	case KVM_CHECK_EXTENSION:
		return (uintptr_t)arg != fake.missing;
	case KVM_GET_VCPU_MMAP_SIZE:
		return 3 * 4096;
	case KVM_CREATE_VM:
		return FAKE_VM;
	default:
		return -ENOTTY;
	}
}

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.version = KVM_API_VERSION;
	fake.missing = UINT32_MAX;
	fake.error = -EIO;
	return 0;
}

static void test_open(void **state)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct kvm k;

	(void)state;
	assert_int_equal(kvm_open(&k, 7, fake_ioctl, &err), 0);
	assert_true(k.split_irqchip && k.tsc_deadline && k.tsc_control && k.kvmclock_ctrl && k.xcrs);
	assert_int_equal(k.xsave_size, 4096); /* 1 is no size */
	assert_int_equal(k.run_size, 3 * 4096);
}

static void test_open_refuses(void **state)
{
	static const unsigned int needed[] = { KVM_CAP_USER_MEMORY, KVM_CAP_SIGNAL_MSI,
					       KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_XSAVE };
	struct kvm k;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		struct vial_err err = VIAL_ERR_INIT;

		fake.missing = needed[i];
		assert_int_equal(kvm_open(&k, 7, fake_ioctl, &err), VIAL_E_UNSUPPORTED);
		assert_non_null(strstr(err.msg, "this host's has no "));
	}
	struct vial_err version = VIAL_ERR_INIT, dead = VIAL_ERR_INIT;
	fake.missing = UINT32_MAX;
	fake.version = 11;
	assert_int_equal(kvm_open(&k, 7, fake_ioctl, &version), VIAL_E_UNSUPPORTED);
	fake.failing = KVM_GET_API_VERSION;
	assert_int_equal(kvm_open(&k, 7, fake_ioctl, &dead), VIAL_E_IO);
}

static size_t position(unsigned long req)
{
	for (size_t i = 0; i < fake.n; i++)
		if (fake.calls[i] == req)
			return i;
	return SIZE_MAX;
}

static void make(struct vm *vm, struct gmem *mem, uint64_t size)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct kvm k;

	assert_int_equal(gmem_new_anon(mem, size), 0);
	assert_int_equal(kvm_open(&k, 7, fake_ioctl, &err), 0);
	assert_int_equal(vm_new(vm, &k, mem, NULL, 0, 2, &err), 0);
}

static void unmake(struct vm *vm, struct gmem *mem)
{
	vm->fd = -1; /* FAKE_VM is none of ours */
	vm_done(vm);
	gmem_done(mem);
}

static void test_order_of_creation(void **state)
{
	struct gmem mem;
	struct vm vm;

	(void)state;
	make(&vm, &mem, 4ULL << 30);
	assert_true(position(KVM_SET_TSS_ADDR) < position(KVM_CREATE_VCPU));
	assert_true(position(KVM_SET_IDENTITY_MAP_ADDR) < position(KVM_CREATE_VCPU));
	assert_true(position(KVM_SET_USER_MEMORY_REGION) < position(KVM_ENABLE_CAP));
	assert_true(position(KVM_ENABLE_CAP) < position(KVM_CREATE_VCPU));
	assert_int_equal(position(KVM_CREATE_IRQCHIP), SIZE_MAX);
	assert_int_equal(position(KVM_CREATE_PIT2), SIZE_MAX);
	assert_int_equal(fake.n_slots, 2);
	assert_int_equal(fake.slots[0].memory_size, GMEM_LOW_MAX);
	assert_int_equal(fake.slots[1].guest_phys_addr, GMEM_HIGH_START);
	assert_int_equal(fake.slots[1].memory_size, 1ULL << 30);
	assert_int_equal(fake.slots[1].userspace_addr - fake.slots[0].userspace_addr, GMEM_LOW_MAX);
	vm_irq(&vm, 5); /* masked: nothing goes out */
	assert_int_equal(position(KVM_SIGNAL_MSI), SIZE_MAX);
	vm_irq(&vm, 24); /* no such line */
	unmake(&vm, &mem);
}

static void test_split_irqchip_sends_msi(void **state)
{
	uint32_t select = 0x10 + 2 * 6, entry = 0x55;
	struct gmem mem;
	struct vm vm;

	(void)state;
	make(&vm, &mem, MIB(16));
	bus_access(&vm.mmio, IOAPIC_BASE, &select, 4, true);
	bus_access(&vm.mmio, IOAPIC_BASE + 0x10, &entry, 4, true);
	vm_irq(&vm, 6);
	assert_int_equal(fake.msi.data, 0x55);
	assert_int_equal(fake.msi.address_lo, 0xfee00000);
	unmake(&vm, &mem);
}

static void expect_kernel_irqchip(void)
{
	struct gmem mem;
	struct vm vm;

	make(&vm, &mem, MIB(16));
	assert_true(position(KVM_CREATE_IRQCHIP) < position(KVM_CREATE_VCPU));
	vm_irq(&vm, 9);
	assert_int_equal(fake.n_lines, 2);
	assert_int_equal(fake.lines[0].irq, 9);
	assert_int_equal(fake.lines[0].level, 1);
	assert_int_equal(fake.lines[1].level, 0);
	unmake(&vm, &mem);
}

static void test_kernel_irqchip_without_split(void **state)
{
	(void)state;
	fake.missing = KVM_CAP_SPLIT_IRQCHIP;
	expect_kernel_irqchip();
}

static void test_kernel_irqchip_if_split_fails(void **state)
{
	(void)state;
	fake.failing = KVM_ENABLE_CAP;
	expect_kernel_irqchip();
}

static void test_failures_are_told(void **state)
{
	static const unsigned long steps[] = { KVM_CREATE_VM, KVM_SET_TSS_ADDR, KVM_SET_USER_MEMORY_REGION,
					       KVM_CREATE_VCPU };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct vial_err err = VIAL_ERR_INIT;
		struct gmem mem;
		struct kvm k;
		struct vm vm;

		fake.failing = steps[i];
		fake.n_slots = 0;
		fake.error = -ENOMEM;
		assert_int_equal(gmem_new_anon(&mem, MIB(16)), 0);
		assert_int_equal(kvm_open(&k, 7, fake_ioctl, &err), 0);
		assert_int_equal(vm_new(&vm, &k, &mem, NULL, 0, 1, &err), VIAL_E_NO_MEMORY);
		assert_non_null(strstr(err.msg, "kvm: "));
		unmake(&vm, &mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_open, setup),
		cmocka_unit_test_setup(test_open_refuses, setup),
		cmocka_unit_test_setup(test_order_of_creation, setup),
		cmocka_unit_test_setup(test_split_irqchip_sends_msi, setup),
		cmocka_unit_test_setup(test_kernel_irqchip_without_split, setup),
		cmocka_unit_test_setup(test_kernel_irqchip_if_split_fails, setup),
		cmocka_unit_test_setup(test_failures_are_told, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
