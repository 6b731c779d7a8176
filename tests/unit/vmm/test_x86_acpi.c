// SPDX-License-Identifier: Apache-2.0
// The ACPI tables a guest finds: checksums, links, and what they say.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "vmm/boot/layout.h"
#include "vmm/x86/acpi.h"
#include "vmm/x86/aml.h"

static struct gmem mem;

static uint64_t get(const uint8_t *p, unsigned int n)
{
	uint64_t v = 0;

	memcpy(&v, p, n);
	return v;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* table() - the table at a guest address, its signature and checksum checked */
static const uint8_t *table(uint64_t at, const char *signature)
{
	const uint8_t *p = gmem_span(&mem, gpa(at), 36);

	assert_non_null(p);
	assert_memory_equal(p, signature, 4);
	assert_true(at + get(p + 4, 4) <= LAYOUT_ACPI + LAYOUT_ACPI_MAX);
	assert_int_equal(sum(p, get(p + 4, 4)), 0);
	return p;
}

static void write_tables(uint32_t n_vcpus, uint32_t windows)
{
	struct vial_err err = VIAL_ERR_INIT;

	memset(mem.base + LAYOUT_ACPI, 0, LAYOUT_ACPI_MAX);
	assert_int_equal(acpi_write(&mem, n_vcpus, windows, &err), 0);
}

static const uint8_t *from_xsdt(unsigned int i, const char *signature)
{
	const uint8_t *rsdp = mem.base + LAYOUT_ACPI;
	const uint8_t *xsdt = table(get(rsdp + 24, 8), "XSDT");

	return table(get(xsdt + 36 + 8 * i, 8), signature);
}

static void test_rsdp(void **state)
{
	const uint8_t *rsdp = mem.base + LAYOUT_ACPI;

	(void)state;
	write_tables(1, 0);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(rsdp[15], 2);
}

static void test_fadt(void **state)
{
	(void)state;
	write_tables(1, 1);
	const uint8_t *f = from_xsdt(0, "FACP");
	assert_int_equal(get(f + 4, 4), 276);
	assert_true(get(f + 112, 4) & 1u << 20); /* hardware-reduced */
	assert_true(get(f + 112, 4) & 1u << 10); /* reset register */
	assert_int_equal(f[116], 1);		 /* in I/O space */
	assert_int_equal(get(f + 120, 8), ACPI_PORT_RESET);
	assert_int_equal(f[128], ACPI_RESET_VALUE);
	assert_int_equal(get(f + 248, 8), ACPI_PORT_SLEEP);
	assert_int_equal(get(f + 260, 8), ACPI_PORT_STATUS);
	assert_int_equal(get(f + 109, 2) & 2, 0); /* no keyboard controller */
	table(get(f + 140, 8), "DSDT");
}

static void test_madt(void **state)
{
	(void)state;
	write_tables(64, 0);
	const uint8_t *m = from_xsdt(1, "APIC"), *end = m + get(m + 4, 4);
	unsigned int cpus = 0, ioapics = 0;
	for (const uint8_t *e = m + 44; e < end; e += e[1]) {
		assert_true(e[1] >= 8 && e + e[1] <= end);
		if (e[0] == 0) {
			assert_int_equal(e[3], cpus);
			assert_int_equal(e[4], 1);
			cpus++;
		} else {
			assert_int_equal(e[0], 1);
			assert_int_equal(get(e + 4, 4), 0xfec00000);
			assert_int_equal(get(e + 8, 4), 0);
			ioapics++;
		}
	}
	assert_int_equal(cpus, 64);
	assert_int_equal(ioapics, 1);
}

static unsigned int count(const uint8_t *p, size_t n, const void *what, size_t len)
{
	unsigned int found = 0;

	for (size_t i = 0; i + len <= n; i++)
		found += !memcmp(p + i, what, len);
	return found;
}

static void test_dsdt(void **state)
{
	static const uint8_t window3[] = { 0x86, 9, 0, 1, 0, 0x30, 0, 0xd0, 0, 0x10, 0, 0 };
	static const uint8_t gsi8[] = { 0x89, 6, 0, 3, 1, 8, 0, 0, 0, 0x79, 0 };

	(void)state;
	write_tables(1, 1u << 0 | 1u << 3);
	const uint8_t *d = table(get(from_xsdt(0, "FACP") + 140, 8), "DSDT");
	size_t n = get(d + 4, 4);
	assert_int_equal(count(d, n, "LNRO0005", 9), 2);
	assert_int_equal(count(d, n, "ACPI0013", 9), 1);
	assert_int_equal(count(d, n, "_S5_", 4), 1);
	assert_int_equal(count(d, n, window3, sizeof(window3)), 1);
	assert_int_equal(count(d, n, gsi8, sizeof(gsi8)), 1);
	write_tables(1, 0xffff);
	d = table(get(from_xsdt(0, "FACP") + 140, 8), "DSDT");
	assert_int_equal(count(d, get(d + 4, 4), "LNRO0005", 9), 16);
}

static void test_aml(void **state)
{
	_cleanup_buf_ struct buf b = { 0 }, inner = { 0 };
	static const uint8_t integers[] = { 0, 1, 0x0a, 2, 0x0a, 0xff, 0x0b, 0, 1, 0x0c, 0, 0, 1, 0 };
	char filler[5000] = { 0 };

	(void)state;
	aml_integer(&b, 0);
	aml_integer(&b, 1);
	aml_integer(&b, 2);
	aml_integer(&b, 0xff);
	aml_integer(&b, 0x100);
	aml_integer(&b, 0x10000);
	assert_int_equal(b.len, sizeof(integers));
	assert_memory_equal(b.data, integers, sizeof(integers));
	assert_int_equal(aml_eisa_id("PNP0C0C"), 0x0c0cd041);
	/* lengths of one, two and three bytes count themselves */
	static const struct {
		size_t n;
		uint8_t head[5];
		size_t head_len;
	} lengths[] = { { 10, { 0x5b, 0x82, 15 }, 3 },
			{ 58, { 0x5b, 0x82, 0x3f }, 3 },
			{ 59, { 0x5b, 0x82, 0x41, 0x04 }, 4 },
			{ 5000, { 0x5b, 0x82, 0x8f, 0x38, 0x01 }, 5 } };
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		buf_done(&b);
		buf_done(&inner);
		b = inner = (struct buf){ 0 };
		buf_append(&inner, filler, lengths[i].n);
		aml_device(&b, "ABCD", &inner);
		assert_memory_equal(b.data, lengths[i].head, lengths[i].head_len);
		assert_memory_equal(b.data + lengths[i].head_len, "ABCD", 4);
		assert_int_equal(b.len, lengths[i].head_len + 4 + lengths[i].n);
	}
}

static int setup(void **state)
{
	(void)state;
	return gmem_new_anon(&mem, MIB(16));
}

static int teardown(void **state)
{
	(void)state;
	gmem_done(&mem);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rsdp), cmocka_unit_test(test_fadt), cmocka_unit_test(test_madt),
		cmocka_unit_test(test_dsdt), cmocka_unit_test(test_aml),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
