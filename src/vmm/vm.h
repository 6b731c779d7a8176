/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine: memory slots, interrupt controller, buses, vCPU threads.
 *
 * Theory of operation
 *
 * Threads: the I/O thread (which calls everything here unless said otherwise) and one per vCPU. vCPU threads run the guest,
 * answer register accesses, and hand what belongs to the I/O thread to it (vm_on_io_thread()).
 * States: new -> vm_start() -> paused <-> running -> stopping. vCPU threads exist from vm_start() on and are
 * parked while paused: every KVM_RUN has then completed its last access, so registers and memory hold still
 * and may be read and written from the I/O thread.
 * Waiting: the I/O thread waits for vCPUs to park, a vCPU waits for the I/O thread to do its job; so that this cannot
 * lock up, vm_pause() does such jobs while it waits.
 * One mutex (lock) guards the states, the jobs and the reason to stop; one condition variable tells changes.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "vial/error.h"
#include "vmm/bus.h"
#include "vmm/ioapic.h"
#include "vmm/kvm.h"
#include "vmm/mem.h"
#include "wire/vmm.h"

#define VM_VCPUS_MAX	 64
#define VM_SLOTS_MAX	 32 /* few: each costs time to set */
#define VM_STOP_TEXT_MAX 256
/* VM_VCPU_SIGNAL - gets a vCPU thread out of KVM_RUN; its handler does nothing */
#define VM_VCPU_SIGNAL SIGUSR1

struct vm;

/**
 * struct vcpu - one virtual CPU and its thread
 * @parked:	the thread stands outside KVM_RUN and the guest's last access is complete; under vm->lock
 * @exits, @accesses: KVM_RUN returns, and those that were register accesses; written by its thread, read by any
 */
struct vcpu {
	struct vm *vm;
	uint32_t id; /* also its APIC id */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
	bool parked;
	uint64_t exits;
	uint64_t accesses;
};

/* struct vm_job - something a vCPU wants done on the I/O thread, and waits for */
struct vm_job {
	void (*fn)(void *data);
	void *data;
	bool done;
	struct vm_job *next;
};

/**
 * struct vm_slot - a part of guest memory as KVM knows it
 * @off:	into gmem's mapping
 * @log:	KVM keeps which pages the guest writes
 */
struct vm_slot {
	uint64_t off;
	uint64_t len;
	bool log;
};

/**
 * struct vm - the machine
 * @mem:	borrowed; outlives it
 * @io_event:	eventfd: jobs wait or the machine stops
 * @stop_reason: enum vmm_exit, 0 while it may run; first reason wins
 */
struct vm {
	struct kvm kvm;
	int fd;
	struct gmem *mem;
	struct bus pio;
	struct bus mmio;
	struct ioapic ioapic;
	struct vm_slot slots[VM_SLOTS_MAX];
	size_t n_slots;
	struct vcpu vcpus[VM_VCPUS_MAX];
	uint32_t n_vcpus;
	int io_event;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool hold;    /* vCPUs shall park */
	bool leaving; /* vCPU threads shall end */
	struct vm_job *jobs;
	int (*thread_init)(void *data, struct vial_err *err);
	void *thread_data;
	uint32_t stop_reason;
	char stop_text[VM_STOP_TEXT_MAX];
};

/**
 * vm_new() - create machine, memory slots, interrupt controller and vCPUs (without threads)
 * @ret:	zeroed or done; always fit for vm_done() afterwards. Must not move: threads point to it
 * @mem:	its memory
 * @slots:	@n_slots parts that cover it, none over the hole below 4 GiB; @n_slots is 0: all of it, no log
 * @n_vcpus:	1..VM_VCPUS_MAX
 */
int vm_new(struct vm *ret, const struct kvm *kvm, struct gmem *mem, const struct vm_slot *slots,
	   size_t n_slots, uint32_t n_vcpus, struct vial_err *err);
/* vm_set_slot() - tell KVM about vm->slots[@i] (again, when its log was switched); 0 or -errno */
int vm_set_slot(struct vm *vm, size_t i);
/* vm_done() - ends the threads, closes everything */
void vm_done(struct vm *vm);

/**
 * vm_start() - start the vCPU threads, parked
 * @thread_init: run first in each vCPU thread (its seccomp filter); may be NULL. If it fails the machine stops
 */
int vm_start(struct vm *vm, int (*thread_init)(void *data, struct vial_err *err), void *data,
	     struct vial_err *err);
void vm_resume(struct vm *vm);
/* vm_pause() - returns when all vCPUs are parked; what they asked of the I/O thread is done */
void vm_pause(struct vm *vm);
/* vm_is_paused() - are all vCPUs parked, and will they stay so until vm_resume()? */
bool vm_is_paused(struct vm *vm);

/**
 * vm_stop() - the machine ends: vCPUs park, io_event is signalled. Any thread; the first call counts
 * @reason:	enum vmm_exit
 */
void vm_stop(struct vm *vm, uint32_t reason, const char *fmt, ...) _printf_(3, 4);

/* vm_stopped() - why it ends (enum vmm_exit), with its text; 0 (and no text) while it may run. Any thread */
uint32_t vm_stopped(struct vm *vm, char ret_text[VM_STOP_TEXT_MAX]);

/* vm_on_io_thread() - have @fn run on the I/O thread and wait for it; vCPU threads, holding no lock */
void vm_on_io_thread(struct vm *vm, void (*fn)(void *data), void *data);
/* vm_run_jobs() - do what vCPUs wait for now; call when io_event is readable, which it is again if there is more */
void vm_run_jobs(struct vm *vm);

/* vm_irq() - an edge on GSI @gsi; any thread */
void vm_irq(struct vm *vm, uint32_t gsi);
/* vm_ioeventfd() - let guest writes of 4 bytes at @at signal @event without leaving the kernel; 0 or -errno */
int vm_ioeventfd(struct vm *vm, uint64_t at, int event);

/* vm_count() - sums over all vCPUs */
void vm_count(const struct vm *vm, uint64_t *ret_exits, uint64_t *ret_accesses);

/* vcpu_thread() - a vCPU's life (struct vcpu *); in vcpu.c */
void *vcpu_thread(void *vcpu);

#endif
