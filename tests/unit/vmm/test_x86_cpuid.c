// SPDX-License-Identifier: Apache-2.0
// The CPU that guests see, made of hosts' CPUs that are played.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "vmm/x86/cpuid.h"

#define BIT(n) (1u << (n))

static struct kvm_cpuid_entry2 host[32];
static uint32_t n_host;

static void add(uint32_t leaf, uint32_t index, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	host[n_host++] = (struct kvm_cpuid_entry2){
		.function = leaf, .index = index, .eax = a, .ebx = b, .ecx = c, .edx = d
	};
}

static int fake_ioctl(int fd, unsigned long req, void *arg)
{
	(void)fd;
	if (req != KVM_GET_SUPPORTED_CPUID)
		return -ENOTTY;
	struct kvm_cpuid2 *c = arg;
	if (c->nent < n_host)
		return -E2BIG;
	c->nent = n_host;
	memcpy((uint8_t *)arg + sizeof(*c), host, n_host * sizeof(host[0]));
	return 0;
}

static void words(const char *s, uint32_t w[4])
{
	memcpy(w, s, 16);
}

static int setup(void **state)
{
	uint32_t w[4];

	(void)state;
	n_host = 0;
	add(0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69); /* GenuineIntel */
	add(1, 0, 0x906ea, 0xff100800, 0xffffffff & ~(BIT(24) | BIT(31)), 0x0fffffff);
	add(4, 0, 0xfc004121, 0, 0, 0);
	add(4, 3, 0xfc03c163, 0, 0, 0);
	add(6, 0, 0x77, 2, 9, 1);
	add(7, 0, 0, 0xffffffff, 0xffffffff, 0);
	add(0xa, 0, 0x07300404, 0, 0, 0x603);
	add(0xb, 0, 1, 2, 0x100, 9);
	add(0xd, 0, 7, 576, 832, 0);
	add(0x40000000, 0, 0x40000001, 0, 0, 0);
	add(0x40000001, 0, 0x0100ffff, 0, 0, 0);
	add(0x80000001, 0, 0, 0, 0xffffffff, 0xffffffff);
	for (uint32_t i = 0; i < 3; i++) {
		words(&"Fake CPU 3000\x1b[1mXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"[16 * i], w);
		add(0x80000002 + i, 0, w[0], w[1], w[2], w[3]);
	}
	add(0x80000008, 0, 0x3027, 0, 0x7007, 0);
	return 0;
}

static const struct kvm_cpuid_entry2 *find(const struct cpuid *c, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->e[i].function == leaf && c->e[i].index == index)
			return &c->e[i];
	return NULL;
}

static void make(struct cpuid *c, uint32_t n_vcpus, bool deadline)
{
	struct kvm k = { .call = fake_ioctl, .tsc_deadline = deadline };
	struct vial_err err = VIAL_ERR_INIT;

	memset(c, 0, sizeof(*c));
	assert_int_equal(cpuid_host(&k, n_vcpus, 2400000, c, &err), 0);
}

static void test_timers(void **state)
{
	struct cpuid c;

	(void)state;
	make(&c, 1, true);
	assert_true(find(&c, 1, 0)->ecx & BIT(24));
	assert_true(find(&c, 1, 0)->ecx & BIT(31));
	assert_int_equal(find(&c, 6, 0)->eax, BIT(2));
	assert_int_equal(find(&c, 6, 0)->ecx, 0);
	assert_int_equal(find(&c, 0x40000000, 0)->eax, 0x40000010);
	assert_int_equal(find(&c, 0x40000010, 0)->eax, 2400000);
	assert_int_equal(find(&c, 0x40000010, 0)->ebx, 1000000);
	make(&c, 1, false);
	assert_false(find(&c, 1, 0)->ecx & BIT(24));
}

static void test_stripped(void **state)
{
	struct cpuid c;

	(void)state;
	make(&c, 1, true);
	assert_false(find(&c, 1, 0)->ecx & BIT(5));	     /* VMX */
	assert_false(find(&c, 0x80000001, 0)->ecx & BIT(2)); /* SVM */
	assert_false(find(&c, 7, 0)->ebx & (BIT(2) | BIT(25)));
	assert_null(find(&c, 0xa, 0));
	assert_false(find(&c, 0x40000001, 0)->eax & (BIT(4) | BIT(10) | BIT(14))); /* async page faults */
	assert_true(find(&c, 0x40000001, 0)->eax & BIT(3));			   /* kvm-clock */
}

static void expect_topology(uint32_t n, uint32_t bits)
{
	struct cpuid c;

	make(&c, n, true);
	assert_int_equal(find(&c, 1, 0)->ebx >> 16 & 0xff, 1u << bits);
	assert_int_equal(!!(find(&c, 1, 0)->edx & BIT(28)), n > 1);
	assert_int_equal(find(&c, 0xb, 0)->eax, 0);
	assert_int_equal(find(&c, 0xb, 0)->ebx, 1);
	assert_int_equal(find(&c, 0xb, 0)->ecx, 0x100);
	assert_int_equal(find(&c, 0xb, 1)->eax, bits);
	assert_int_equal(find(&c, 0xb, 1)->ebx, n);
	assert_int_equal(find(&c, 0xb, 1)->ecx, 0x201);
	assert_int_equal(find(&c, 0xb, 2)->ebx, 0);
	assert_int_equal(find(&c, 0x1f, 1)->ebx, n);
	assert_int_equal(find(&c, 4, 0)->eax >> 14 & 0xfff, 0);	    /* L1: its own */
	assert_int_equal(find(&c, 4, 3)->eax >> 14 & 0xfff, n - 1); /* L3: shared */
	assert_int_equal(find(&c, 0x80000008, 0)->ecx, (n - 1) | bits << 12);
}

static void test_topology(void **state)
{
	(void)state;
	expect_topology(1, 0);
	expect_topology(2, 1);
	expect_topology(4, 2);
	expect_topology(6, 3);
	expect_topology(64, 6);
}

static void test_brand_is_harmless(void **state)
{
	char brand[CPUID_BRAND];
	struct cpuid c;

	(void)state;
	make(&c, 1, true);
	cpuid_brand(&c, brand);
	assert_memory_equal(brand, "Fake CPU 3000?[1m", 17);
	c.n = 1;
	cpuid_brand(&c, brand);
	assert_string_equal(brand, "unknown CPU");
}

static struct kvm_cpuid_entry2 *edit(struct cpuid *c, uint32_t leaf)
{
	return (struct kvm_cpuid_entry2 *)(uintptr_t)find(c, leaf, 0);
}

static void test_usable(void **state)
{
	struct vial_err model = VIAL_ERR_INIT, feature = VIAL_ERR_INIT, empty = VIAL_ERR_INIT;
	struct cpuid saved, here;

	(void)state;
	make(&saved, 2, true);
	make(&here, 2, true);
	assert_int_equal(cpuid_usable(&saved, &here, NULL), 0);
	edit(&saved, 1)->eax ^= 1;	  /* another stepping is fine */
	edit(&saved, 7)->ebx &= ~BIT(16); /* fewer features are, too */
	assert_int_equal(cpuid_usable(&saved, &here, NULL), 0);
	edit(&here, 7)->ecx &= ~BIT(8);
	assert_int_equal(cpuid_usable(&saved, &here, &feature), VIAL_E_UNSUPPORTED);
	assert_non_null(strstr(feature.msg, "CPUID leaf 0x7"));
	edit(&saved, 1)->eax ^= 0x10;
	assert_int_equal(cpuid_usable(&saved, &here, &model), VIAL_E_UNSUPPORTED);
	assert_non_null(strstr(model.msg, "another CPU model: Fake CPU 3000"));
	saved.n = 0;
	assert_int_equal(cpuid_usable(&saved, &here, &empty), VIAL_E_UNSUPPORTED);
}

static void test_host_fails(void **state)
{
	struct kvm k = { .call = fake_ioctl };
	struct vial_err err = VIAL_ERR_INIT;
	static struct cpuid c;

	(void)state;
	n_host = CPUID_MAX + 1; /* more than asked for: E2BIG */
	assert_int_equal(cpuid_host(&k, 1, 1, &c, &err), VIAL_E_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_timers, setup),
		cmocka_unit_test_setup(test_stripped, setup),
		cmocka_unit_test_setup(test_topology, setup),
		cmocka_unit_test_setup(test_brand_is_harmless, setup),
		cmocka_unit_test_setup(test_usable, setup),
		cmocka_unit_test_setup(test_host_fails, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
