// SPDX-License-Identifier: Apache-2.0
/*
 * Specifications as JSON: project files, defaults, stored blobs.
 *
 * Theory of operation
 *
 * Purpose: an object whose keys are field names becomes a specification, and back.
 * Trust: the text is hostile (a project file comes with somebody's repository). jansson parses it:
 * depth-limited, UTF-8 checked, duplicates refused. Values go through the same spec_assign() as flags.
 * Lines: jansson keeps no positions, so spec_json_keys() finds the lines of the outermost keys with a scanner
 * of its own. jansson's objects keep their order, so the n-th key of one is the n-th of the other; the scanner
 * decides nothing but the line number in a message.
 * A load works on a copy and is taken over whole: after an error the specification is as before.
 * Limits: SPEC_FILE_MAX bytes of text, jansson's depth of 2048, those of spec_assign().
 */
#include "box/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"

/* More keys than there are fields can only be errors: the first of them is found before this. */
#define KEYS_MAX       256
#define NAME_MAX_SHOWN 64

#define _cleanup_json_ _cleanup_(json_decrefp)

/* ---- lines ---- */

struct scan {
	const char *p, *end;
	unsigned int line;
};

/* From after the opening quote to after the closing one; the raw bytes between. */
static void scan_string(struct scan *s, struct spec_key *ret)
{
	ret->raw = s->p;
	ret->line = s->line;
	while (s->p < s->end && *s->p != '"') {
		if (*s->p == '\\' && s->end - s->p > 1)
			s->p++;
		s->line += *s->p == '\n';
		s->p++;
	}
	ret->len = (size_t)(s->p - ret->raw);
	if (s->p < s->end)
		s->p++;
}

size_t spec_json_keys(const char *text, size_t n, struct spec_key *keys, size_t max)
{
	struct scan s = { .p = text, .end = text + n, .line = 1 };
	struct spec_key word;
	size_t found = 0, depth = 0;
	bool key_next = false; /* only ever true at depth 1, where it counts */

	while (s.p < s.end && found < max) {
		char c = *s.p++;

		if (c == '\n') {
			s.line++;
		} else if (c == '"') {
			scan_string(&s, &word);
			if (key_next && depth == 1)
				keys[found++] = word;
			key_next = false;
		} else if (c == '{' || c == '[') {
			key_next = c == '{' && depth == 0;
			depth++;
		} else if (c == '}' || c == ']') {
			key_next = false;
			depth -= depth > 0;
		} else if (c == ',') {
			key_next = depth == 1;
		}
	}
	return found;
}

/* For messages: no control characters, no end. */
static void show_name(const char *name, size_t len, char ret[NAME_MAX_SHOWN + 1])
{
	size_t n = MIN(len, (size_t)NAME_MAX_SHOWN);

	for (size_t i = 0; i < n; i++)
		ret[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
	ret[n] = '\0';
}

/* ---- loading ---- */

/* Numbers have one text form here: what the flag would say. */
static int number_text(const json_t *v, int type, char *out, size_t size, struct vial_err *err)
{
	if (json_is_integer(v)) {
		snprintf(out, size, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		return 0;
	}
	double d = json_real_value(v);
	if (type != VIAL_FIELD_DURATION || !isfinite(d) || d < 0 || d > (double)SPEC_TIMEOUT_MAX)
		return err_set(err, VIAL_E_INVALID, "must be a whole number");
	snprintf(out, size, "%.3f", d);
	return 0;
}

static int ill_typed(int type, bool or_string, struct vial_err *err)
{
	static const char *const wanted[] = {
		[VIAL_FIELD_BOOL] = "true or false",
		[VIAL_FIELD_UINT] = "a whole number",
		[VIAL_FIELD_SIZE] = "a number of MiB or a string such as \"2G\"",
		[VIAL_FIELD_DURATION] = "a number of seconds or a string such as \"5m\"",
		[VIAL_FIELD_STRING] = "a string",
		[VIAL_FIELD_LIST] = "an array of strings",
		[VIAL_FIELD_MAP] = "an object of strings or an array of \"K=V\"",
	};

	return err_set(err, VIAL_E_INVALID, "must be %s%s", wanted[type], or_string ? " or a string" : "");
}

static int load_scalar(struct vial_spec *s, enum spec_id id, int type, const json_t *v, struct vial_err *err)
{
	char number[64];

	if (type == VIAL_FIELD_BOOL && json_is_boolean(v))
		return spec_assign(s, id, json_is_true(v) ? "true" : "false", err);
	if (json_is_string(v) && type != VIAL_FIELD_BOOL && type != VIAL_FIELD_UINT)
		return spec_assign(s, id, json_string_value(v), err);
	if (!json_is_number(v) || type == VIAL_FIELD_BOOL || type == VIAL_FIELD_STRING)
		return ill_typed(type, false, err);
	int r = number_text(v, type, number, sizeof(number), err);
	return r < 0 ? r : spec_assign(s, id, number, err);
}

static int load_array(struct vial_spec *s, enum spec_id id, int type, const json_t *v, struct vial_err *err)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(v, i, entry)
	{
		if (!json_is_string(entry))
			return ill_typed(type, spec_impl(id)->or_string, err);
		int r = spec_assign(s, id, json_string_value(entry), err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_map(struct vial_spec *s, enum spec_id id, json_t *v, struct vial_err *err)
{
	const char *key;
	json_t *entry;

	json_object_foreach(v, key, entry)
	{
		_cleanup_free_ char *pair = NULL;

		if (!json_is_string(entry))
			return ill_typed(VIAL_FIELD_MAP, false, err);
		if (!*key || strchr(key, '='))
			return err_set(err, VIAL_E_INVALID, "'%.64s' cannot be a name", key);
		if (asprintf(&pair, "%s=%s", key, json_string_value(entry)) < 0)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
		int r = spec_assign(s, id, pair, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_list(struct vial_spec *s, enum spec_id id, int type, json_t *v, struct vial_err *err)
{
	bool or_string = spec_impl(id)->or_string;

	if (type == VIAL_FIELD_LIST) {
		int r = spec_reset(s, id, err);
		if (r < 0)
			return r;
		s->is_set[id] = true; /* an empty one is set too */
	}
	if (json_is_array(v))
		return load_array(s, id, type, v, err);
	if (or_string && json_is_string(v))
		return spec_assign(s, id, json_string_value(v), err);
	if (type == VIAL_FIELD_MAP && json_is_object(v))
		return load_map(s, id, v, err);
	return ill_typed(type, or_string, err);
}

static int load_version(const json_t *v, struct vial_err *err)
{
	if (!json_is_integer(v) || json_integer_value(v) < 1)
		return err_set(err, VIAL_E_INVALID, "must be %d", SPEC_VERSION);
	if (json_integer_value(v) > SPEC_VERSION)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "%" JSON_INTEGER_FORMAT " is of a newer vial (this one reads %d)",
			       json_integer_value(v), SPEC_VERSION);
	return 0;
}

static int load_field(struct vial_spec *s, const char *key, json_t *v, struct vial_err *err)
{
	enum spec_id id;
	size_t n;

	if (strcmp(key, "version") == 0)
		return load_version(v, err);
	int r = spec_field_find(key, &id, err);
	if (r < 0)
		return r;
	int type = spec_fields(&n)[id].type;
	if (type == VIAL_FIELD_LIST || type == VIAL_FIELD_MAP)
		return load_list(s, id, type, v, err);
	return load_scalar(s, id, type, v, err);
}

/* Where a message points: the n-th outermost key. */
static int located(const char *text, size_t n, size_t index, const char *key, const char *origin,
		   struct vial_err *err)
{
	struct spec_key keys[KEYS_MAX];
	char name[NAME_MAX_SHOWN + 1];
	size_t found = spec_json_keys(text, n, keys, KEYS_MAX);

	show_name(key, strlen(key), name);
	return err_prefix(err, "%.128s:%u: field '%s'", origin, index < found ? keys[index].line : 1, name);
}

/**
 * struct load - one JSON text on its way into a specification
 * @lenient:	keep fields that are unknown instead of refusing them
 */
struct load {
	struct vial_spec *spec;
	const char *text;
	size_t n;
	const char *origin;
	bool lenient;
};

static int keep_unknown(struct vial_spec *s, const char *key, json_t *v, struct vial_err *err)
{
	if (!s->unknown)
		s->unknown = json_object();
	if (json_object_set(s->unknown, key, v) < 0)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	return 0;
}

static bool is_known(const char *key)
{
	enum spec_id id;

	return strcmp(key, "version") == 0 || spec_field_find(key, &id, NULL) == 0;
}

/* env_file first, so that env has the last word whatever their order in the text (as for the flags). */
static int load_fields(const struct load *l, json_t *object, bool env_files, struct vial_err *err)
{
	const char *key;
	size_t index = 0;
	json_t *v;
	int r;

	json_object_foreach(object, key, v)
	{
		r = 0;
		if ((strcmp(key, "env_file") == 0) == env_files) {
			if (l->lenient && !is_known(key))
				r = keep_unknown(l->spec, key, v, err);
			else
				r = load_field(l->spec, key, v, err);
		}
		if (r < 0)
			return located(l->text, l->n, index, key, l->origin, err);
		index++;
	}
	return 0;
}

/* The second of two equal outermost keys on @line, or where it says so. */
static int duplicate(const struct load *l, unsigned int line, struct vial_err *err)
{
	struct spec_key keys[KEYS_MAX];
	size_t found = spec_json_keys(l->text, l->n, keys, KEYS_MAX), holder = 0;
	char name[NAME_MAX_SHOWN + 1] = "";

	for (size_t i = 0; i < found && keys[i].line <= line; i++) {
		holder = i;
		for (size_t j = 0; j < i && keys[i].line == line; j++) {
			if (keys[i].len != keys[j].len || memcmp(keys[i].raw, keys[j].raw, keys[i].len) != 0)
				continue;
			show_name(keys[i].raw, keys[i].len, name);
			return err_set(err, VIAL_E_INVALID,
				       "%.128s:%u: field '%s': given twice (first on line %u)", l->origin,
				       line, name, keys[j].line);
		}
	}
	if (found)
		show_name(keys[holder].raw, keys[holder].len, name);
	return err_set(err, VIAL_E_INVALID, "%.128s:%u: field '%s': a key in it is given twice", l->origin,
		       line, name);
}

static int parse_object(const struct load *l, json_t **ret, struct vial_err *err)
{
	json_error_t why = { 0 };
	json_t *j;

	if (l->n > SPEC_FILE_MAX)
		return err_set(err, VIAL_E_LIMIT, "%.128s: longer than %zu bytes", l->origin, SPEC_FILE_MAX);
	j = json_loadb(l->text, l->n, JSON_REJECT_DUPLICATES, &why);
	if (!j && json_error_code(&why) == json_error_duplicate_key)
		return duplicate(l, why.line > 0 ? (unsigned int)why.line : 1, err);
	if (!j) {
		char text[JSON_ERROR_TEXT_LENGTH];

		snprintf(text, sizeof(text), "%s", why.text);
		for (char *p = text; *p; p++)
			*p = (unsigned char)*p < 0x20 ? '?' : *p;
		return err_set(err, VIAL_E_INVALID, "%.128s:%d: not valid JSON: %s", l->origin,
			       MAX(why.line, 1), text);
	}
	if (!json_is_object(j)) {
		json_decref(j);
		return err_set(err, VIAL_E_INVALID, "%.128s:1: must be a JSON object: { \"cpus\": 2, … }",
			       l->origin);
	}
	*ret = j;
	return 0;
}

static int load_text(const struct load *l, struct vial_err *err)
{
	_cleanup_json_ json_t *object = NULL;
	int r = parse_object(l, &object, err);

	if (r < 0)
		return r;
	r = load_fields(l, object, true, err);
	return r < 0 ? r : load_fields(l, object, false, err);
}

int spec_load_json(struct vial_spec *s, const char *text, size_t n, const char *origin, struct vial_err *err)
{
	_cleanup_(spec_freep) struct vial_spec *work = NULL;
	struct vial_err own = VIAL_ERR_INIT;
	int r;

	if (!err)
		err = &own;
	r = spec_copy(s, &work, err);
	if (r < 0)
		return r;
	struct load l = { .spec = work, .text = text, .n = n, .origin = origin };
	r = load_text(&l, err);
	if (r < 0)
		return r;
	/* Take over whole: the old contents leave with @work. */
	struct vial_spec old = *s;
	*s = *work;
	*work = old;
	return 0;
}

int spec_load_file(struct vial_spec *s, const char *path, struct vial_err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	int r = fd_read_file_at(AT_FDCWD, path, SPEC_FILE_MAX, &text, &n);

	if (r == -EFBIG)
		return err_set(err, VIAL_E_LIMIT, "%.128s: longer than %zu bytes", path, SPEC_FILE_MAX);
	if (r < 0)
		return err_sys(err, r, "%.128s", path);
	return spec_load_json(s, text, n, path, err);
}

int spec_from_blob(const char *text, size_t n, struct vial_spec **ret, struct vial_err *err)
{
	_cleanup_(spec_freep) struct vial_spec *s = NULL;
	struct vial_err own = VIAL_ERR_INIT;
	int r;

	if (!err)
		err = &own;
	r = spec_new(&s, err);
	if (r < 0)
		return r;
	struct load l = { .spec = s, .text = text, .n = n, .origin = "specification", .lenient = true };
	r = load_text(&l, err);
	if (r < 0)
		return r;
	*ret = take_ptr(s);
	return 0;
}

/* ---- writing ---- */

static json_t *dump_list(const struct strv *list)
{
	json_t *a = json_array();

	for (size_t i = 0; i < list->n; i++) {
		if (json_array_append_new(a, json_string(list->v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

static json_t *dump_map(const struct strv *map)
{
	json_t *o = json_object();

	for (size_t i = 0; i < map->n; i++) {
		const char *eq = strchr(map->v[i], '=');
		_cleanup_free_ char *key = strndup(map->v[i], (size_t)(eq - map->v[i]));

		if (!key || json_object_set_new(o, key, json_string(eq + 1)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

static json_t *dump_field(const struct vial_spec *s, enum spec_id id, int type)
{
	const void *at = (const char *)s + spec_impl(id)->offset;
	uint64_t v = 0;

	switch (type) {
	case VIAL_FIELD_BOOL:
		return json_boolean(*(const bool *)at);
	case VIAL_FIELD_UINT:
		memcpy(&v, at, sizeof(v));
		return json_integer((json_int_t)v);
	case VIAL_FIELD_LIST:
		return dump_list(at);
	case VIAL_FIELD_MAP:
		return dump_map(at);
	default:
		return json_string(s->text[id]);
	}
}

static bool has_value(const struct vial_spec *s, enum spec_id id)
{
	if (id == SPEC_ENV) /* "-e K" without a K of our own sets nothing */
		return s->env.n > 0;
	return id != SPEC_ENV_FILE && (s->is_set[id] || spec_impl(id)->def);
}

static int dump_fields(const struct vial_spec *s, json_t *o, struct vial_err *err)
{
	size_t n;

	for (int id = 0; id < SPEC_N_BUILT; id++) {
		const struct vial_field *f = &spec_fields(&n)[id];

		if (!has_value(s, (enum spec_id)id))
			continue;
		json_t *v = dump_field(s, (enum spec_id)id, f->type);
		if (!v)
			return err_set(err, VIAL_E_INVALID, "%s: is not UTF-8, which JSON needs", f->name);
		if (json_object_set_new(o, f->name, v) < 0)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	}
	return 0;
}

int spec_to_json(const struct vial_spec *s, char **ret, struct vial_err *err)
{
	_cleanup_json_ json_t *o = json_object();
	int r;

	if (!o || json_object_set_new(o, "version", json_integer(SPEC_VERSION)) < 0)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	r = dump_fields(s, o, err);
	if (r < 0)
		return r;
	if (s->unknown && json_object_update_missing(o, s->unknown) < 0)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	char *text = json_dumps(o, JSON_INDENT(2));
	if (!text)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	*ret = text;
	return 0;
}
