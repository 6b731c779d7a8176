// SPDX-License-Identifier: Apache-2.0
// I/O APIC with edge-triggered pins.
#include "vmm/ioapic.h"

#include <string.h>

#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define VERSION	   (0x11u | (IOAPIC_PINS - 1) << 16)
#define MSI_BASE   0xfee00000ULL

enum { INDEX_ID = 0, INDEX_VERSION = 1, INDEX_ARBITRATION = 2, INDEX_ENTRIES = 0x10 };

#define ENTRY_VECTOR   0xffULL
#define ENTRY_DELIVERY 0x700ULL
#define ENTRY_LOGICAL  (1ULL << 11)
#define ENTRY_MASKED   (1ULL << 16)
/* vector, delivery mode, destination mode, polarity, trigger, mask, destination; status bits are ours */
#define ENTRY_WRITABLE 0xff0000000001afffULL
#define ID_WRITABLE    0x0f000000u

void ioapic_init(struct ioapic *a, void (*send)(void *, uint64_t, uint32_t), void *data)
{
	*a = (struct ioapic){ .send = send, .data = data };
	pthread_mutex_init(&a->lock, NULL);
	for (size_t i = 0; i < IOAPIC_PINS; i++)
		a->entries[i] = ENTRY_MASKED;
}

void ioapic_done(struct ioapic *a)
{
	pthread_mutex_destroy(&a->lock);
}

/* deliver() - an MSI says the same as a redirection entry, in other places [Intel SDM 3 10.11] */
static void deliver(struct ioapic *a, uint32_t pin)
{
	uint64_t e = a->entries[pin];
	uint64_t address = MSI_BASE | (e >> 56) << 12 | (e & ENTRY_LOGICAL ? 1 << 2 : 0);

	a->send(a->data, address, (uint32_t)(e & (ENTRY_VECTOR | ENTRY_DELIVERY)));
}

void ioapic_raise(struct ioapic *a, uint32_t pin)
{
	pthread_mutex_lock(&a->lock);
	if (a->entries[pin] & ENTRY_MASKED)
		a->pending |= 1u << pin;
	else
		deliver(a, pin);
	pthread_mutex_unlock(&a->lock);
}

static uint32_t read_window(const struct ioapic *a)
{
	uint32_t i = a->select;

	if (i == INDEX_ID || i == INDEX_ARBITRATION)
		return a->id;
	if (i == INDEX_VERSION)
		return VERSION;
	if (i < INDEX_ENTRIES || i >= INDEX_ENTRIES + 2 * IOAPIC_PINS)
		return 0;
	uint64_t e = a->entries[(i - INDEX_ENTRIES) / 2];
	return (uint32_t)(i & 1 ? e >> 32 : e);
}

static void write_window(struct ioapic *a, uint32_t v)
{
	uint32_t i = a->select;

	if (i == INDEX_ID)
		a->id = v & ID_WRITABLE;
	if (i < INDEX_ENTRIES || i >= INDEX_ENTRIES + 2 * IOAPIC_PINS)
		return;
	uint32_t pin = (i - INDEX_ENTRIES) / 2;
	uint64_t *e = &a->entries[pin];
	uint64_t old = *e;
	if (i & 1)
		*e = (uint64_t)v << 32 | (uint32_t)old;
	else
		*e = (old & ~0xffffffffULL) | v;
	*e &= ENTRY_WRITABLE;
	if (!(*e & ENTRY_MASKED) && (a->pending & 1u << pin)) {
		a->pending &= ~(1u << pin);
		deliver(a, pin);
	}
}

void ioapic_access(void *ioapic, uint64_t off, void *p, uint32_t n, bool write)
{
	struct ioapic *a = ioapic;
	uint32_t v = 0;

	if (n != 4 && !(n == 1 && off == REG_SELECT))
		return;
	pthread_mutex_lock(&a->lock);
	if (write) {
		memcpy(&v, p, n);
		if (off == REG_SELECT)
			a->select = v & 0xff;
		else if (off == REG_WINDOW)
			write_window(a, v);
	} else {
		v = off == REG_SELECT ? a->select : off == REG_WINDOW ? read_window(a) : 0;
		memcpy(p, &v, n);
	}
	pthread_mutex_unlock(&a->lock);
}

void ioapic_save(struct ioapic *a, struct ioapic_state *ret)
{
	pthread_mutex_lock(&a->lock);
	*ret = (struct ioapic_state){ .select = a->select, .id = a->id, .pending = a->pending };
	memcpy(ret->entries, a->entries, sizeof(ret->entries));
	pthread_mutex_unlock(&a->lock);
}

void ioapic_load(struct ioapic *a, const struct ioapic_state *s)
{
	pthread_mutex_lock(&a->lock);
	a->select = s->select & 0xff;
	a->id = s->id & ID_WRITABLE;
	a->pending = s->pending & ((1u << IOAPIC_PINS) - 1);
	for (size_t i = 0; i < IOAPIC_PINS; i++)
		a->entries[i] = s->entries[i] & ENTRY_WRITABLE;
	pthread_mutex_unlock(&a->lock);
}
