// SPDX-License-Identifier: Apache-2.0
// vial_open() and vial_box_*: the exported names.
#include "api/export.h"

#include <stdlib.h>

#include "api/check.h"
#include "base/err.h"
#include "box/box.h"
#include "box/exec.h"

const char *vial_version(void)
{
	return VIAL_VERSION;
}

void vial_free(void *p)
{
	free(p);
}

int vial_open(const struct vial_opts *opts, struct vial **ret, struct vial_err *err)
{
	struct vial_opts o;
	int r = check_options(opts, sizeof(o), &o, "vial_opts", err);

	return r < 0 ? r : home_open(&o, ret, err);
}

void vial_close(struct vial *v)
{
	home_close(v);
}

int vial_box_create(struct vial *v, const struct vial_spec *spec, struct vial_box **ret, struct vial_err *err)
{
	return box_create(v, spec, ret, err);
}

int vial_box_start(struct vial_box *b, struct vial_err *err)
{
	return box_start(b, err);
}

int vial_box_stop(struct vial_box *b, uint32_t timeout_ms, struct vial_err *err)
{
	return box_stop(b, timeout_ms, err);
}

void vial_box_free(struct vial_box *b)
{
	box_free(b);
}

const char *vial_box_id(const struct vial_box *b)
{
	return b->id;
}

pid_t vial_box_pid(const struct vial_box *b)
{
	return b->launcher.pid;
}

int vial_box_console_fd(const struct vial_box *b)
{
	return b->console_fd;
}

int vial_prepare(struct vial *v, const struct vial_spec *spec, int force, struct vial_err *err)
{
	_cleanup_(spec_freep) struct vial_spec *defaults = NULL;
	int r = spec ? 0 : spec_new(&defaults, err);

	return r < 0 ? r : box_prepare(v, spec ? spec : defaults, force, err);
}
