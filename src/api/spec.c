// SPDX-License-Identifier: Apache-2.0
// vial_spec_*: the exported names of specifications.
#include "api/export.h"

#include "base/err.h"
#include "box/spec.h"

const struct vial_field *vial_spec_fields(size_t *ret_n)
{
	return spec_fields(ret_n);
}

int vial_spec_new(struct vial_spec **ret, struct vial_err *err)
{
	return spec_new(ret, err);
}

void vial_spec_free(struct vial_spec *s)
{
	spec_free(s);
}

int vial_spec_set(struct vial_spec *s, const char *field, const char *value, struct vial_err *err)
{
	if (!s || !field || !value)
		return err_set(err, VIAL_E_INVALID, "vial_spec_set: a NULL argument");
	return spec_set(s, field, value, err);
}

int vial_spec_clear(struct vial_spec *s, const char *field, struct vial_err *err)
{
	if (!s || !field)
		return err_set(err, VIAL_E_INVALID, "vial_spec_clear: a NULL argument");
	return spec_clear(s, field, err);
}

const char *vial_spec_get(const struct vial_spec *s, const char *field)
{
	return s && field ? spec_get(s, field) : NULL;
}

int vial_spec_load_json(struct vial_spec *s, const char *text, size_t n, const char *origin,
			struct vial_err *err)
{
	if (!s || (!text && n))
		return err_set(err, VIAL_E_INVALID, "vial_spec_load_json: a NULL argument");
	return spec_load_json(s, text ? text : "", n, origin ? origin : "specification", err);
}

int vial_spec_load_file(struct vial_spec *s, const char *path, struct vial_err *err)
{
	if (!s || !path)
		return err_set(err, VIAL_E_INVALID, "vial_spec_load_file: a NULL argument");
	return spec_load_file(s, path, err);
}

int vial_spec_to_json(const struct vial_spec *s, char **ret, struct vial_err *err)
{
	if (!s || !ret)
		return err_set(err, VIAL_E_INVALID, "vial_spec_to_json: a NULL argument");
	return spec_to_json(s, ret, err);
}
