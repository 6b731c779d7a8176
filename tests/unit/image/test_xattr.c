// SPDX-License-Identifier: Apache-2.0
#include "helpers.h"

#include <stdlib.h>

#include "image/limits.h"
#include "image/xattr.h"

static void encoded_form(void **state _unused_)
{
	static const uint8_t want[] = {
		1, 1, 2, 0, 'a', 'v', 'w', 0, /* user.a */
		0, 2, 1, 0, 'A', 0,   0,   0, /* system.posix_acl_access: no suffix */
		2, 6, 0, 0, 's', 'x', 0,   0, /* security.sx, no value */
	};
	struct xattr_set s = { 0 };
	uint8_t *p;
	uint32_t n;

	assert_int_equal(xattr_set_add(&s, "security.sx", "", 0, NULL), 0);
	assert_int_equal(xattr_set_add(&s, "user.a", "old", 3, NULL), 0);
	assert_int_equal(xattr_set_add(&s, "system.posix_acl_access", "A", 1, NULL), 0);
	assert_int_equal(xattr_set_add(&s, "user.a", "vw", 2, NULL), 0);
	assert_int_equal(xattr_set_encode(&s, &p, &n, NULL), 0);
	assert_int_equal(n, sizeof(want));
	assert_memory_equal(p, want, n);
	assert_true(xattr_body_valid(p, n));
	free(p);
	xattr_set_done(&s);
}

static void left_out(void **state _unused_)
{
	static const char *const names[] = {
		"trusted.overlay.opaque", "com.apple.x", "user.",
		"system.other",		  "nodot",	 "system.posix_acl_accessx"
	};
	struct xattr_set s = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(xattr_set_add(&s, names[i], "x", 1, NULL), 0);
	assert_int_equal(s.n, 0);
	xattr_set_done(&s);
}

static void limits(void **state _unused_)
{
	static char value[IMAGE_XATTR_VALUE_MAX + 1], name[IMAGE_NAME_MAX + 10] = "user.";
	struct xattr_set s = { 0 };
	uint8_t *p;
	uint32_t n;

	assert_int_equal(xattr_set_add(&s, "user.v", value, sizeof(value), NULL), VIAL_E_LIMIT);
	memset(name + 5, 'n', IMAGE_NAME_MAX + 1);
	assert_int_equal(xattr_set_add(&s, name, "", 0, NULL), VIAL_E_LIMIT);
	for (char c = 'a'; c < 'd'; c++) {
		char key[] = { 'u', 's', 'e', 'r', '.', c, 0 };
		char *kept = strdup(key);
		assert_int_equal(xattr_set_add(&s, kept, value, sizeof(value) - 1, NULL), 0);
	}
	assert_int_equal(xattr_set_encode(&s, &p, &n, NULL), VIAL_E_LIMIT);
	for (size_t i = 0; i < s.n; i++)
		free((char *)(uintptr_t)s.v[i].suffix - 5);
	xattr_set_done(&s);
}

static void damaged_bodies(void **state _unused_)
{
	static const uint8_t past[] = { 200, 1, 0, 0 }, value_past[] = { 0, 2, 1, 0 },
			     odd[] = { 0, 2, 0, 0, 0 };

	assert_true(xattr_body_valid(NULL, 0));
	assert_false(xattr_body_valid(past, sizeof(past)));
	assert_false(xattr_body_valid(value_past, sizeof(value_past)));
	assert_false(xattr_body_valid(odd, sizeof(odd)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encoded_form),
		cmocka_unit_test(left_out),
		cmocka_unit_test(limits),
		cmocka_unit_test(damaged_bodies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
