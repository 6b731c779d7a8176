// SPDX-License-Identifier: Apache-2.0
// ACPI tables. Field offsets: ACPI 6.4, chapter 5.2.
#include "vmm/x86/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "vmm/boot/layout.h"
#include "vmm/ioapic.h"
#include "vmm/virtio/mmio.h"
#include "vmm/x86/aml.h"

#define LAPIC_BASE    0xfee00000u
#define HEADER	      36
#define RSDP_LEN      36
#define FADT_LEN      276
#define FADT_REVISION 6

/* FADT flags [5.2.9] and boot architecture flags [5.2.9.3] */
#define FADT_WBINVD	       (1u << 0)
#define FADT_RESET_REG	       (1u << 10)
#define FADT_HW_REDUCED	       (1u << 20)
#define FADT_SLEEP_BUTTON_NO   (1u << 5) /* no fixed one */
#define BOOT_NO_VGA	       (1u << 2)
#define BOOT_NO_CMOS_RTC       (1u << 5)
#define FADT_OFF_BOOT_ARCH     109
#define FADT_OFF_FLAGS	       112
#define FADT_OFF_RESET_REG     116
#define FADT_OFF_RESET_VALUE   128
#define FADT_OFF_MINOR	       131
#define FADT_OFF_X_DSDT	       140
#define FADT_OFF_SLEEP_CONTROL 244
#define FADT_OFF_SLEEP_STATUS  256
#define FADT_OFF_HYPERVISOR    268
#define GAS_SYSTEM_IO	       1
#define SLEEP_TYPE_S5	       5

/* struct tables - a writing position in guest memory */
struct tables {
	struct gmem *m;
	uint64_t at;
	int result;
};

static uint8_t checksum(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + b[i]);
	return (uint8_t)-sum;
}

static void put_le(uint8_t *at, uint64_t v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

/* place() - put @n bytes into guest memory; returns their address */
static uint64_t place(struct tables *t, const void *p, size_t n)
{
	uint64_t at = t->at;

	if (at + n > LAYOUT_ACPI + LAYOUT_ACPI_MAX)
		t->result = -ENOSPC;
	if (t->result == 0)
		t->result = gmem_write(t->m, gpa(at), p, n);
	t->at = (at + n + 15) & ~15ULL;
	return at;
}

/* place_table() - @b holds room for the header and the body */
static uint64_t place_table(struct tables *t, struct buf *b, const char *signature, uint8_t revision)
{
	uint8_t *h = (uint8_t *)b->data;

	if (!buf_ok(b)) {
		t->result = -ENOMEM;
		return 0;
	}
	memcpy(h, signature, 4);
	put_le(h + 4, b->len, 4);
	h[8] = revision;
	h[9] = 0;
	memcpy(h + 10, "VIAL  VIALVMM ", 14);
	put_le(h + 24, 1, 4);
	memcpy(h + 28, "VIAL", 4);
	put_le(h + 32, 1, 4);
	h[9] = checksum(h, b->len);
	return place(t, h, b->len);
}

static void put_header(struct buf *b)
{
	static const uint8_t zeros[HEADER];

	buf_append(b, zeros, sizeof(zeros));
}

static void add_virtio(struct buf *sb, uint32_t n)
{
	_cleanup_buf_ struct buf dev = { 0 }, res = { 0 };
	char name[5];

	snprintf(name, sizeof(name), "VR%02X", n & 0xff);
	aml_memory(&res, (uint32_t)(MMIO_BASE + n * MMIO_LEN), (uint32_t)MMIO_LEN);
	aml_interrupt_edge(&res, MMIO_GSI + n);
	aml_name_string(&dev, "_HID", "LNRO0005");
	aml_name_integer(&dev, "_UID", n);
	aml_name_resources(&dev, "_CRS", &res);
	aml_device(sb, name, &dev);
}

/* add_events() - the generic event device; its one event is the power button */
static void add_events(struct buf *sb)
{
	_cleanup_buf_ struct buf button = { 0 }, ged = { 0 }, res = { 0 }, evt = { 0 };

	aml_name(&button, "_HID");
	aml_integer(&button, aml_eisa_id("PNP0C0C"));
	aml_device(sb, "PWRB", &button);
	aml_interrupt_edge(&res, ACPI_GSI_POWER);
	aml_notify(&evt, "PWRB", 0x80);
	aml_name_string(&ged, "_HID", "ACPI0013");
	aml_name_integer(&ged, "_UID", 0);
	aml_name_resources(&ged, "_CRS", &res);
	aml_method(&ged, "_EVT", 1, &evt);
	aml_device(sb, "GED_", &ged);
}

static uint64_t write_dsdt(struct tables *t, uint32_t windows)
{
	_cleanup_buf_ struct buf dsdt = { 0 }, sb = { 0 };
	static const uint32_t s5[] = { SLEEP_TYPE_S5, 0, 0, 0 };

	put_header(&dsdt);
	add_events(&sb);
	for (uint32_t n = 0; n < MMIO_MAX; n++)
		if (windows & 1u << n)
			add_virtio(&sb, n);
	aml_scope_sb(&dsdt, &sb);
	aml_name_package(&dsdt, "_S5_", s5, ARRAY_SIZE(s5));
	return place_table(t, &dsdt, "DSDT", 2);
}

static void put_port(uint8_t *gas, uint16_t port)
{
	gas[0] = GAS_SYSTEM_IO;
	gas[1] = 8; /* bits */
	gas[2] = 0;
	gas[3] = 1; /* byte accesses */
	put_le(gas + 4, port, 8);
}

static uint64_t write_fadt(struct tables *t, uint64_t dsdt)
{
	_cleanup_buf_ struct buf fadt = { 0 };
	uint8_t body[FADT_LEN] = { 0 };

	put_le(body + FADT_OFF_BOOT_ARCH, BOOT_NO_VGA | BOOT_NO_CMOS_RTC, 2);
	put_le(body + FADT_OFF_FLAGS, FADT_WBINVD | FADT_SLEEP_BUTTON_NO | FADT_RESET_REG | FADT_HW_REDUCED,
	       4);
	put_port(body + FADT_OFF_RESET_REG, ACPI_PORT_RESET);
	body[FADT_OFF_RESET_VALUE] = ACPI_RESET_VALUE;
	body[FADT_OFF_MINOR] = 4;
	put_le(body + FADT_OFF_X_DSDT, dsdt, 8);
	put_port(body + FADT_OFF_SLEEP_CONTROL, ACPI_PORT_SLEEP);
	put_port(body + FADT_OFF_SLEEP_STATUS, ACPI_PORT_STATUS);
	memcpy(body + FADT_OFF_HYPERVISOR, "VIAL    ", 8);
	buf_append(&fadt, body, sizeof(body));
	return place_table(t, &fadt, "FACP", FADT_REVISION);
}

static uint64_t write_madt(struct tables *t, uint32_t n_vcpus)
{
	_cleanup_buf_ struct buf madt = { 0 };
	uint8_t head[8] = { 0 }, io[12] = { 1, 12, 0 };

	put_header(&madt);
	put_le(head, LAPIC_BASE, 4);
	buf_append(&madt, head, sizeof(head));
	for (uint32_t i = 0; i < n_vcpus; i++) {
		uint8_t cpu[8] = { 0, 8, (uint8_t)i, (uint8_t)i, 1 }; /* local APIC, enabled */

		buf_append(&madt, cpu, sizeof(cpu));
	}
	put_le(io + 4, IOAPIC_BASE, 4);
	buf_append(&madt, io, sizeof(io));
	return place_table(t, &madt, "APIC", 5);
}

static uint64_t write_xsdt(struct tables *t, const uint64_t *tables, size_t n)
{
	_cleanup_buf_ struct buf xsdt = { 0 };

	put_header(&xsdt);
	for (size_t i = 0; i < n; i++) {
		uint8_t at[8];

		put_le(at, tables[i], 8);
		buf_append(&xsdt, at, sizeof(at));
	}
	return place_table(t, &xsdt, "XSDT", 1);
}

static int write_rsdp(struct gmem *m, uint64_t xsdt)
{
	uint8_t rsdp[RSDP_LEN] = { 0 };

	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "VIAL  ", 6);
	rsdp[15] = 2;
	put_le(rsdp + 20, sizeof(rsdp), 4);
	put_le(rsdp + 24, xsdt, 8);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, sizeof(rsdp));
	return gmem_write(m, gpa(LAYOUT_ACPI), rsdp, sizeof(rsdp));
}

int acpi_write(struct gmem *m, uint32_t n_vcpus, uint32_t windows, struct vial_err *err)
{
	struct tables t = { .m = m, .at = LAYOUT_ACPI + 64 };
	uint64_t tables[2];

	tables[0] = write_fadt(&t, write_dsdt(&t, windows));
	tables[1] = write_madt(&t, n_vcpus);
	uint64_t xsdt = write_xsdt(&t, tables, ARRAY_SIZE(tables));
	if (t.result == 0)
		t.result = write_rsdp(m, xsdt);
	return t.result < 0 ? err_sys(err, t.result, "ACPI tables") : 0;
}
