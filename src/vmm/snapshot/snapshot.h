/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving a paused machine, and making one from what was saved.
 *
 * Saving: devices give back what they hold (quiesce), then vCPUs, interrupt controller, clock and devices go into
 * the state file, memory into another or nowhere if it is in a shared file already.
 * Restoring: the state is checked as a whole before anything is made of it; memory is mapped copy-on-write as its map
 * says; devices are there before their state, all before the first vCPU runs.
 */
#ifndef VMM_SNAPSHOT_SNAPSHOT_H
#define VMM_SNAPSHOT_SNAPSHOT_H

#include "vmm/snapshot/memmap.h"
#include "vmm/snapshot/state.h"
#include "vmm/virtio/mmio.h"
#include "vmm/vm.h"
#include "vmm/x86/cpuid.h"

#define SAVED_IRQCHIPS 3 /* two PICs and the I/O APIC, of an in-kernel irqchip */

struct machine;

/**
 * struct saved - a state file taken apart; everything points into @file
 * @file:	owned
 * @cpuid:	decoded
 * @vcpus:	@n_vcpus TLV lists; @devices: by window, p is NULL if there was none
 */
struct saved {
	char *file;
	uint32_t n_vcpus;
	uint32_t tsc_khz;
	uint64_t memory;
	uint64_t clock_ns;
	struct cpuid cpuid;
	struct tlv ioapic;
	struct tlv irqchips[SAVED_IRQCHIPS];
	size_t n_irqchips;
	struct tlv vcpus[VM_VCPUS_MAX];
	struct tlv devices[MMIO_MAX];
	struct tlv map;
};

/**
 * saved_open() - read and check a state file
 * @fd:		hostile; borrowed
 * @ret:	saved_done() on success
 */
int saved_open(int fd, struct saved *ret, struct vial_err *err);
/* saved_parse() - the same from memory: @file is malloc'ed and taken over, @n bytes (fuzzers) */
int saved_parse(char *file, size_t n, struct saved *ret, struct vial_err *err);
void saved_done(struct saved *s);

/**
 * snapshot_save() - write the paused machine's state to @state, memory as @flags (VMM_SNAP_*) ask to @memory
 * @memory:	-1 without VMM_SNAP_MEMORY
 * The machine can go on afterwards, also after an error.
 */
int snapshot_save(struct machine *m, int state, int memory, uint32_t flags, struct vial_err *err);

/* snapshot_memory() - make m->mem and m->map for a machine that is restored, after machine's m->saved is there */
int snapshot_memory(struct machine *m, struct vial_err *err);
/* snapshot_cpus() - check that this host can go on with it; set CPUID and TSC frequency of all vCPUs */
int snapshot_cpus(struct machine *m, struct vial_err *err);
/* snapshot_load() - everything else, into a machine whose devices are there and whose vCPUs never ran */
int snapshot_load(struct machine *m, struct vial_err *err);

#endif
