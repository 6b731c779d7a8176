/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of a hardware-reduced machine [ACPI 6.4 4.1], so that stock kernels find CPUs, our I/O APIC,
 * virtio-mmio devices, how to power off and how to reset.
 */
#ifndef VMM_X86_ACPI_H
#define VMM_X86_ACPI_H

#include <stdint.h>

#include "vial/error.h"
#include "vmm/mem.h"

#define ACPI_PORT_SLEEP	 0x600 /* sleep control register */
#define ACPI_PORT_STATUS 0x601 /* sleep status register */
#define ACPI_PORT_RESET	 0x602
#define ACPI_PORTS	 3
#define ACPI_SLP_EN	 0x20 /* in the sleep control register */
#define ACPI_RESET_VALUE 0x01
#define ACPI_GSI_POWER	 4 /* generic event: power button */

/**
 * acpi_write() - put RSDP, XSDT, FADT, MADT and DSDT at LAYOUT_ACPI
 * @n_vcpus:	1..254, APIC ids from 0
 * @windows:	bit n: virtio-mmio window n has a device
 */
int acpi_write(struct gmem *m, uint32_t n_vcpus, uint32_t windows, struct vial_err *err);

#endif
