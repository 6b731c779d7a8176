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

/* struct wide - an output struct with something behind it that is not the library's to write */
struct wide {
	struct later l;
	char guard[16];
};

static void test_output(void **state _unused_)
{
	const struct now got = { 999, 1, 2 };
	struct wide w;

	/* Of the same version */
	memset(&w, 0xee, sizeof(w));
	w.l.now.size = sizeof(struct now);
	assert_int_equal(check_output(&w, sizeof(got), "x", NULL), 0);
	give_output(&w, &got, sizeof(got));
	assert_int_equal(w.l.now.size, sizeof(struct now)); /* the caller's: fit for the next call */
	assert_int_equal(w.l.now.a, 1);
	assert_int_equal(w.l.now.b, 2);
	assert_int_equal(((uint8_t *)&w)[sizeof(struct now)], 0xee);
	/* A newer caller */
	w.l.now.size = sizeof(struct later);
	assert_int_equal(check_output(&w, sizeof(got), "x", NULL), 0);
	give_output(&w, &got, sizeof(got));
	assert_null(w.l.c);
	assert_int_equal((uint8_t)w.guard[0], 0xee);
}

/* An older caller's struct, and a library that knows more: nothing is written behind it. */
static void test_output_of_an_older_caller(void **state _unused_)
{
	const struct later got = { { 999, 1, 2 }, (char *)"new" };
	struct wide w;

	memset(&w, 0xee, sizeof(w));
	w.l.now.size = sizeof(struct now);
	assert_int_equal(check_output(&w, sizeof(struct now), "x", NULL), 0);
	give_output(&w, &got, sizeof(got));
	assert_int_equal(w.l.now.b, 2);
	assert_int_equal(((uint8_t *)&w)[sizeof(struct now)], 0xee);
}

static void test_output_without_size(void **state _unused_)
{
	static const size_t bad[] = { 0, sizeof(struct now) - 1, (size_t)-1 };
	struct vial_err err = VIAL_ERR_INIT;
	struct now given = { 0, 1, 2 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		given.size = bad[i];
		assert_int_equal(check_output(&given, sizeof(given), "x", NULL), VIAL_E_INVALID);
	}
	assert_int_equal(check_output(&given, sizeof(given), "vial_event", &err), VIAL_E_INVALID);
	assert_non_null(strstr(err.msg, "vial_event: size is not set"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_smaller),
		cmocka_unit_test(test_larger),
		cmocka_unit_test(test_no_size),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_output_of_an_older_caller),
		cmocka_unit_test(test_output_without_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
