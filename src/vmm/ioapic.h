/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our I/O APIC, for a split irqchip: 24 pins, every interrupt an edge [82093AA; ACPI 6.4 5.2.12.3].
 *
 * The guest programs redirection entries (vCPU threads); devices raise pins (any thread); each raise becomes one MSI to
 * the LAPICs in the kernel. Level-triggered entries are treated as edges: all our devices' lines are declared so.
 * An edge on a masked pin is kept and sent when it is unmasked: an interrupt too many is harmless, one too few is not.
 */
#ifndef VMM_IOAPIC_H
#define VMM_IOAPIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_PINS 24
#define IOAPIC_BASE 0xfec00000ULL
#define IOAPIC_LEN  0x1000ULL

/**
 * struct ioapic
 * @send:	inject an MSI; any thread, called with the lock held
 * @lock:	guards what follows
 * @pending:	edges seen while masked
 */
struct ioapic {
	void (*send)(void *data, uint64_t address, uint32_t msi_data);
	void *data;
	pthread_mutex_t lock;
	uint32_t select;
	uint32_t id;
	uint32_t pending;
	uint64_t entries[IOAPIC_PINS];
};

/* struct ioapic_state - what a snapshot keeps, as it lies in the file (little-endian) */
struct ioapic_state {
	uint32_t select;
	uint32_t id;
	uint32_t pending;
	uint32_t reserved;
	uint64_t entries[IOAPIC_PINS];
};

void ioapic_init(struct ioapic *a, void (*send)(void *, uint64_t, uint32_t), void *data);
void ioapic_done(struct ioapic *a);
/* ioapic_access() - a bus_fn */
void ioapic_access(void *ioapic, uint64_t off, void *p, uint32_t n, bool write);
/* ioapic_raise() - an edge on @pin (0..IOAPIC_PINS-1) */
void ioapic_raise(struct ioapic *a, uint32_t pin);
void ioapic_save(struct ioapic *a, struct ioapic_state *ret);
/* ioapic_load() - @s may be hostile: every bit pattern is a valid state */
void ioapic_load(struct ioapic *a, const struct ioapic_state *s);

#endif
