// SPDX-License-Identifier: Apache-2.0
// Where a specification's values come from, lowest first.
#include "cli/layers.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/mem.h"

DEFINE_CLEANUP(struct vial_spec, vial_spec_free)

static const char *const project_files[] = { "vial.json", "shuru.json" };

/* The first of @names that is set and not empty decides. */
static const struct {
	const char *field;
	const char *names[2];
} environment[] = {
	{ "kernel", { "VIAL_KERNEL", "SHURU_KERNEL" } },
	{ "initrd", { "VIAL_INITRD", "SHURU_INITRD" } },
	{ "rootfs", { "VIAL_ROOTFS", "SHURU_ROOTFS" } },
};

static int no_memory(struct vial_err *err)
{
	return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
}

/* Path of the defaults file: the state directory as vial_open() finds it. NULL in *@ret: there is none. */
static int defaults_path(const struct cli *cli, char **ret)
{
	static const char name[] = "config.json";
	const char *home = cli->home ? cli->home : getenv("VIAL_HOME");
	const char *data = getenv("XDG_DATA_HOME"), *user = getenv("HOME");
	int n = 0;

	*ret = NULL;
	if (home && *home)
		n = asprintf(ret, "%s/%s", home, name);
	else if (data && *data)
		n = asprintf(ret, "%s/vial/%s", data, name);
	else if (user && *user)
		n = asprintf(ret, "%s/.local/share/vial/%s", user, name);
	return n < 0 ? -ENOMEM : 0;
}

static int take_back(struct vial_spec *s, const char *field, const char *value, struct vial_err *err)
{
	return value ? vial_spec_set(s, field, value, err) : 0;
}

/* One layer of JSON: if it says what to run, lower layers no longer do. */
static int load_layer(struct vial_spec *s, const char *path, struct vial_err *err)
{
	const char *image = vial_spec_get(s, "image"), *rootfs = vial_spec_get(s, "rootfs");
	_cleanup_free_ char *old_image = image ? strdup(image) : NULL;
	_cleanup_free_ char *old_rootfs = rootfs ? strdup(rootfs) : NULL;
	int r;

	if ((image && !old_image) || (rootfs && !old_rootfs))
		return no_memory(err);
	r = vial_spec_clear(s, "image", err);
	if (r == 0)
		r = vial_spec_clear(s, "rootfs", err);
	if (r == 0)
		r = vial_spec_load_file(s, path, err);
	if (r < 0 || vial_spec_get(s, "image") || vial_spec_get(s, "rootfs"))
		return r;
	r = take_back(s, "image", old_image, err);
	return r < 0 ? r : take_back(s, "rootfs", old_rootfs, err);
}

static int load_defaults(const struct cli *cli, struct vial_spec *s, struct vial_err *err)
{
	_cleanup_free_ char *path = NULL;

	if (defaults_path(cli, &path) < 0)
		return no_memory(err);
	if (!path || access(path, F_OK) < 0)
		return 0;
	return load_layer(s, path, err);
}

static int load_project(struct vial_spec *s, const char *config, struct vial_err *err)
{
	if (config)
		return load_layer(s, config, err);
	for (size_t i = 0; i < ARRAY_SIZE(project_files); i++)
		if (access(project_files[i], F_OK) == 0)
			return load_layer(s, project_files[i], err);
	return 0;
}

static int load_environment(struct vial_spec *s, struct vial_err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(environment); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(environment[i].names); j++) {
			const char *name = environment[i].names[j], *value = getenv(name);
			int r;

			if (!value || !*value)
				continue;
			r = vial_spec_set(s, environment[i].field, value, err);
			if (r < 0)
				return err_prefix(err, "%s", name);
			if (strcmp(environment[i].field, "rootfs") == 0)
				r = vial_spec_clear(s, "image", err);
			if (r < 0)
				return r;
			break;
		}
	}
	return 0;
}

int layers_load(const struct cli *cli, const char *config, struct vial_spec **ret, struct vial_err *err)
{
	_cleanup_(vial_spec_freep) struct vial_spec *s = NULL;
	int r = vial_spec_new(&s, err);

	if (r == 0)
		r = load_defaults(cli, s, err);
	if (r == 0)
		r = load_project(s, config, err);
	if (r == 0)
		r = load_environment(s, err);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

void layers_inspect(const struct vial_spec *s, struct layers_info *ret)
{
	char *text = NULL;
	json_t *o;

	/* Text that JSON cannot hold came from flags: then there is a command, and what TERM is does not matter. */
	*ret = (struct layers_info){ .has_command = true };
	if (vial_spec_to_json(s, &text, NULL) < 0)
		return;
	o = json_loads(text, 0, NULL);
	ret->has_command = json_array_size(json_object_get(o, "command")) > 0 ||
			   json_array_size(json_object_get(o, "entrypoint")) > 0;
	ret->has_term = json_object_get(json_object_get(o, "env"), "TERM") != NULL;
	json_decref(o);
	vial_free(text);
}
