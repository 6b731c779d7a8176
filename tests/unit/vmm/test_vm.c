// SPDX-License-Identifier: Apache-2.0
// Machines on this host's /dev/kvm, with tiny hand-made guests in 64-bit mode. Skipped where no machine can be created.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/ports.h"
#include "vmm/snapshot/vcpu_state.h"
#include "vmm/vm.h"
#include "vmm/x86/acpi.h"
#include "vmm/x86/cpuid.h"
#include "vmm/x86/regs.h"

#define CODE	0x100000ULL
#define COUNTER 0x200000ULL
#define DEVICE	0xd0000000ULL

static int kvm_fd = -1;

struct fixture {
	struct kvm kvm;
	struct gmem mem;
	struct vm vm;
	struct cpuid cpuid;
	struct vial_err err;
	uint8_t port_bytes[16];
	size_t n_port_bytes;
	uint32_t device_value;
	pthread_t io_thread;
	bool ran_on_io;
	char stop_text[VM_STOP_TEXT_MAX];
};

static void on_port(void *data, uint64_t off, void *p, uint32_t n, bool write)
{
	struct fixture *f = data;

	(void)off;
	assert_int_equal(n, 1);
	if (write && f->n_port_bytes < sizeof(f->port_bytes))
		f->port_bytes[f->n_port_bytes++] = *(uint8_t *)p;
	else
		*(uint8_t *)p = 'r';
}

static void on_io(void *data)
{
	struct fixture *f = data;

	f->ran_on_io = pthread_equal(pthread_self(), f->io_thread);
}

static void on_device(void *data, uint64_t off, void *p, uint32_t n, bool write)
{
	struct fixture *f = data;

	if (write && off == 0)
		memcpy(&f->device_value, p, n);
	else if (write)
		vm_on_io_thread(&f->vm, on_io, f);
	else
		memcpy(p, "\x78\x56\x34\x12", n);
}

static void make(struct fixture *f, const void *code, size_t n)
{
	struct regs_entry entry = { REGS_LONG, CODE, 0 };

	f->io_thread = pthread_self();
	assert_int_equal(kvm_open(&f->kvm, kvm_fd, NULL, &f->err), 0);
	assert_int_equal(gmem_new_anon(&f->mem, MIB(16)), 0);
	assert_int_equal(vm_new(&f->vm, &f->kvm, &f->mem, NULL, 0, 1, &f->err), 0);
	assert_int_equal(bus_add(&f->vm.pio, 0x10, 1, on_port, f), 0);
	assert_int_equal(bus_add(&f->vm.mmio, DEVICE, 0x1000, on_device, f), 0);
	assert_int_equal(ports_add_power(&f->vm), 0);
	int khz = kvm_call_n(&f->kvm, f->vm.vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	assert_int_equal(cpuid_host(&f->kvm, 1, (uint32_t)khz, &f->cpuid, &f->err), 0);
	assert_int_equal(cpuid_apply(&f->cpuid, &f->vm.vcpus[0], &f->err), 0);
	assert_int_equal(regs_setup(&f->vm.vcpus[0], &entry, &f->err), 0);
	assert_int_equal(gmem_write(&f->mem, gpa(CODE), code, n), 0);
}

static void start(struct fixture *f)
{
	assert_int_equal(vm_start(&f->vm, NULL, NULL, &f->err), 0);
	vm_resume(&f->vm);
}

/* wait_stop() - serve the I/O thread's part until the machine stops; its reason */
static uint32_t wait_stop(struct fixture *f)
{
	struct pollfd p = { f->vm.io_event, POLLIN, 0 };
	uint32_t reason;

	while (!(reason = vm_stopped(&f->vm, f->stop_text))) {
		if (poll(&p, 1, 10000) <= 0)
			return 0;
		vm_run_jobs(&f->vm);
	}
	return reason;
}

static void unmake(struct fixture *f)
{
	vm_done(&f->vm);
	gmem_done(&f->mem);
}

/* "hi", a read that is written back, MMIO both ways, a job for the I/O thread, power off */
static const uint8_t guest_talks[] = {
	0xb0, 'h',  0xe6, 0x10, 0xb0, 'i',
	0xe6, 0x10,		      /* out 0x10: h, i */
	0xe4, 0x10, 0xe6, 0x10,	      /* in al,0x10; out */
	0xbb, 0x00, 0x00, 0x00, 0xd0, /* mov ebx,DEVICE */
	0x8b, 0x43, 0x04,	      /* mov eax,[rbx+4] */
	0xff, 0xc0,		      /* inc eax */
	0x89, 0x03,		      /* mov [rbx],eax */
	0x89, 0x43, 0x08,	      /* mov [rbx+8],eax */
	0x66, 0xba, 0x00, 0x06, 0xb0, ACPI_SLP_EN | 5 << 2,
	0xee, /* out 0x600 */
	0xf4, /* hlt */
};

static void test_talks(void **state)
{
	struct fixture f = { .err = VIAL_ERR_INIT };
	uint64_t exits, accesses;

	(void)state;
	make(&f, guest_talks, sizeof(guest_talks));
	start(&f);
	assert_int_equal(wait_stop(&f), VMM_EXIT_POWEROFF);
	assert_memory_equal(f.port_bytes, "hir", 3);
	assert_int_equal(f.n_port_bytes, 3);
	assert_int_equal(f.device_value, 0x12345679);
	assert_true(f.ran_on_io);
	vm_pause(&f.vm);
	vm_count(&f.vm, &exits, &accesses);
	assert_int_equal(accesses, 8);
	assert_true(exits >= accesses);
	unmake(&f);
}

/* counts in memory for ever */
static const uint8_t guest_counts[] = {
	0xbb, 0x00, 0x00, 0x20, 0x00, /* mov ebx,COUNTER */
	0x48, 0xff, 0x03,	      /* inc qword [rbx] */
	0x41, 0xff, 0xc4,	      /* inc r12d */
	0xeb, 0xf8,		      /* jmp back */
};

static uint64_t counter(struct fixture *f)
{
	uint64_t v = 0;

	gmem_read(&f->mem, gpa(COUNTER), &v, sizeof(v));
	return v;
}

/* wait_above() - until the guest has counted past @v; bounded by the test's time limit */
static void wait_above(struct fixture *f, uint64_t v)
{
	while (__atomic_load_n((uint64_t *)(void *)(f->mem.base + COUNTER), __ATOMIC_RELAXED) <= v)
		sched_yield();
}

static void test_pause_holds_still(void **state)
{
	struct fixture f = { .err = VIAL_ERR_INIT };

	(void)state;
	make(&f, guest_counts, sizeof(guest_counts));
	start(&f);
	for (int i = 0; i < 20; i++) {
		uint64_t was = counter(&f);

		wait_above(&f, was);
		vm_pause(&f.vm);
		assert_true(vm_is_paused(&f.vm));
		was = counter(&f);
		vm_pause(&f.vm); /* again: nothing more to do */
		assert_int_equal(counter(&f), was);
		vm_resume(&f.vm);
	}
	wait_above(&f, counter(&f));
	unmake(&f); /* while it runs */
}

static void test_vcpu_moves(void **state)
{
	struct fixture a = { .err = VIAL_ERR_INIT }, b = { .err = VIAL_ERR_INIT };
	_cleanup_buf_ struct buf saved = { 0 };
	struct msr_list msrs;
	struct kvm_regs regs, back;

	(void)state;
	make(&a, guest_counts, sizeof(guest_counts));
	assert_int_equal(msr_list_host(&a.kvm, &msrs), 0);
	start(&a);
	wait_above(&a, 1000);
	vm_pause(&a.vm);
	assert_int_equal(vcpu_save(&a.vm.vcpus[0], &msrs, &saved), 0);
	assert_int_equal(kvm_call(&a.kvm, a.vm.vcpus[0].fd, KVM_GET_REGS, &regs), 0);
	make(&b, guest_counts, sizeof(guest_counts));
	memcpy(b.mem.base, a.mem.base, a.mem.size);
	assert_int_equal(vcpu_load(&b.vm.vcpus[0], &msrs, saved.data, saved.len), 0);
	assert_int_equal(kvm_call(&b.kvm, b.vm.vcpus[0].fd, KVM_GET_REGS, &back), 0);
	assert_memory_equal(&regs, &back, sizeof(regs));
	uint64_t was = counter(&a);
	unmake(&a);
	start(&b);
	wait_above(&b, was + 1000);
	vm_pause(&b.vm);
	assert_int_equal(kvm_call(&b.kvm, b.vm.vcpus[0].fd, KVM_GET_REGS, &back), 0);
	/* r12 counts along, in the same order: one behind at most */
	assert_true((uint32_t)counter(&b) - (uint32_t)back.r12 <= 1);
	unmake(&b);
}

static void test_hostile_vcpu_state(void **state)
{
	struct fixture f = { .err = VIAL_ERR_INIT };
	_cleanup_buf_ struct buf saved = { 0 };
	struct msr_list msrs;

	(void)state;
	make(&f, guest_counts, sizeof(guest_counts));
	assert_int_equal(msr_list_host(&f.kvm, &msrs), 0);
	assert_int_equal(vcpu_save(&f.vm.vcpus[0], &msrs, &saved), 0);
	assert_true(vcpu_load(&f.vm.vcpus[0], &msrs, saved.data, 0) < 0);
	assert_true(vcpu_load(&f.vm.vcpus[0], &msrs, saved.data, saved.len / 2) < 0);
	for (size_t i = 0; i < saved.len; i += 97) {
		saved.data[i] = (char)~saved.data[i];
		(void)vcpu_load(&f.vm.vcpus[0], &msrs, saved.data, saved.len); /* must return */
		saved.data[i] = (char)~saved.data[i];
	}
	assert_int_equal(vcpu_load(&f.vm.vcpus[0], &msrs, saved.data, saved.len), 0);
	unmake(&f);
}

/* no IDT: any exception is a triple fault */
static void test_triple_fault(void **state)
{
	static const uint8_t guest[] = { 0x0f, 0x0b }; /* ud2 */
	struct fixture f = { .err = VIAL_ERR_INIT };

	(void)state;
	make(&f, guest, sizeof(guest));
	start(&f);
	assert_int_equal(wait_stop(&f), VMM_EXIT_CRASH);
	unmake(&f);
}

static void test_reset(void **state)
{
	static const uint8_t guest[] = { 0x66, 0xba, 0x02, 0x06, 0xb0, ACPI_RESET_VALUE, 0xee, 0xf4 };
	struct fixture f = { .err = VIAL_ERR_INIT };

	(void)state;
	make(&f, guest, sizeof(guest));
	start(&f);
	assert_int_equal(wait_stop(&f), VMM_EXIT_RESET);
	unmake(&f);
}

static int refuse(void *data, struct vial_err *err)
{
	(void)data;
	snprintf(err->msg, sizeof(err->msg), "no filter");
	return -1;
}

static void test_thread_that_cannot_lock_itself_in(void **state)
{
	struct fixture f = { .err = VIAL_ERR_INIT };

	(void)state;
	make(&f, guest_counts, sizeof(guest_counts));
	assert_int_equal(vm_start(&f.vm, refuse, NULL, &f.err), 0);
	assert_int_equal(wait_stop(&f), VMM_EXIT_ERROR);
	assert_string_equal(f.stop_text, "no filter");
	vm_resume(&f.vm); /* too late: it never runs */
	vm_pause(&f.vm);
	assert_int_equal(counter(&f), 0);
	unmake(&f);
}

static void test_dirty_log(void **state)
{
	struct fixture f = { .err = VIAL_ERR_INIT };
	uint64_t bits[16384 / 64 / 4] = { 0 };
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bits };

	(void)state;
	make(&f, guest_counts, sizeof(guest_counts));
	f.vm.slots[0].log = true;
	assert_int_equal(vm_set_slot(&f.vm, 0), 0);
	start(&f);
	wait_above(&f, 10);
	vm_pause(&f.vm);
	assert_true(kvm_call(&f.kvm, f.vm.fd, KVM_GET_DIRTY_LOG, &log) >= 0);
	assert_true(bits[COUNTER / GMEM_PAGE / 64] >> (COUNTER / GMEM_PAGE % 64) & 1);
	unmake(&f);
}

/* struct asker - as many vCPUs whose jobs never end would: each job leaves another */
struct asker {
	struct vm *vm;
	struct vm_job jobs[2];
	int done;
};

static void ask_again(void *data)
{
	struct asker *a = data;
	struct vm_job *next = &a->jobs[++a->done % 2];

	if (a->done == 1000)
		return;
	*next = (struct vm_job){ .fn = ask_again, .data = a };
	pthread_mutex_lock(&a->vm->lock);
	a->vm->jobs = next;
	pthread_mutex_unlock(&a->vm->lock);
}

static void test_jobs_without_end(void **state)
{
	struct fixture f = { .err = VIAL_ERR_INIT };
	struct asker a = { .vm = &f.vm, .jobs[0] = { .fn = ask_again, .data = &a } };
	struct pollfd p = { .events = POLLIN };

	(void)state;
	make(&f, "\xf4", 1);
	p.fd = f.vm.io_event;
	f.vm.jobs = &a.jobs[0];
	for (int turn = 1; turn <= 3; turn++) {
		vm_run_jobs(&f.vm);
		assert_int_equal(a.done, turn * (int)f.vm.n_vcpus); /* and then the loop has its turn */
		assert_int_equal(poll(&p, 1, 0), 1);		    /* and comes back */
	}
	f.vm.jobs = NULL;
	vm_run_jobs(&f.vm);
	assert_int_equal(poll(&p, 1, 0), 0);
	unmake(&f);
}

static void test_bad_vcpu_count(void **state)
{
	struct fixture f = { .err = VIAL_ERR_INIT };

	(void)state;
	assert_int_equal(kvm_open(&f.kvm, kvm_fd, NULL, &f.err), 0);
	assert_int_equal(gmem_new_anon(&f.mem, MIB(16)), 0);
	assert_int_equal(vm_new(&f.vm, &f.kvm, &f.mem, NULL, 0, VM_VCPUS_MAX + 1, &f.err), VIAL_E_INVALID);
	unmake(&f);
}

static bool can_create(void)
{
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm_fd >= 0 ? ioctl(kvm_fd, KVM_CREATE_VM, 0) : -1;

	if (vm >= 0)
		close(vm);
	return vm >= 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_talks),
		cmocka_unit_test(test_pause_holds_still),
		cmocka_unit_test(test_vcpu_moves),
		cmocka_unit_test(test_hostile_vcpu_state),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_thread_that_cannot_lock_itself_in),
		cmocka_unit_test(test_dirty_log),
		cmocka_unit_test(test_jobs_without_end),
		cmocka_unit_test(test_bad_vcpu_count),
	};

	if (!can_create()) {
		fputs("skipped: this host has no /dev/kvm that creates machines\n", stderr);
		return 77; /* meson: skipped */
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
