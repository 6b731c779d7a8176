// SPDX-License-Identifier: Apache-2.0
// ACPI power registers and the early console.
#include "vmm/ports.h"

#include <unistd.h>

#include "vmm/x86/acpi.h"

enum { UART_DATA = 0, UART_IIR = 2, UART_LCR = 3, UART_LSR = 5, UART_MSR = 6 };
#define LCR_DLAB     0x80
#define LSR_EMPTY    0x60 /* transmitter has nothing to do */
#define IIR_NOTHING  0x01 /* no interrupt pending */
#define MSR_ALL_WELL 0xb0 /* carrier, data set ready, clear to send */

static void power_access(void *data, uint64_t off, void *p, uint32_t n, bool write)
{
	struct vm *vm = data;
	uint8_t v = *(uint8_t *)p;

	(void)n;
	if (!write)
		return;
	if (off == ACPI_PORT_SLEEP - ACPI_PORT_SLEEP && (v & ACPI_SLP_EN))
		vm_stop(vm, VMM_EXIT_POWEROFF, "the guest powered off");
	if (off == ACPI_PORT_RESET - ACPI_PORT_SLEEP && v == ACPI_RESET_VALUE)
		vm_stop(vm, VMM_EXIT_RESET, "the guest wanted a reset");
}

int ports_add_power(struct vm *vm)
{
	return bus_add(&vm->pio, ACPI_PORT_SLEEP, ACPI_PORTS, power_access, vm);
}

static void uart_put(struct uart *u, char c)
{
	u->line[u->n++] = c;
	if (c != '\n' && u->n < sizeof(u->line))
		return;
	(void)!write(u->fd, u->line, u->n);
	u->n = 0;
}

static uint8_t uart_read(const struct uart *u, uint64_t off)
{
	switch (off) {
	case UART_DATA:
		return u->regs[UART_LCR] & LCR_DLAB ? u->regs[0] : 0;
	case UART_IIR:
		return IIR_NOTHING;
	case UART_LSR:
		return LSR_EMPTY;
	case UART_MSR:
		return MSR_ALL_WELL;
	default:
		return u->regs[off];
	}
}

static void uart_access(void *data, uint64_t off, void *p, uint32_t n, bool write)
{
	struct uart *u = data;
	uint8_t *v = p;

	if (n != 1)
		return;
	pthread_mutex_lock(&u->lock);
	if (!write)
		*v = uart_read(u, off);
	else if (off == UART_DATA && !(u->regs[UART_LCR] & LCR_DLAB))
		uart_put(u, (char)*v);
	else
		u->regs[off] = *v;
	pthread_mutex_unlock(&u->lock);
}

int ports_add_uart(struct vm *vm, struct uart *u, int fd)
{
	*u = (struct uart){ .fd = fd };
	pthread_mutex_init(&u->lock, NULL);
	return bus_add(&vm->pio, PORTS_UART, PORTS_UART_LEN, uart_access, u);
}
