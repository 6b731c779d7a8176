// SPDX-License-Identifier: Apache-2.0
// Tests of base/err.c.
#include "test.h"

#include <errno.h>

#include "base/err.h"

static void set_keeps_code_and_text(void **state)
{
	struct vial_err e = VIAL_ERR_INIT;

	(void)state;
	assert_int_equal(err_set(&e, VIAL_E_LIMIT, "too many %s: %d", "boxes", 9), VIAL_E_LIMIT);
	assert_int_equal(e.code, VIAL_E_LIMIT);
	assert_int_equal(e.sys_errno, 0);
	assert_string_equal(e.msg, "too many boxes: 9");
}

static void sys_chooses_a_code(void **state)
{
	static const struct {
		int sys, code;
	} map[] = {
		{ ENOENT, VIAL_E_NOT_FOUND }, { EACCES, VIAL_E_DENIED },     { EPERM, VIAL_E_DENIED },
		{ ENOSPC, VIAL_E_NO_SPACE },  { EDQUOT, VIAL_E_NO_SPACE },   { ENOMEM, VIAL_E_NO_MEMORY },
		{ EEXIST, VIAL_E_EXISTS },    { ETIMEDOUT, VIAL_E_TIMEOUT }, { EBADF, VIAL_E_IO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		struct vial_err e = VIAL_ERR_INIT;

		assert_int_equal(err_sys(&e, -map[i].sys, "open x"), map[i].code);
		assert_int_equal(e.code, map[i].code);
		assert_int_equal(e.sys_errno, map[i].sys);
		assert_non_null(strstr(e.msg, "open x: "));
		assert_non_null(strstr(e.msg, strerror(map[i].sys)));
	}
}

static void prefixes_stand_in_front(void **state)
{
	struct vial_err e = VIAL_ERR_INIT;

	(void)state;
	err_set(&e, VIAL_E_INVALID, "c");
	assert_int_equal(err_prefix(&e, "b"), VIAL_E_INVALID);
	assert_int_equal(err_prefix(&e, "%s", "a"), VIAL_E_INVALID);
	assert_string_equal(e.msg, "a: b: c");
}

static void long_prefixes_keep_the_cause(void **state)
{
	struct vial_err e = VIAL_ERR_INIT;
	char longer[2 * VIAL_ERR_MSG_SIZE];

	(void)state;
	memset(longer, 'p', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	err_set(&e, VIAL_E_INVALID, "the cause");
	err_prefix(&e, "%s", longer);
	err_prefix(&e, "%s", longer);
	assert_true(strlen(e.msg) < VIAL_ERR_MSG_SIZE);
	assert_string_equal(e.msg + strlen(e.msg) - strlen("the cause"), "the cause");
}

static void long_messages_are_cut(void **state)
{
	struct vial_err e = VIAL_ERR_INIT;
	char longer[2 * VIAL_ERR_MSG_SIZE];

	(void)state;
	memset(longer, 'm', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	err_set(&e, VIAL_E_INVALID, "%s", longer);
	assert_int_equal(strlen(e.msg), VIAL_ERR_MSG_SIZE - 1);
}

static void messages_are_harmless_on_a_terminal(void **state)
{
	struct vial_err e = VIAL_ERR_INIT;

	(void)state;
	err_set(&e, VIAL_E_ENGINE, "the guest: %s", "\033[31mred\nline");
	assert_string_equal(e.msg, "the guest: ?[31mred line");
	err_prefix(&e, "image '%s'", "a\033c");
	assert_string_equal(e.msg, "image 'a?c': the guest: ?[31mred line");
}

static void null_is_accepted(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, VIAL_E_LIMIT, "x"), VIAL_E_LIMIT);
	assert_int_equal(err_sys(NULL, -ENOENT, "x"), VIAL_E_NOT_FOUND);
	assert_int_equal(err_prefix(NULL, "x"), VIAL_E_IO);
	err_clear(NULL);
}

static void clear_allows_a_second_error(void **state)
{
	struct vial_err e = VIAL_ERR_INIT;

	(void)state;
	err_sys(&e, -ENOENT, "first");
	err_clear(&e);
	assert_int_equal(e.code, 0);
	assert_int_equal(e.sys_errno, 0);
	assert_string_equal(e.msg, "");
	err_set(&e, VIAL_E_STATE, "second");
	assert_string_equal(e.msg, "second");
}

static void names_are_stable(void **state)
{
	(void)state;
	assert_string_equal(vial_error_name(VIAL_E_NOT_FOUND), "not-found");
	assert_string_equal(vial_error_name(12345), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_keeps_code_and_text),
		cmocka_unit_test(sys_chooses_a_code),
		cmocka_unit_test(prefixes_stand_in_front),
		cmocka_unit_test(long_prefixes_keep_the_cause),
		cmocka_unit_test(long_messages_are_cut),
		cmocka_unit_test(null_is_accepted),
		cmocka_unit_test(clear_allows_a_second_error),
		cmocka_unit_test(names_are_stable),
		cmocka_unit_test(messages_are_harmless_on_a_terminal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
