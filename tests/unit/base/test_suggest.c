// SPDX-License-Identifier: Apache-2.0
// Tests of base/suggest.c.
#include "test.h"

#include "base/attr.h"
#include "base/suggest.h"

static const char *nearest(const char *word)
{
	static const char *const names[] = { "memory", "cpus", "env_file", "entrypoint", "hostname" };
	struct suggest s = { .word = word };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		suggest_offer(&s, names[i]);
	return s.best;
}

static void finds_the_nearest(void **state)
{
	(void)state;
	assert_string_equal(nearest("memroy"), "memory");
	assert_string_equal(nearest("cpu"), "cpus");
	assert_string_equal(nearest("env-file"), "env_file");
	assert_string_equal(nearest("host"), "hostname");
}

static void is_silent_when_nothing_is_near(void **state)
{
	char longer[SUGGEST_WORD_MAX + 100];

	(void)state;
	assert_null(nearest("zzzzzzzz"));
	memset(longer, 'm', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_null(nearest(longer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_nearest),
		cmocka_unit_test(is_silent_when_nothing_is_near),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
