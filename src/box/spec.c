// SPDX-License-Identifier: Apache-2.0
// Specifications: life, setting and reading fields.
#include "box/spec.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static int no_memory(struct vial_err *err)
{
	return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
}

static void *member(struct vial_spec *s, enum spec_id id)
{
	return (char *)s + spec_impl(id)->offset;
}

static int field_type(enum spec_id id)
{
	size_t n;

	return spec_fields(&n)[id].type;
}

int spec_new(struct vial_spec **ret, struct vial_err *err)
{
	_cleanup_(spec_freep) struct vial_spec *s = calloc(1, sizeof(*s));

	if (!s)
		return no_memory(err);
	for (int id = 0; id < SPEC_N_BUILT; id++) {
		int r = spec_reset(s, (enum spec_id)id, err);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(s);
	return 0;
}

void spec_free(struct vial_spec *s)
{
	if (!s)
		return;
	for (int id = 0; id < SPEC_N_BUILT; id++) {
		int type = field_type((enum spec_id)id);

		free(s->text[id]);
		if (id == SPEC_ENV_FILE)
			continue; /* has no member: it fills @env */
		if (type == VIAL_FIELD_STRING)
			free(*(char **)member(s, (enum spec_id)id));
		else if (type == VIAL_FIELD_LIST || type == VIAL_FIELD_MAP)
			strv_done(member(s, (enum spec_id)id));
	}
	json_decref(s->unknown);
	free(s);
}

static int copy_field(struct vial_spec *dst, const struct vial_spec *src, enum spec_id id)
{
	size_t offset = spec_impl(id)->offset;
	int type = field_type(id);

	if (src->text[id]) {
		dst->text[id] = strdup(src->text[id]);
		if (!dst->text[id])
			return -1;
	}
	if (id == SPEC_ENV_FILE)
		return 0;
	if (type == VIAL_FIELD_STRING) {
		const char *from = *(char *const *)(const void *)((const char *)src + offset);
		char **to = member(dst, id);

		*to = from ? strdup(from) : NULL;
		return from && !*to ? -1 : 0;
	}
	if (type == VIAL_FIELD_LIST || type == VIAL_FIELD_MAP)
		return strv_copy(member(dst, id),
				 (const struct strv *)(const void *)((const char *)src + offset));
	return 0;
}

int spec_copy(const struct vial_spec *s, struct vial_spec **ret, struct vial_err *err)
{
	_cleanup_(spec_freep) struct vial_spec *c = calloc(1, sizeof(*c));

	if (!c)
		return no_memory(err);
	c->cpus = s->cpus;
	c->memory_bytes = s->memory_bytes;
	c->max_cpus = s->max_cpus;
	c->max_memory_bytes = s->max_memory_bytes;
	c->timeout_ms = s->timeout_ms;
	c->interactive = s->interactive;
	c->tty = s->tty;
	c->init = s->init;
	c->rm = s->rm;
	c->console = s->console;
	c->n_rlimits = s->n_rlimits;
	memcpy(c->rlimits, s->rlimits, sizeof(c->rlimits));
	memcpy(c->is_set, s->is_set, sizeof(c->is_set));
	for (int id = 0; id < SPEC_N_BUILT; id++)
		if (copy_field(c, s, (enum spec_id)id) < 0)
			return no_memory(err);
	if (s->unknown && !(c->unknown = json_deep_copy(s->unknown)))
		return no_memory(err);
	*ret = take_ptr(c);
	return 0;
}

/* The canonical text forms: they parse back to the same value. */
static int format_value(int type, uint64_t v, char **ret)
{
	const char *unit = "";

	if (type == VIAL_FIELD_SIZE) {
		unit = v % MIB(1) == 0 ? "M" : "K";
		v /= v % MIB(1) == 0 ? MIB(1) : KIB(1);
	} else if (type == VIAL_FIELD_DURATION) {
		unit = v % 1000 == 0 ? "s" : "ms";
		v /= v % 1000 == 0 ? 1000 : 1;
	}
	return asprintf(ret, "%" PRIu64 "%s", v, unit);
}

static int parse_number(int type, const char *value, uint64_t *ret, struct vial_err *err)
{
	int r;

	switch (type) {
	case VIAL_FIELD_SIZE:
		r = str_size(value, ret);
		return r < 0 ? err_set(err, VIAL_E_INVALID,
				       "'%.64s' is not a size (a number of MiB, or one with K, M, G: 512M)",
				       value)
			     : 0;
	case VIAL_FIELD_DURATION:
		r = str_duration(value, ret);
		return r < 0 ? err_set(err, VIAL_E_INVALID,
				       "'%.64s' is not a duration (seconds, or a number with ms, s, m, h: "
				       "90s)",
				       value)
			     : 0;
	default:
		r = str_u64(value, UINT64_MAX, ret);
		return r < 0 ? err_set(err, VIAL_E_INVALID, "'%.64s' is not a whole number", value) : 0;
	}
}

/* @trusted: the built-in default, good on any host (memory: the smaller host still may take --memory) */
static int set_number(struct vial_spec *s, enum spec_id id, const char *value, bool trusted,
		      struct vial_err *err)
{
	const struct spec_impl *f = spec_impl(id);
	_cleanup_free_ char *text = NULL;
	uint64_t v;
	int r = parse_number(field_type(id), value, &v, err);

	if (r < 0)
		return r;
	r = f->check_num && !trusted ? f->check_num(v, err) : 0;
	if (r < 0)
		return r;
	if (format_value(field_type(id), v, &text) < 0)
		return no_memory(err);
	*(uint64_t *)member(s, id) = v;
	free(s->text[id]);
	s->text[id] = take_ptr(text);
	return 0;
}

static int set_bool(struct vial_spec *s, enum spec_id id, const char *value, struct vial_err *err)
{
	const struct spec_impl *f = spec_impl(id);
	bool v = strcmp(value, "true") == 0;

	if (!v && strcmp(value, "false") != 0)
		return err_set(err, VIAL_E_INVALID, "'%.64s' is neither true nor false", value);
	int r = f->check_num ? f->check_num(v, err) : 0;
	if (r < 0)
		return r;
	char *text = strdup(value);
	if (!text)
		return no_memory(err);
	*(bool *)member(s, id) = v;
	free(s->text[id]);
	s->text[id] = text;
	return 0;
}

static int set_string(struct vial_spec *s, enum spec_id id, const char *value, struct vial_err *err)
{
	if (!*value)
		return err_set(err, VIAL_E_INVALID, "must not be empty");
	_cleanup_free_ char *copy = strdup(value);
	_cleanup_free_ char *text = strdup(value);
	if (!copy || !text)
		return no_memory(err);
	char **slot = member(s, id);
	free(*slot);
	*slot = take_ptr(copy);
	free(s->text[id]);
	s->text[id] = take_ptr(text);
	return 0;
}

static int add_entry(struct vial_spec *s, enum spec_id id, const char *value, struct vial_err *err)
{
	struct strv *list = member(s, id);

	if (list->n >= SPEC_LIST_MAX)
		return err_set(err, VIAL_E_LIMIT, "more than %d entries", SPEC_LIST_MAX);
	return strv_add(list, value) < 0 ? no_memory(err) : 0;
}

static int store(struct vial_spec *s, enum spec_id id, const char *value, struct vial_err *err)
{
	const struct spec_impl *f = spec_impl(id);

	if (f->add)
		return f->add(s, value, err);
	switch (field_type(id)) {
	case VIAL_FIELD_BOOL:
		return set_bool(s, id, value, err);
	case VIAL_FIELD_UINT:
	case VIAL_FIELD_SIZE:
	case VIAL_FIELD_DURATION:
		return set_number(s, id, value, false, err);
	case VIAL_FIELD_STRING:
		return set_string(s, id, value, err);
	default:
		return add_entry(s, id, value, err);
	}
}

int spec_assign(struct vial_spec *s, enum spec_id id, const char *value, struct vial_err *err)
{
	const struct spec_impl *f = spec_impl(id);

	if (strlen(value) > SPEC_STRING_MAX)
		return err_set(err, VIAL_E_LIMIT, "longer than %zu bytes", SPEC_STRING_MAX);
	int r = f->check_str ? f->check_str(value, err) : 0;
	if (r < 0)
		return r;
	r = store(s, id, value, err);
	if (r == 0)
		s->is_set[id] = true;
	return r;
}

static void empty_field(struct vial_spec *s, enum spec_id id)
{
	free(take_ptr(s->text[id]));
	switch (field_type(id)) {
	case VIAL_FIELD_BOOL:
		*(bool *)member(s, id) = false;
		break;
	case VIAL_FIELD_STRING:
		free(take_ptr(*(char **)member(s, id)));
		break;
	case VIAL_FIELD_LIST:
	case VIAL_FIELD_MAP:
		if (id == SPEC_ENV_FILE)
			break; /* what it brought is the environment's now */
		if (id == SPEC_ULIMIT)
			s->n_rlimits = 0;
		strv_done(member(s, id));
		break;
	default:
		*(uint64_t *)member(s, id) = 0;
		break;
	}
}

int spec_reset(struct vial_spec *s, enum spec_id id, struct vial_err *err)
{
	const char *def = spec_impl(id)->def;

	if (def) { /* only numbers have one */
		int r = set_number(s, id, def, true, err);
		if (r < 0)
			return r;
	} else {
		empty_field(s, id);
	}
	s->is_set[id] = false;
	return 0;
}

/* The field's name before the message of whatever failed with it. */
static int named(const char *field, struct vial_err *err)
{
	return err_prefix(err, "%.64s", field);
}

int spec_set(struct vial_spec *s, const char *field, const char *value, struct vial_err *err)
{
	struct vial_err own = VIAL_ERR_INIT;
	enum spec_id id;

	if (!err)
		err = &own; /* the code comes back through it */
	if (spec_field_find(field, &id, err) < 0 || spec_assign(s, id, value, err) < 0)
		return named(field, err);
	return 0;
}

int spec_clear(struct vial_spec *s, const char *field, struct vial_err *err)
{
	struct vial_err own = VIAL_ERR_INIT;
	enum spec_id id;

	if (!err)
		err = &own;
	if (spec_field_find(field, &id, err) < 0 || spec_reset(s, id, err) < 0)
		return named(field, err);
	return 0;
}

const char *spec_get(const struct vial_spec *s, const char *field)
{
	enum spec_id id;

	if (spec_field_find(field, &id, NULL) < 0)
		return NULL;
	return s->text[id];
}

int spec_check(const struct vial_spec *s, struct vial_err *err)
{
	if (s->image && s->rootfs)
		return err_set(err, VIAL_E_INVALID,
			       "both image '%.128s' and rootfs '%.128s' are given: choose one", s->image,
			       s->rootfs);
	if (s->max_cpus && s->max_cpus < s->cpus)
		return err_set(err, VIAL_E_INVALID, "max_cpus: %llu is less than cpus (%llu)",
			       (unsigned long long)s->max_cpus, (unsigned long long)s->cpus);
	if (s->max_memory_bytes && s->max_memory_bytes < s->memory_bytes)
		return err_set(err, VIAL_E_INVALID, "max_memory: %lluM is less than memory (%lluM)",
			       (unsigned long long)(s->max_memory_bytes >> 20),
			       (unsigned long long)(s->memory_bytes >> 20));
	return 0;
}
