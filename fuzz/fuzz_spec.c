// SPDX-License-Identifier: Apache-2.0
/*
 * Specifications from hostile text: project files, stored blobs, env files, single values.
 * Input: one byte chooses, the rest is the text.
 */
#include <string.h>

#include "base/mem.h"
#include "box/spec.h"
#include "fuzz.h"

/* Whatever was accepted: valid by the rules of spec.h. */
static void check_valid(const struct vial_spec *s)
{
	FUZZ_CHECK(s->cpus >= 1 && s->cpus <= SPEC_CPUS_MAX);
	FUZZ_CHECK(s->memory_bytes >= SPEC_MEMORY_MIN && s->memory_bytes % KIB(1) == 0);
	FUZZ_CHECK(s->timeout_ms <= SPEC_TIMEOUT_MAX);
	FUZZ_CHECK(!s->hostname || (strlen(s->hostname) <= SPEC_HOSTNAME_MAX && s->hostname[0] != '-'));
	FUZZ_CHECK(!s->workdir || s->workdir[0] == '/');
	FUZZ_CHECK(s->n_rlimits <= SPEC_RLIMITS_MAX && s->n_rlimits == s->ulimit.n);
	FUZZ_CHECK(s->env.n <= SPEC_ENV_MAX);
	for (size_t i = 0; i < s->n_rlimits; i++)
		FUZZ_CHECK(s->rlimits[i].resource < 16 && s->rlimits[i].soft <= s->rlimits[i].hard);
	for (size_t i = 0; i < s->env.n; i++) {
		const char *eq = strchr(s->env.v[i], '=');
		FUZZ_CHECK(eq && eq != s->env.v[i]);
		for (size_t j = 0; j < i && i < 64; j++)
			FUZZ_CHECK(strncmp(s->env.v[i], s->env.v[j], (size_t)(eq - s->env.v[i]) + 1) != 0);
	}
}

static void check_error(const struct vial_err *err, int r)
{
	FUZZ_CHECK(r == 0 ? err->code == 0 : err->code == r && err->msg[0]);
	for (const char *p = err->msg; *p; p++)
		FUZZ_CHECK(*p != '\n' || err->code == 0);
}

/* What is written is read back to the same. */
static void check_round_trip(const struct vial_spec *s)
{
	struct vial_err err = VIAL_ERR_INIT;
	_cleanup_(spec_freep) struct vial_spec *again = NULL;
	_cleanup_free_ char *a = NULL, *b = NULL;

	if (spec_to_json(s, &a, NULL) < 0 || strlen(a) > SPEC_FILE_MAX)
		return;
	FUZZ_CHECK(spec_from_blob(a, strlen(a), &again, &err) == 0);
	FUZZ_CHECK(spec_to_json(again, &b, NULL) == 0);
	FUZZ_CHECK(strcmp(a, b) == 0);
}

static void try_file(const char *text, size_t n)
{
	struct vial_err err = VIAL_ERR_INIT;
	_cleanup_(spec_freep) struct vial_spec *s = NULL;
	_cleanup_free_ char *before = NULL, *after = NULL;
	int r;

	if (spec_new(&s, NULL) < 0 || spec_set(s, "command", "before", NULL) < 0 ||
	    spec_to_json(s, &before, NULL) < 0)
		return;
	r = spec_load_json(s, text, n, "f.json", &err);
	FUZZ_CHECK(r == 0 ? err.code == 0 : err.code == r && strncmp(err.msg, "f.json:", 7) == 0);
	check_valid(s);
	if (r == 0) {
		check_round_trip(s);
		return;
	}
	FUZZ_CHECK(spec_to_json(s, &after, NULL) == 0 && strcmp(before, after) == 0);
}

static void try_blob(const char *text, size_t n)
{
	struct vial_err err = VIAL_ERR_INIT;
	_cleanup_(spec_freep) struct vial_spec *s = NULL;

	if (spec_from_blob(text, n, &s, &err) < 0)
		return;
	check_valid(s);
	check_round_trip(s);
}

static void try_env(const char *text, size_t n)
{
	struct vial_err err = VIAL_ERR_INIT;
	_cleanup_(spec_freep) struct vial_spec *s = NULL;

	if (spec_new(&s, NULL) < 0)
		return;
	check_error(&err, spec_env_parse(s, text, n, "f.env", &err));
	check_valid(s);
}

/* The scanner: keys lie in the text, in order, on the lines they are on. */
static void try_keys(const char *text, size_t n)
{
	struct spec_key keys[16];
	size_t found = spec_json_keys(text, n, keys, ARRAY_SIZE(keys));
	const char *at = text;
	unsigned int line = 1;

	FUZZ_CHECK(found <= ARRAY_SIZE(keys));
	for (size_t i = 0; i < found; i++) {
		FUZZ_CHECK(keys[i].raw >= at && keys[i].len <= (size_t)(text + n - keys[i].raw));
		for (; at < keys[i].raw; at++)
			line += *at == '\n';
		FUZZ_CHECK(keys[i].line == line);
	}
}

/* "field=value" lines, one after the other */
static void try_values(char *text)
{
	_cleanup_(spec_freep) struct vial_spec *s = NULL;
	char *rest = NULL;

	if (spec_new(&s, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		struct vial_err err = VIAL_ERR_INIT;
		char *eq = strchr(line, '=');

		if (!eq)
			continue;
		*eq = '\0';
		if (strcmp(line, "env_file") == 0)
			continue; /* would read files of this machine */
		check_error(&err, spec_set(s, line, eq + 1, &err));
	}
	check_valid(s);
	check_round_trip(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	/* Not NUL-terminated, exactly as large as the text. */
	const char *text = (const char *)data + 1;
	size_t n = size - 1;

	if (memmem(text, n, "env_file", 8) && data[0] % 4 != 3)
		return 0; /* would read files of this machine */
	try_keys(text, n);
	switch (data[0] % 4) {
	case 0:
		try_file(text, n);
		break;
	case 1:
		try_blob(text, n);
		break;
	case 2:
		try_env(text, n);
		break;
	default: {
		_cleanup_free_ char *copy = strndup(text, n);
		if (copy)
			try_values(copy);
		break;
	}
	}
	return 0;
}
