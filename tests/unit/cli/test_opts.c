// SPDX-License-Identifier: Apache-2.0
// The option parser and its suggestions.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/suggest.h"
#include "cli/opts.h"

static const struct opt table[] = {
	{ "tty", 't', NULL, "", false },      { "interactive", 'i', NULL, "", false },
	{ "env-file", 0, "FILE", "", false }, { "env", 'e', "K=V", "", false },
	{ "publish", 'p', "PORT", "", true }, { "memory", 'm', "SIZE", "", false },
};

/* What is read of @words, as "name=value name=value|first other word"; or the error. */
static const char *read_words(char **words)
{
	static char text[1024];
	struct opts o = { .table = table, .n = ARRAY_SIZE(table), .argv = words };
	struct vial_err err = VIAL_ERR_INIT;
	const struct opt *opt;
	const char *value;
	int r;

	text[0] = '\0';
	while ((r = opts_next(&o, &opt, &value, &err)) > 0) {
		strcat(strcat(strcat(text, opt->name), "="), value);
		strcat(text, " ");
	}
	if (r < 0)
		return strcpy(text, err.msg);
	strcat(text, o.dashes ? "--|" : "|");
	return strcat(text, words[o.index] ? words[o.index] : "");
}

#define WORDS(...) read_words((char *[]){ __VA_ARGS__, NULL })
#define W(s)	   ((char *)(uintptr_t)(s))

static void test_forms(void **state)
{
	(void)state;
	assert_string_equal(WORDS(W("-it"), W("x")), "interactive=true tty=true |x");
	assert_string_equal(WORDS(W("-ite"), W("A=1"), W("-t")),
			    "interactive=true tty=true env=A=1 tty=true |");
	assert_string_equal(WORDS(W("-eA=1"), W("-e=B=2"), W("--env=C=3"), W("--env"), W("D")),
			    "env=A=1 env=B=2 env=C=3 env=D |");
	assert_string_equal(WORDS(W("--tty=false"), W("-t=false")), "tty=false tty=false |");
	assert_string_equal(WORDS(W("--"), W("-t")), "--|-t");
	assert_string_equal(WORDS(W("-"), W("-t")), "|-");
	assert_string_equal(WORDS(W("cmd"), W("-t")), "|cmd");
	assert_string_equal(WORDS(W("-e"), W("--"), W("-t")), "env=-- tty=true |");
	assert_string_equal(WORDS(W("--env="), W("")), "env= |");
}

static void test_errors(void **state)
{
	(void)state;
	assert_string_equal(WORDS(W("--mem")), "unknown flag '--mem' (did you mean '--memory'?)");
	assert_string_equal(WORDS(W("--env_fiel")), "unknown flag '--env_fiel' (did you mean '--env-file'?)");
	assert_string_equal(WORDS(W("--nonsense")), "unknown flag '--nonsense' (see --help)");
	assert_string_equal(WORDS(W("-x")), "unknown flag '-x' (see --help)");
	assert_string_equal(WORDS(W("-ix")), "unknown flag '-x' (see --help)");
	assert_string_equal(WORDS(W("-e")), "--env: needs a value (K=V)");
	assert_string_equal(WORDS(W("--publish")), "--publish: not built yet");
	assert_string_equal(WORDS(W("-p80")), "--publish: not built yet");
	/* a planned option is not suggested */
	assert_string_equal(WORDS(W("--publis")), "unknown flag '--publis' (see --help)");
}

static const char *suggestion(const char *word)
{
	static const char *const names[] = { "memory", "hostname", "env", "env_file", "cpus", "run" };
	struct suggest s = { .word = word };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		suggest_offer(&s, names[i]);
	return s.best ? s.best : "";
}

static void test_suggestions(void **state)
{
	char longest[SUGGEST_WORD_MAX + 2];

	(void)state;
	assert_string_equal(suggestion("memroy"), "memory");
	assert_string_equal(suggestion("Memory"), "memory");
	assert_string_equal(suggestion("mem"), "memory");
	assert_string_equal(suggestion("env-file"), "env_file");
	assert_string_equal(suggestion("rnu"), "run");
	assert_string_equal(suggestion("cpu"), "cpus");
	assert_string_equal(suggestion("xyzzy"), "");
	assert_string_equal(suggestion("a"), "");
	assert_string_equal(suggestion(""), "");
	memset(longest, 'm', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_string_equal(suggestion(longest), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_suggestions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
