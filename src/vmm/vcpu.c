// SPDX-License-Identifier: Apache-2.0
/*
 * A vCPU's thread: run the guest, answer its register accesses, park when told to.
 *
 * What the kernel tells in struct kvm_run is trusted; port numbers, addresses and data in it are the guest's.
 * An access is complete only when KVM_RUN has been entered again, so this thread parks nowhere but after a
 * KVM_RUN that was interrupted (EINTR): vm->lock and immediate_exit see to it that there is one.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vm.h"

static void count(uint64_t *n)
{
	__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED); /* one writer */
}

static void port_access(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *p = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, p += run->io.size)
		bus_access(&v->vm->pio, run->io.port, p, run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
}

static void system_event(struct vcpu *v)
{
	switch (v->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_stop(v->vm, VMM_EXIT_POWEROFF, "the guest powered off");
		break;
	case KVM_SYSTEM_EVENT_RESET:
		vm_stop(v->vm, VMM_EXIT_RESET, "the guest wanted a reset");
		break;
	default:
		vm_stop(v->vm, VMM_EXIT_CRASH, "the guest crashed");
		break;
	}
}

/* handle() - one return of KVM_RUN */
static void handle(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		count(&v->accesses);
		port_access(v);
		break;
	case KVM_EXIT_MMIO:
		count(&v->accesses);
		bus_access(&v->vm->mmio, run->mmio.phys_addr, run->mmio.data, MIN(run->mmio.len, 8u),
			   run->mmio.is_write);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IOAPIC_EOI: /* of a line that is declared level-triggered: ours need none */
		break;
	case KVM_EXIT_SHUTDOWN:
		vm_stop(v->vm, VMM_EXIT_CRASH, "triple fault");
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		system_event(v);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vm_stop(v->vm, VMM_EXIT_ERROR, "kvm: the CPU refused the guest's state (reason 0x%llx)",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		vm_stop(v->vm, VMM_EXIT_ERROR, "kvm: internal error %u (cannot run what the guest executes)",
			run->internal.suberror);
		break;
	default:
		vm_stop(v->vm, VMM_EXIT_ERROR, "kvm: unexpected exit %u", run->exit_reason);
		break;
	}
}

/* run_guest() - until interrupted or the machine stops */
static void run_guest(struct vcpu *v)
{
	for (;;) {
		int r = kvm_call_n(&v->vm->kvm, v->fd, KVM_RUN, 0);

		count(&v->exits);
		if (r == -EINTR)
			return;
		if (r == -EAGAIN) /* the guest put this vCPU to rest for good; wait for a signal */
			continue;
		if (r < 0) {
			vm_stop(v->vm, VMM_EXIT_ERROR, "kvm: run: %s%s", strerror(-r),
				r == -EFAULT ? " (memory behind the guest's is gone)" : "");
			return;
		}
		handle(v);
	}
}

/* park() - wait while the machine is held; false if the thread shall end */
static bool park(struct vcpu *v)
{
	struct vm *vm = v->vm;

	pthread_mutex_lock(&vm->lock);
	v->parked = true;
	pthread_cond_broadcast(&vm->changed);
	while (vm->hold && !vm->leaving)
		pthread_cond_wait(&vm->changed, &vm->lock);
	bool go = !vm->leaving;
	v->parked = !go;
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&vm->lock);
	return go;
}

void *vcpu_thread(void *vcpu)
{
	struct vcpu *v = vcpu;
	struct vial_err err = VIAL_ERR_INIT;

	if (v->vm->thread_init && v->vm->thread_init(v->vm->thread_data, &err) < 0)
		vm_stop(v->vm, VMM_EXIT_ERROR, "%s", err.msg);
	while (park(v))
		run_guest(v);
	return NULL;
}
