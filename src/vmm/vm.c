// SPDX-License-Identifier: Apache-2.0
// The machine: creation in the order that is fast, pausing, and what vCPUs hand to the I/O thread.
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

/* Intel only: three pages for a TSS and one for page tables, used by KVM itself, outside RAM and devices. */
#define KVM_TSS_AT	    0xfffbd000UL
#define KVM_IDENTITY_MAP_AT 0xfffbc000ULL

#define VCPU_STACK KIB(256)

static void send_msi(void *data, uint64_t address, uint32_t msi_data)
{
	struct vm *vm = data;
	struct kvm_msi msi = { .address_lo = (uint32_t)address, .data = msi_data };

	/* Fails only if no LAPIC is addressed: then, as on a real bus, nobody hears it. */
	(void)kvm_call(&vm->kvm, vm->fd, KVM_SIGNAL_MSI, &msi);
}

void vm_irq(struct vm *vm, uint32_t gsi)
{
	if (gsi >= IOAPIC_PINS)
		return;
	if (vm->kvm.split_irqchip) {
		ioapic_raise(&vm->ioapic, gsi);
		return;
	}
	struct kvm_irq_level line = { .irq = gsi, .level = 1 };
	(void)kvm_call(&vm->kvm, vm->fd, KVM_IRQ_LINE, &line);
	line.level = 0;
	(void)kvm_call(&vm->kvm, vm->fd, KVM_IRQ_LINE, &line);
}

int vm_ioeventfd(struct vm *vm, uint64_t at, int event)
{
	struct kvm_ioeventfd e = { .addr = at, .len = 4, .fd = event };

	return kvm_call(&vm->kvm, vm->fd, KVM_IOEVENTFD, &e);
}

int vm_set_slot(struct vm *vm, size_t i)
{
	const struct vm_slot *s = &vm->slots[i];
	bool high = s->off >= GMEM_LOW_MAX;
	struct kvm_userspace_memory_region r = {
		.slot = (uint32_t)i,
		.flags = s->log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = high ? s->off - GMEM_LOW_MAX + GMEM_HIGH_START : s->off,
		.memory_size = s->len,
		.userspace_addr = (uintptr_t)vm->mem->base + s->off,
	};

	return kvm_call(&vm->kvm, vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

static void plan_slots(struct vm *vm)
{
	vm->slots[vm->n_slots++] = (struct vm_slot){ .len = gmem_low_size(vm->mem) };
	if (gmem_high_size(vm->mem))
		vm->slots[vm->n_slots++] =
			(struct vm_slot){ .off = GMEM_LOW_MAX, .len = gmem_high_size(vm->mem) };
}

static int set_slots(struct vm *vm, struct vial_err *err)
{
	for (size_t i = 0; i < vm->n_slots; i++) {
		int r = vm_set_slot(vm, i);

		if (r < 0)
			return err_sys(err, r, "kvm: memory slot of %llu MiB",
				       (unsigned long long)(vm->slots[i].len >> 20));
	}
	return 0;
}

static int make_irqchip(struct vm *vm, struct vial_err *err)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IOAPIC_PINS } };

	if (vm->kvm.split_irqchip) {
		int rc = kvm_call(&vm->kvm, vm->fd, KVM_ENABLE_CAP, &split);
		if (rc == 0)
			return bus_add(&vm->mmio, IOAPIC_BASE, IOAPIC_LEN, ioapic_access, &vm->ioapic);
		vm->kvm.split_irqchip = false;
	}
	int rc = kvm_call_n(&vm->kvm, vm->fd, KVM_CREATE_IRQCHIP, 0);
	return rc < 0 ? err_sys(err, rc, "kvm: interrupt controller") : 0;
}

static int make_vcpu(struct vm *vm, uint32_t id, struct vial_err *err)
{
	struct vcpu *v = &vm->vcpus[id];

	v->vm = vm;
	v->id = id;
	v->parked = true;
	v->fd = kvm_call_n(&vm->kvm, vm->fd, KVM_CREATE_VCPU, id);
	if (v->fd < 0)
		return err_sys(err, v->fd, "kvm: virtual CPU %u", id);
	vm->n_vcpus++;
	void *run = mmap(NULL, vm->kvm.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return err_sys(err, -errno, "kvm: virtual CPU %u's state", id);
	v->run = run;
	return 0;
}

/* make() - the order matters: with an irqchip there, each memory slot costs milliseconds */
static int make(struct vm *vm, uint32_t n_vcpus, struct vial_err *err)
{
	uint64_t identity = KVM_IDENTITY_MAP_AT;

	vm->fd = vm->kvm.vm_fd ? vm->kvm.vm_fd : kvm_call_n(&vm->kvm, vm->kvm.fd, KVM_CREATE_VM, 0);
	vm->kvm.vm_fd = 0;
	if (vm->fd < 0)
		return err_sys(err, vm->fd, "kvm: create a machine");
	int rc = kvm_call(&vm->kvm, vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (rc == 0)
		rc = kvm_call_n(&vm->kvm, vm->fd, KVM_SET_TSS_ADDR, KVM_TSS_AT);
	if (rc < 0)
		return err_sys(err, rc, "kvm: addresses of its own pages");
	rc = set_slots(vm, err);
	if (rc == 0)
		rc = make_irqchip(vm, err);
	for (uint32_t i = 0; rc == 0 && i < n_vcpus; i++)
		rc = make_vcpu(vm, i, err);
	return rc;
}

int vm_new(struct vm *ret, const struct kvm *kvm, struct gmem *mem, const struct vm_slot *slots,
	   size_t n_slots, uint32_t n_vcpus, struct vial_err *err)
{
	*ret = (struct vm){ .kvm = *kvm, .fd = -1, .mem = mem, .io_event = -1, .hold = true };
	pthread_mutex_init(&ret->lock, NULL);
	pthread_cond_init(&ret->changed, NULL);
	ioapic_init(&ret->ioapic, send_msi, ret);
	if (n_vcpus == 0 || n_vcpus > VM_VCPUS_MAX)
		return err_set(err, VIAL_E_INVALID, "%u virtual CPUs (1 to %d are possible)", n_vcpus,
			       VM_VCPUS_MAX);
	if (n_slots > VM_SLOTS_MAX)
		return err_set(err, VIAL_E_INVALID, "too many memory slots");
	if (n_slots)
		memcpy(ret->slots, slots, n_slots * sizeof(*slots));
	ret->n_slots = n_slots;
	if (n_slots == 0)
		plan_slots(ret);
	ret->io_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ret->io_event < 0)
		return err_sys(err, -errno, "eventfd");
	return make(ret, n_vcpus, err);
}

static void ignore_signal(int sig)
{
	(void)sig;
}

/* start_thread() - with a small stack: nothing of a vCPU's is deep */
static int start_thread(struct vcpu *v)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK);
	/* With the lock: another vCPU's thread may stop the machine already, which looks at all of them. */
	pthread_mutex_lock(&v->vm->lock);
	int rc = pthread_create(&v->thread, &attr, vcpu_thread, v);
	v->has_thread = rc == 0;
	pthread_mutex_unlock(&v->vm->lock);
	pthread_attr_destroy(&attr);
	return -rc;
}

int vm_start(struct vm *vm, int (*thread_init)(void *data, struct vial_err *err), void *data,
	     struct vial_err *err)
{
	/* No SA_RESTART: KVM_RUN shall return. */
	struct sigaction sa = { .sa_handler = ignore_signal };

	sigaction(VM_VCPU_SIGNAL, &sa, NULL);
	vm->thread_init = thread_init;
	vm->thread_data = data;
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		int r = start_thread(&vm->vcpus[i]);

		if (r < 0)
			return err_sys(err, r, "thread of virtual CPU %u", i);
	}
	return 0;
}

/* kick() - make every vCPU look at vm->hold; with the lock held */
static void kick(struct vm *vm)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		struct vcpu *v = &vm->vcpus[i];

		if (!v->has_thread || v->parked)
			continue;
		/* Before KVM_RUN it makes that return at once; in it, the signal does. */
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
		pthread_kill(v->thread, VM_VCPU_SIGNAL);
	}
}

static bool all_parked(const struct vm *vm)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		if (vm->vcpus[i].has_thread && !vm->vcpus[i].parked)
			return false;
	return true;
}

/*
 * run_jobs() - with the lock held, which is dropped meanwhile
 * As many as there are vCPUs, each of which waits for one: a guest that asks without end holds nobody up.
 */
static void run_jobs(struct vm *vm)
{
	for (uint32_t i = 0; vm->jobs && i < vm->n_vcpus; i++) {
		struct vm_job *j = vm->jobs;

		vm->jobs = j->next;
		pthread_mutex_unlock(&vm->lock);
		j->fn(j->data);
		pthread_mutex_lock(&vm->lock);
		j->done = true;
		pthread_cond_broadcast(&vm->changed);
	}
}

static void wake_io_thread(struct vm *vm)
{
	uint64_t one = 1;

	(void)!write(vm->io_event, &one, sizeof(one));
}

void vm_run_jobs(struct vm *vm)
{
	uint64_t n;

	(void)!read(vm->io_event, &n, sizeof(n));
	pthread_mutex_lock(&vm->lock);
	run_jobs(vm);
	if (vm->jobs)
		wake_io_thread(vm);
	pthread_mutex_unlock(&vm->lock);
}

void vm_on_io_thread(struct vm *vm, void (*fn)(void *data), void *data)
{
	struct vm_job job = { .fn = fn, .data = data };

	pthread_mutex_lock(&vm->lock);
	struct vm_job **end = &vm->jobs;
	while (*end)
		end = &(*end)->next;
	*end = &job;
	pthread_cond_broadcast(&vm->changed);
	wake_io_thread(vm);
	while (!job.done)
		pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

void vm_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->hold = true;
	kick(vm);
	while (!all_parked(vm)) {
		if (vm->jobs)
			run_jobs(vm);
		else
			pthread_cond_wait(&vm->changed, &vm->lock);
	}
	pthread_mutex_unlock(&vm->lock);
}

bool vm_is_paused(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	bool paused = vm->hold && all_parked(vm);
	pthread_mutex_unlock(&vm->lock);
	return paused;
}

void vm_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->hold = vm->stop_reason != 0;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

void vm_stop(struct vm *vm, uint32_t reason, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&vm->lock);
	if (!vm->stop_reason) {
		vm->stop_reason = reason;
		va_start(ap, fmt);
		vsnprintf(vm->stop_text, sizeof(vm->stop_text), fmt, ap);
		va_end(ap);
		vm->hold = true;
		kick(vm);
		wake_io_thread(vm);
	}
	pthread_mutex_unlock(&vm->lock);
}

uint32_t vm_stopped(struct vm *vm, char ret_text[VM_STOP_TEXT_MAX])
{
	pthread_mutex_lock(&vm->lock);
	uint32_t reason = vm->stop_reason;
	memcpy(ret_text, vm->stop_text, VM_STOP_TEXT_MAX);
	pthread_mutex_unlock(&vm->lock);
	return reason;
}

static void end_threads(struct vm *vm)
{
	vm_pause(vm);
	pthread_mutex_lock(&vm->lock);
	vm->leaving = true;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		if (vm->vcpus[i].has_thread)
			pthread_join(vm->vcpus[i].thread, NULL);
}

void vm_done(struct vm *vm)
{
	if (!vm->mem)
		return;
	end_threads(vm);
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		if (vm->vcpus[i].run)
			munmap(vm->vcpus[i].run, vm->kvm.run_size);
		fd_close(&vm->vcpus[i].fd);
	}
	fd_close(&vm->fd);
	fd_close(&vm->io_event);
	ioapic_done(&vm->ioapic);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
	vm->mem = NULL;
}

void vm_count(const struct vm *vm, uint64_t *ret_exits, uint64_t *ret_accesses)
{
	*ret_exits = *ret_accesses = 0;
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		*ret_exits += __atomic_load_n(&vm->vcpus[i].exits, __ATOMIC_RELAXED);
		*ret_accesses += __atomic_load_n(&vm->vcpus[i].accesses, __ATOMIC_RELAXED);
	}
}
