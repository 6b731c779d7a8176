// SPDX-License-Identifier: Apache-2.0
// Specifications: every field's range and syntax, copies, text forms.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/spec.h"

static struct vial_spec *fresh(void)
{
	struct vial_spec *s = NULL;

	assert_int_equal(spec_new(&s, NULL), 0);
	return s;
}

static void good(struct vial_spec *s, const char *field, const char *value)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (spec_set(s, field, value, &err) != 0)
		fail_msg("%s=%s: %s", field, value, err.msg);
}

static void bad(struct vial_spec *s, const char *field, const char *value, int code, const char *part)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (spec_set(s, field, value, &err) != code)
		fail_msg("%s=%s: %d, not %d (%s)", field, value, err.code, code, err.msg);
	assert_int_equal(err.code, code);
	if (!strstr(err.msg, part) || strncmp(err.msg, field, strlen(field)) != 0)
		fail_msg("%s=%s: no '%s' in '%s'", field, value, part, err.msg);
}

static void test_defaults(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	assert_int_equal(s->cpus, 2);
	assert_int_equal(s->memory_bytes, MIB(2048));
	assert_string_equal(spec_get(s, "cpus"), "2");
	assert_string_equal(spec_get(s, "memory"), "2048M");
	assert_null(spec_get(s, "image"));
	assert_null(spec_get(s, "tty"));
	assert_null(spec_get(s, "nonsense"));
	assert_false(spec_is_set(s, SPEC_CPUS));
	spec_free(NULL);
}

static void test_numbers(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	good(s, "cpus", "1");
	good(s, "cpus", "64");
	assert_int_equal(s->cpus, 64);
	assert_true(spec_is_set(s, SPEC_CPUS));
	bad(s, "cpus", "0", VIAL_E_INVALID, "1 to 64");
	bad(s, "cpus", "65", VIAL_E_INVALID, "1 to 64");
	bad(s, "cpus", "-1", VIAL_E_INVALID, "whole number");
	bad(s, "cpus", "", VIAL_E_INVALID, "whole number");
	assert_int_equal(s->cpus, 64);
	good(s, "memory", "64");
	assert_int_equal(s->memory_bytes, MIB(64));
	good(s, "memory", "65537K");
	assert_string_equal(spec_get(s, "memory"), "65537K");
	bad(s, "memory", "65535K", VIAL_E_INVALID, "at least 64M");
	bad(s, "memory", "0", VIAL_E_INVALID, "at least 64M");
	bad(s, "memory", "1000000G", VIAL_E_INVALID, "this host");
	bad(s, "memory", "99999999999999999999", VIAL_E_INVALID, "not a size");
	bad(s, "memory", "1X", VIAL_E_INVALID, "512M");
	good(s, "timeout", "1.5");
	assert_int_equal(s->timeout_ms, 1500);
	assert_string_equal(spec_get(s, "timeout"), "1500ms");
	bad(s, "timeout", "0", VIAL_E_INVALID, "out of range");
	bad(s, "timeout", "367d", VIAL_E_INVALID, "out of range");
	bad(s, "timeout", "soon", VIAL_E_INVALID, "not a duration");
	assert_int_equal(spec_clear(s, "cpus", NULL), 0);
	assert_int_equal(s->cpus, 2);
}

static void test_booleans(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	good(s, "tty", "true");
	assert_true(s->tty);
	good(s, "tty", "false");
	assert_false(s->tty);
	assert_string_equal(spec_get(s, "tty"), "false");
	bad(s, "tty", "yes", VIAL_E_INVALID, "neither");
	good(s, "rm", "true");
	bad(s, "rm", "false", VIAL_E_UNSUPPORTED, "not built yet");
	assert_int_equal(spec_clear(s, "tty", NULL), 0);
	assert_null(spec_get(s, "tty"));
}

static void test_hostname(void **state)
{
	static const char *const wrong[] = { "",     "-a",  "a-",  "a.",       ".a",
					     "a..b", "a_b", "a b", "\xc3\xa4", "a.-b" };
	char label[80];
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		bad(s, "hostname", wrong[i], VIAL_E_INVALID, "host name");
	good(s, "hostname", "a");
	good(s, "hostname", "A-1.b2");
	memset(label, 'x', sizeof(label));
	label[63] = '\0';
	good(s, "hostname", label);
	label[63] = 'x';
	label[64] = '\0';
	bad(s, "hostname", label, VIAL_E_INVALID, "host name");
	label[20] = '.';
	good(s, "hostname", label);
	label[64] = 'x';
	label[65] = '\0';
	bad(s, "hostname", label, VIAL_E_INVALID, "longer than 64");
}

static void test_strings_and_lists(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	bad(s, "user", "", VIAL_E_INVALID, "empty");
	bad(s, "workdir", "src", VIAL_E_INVALID, "absolute");
	good(s, "workdir", "/src");
	good(s, "user", "a");
	good(s, "user", "1000:1000");
	assert_string_equal(spec_get(s, "user"), "1000:1000");
	good(s, "command", "sh");
	good(s, "command", "");
	assert_int_equal(s->command.n, 2);
	assert_null(spec_get(s, "command"));
	assert_int_equal(spec_clear(s, "command", NULL), 0);
	assert_int_equal(s->command.n, 0);
	bad(s, "boot_arg", "a\nb", VIAL_E_INVALID, "control");
	bad(s, "boot_arg", "", VIAL_E_INVALID, "empty");
	good(s, "entrypoint", "");
	assert_true(spec_is_set(s, SPEC_ENTRYPOINT) && s->entrypoint.n == 0);
	good(s, "entrypoint", "sh");
	good(s, "entrypoint", "");
	assert_int_equal(s->entrypoint.n, 2);
	_cleanup_free_ char *huge = calloc(1, SPEC_STRING_MAX + 2);
	memset(huge, 'x', SPEC_STRING_MAX + 1);
	bad(s, "user", huge, VIAL_E_LIMIT, "longer");
}

static void test_names(void **state)
{
	size_t n;
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();
	const struct vial_field *f = spec_fields(&n);

	bad(s, "memroy", "1", VIAL_E_INVALID, "did you mean 'memory'?");
	bad(s, "zzzzzz", "1", VIAL_E_INVALID, "unknown field");
	assert_true(n > SPEC_N_BUILT);
	for (size_t i = 0; i < n; i++) {
		assert_non_null(f[i].name);
		assert_non_null(f[i].help);
		assert_int_equal(f[i].built, i < SPEC_N_BUILT);
		assert_int_equal(f[i].metavar == NULL, f[i].type == VIAL_FIELD_BOOL);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(f[i].name, f[j].name);
		if (!f[i].built)
			bad(s, f[i].name, "true", VIAL_E_UNSUPPORTED, "not built yet");
	}
	assert_int_equal(spec_set(s, "nonsense", "1", NULL), VIAL_E_INVALID);
	assert_int_equal(spec_clear(s, "nonsense", NULL), VIAL_E_INVALID);
}

static void test_env(void **state)
{
	char name[32];
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	setenv("SPEC_TEST", "mine", 1);
	unsetenv("SPEC_GONE");
	good(s, "env", "A=1=2");
	good(s, "env", "A=");
	good(s, "env", "SPEC_TEST");
	good(s, "env", "SPEC_GONE");
	assert_int_equal(s->env.n, 2);
	assert_string_equal(strv_getenv(&s->env, "A"), "");
	assert_string_equal(strv_getenv(&s->env, "SPEC_TEST"), "mine");
	bad(s, "env", "=x", VIAL_E_INVALID, "no name");
	bad(s, "env", "", VIAL_E_INVALID, "no name");
	for (int i = 2; i < SPEC_ENV_MAX; i++) {
		snprintf(name, sizeof(name), "V%d=", i);
		assert_int_equal(strv_add(&s->env, name), 0);
	}
	bad(s, "env", "ONE=more", VIAL_E_LIMIT, "8192");
}

static void env_file(struct vial_spec *s, const char *text, size_t n, const char *wanted)
{
	struct vial_err err = VIAL_ERR_INIT;
	int r = spec_env_parse(s, text, n, "f.env", &err);

	if (!wanted)
		assert_int_equal(r, 0);
	else
		assert_string_equal(err.msg, wanted);
}

static void test_env_file(void **state)
{
	static const char text[] = "\xef\xbb\xbf# comment\n\nA=1\r\n  B= two \n\t#x\nC=a#b\nD='q'\nE";
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	setenv("E", "mine", 1);
	env_file(s, text, strlen(text), NULL);
	assert_int_equal(s->env.n, 5);
	assert_string_equal(strv_getenv(&s->env, "A"), "1");
	assert_string_equal(strv_getenv(&s->env, "B"), " two ");
	assert_string_equal(strv_getenv(&s->env, "C"), "a#b");
	assert_string_equal(strv_getenv(&s->env, "D"), "'q'");
	assert_string_equal(strv_getenv(&s->env, "E"), "mine");
	env_file(s, "A=1\n\nB C=2\n", 11, "f.env:3: variable name 'B C' has a blank in it");
	env_file(s, "=1", 2, "f.env:1: '=1' has no name before '='");
	env_file(s, "A=1\0\nB=2", 8, "f.env:1: has a NUL byte");
	env_file(s, "", 0, NULL);
	bad(s, "env_file", "/no/such/file", VIAL_E_NOT_FOUND, "/no/such/file");
	bad(s, "env_file", "", VIAL_E_INVALID, "empty");
}

static void test_ulimit(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	good(s, "ulimit", "nofile=10:20");
	good(s, "ulimit", "core=unlimited");
	good(s, "ulimit", "stack=5:-1");
	good(s, "ulimit", "nofile=7");
	assert_int_equal(s->n_rlimits, 3);
	assert_int_equal(s->rlimits[0].resource, RLIMIT_NOFILE);
	assert_int_equal(s->rlimits[0].soft, 7);
	assert_int_equal(s->rlimits[0].hard, 7);
	assert_true(s->rlimits[1].hard == SPEC_UNLIMITED);
	assert_int_equal(s->rlimits[2].soft, 5);
	bad(s, "ulimit", "nofile", VIAL_E_INVALID, "NAME=SOFT");
	bad(s, "ulimit", "nofil=1", VIAL_E_INVALID, "did you mean nofile?");
	bad(s, "ulimit", "nofile=", VIAL_E_INVALID, "numbers");
	bad(s, "ulimit", "nofile=1:", VIAL_E_INVALID, "numbers");
	bad(s, "ulimit", "nofile=1:2:3", VIAL_E_INVALID, "numbers");
	bad(s, "ulimit", "nofile=-2", VIAL_E_INVALID, "numbers");
	bad(s, "ulimit", "nofile=2:1", VIAL_E_INVALID, "above");
	bad(s, "ulimit", "nofile=unlimited:1", VIAL_E_INVALID, "above");
	bad(s, "ulimit", "nofile=00000000000000000000000000000000000001", VIAL_E_INVALID, "numbers");
	assert_int_equal(s->n_rlimits, 3);
	assert_int_equal(spec_clear(s, "ulimit", NULL), 0);
	assert_int_equal(s->n_rlimits, 0);
}

static void test_all_ulimits(void **state)
{
	static const char *const all[] = { "as",      "core",	  "cpu",	"data",	  "fsize", "locks",
					   "memlock", "msgqueue", "nice",	"nofile", "nproc", "rss",
					   "rtprio",  "rttime",	  "sigpending", "stack" };
	char text[32];
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		snprintf(text, sizeof(text), "%s=%zu", all[i], i);
		good(s, "ulimit", text);
	}
	assert_int_equal(s->n_rlimits, 16);
}

static void test_copy(void **state)
{
	struct vial_spec *c = NULL;
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	good(s, "image", "./i");
	good(s, "command", "sh");
	good(s, "env", "A=1");
	good(s, "memory", "128");
	good(s, "ulimit", "cpu=1");
	good(s, "tty", "true");
	good(s, "timeout", "3");
	assert_int_equal(spec_copy(s, &c, NULL), 0);
	_cleanup_free_ char *a = NULL, *b = NULL;
	assert_int_equal(spec_to_json(s, &a, NULL), 0);
	assert_int_equal(spec_to_json(c, &b, NULL), 0);
	assert_string_equal(a, b);
	good(s, "image", "./other");
	assert_string_equal(c->image, "./i");
	assert_true(c->tty && c->timeout_ms == 3000 && c->n_rlimits == 1);
	spec_free(c);
}

static void test_check(void **state)
{
	struct vial_err err = VIAL_ERR_INIT;
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = fresh();

	assert_int_equal(spec_check(s, &err), 0);
	good(s, "image", "./i");
	assert_int_equal(spec_check(s, &err), 0);
	good(s, "rootfs", "r");
	assert_int_equal(spec_check(s, &err), VIAL_E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_booleans),
		cmocka_unit_test(test_hostname),
		cmocka_unit_test(test_strings_and_lists),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_env),
		cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_ulimit),
		cmocka_unit_test(test_all_ulimits),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
