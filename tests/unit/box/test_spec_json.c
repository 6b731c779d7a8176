// SPDX-License-Identifier: Apache-2.0
// Specifications as JSON: what is taken, what each error says and on which line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/spec.h"

/* One more than the text's last byte is not readable: a read past the end is seen by the sanitizer. */
static int load(struct vial_spec *s, const char *text, struct vial_err *err)
{
	size_t n = strlen(text);
	_cleanup_free_ char *exact = malloc(n ? n : 1);

	memcpy(exact, text, n);
	return spec_load_json(s, exact, n, "vial.json", err);
}

static struct vial_spec *loaded(const char *text)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct vial_spec *s = NULL;

	assert_int_equal(spec_new(&s, NULL), 0);
	if (load(s, text, &err) != 0)
		fail_msg("%s: %s", text, err.msg);
	return s;
}

static void refused(const char *text, int code, const char *message)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct vial_spec *s = NULL;
	_cleanup_free_ char *before = NULL, *after = NULL;

	assert_int_equal(spec_new(&s, NULL), 0);
	assert_int_equal(spec_to_json(s, &before, NULL), 0);
	assert_int_equal(load(s, text, &err), code);
	if (!strstr(err.msg, message))
		fail_msg("%s: '%s' is not in '%s'", text, message, err.msg);
	assert_int_equal(spec_to_json(s, &after, NULL), 0);
	assert_string_equal(before, after);
	assert_int_equal(load(s, text, NULL), code);
	spec_free(s);
}

static void test_types(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = loaded(
		"{\"image\":\"./i\",\"cpus\":4,\"memory\":512,\"timeout\":1.5,\"tty\":true,\"console\":false,"
		"\"command\":[\"a\",\"\"],\"env\":{\"A\":\"1\",\"B\":\"\"},\"entrypoint\":\"sh\",\"version\":"
		"1,"
		"\"ulimit\":[\"nofile=1\"],\"workdir\":\"/w\"}");

	assert_string_equal(s->image, "./i");
	assert_int_equal(s->cpus, 4);
	assert_int_equal(s->memory_bytes, MIB(512));
	assert_int_equal(s->timeout_ms, 1500);
	assert_true(s->tty && !s->console);
	assert_int_equal(s->command.n, 2);
	assert_string_equal(strv_getenv(&s->env, "A"), "1");
	assert_string_equal(s->entrypoint.v[0], "sh");
	assert_int_equal(s->n_rlimits, 1);
}

static void test_other_forms(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = loaded(
		"{\"memory\":\"1G\",\"timeout\":\"2m\",\"env\":[\"A=1\"],\"entrypoint\":[\"a\",\"b\"]}");

	assert_int_equal(s->memory_bytes, MIB(1024));
	assert_int_equal(s->timeout_ms, 120000);
	assert_string_equal(strv_getenv(&s->env, "A"), "1");
	assert_int_equal(s->entrypoint.n, 2);
}

static void test_layers(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s =
		loaded("{\"command\":[\"a\"],\"env\":{\"A\":\"1\",\"B\":\"1\"},\"cpus\":3}");

	assert_int_equal(load(s, "{\"command\":[\"b\",\"c\"],\"env\":{\"B\":\"2\"}}", NULL), 0);
	assert_int_equal(s->command.n, 2);
	assert_string_equal(s->command.v[0], "b");
	assert_string_equal(strv_getenv(&s->env, "A"), "1");
	assert_string_equal(strv_getenv(&s->env, "B"), "2");
	assert_int_equal(s->cpus, 3);
	assert_int_equal(load(s, "{\"command\":[]}", NULL), 0);
	assert_int_equal(s->command.n, 0);
}

static void test_shuru(void **state)
{
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = loaded(
		"{\n  \"cpus\": 4,\n  \"memory\": 4096,\n  \"command\": [\"python\", \"script.py\"]\n}\n");

	assert_int_equal(s->memory_bytes, MIB(4096));
	refused("{\n  \"cpus\": 4,\n  \"allow_net\": true\n}", VIAL_E_UNSUPPORTED,
		"vial.json:3: field 'allow_net': not built yet");
}

static void test_field_errors(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "{\n\n\"memroy\":1}",
		  "vial.json:3: field 'memroy': unknown field (did you mean 'memory'?)" },
		{ "{\"cpus\":\"2\"}", "vial.json:1: field 'cpus': must be a whole number" },
		{ "{\"cpus\":2.5}", "field 'cpus': must be a whole number" },
		{ "{\"cpus\":-1}", "field 'cpus': '-1' is not a whole number" },
		{ "{\"cpus\":true}", "field 'cpus': must be a whole number" },
		{ "{\"cpus\":null}", "field 'cpus': must be a whole number" },
		{ "{\"tty\":1}", "field 'tty': must be true or false" },
		{ "{\"tty\":\"true\"}", "field 'tty': must be true or false" },
		{ "{\"image\":1}", "field 'image': must be a string" },
		{ "{\"memory\":[1]}", "field 'memory': must be a number of MiB" },
		{ "{\"memory\":64.5}", "field 'memory': must be a whole number" },
		{ "{\"timeout\":-1.5}", "field 'timeout': must be a whole number" },
		{ "{\"timeout\":1e300}", "field 'timeout': must be a whole number" },
		{ "{\"timeout\":{}}", "field 'timeout': must be a number of seconds" },
		{ "{\"command\":\"sh\"}", "field 'command': must be an array of strings" },
		{ "{\"command\":[1]}", "field 'command': must be an array of strings" },
		{ "{\"entrypoint\":1}", "field 'entrypoint': must be an array of strings or a string" },
		{ "{\"env\":{\"A\":1}}", "field 'env': must be an object of strings" },
		{ "{\"env\":{\"A=\":\"\"}}", "field 'env': 'A=' cannot be a name" },
		{ "{\"env\":{\"\":\"\"}}", "field 'env': '' cannot be a name" },
		{ "{\"env\":\"A=1\"}", "field 'env': must be an object" },
		{ "{\"version\":0}", "field 'version': must be 1" },
		{ "{\"a\\u0001\\nb\":1}", "field 'a??b': unknown field" },
		{ "{\"env\":{\"x\":\"{\\\"\\n\"},\n\"a\":[{\"b\":1},\n{}],\n\"cpus\":0}",
		  "vial.json:2: field 'a'" },
		{ "{\"env\":{\"x\":\"\\\\\\\"\"},\n\n\n\"cpus\":0}",
		  "vial.json:4: field 'cpus': 0 is out of range" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		refused(cases[i].text, VIAL_E_INVALID, cases[i].message);
	refused("{\n\"version\":2}", VIAL_E_UNSUPPORTED,
		"vial.json:2: field 'version': 2 is of a newer vial");
	refused("{\"env_file\":\"/no/such\"}", VIAL_E_NOT_FOUND, "vial.json:1: field 'env_file': /no/such");
}

static void test_text_errors(void **state)
{
	(void)state;
	refused("", VIAL_E_INVALID, "vial.json:1: not valid JSON");
	refused("[]", VIAL_E_INVALID, "vial.json:1: must be a JSON object");
	refused("{\n\"cpus\": 1,\n}", VIAL_E_INVALID, "vial.json:3: not valid JSON");
	refused("{} x", VIAL_E_INVALID, "not valid JSON");
	refused("{\"image\":\"a\\u0000b\"}", VIAL_E_INVALID, "not valid JSON");
	refused("{\"image\":\"\xff\"}", VIAL_E_INVALID, "not valid JSON");
	refused("{\n\"cpus\":1,\n\n\"cpus\":2}", VIAL_E_INVALID,
		"vial.json:4: field 'cpus': given twice (first on line 2)");
	refused("{\"cpus\":1,\n\"env\":{\n\"A\":\"1\",\n\"A\":\"2\"}}", VIAL_E_INVALID,
		"vial.json:4: field 'env': a key in it is given twice");
	_cleanup_free_ char *huge = malloc(SPEC_FILE_MAX + 2);
	memset(huge, ' ', SPEC_FILE_MAX + 1);
	huge[SPEC_FILE_MAX + 1] = '\0';
	refused(huge, VIAL_E_LIMIT, "longer than");
	memset(huge, '[', SPEC_FILE_MAX);
	huge[SPEC_FILE_MAX] = '\0';
	refused(huge, VIAL_E_INVALID, "not valid JSON");
}

static void test_round_trip(void **state)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct vial_spec *again = NULL;
	_cleanup_free_ char *a = NULL, *b = NULL;
	(void)state;
	_cleanup_(spec_freep) struct vial_spec *s = loaded(
		"{\"image\":\"./i\",\"memory\":\"65537K\",\"timeout\":\"5ms\",\"command\":[\"\\u00e9\"],"
		"\"env\":{\"A\":\"=\"},\"ulimit\":[\"cpu=1:2\"],\"tty\":true,\"entrypoint\":[]}");

	assert_int_equal(spec_to_json(s, &a, NULL), 0);
	assert_int_equal(spec_from_blob(a, strlen(a), &again, &err), 0);
	assert_int_equal(spec_to_json(again, &b, NULL), 0);
	assert_string_equal(a, b);
	assert_true(spec_is_set(again, SPEC_ENTRYPOINT));
	spec_free(again);
	assert_int_equal(spec_set(s, "command", "\xff", NULL), 0);
	assert_int_equal(spec_to_json(s, &b, &err), VIAL_E_INVALID);
	assert_non_null(strstr(err.msg, "command"));
}

static void test_blob_keeps_unknown_fields(void **state)
{
	static const char text[] = "{\"version\":1,\"cpus\":3,\"later\":{\"x\":[1]},\"publish\":[\"80\"]}";
	struct vial_spec *s = NULL, *c = NULL;
	_cleanup_free_ char *out = NULL;

	(void)state;
	assert_int_equal(spec_from_blob(text, strlen(text), &s, NULL), 0);
	assert_int_equal(spec_copy(s, &c, NULL), 0);
	spec_free(s);
	assert_int_equal(spec_to_json(c, &out, NULL), 0);
	spec_free(c);
	assert_non_null(strstr(out, "\"later\""));
	assert_non_null(strstr(out, "\"publish\""));
	assert_int_equal(spec_from_blob("{\"version\":2}", 13, &s, NULL), VIAL_E_UNSUPPORTED);
	assert_int_equal(spec_from_blob("{\"cpus\":0}", 10, &s, NULL), VIAL_E_INVALID);
}

static void test_env_file_comes_first(void **state)
{
	char path[] = "/tmp/vial-test-XXXXXX", text[128];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "A=file\nB=file\n", 14), 14);
	close(fd);
	snprintf(text, sizeof(text), "{\"env\":{\"A\":\"env\"},\"env_file\":\"%s\"}", path);
	_cleanup_(spec_freep) struct vial_spec *s = loaded(text);
	assert_string_equal(strv_getenv(&s->env, "A"), "env");
	assert_string_equal(strv_getenv(&s->env, "B"), "file");
	assert_int_equal(spec_load_file(s, path, NULL), VIAL_E_INVALID);
	unlink(path);
	assert_int_equal(spec_load_file(s, path, NULL), VIAL_E_NOT_FOUND);
}

static void test_keys(void **state)
{
	static const char text[] =
		"{ \"a\": \"x\", \n\"b\\\"\": {\"no\": 1}, \"c\": [\"no\", {\"no\": 2}],\n \"d\" : 1 }";
	struct spec_key k[8];

	(void)state;
	assert_int_equal(spec_json_keys(text, strlen(text), k, 8), 4);
	assert_int_equal(k[0].line, 1);
	assert_int_equal(k[1].line, 2);
	assert_memory_equal(k[1].raw, "b\\\"", 3);
	assert_int_equal(k[1].len, 3);
	assert_int_equal(k[3].line, 3);
	assert_int_equal(spec_json_keys(text, strlen(text), k, 2), 2);
	assert_int_equal(spec_json_keys("{\"open", 6, k, 8), 1);
	assert_int_equal(spec_json_keys("{\"x\\", 4, k, 8), 1);
	assert_int_equal(spec_json_keys("", 0, k, 8), 0);
	assert_int_equal(spec_json_keys("]]}}{\"a\"", 8, k, 8), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),	     cmocka_unit_test(test_other_forms),
		cmocka_unit_test(test_layers),	     cmocka_unit_test(test_shuru),
		cmocka_unit_test(test_field_errors), cmocka_unit_test(test_text_errors),
		cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_blob_keeps_unknown_fields),
		cmocka_unit_test(test_keys),	     cmocka_unit_test(test_env_file_comes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
