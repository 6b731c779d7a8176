// SPDX-License-Identifier: Apache-2.0
// Options structs of other versions of the library.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/check.h"
#include "base/attr.h"

struct now {
	size_t size;
	int a;
	int b;
};

struct later {
	struct now now;
	char *c;
};

static void test_none(void **state _unused_)
{
	struct now got;

	memset(&got, 0xff, sizeof(got));
	assert_int_equal(check_options(NULL, sizeof(got), &got, "x", NULL), 0);
	assert_int_equal(got.size, sizeof(got));
	assert_int_equal(got.a, 0);
	assert_int_equal(got.b, 0);
}

static void test_same(void **state _unused_)
{
	const struct now given = { sizeof(given), 1, 2 };
	struct now got;

	assert_int_equal(check_options(&given, sizeof(got), &got, "x", NULL), 0);
	assert_memory_equal(&got, &given, sizeof(got));
}

/* An older caller: what it does not know is zero, and nothing behind its struct is read. */
static void test_smaller(void **state _unused_)
{
	const struct now given = { offsetof(struct now, b), 1, 99 };
	struct now got;

	assert_int_equal(check_options(&given, sizeof(got), &got, "x", NULL), 0);
	assert_int_equal(got.size, sizeof(got));
	assert_int_equal(got.a, 1);
	assert_int_equal(got.b, 0);
}

static void test_larger(void **state _unused_)
{
	struct later given = { { sizeof(given), 1, 2 }, NULL };
	struct vial_err err = VIAL_ERR_INIT;
	struct now got;

	assert_int_equal(check_options(&given, sizeof(got), &got, "x", &err), 0);
	assert_int_equal(got.size, sizeof(got));
	assert_int_equal(got.b, 2);
	given.c = (char *)&given;
	assert_int_equal(check_options(&given, sizeof(got), &got, "box options", &err), VIAL_E_INVALID);
	assert_non_null(strstr(err.msg, "box options"));
}

static void test_no_size(void **state _unused_)
{
	struct now given = { 0, 1, 2 }, got;
	struct vial_err err = VIAL_ERR_INIT;

	assert_int_equal(check_options(&given, sizeof(got), &got, "x", &err), VIAL_E_INVALID);
	assert_non_null(strstr(err.msg, "size is not set"));
	given.size = sizeof(size_t) - 1;
	assert_int_equal(check_options(&given, sizeof(got), &got, "x", NULL), VIAL_E_INVALID);
	given.size = (size_t)-1; /* uninitialised memory */
	assert_int_equal(check_options(&given, sizeof(got), &got, "x", NULL), VIAL_E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),   cmocka_unit_test(test_same),    cmocka_unit_test(test_smaller),
		cmocka_unit_test(test_larger), cmocka_unit_test(test_no_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
