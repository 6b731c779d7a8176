/* SPDX-License-Identifier: Apache-2.0 */
/* The few I/O ports: ACPI's sleep and reset registers, and a UART that only sends, for early kernel messages. */
#ifndef VMM_PORTS_H
#define VMM_PORTS_H

#include "vmm/vm.h"

#define PORTS_UART	0x3f8
#define PORTS_UART_LEN	8
#define PORTS_LINE	256
#define PORTS_UART_REGS 8

/**
 * struct uart - 8250 at PORTS_UART, output only, without interrupts
 * @fd:		where its lines go, non-blocking (what does not go is dropped); borrowed
 */
struct uart {
	int fd;
	pthread_mutex_t lock;
	uint8_t regs[PORTS_UART_REGS];
	char line[PORTS_LINE];
	size_t n;
};

/* ports_add_power() - writing the sleep or reset register stops @vm */
int ports_add_power(struct vm *vm);
/* ports_add_uart() - @u must live as long as @vm; undone by nothing, its lock by nobody */
int ports_add_uart(struct vm *vm, struct uart *u, int fd);

#endif
