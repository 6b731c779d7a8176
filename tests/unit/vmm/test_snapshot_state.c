// SPDX-License-Identifier: Apache-2.0
// The state file's frame and its parts, as they should be and altered in every way.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/snapshot/snapshot.h"

/* What to leave out or to change: a tag, 0 for nothing. */
struct variant {
	uint16_t without;
	uint16_t twice;
	uint16_t resized;
	bool unknown;
};

static const struct kvm_cpuid_entry2 cpuid[2];
static const struct ioapic_state ioapic;
static const struct memmap_extent extents[] = { { 0, 4096, 0 } };

static void put(struct buf *b, const struct variant *v, uint16_t tag, const void *p, size_t n)
{
	if (v->without == tag)
		return;
	tlv_put(b, tag, p, v->resized == tag ? n - 1 : n);
	if (v->twice == tag)
		tlv_put(b, tag, p, n);
}

static void compose(struct buf *b, const struct variant *v)
{
	uint32_t layout = STATE_LAYOUT, page = GMEM_PAGE, n = 1, khz = 2000000;
	uint64_t memory = MIB(16), clock = 5;
	uint8_t device[40] = { 2 };

	state_begin(b);
	put(b, v, STATE_TAG_ARCH, STATE_ARCH, strlen(STATE_ARCH));
	put(b, v, STATE_TAG_ENGINE, STATE_ENGINE, strlen(STATE_ENGINE));
	put(b, v, STATE_TAG_LAYOUT, &layout, sizeof(layout));
	put(b, v, STATE_TAG_PAGE, &page, sizeof(page));
	put(b, v, STATE_TAG_MEMORY, &memory, sizeof(memory));
	put(b, v, STATE_TAG_VCPUS, &n, sizeof(n));
	put(b, v, STATE_TAG_TSC_KHZ, &khz, sizeof(khz));
	put(b, v, STATE_TAG_CPUID, cpuid, sizeof(cpuid));
	put(b, v, STATE_TAG_CLOCK, &clock, sizeof(clock));
	put(b, v, STATE_TAG_IOAPIC, &ioapic, sizeof(ioapic));
	put(b, v, STATE_TAG_VCPU, "registers", 9);
	put(b, v, STATE_TAG_DEVICE, device, sizeof(device));
	put(b, v, STATE_TAG_MAP, extents, sizeof(extents));
	if (v->unknown)
		tlv_put(b, STATE_TAGS_N, "x", 1);
	assert_int_equal(state_end(b), 0);
}

static int parse(const struct buf *b, struct saved *ret, struct vial_err *err)
{
	char *copy = malloc(b->len);

	memcpy(copy, b->data, b->len);
	return saved_parse(copy, b->len, ret, err);
}

static void test_good(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct vial_err err = VIAL_ERR_INIT;
	_cleanup_(saved_done) struct saved s;
	static const struct variant whole;

	(void)state;
	compose(&b, &whole);
	assert_int_equal(parse(&b, &s, &err), 0);
	assert_int_equal(s.memory, MIB(16));
	assert_int_equal(s.n_vcpus, 1);
	assert_int_equal(s.tsc_khz, 2000000);
	assert_int_equal(s.clock_ns, 5);
	assert_int_equal(s.cpuid.n, 2);
	assert_int_equal(s.vcpus[0].n, 9);
	assert_int_equal(s.devices[2].n, 36);
	assert_null(s.devices[0].p);
}

static void expect(const struct variant *v, int code)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct vial_err err = VIAL_ERR_INIT;
	struct saved s;

	compose(&b, v);
	assert_int_equal(parse(&b, &s, &err), code);
	assert_true(err.msg[0] != '\0');
	assert_null(s.file);
}

static void test_parts(void **state)
{
	(void)state;
	for (uint16_t tag = 1; tag < STATE_TAGS_N; tag++) {
		struct variant gone = { .without = tag }, twice = { .twice = tag }, cut = { .resized = tag };

		if (tag == STATE_TAG_IRQCHIP)
			continue;
		if (tag != STATE_TAG_DEVICE) /* a machine may have none */
			expect(&gone, VIAL_E_CORRUPT);
		expect(&twice, VIAL_E_CORRUPT);
		if (tag == STATE_TAG_ARCH || tag == STATE_TAG_ENGINE || tag == STATE_TAG_PAGE)
			expect(&cut, VIAL_E_UNSUPPORTED);
		else if (tag != STATE_TAG_VCPU && tag != STATE_TAG_DEVICE && tag != STATE_TAG_MAP)
			expect(&cut, VIAL_E_CORRUPT); /* of the other three only later steps know the size */
	}
	struct variant unknown = { .unknown = true };
	expect(&unknown, VIAL_E_UNSUPPORTED);
}

static void test_every_byte_counts(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };
	static const struct variant whole;

	(void)state;
	compose(&b, &whole);
	for (size_t i = 0; i < b.len; i++) {
		struct vial_err err = VIAL_ERR_INIT;
		struct saved s;

		b.data[i] ^= 1;
		int r = parse(&b, &s, &err);
		assert_true(r == VIAL_E_CORRUPT || r == VIAL_E_UNSUPPORTED);
		b.data[i] ^= 1;
	}
	for (size_t n = 0; n < b.len; n += 7) {
		struct vial_err err = VIAL_ERR_INIT;
		struct buf cut = { .data = b.data, .len = n };
		struct saved s;

		assert_int_equal(parse(&cut, &s, &err), VIAL_E_CORRUPT);
	}
}

static void test_other_version(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct vial_err err = VIAL_ERR_INIT;
	static const struct variant whole;
	struct saved s;

	(void)state;
	compose(&b, &whole);
	b.data[16] = STATE_VERSION + 1;
	assert_int_equal(parse(&b, &s, &err), VIAL_E_UNSUPPORTED);
	assert_string_equal(err.msg, "machine state: version 2, and this is for version 1");
}

static void test_files(void **state)
{
	_cleanup_fd_ int fd = memfd_create("t", MFD_CLOEXEC);
	struct vial_err err = VIAL_ERR_INIT, empty = VIAL_ERR_INIT;
	_cleanup_buf_ struct buf b = { 0 };
	static const struct variant whole;
	_cleanup_(saved_done) struct saved s;

	(void)state;
	assert_int_equal(saved_open(fd, &s, &empty), VIAL_E_CORRUPT);
	compose(&b, &whole);
	assert_int_equal(write(fd, b.data, b.len), b.len);
	assert_int_equal(saved_open(fd, &s, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_every_byte_counts),
		cmocka_unit_test(test_other_version),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
