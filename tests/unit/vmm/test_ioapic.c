// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "vmm/ioapic.h"

#define MASKED 0x10000u

static struct {
	int n;
	uint64_t address;
	uint32_t data;
} sent;

static void send(void *data, uint64_t address, uint32_t msi_data)
{
	assert_ptr_equal(data, &sent);
	sent.n++;
	sent.address = address;
	sent.data = msi_data;
}

static void reg_write(struct ioapic *a, uint8_t index, uint32_t v)
{
	uint32_t i = index;

	ioapic_access(a, 0, &i, 4, true);
	ioapic_access(a, 0x10, &v, 4, true);
}

static uint32_t reg_read(struct ioapic *a, uint8_t index)
{
	uint32_t i = index, v = 0;

	ioapic_access(a, 0, &i, 4, true);
	ioapic_access(a, 0x10, &v, 4, false);
	return v;
}

static int setup(void **state)
{
	static struct ioapic a;

	memset(&sent, 0, sizeof(sent));
	ioapic_init(&a, send, &sent);
	*state = &a;
	return 0;
}

static int teardown(void **state)
{
	ioapic_done(*state);
	return 0;
}

static void test_identity(void **state)
{
	assert_int_equal(reg_read(*state, 1), 0x170011); /* 24 entries, no EOI register */
	reg_write(*state, 0, 0xffffffff);
	assert_int_equal(reg_read(*state, 0), 0x0f000000);
	assert_int_equal(reg_read(*state, 0x10), MASKED); /* all masked at first */
	assert_int_equal(reg_read(*state, 0x10 + 48), 0);
	assert_int_equal(reg_read(*state, 0xff), 0);
}

static void test_delivers(void **state)
{
	reg_write(*state, 0x10 + 2 * 5 + 1, 3u << 24); /* to APIC 3 */
	reg_write(*state, 0x10 + 2 * 5, 0x31);
	ioapic_raise(*state, 5);
	assert_int_equal(sent.n, 1);
	assert_int_equal(sent.address, 0xfee03000);
	assert_int_equal(sent.data, 0x31);
	reg_write(*state, 0x10 + 2 * 5, 0x931); /* lowest priority, logical */
	ioapic_raise(*state, 5);
	assert_int_equal(sent.address, 0xfee03004);
	assert_int_equal(sent.data, 0x131);
	ioapic_raise(*state, 6);
	assert_int_equal(sent.n, 2);
}

static void test_edge_while_masked(void **state)
{
	ioapic_raise(*state, 7);
	ioapic_raise(*state, 7);
	assert_int_equal(sent.n, 0);
	reg_write(*state, 0x10 + 14, 0x40);
	assert_int_equal(sent.n, 1); /* once */
	reg_write(*state, 0x10 + 14, 0x40);
	assert_int_equal(sent.n, 1);
}

static void test_odd_accesses(void **state)
{
	uint64_t v = UINT64_MAX;

	for (uint64_t off = 0; off < 0x40; off++)
		for (uint32_t n = 1; n <= 8; n *= 2) {
			ioapic_access(*state, off, &v, n, true);
			ioapic_access(*state, off, &v, n, false);
		}
	for (uint32_t i = 0; i < 256; i++)
		reg_write(*state, (uint8_t)i, 0xffffffff);
	assert_int_equal(sent.n, 0); /* all ones: masked */
}

static void test_save_load(void **state)
{
	struct ioapic_state s;
	struct ioapic b;

	reg_write(*state, 0x10 + 10, 0x31);
	ioapic_raise(*state, 9);
	ioapic_save(*state, &s);
	ioapic_init(&b, send, &sent);
	ioapic_load(&b, &s);
	assert_int_equal(reg_read(&b, 0x10 + 10), 0x31);
	reg_write(&b, 0x10 + 18, 0x41);
	assert_int_equal(sent.n, 1); /* the edge that was kept */
	memset(&s, 0xff, sizeof(s));
	ioapic_load(&b, &s);
	for (uint32_t i = 0; i < IOAPIC_PINS; i++)
		ioapic_raise(&b, i);
	assert_int_equal(sent.n, 1);
	ioapic_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_delivers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_edge_while_masked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_accesses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
