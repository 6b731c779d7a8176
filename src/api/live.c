// SPDX-License-Identifier: Apache-2.0
// vial_box_*: the exported names of what is done to a running box.
#include "api/export.h"

#include "api/check.h"
#include "base/err.h"
#include "box/live.h"
#include "box/snapshot.h"

int vial_box_pause(struct vial_box *b, struct vial_err *err)
{
	return box_pause(b, err);
}

int vial_box_resume(struct vial_box *b, struct vial_err *err)
{
	return box_resume(b, err);
}

int vial_box_update(struct vial_box *b, const struct vial_limits *limits, struct vial_err *err)
{
	struct vial_limits l;
	int r = check_options(limits, sizeof(l), &l, "vial_limits", err);

	return r < 0 ? r : box_update(b, &l, err);
}

int vial_box_fork(struct vial_box *b, size_t n, struct vial_box **ret, struct vial_err *err)
{
	return box_fork(b, n, ret, err);
}

uint32_t vial_box_pause_us(const struct vial_box *b)
{
	return b->pause_us;
}

int vial_box_snapshot(struct vial_box *b, const char *path, struct vial_err *err)
{
	if (!path || !*path)
		return err_set(err, VIAL_E_INVALID, "vial_box_snapshot: no path");
	return box_snapshot(b, path, -1, err);
}

int vial_box_snapshot_fd(struct vial_box *b, int fd, struct vial_err *err)
{
	return box_snapshot(b, NULL, fd, err);
}

int vial_box_create_from(struct vial *v, const char *path, const struct vial_spec *spec, uint32_t flags,
			 struct vial_box **ret, struct vial_err *err)
{
	if (!path || flags & ~(uint32_t)VIAL_FROM_TRUST)
		return err_set(err, VIAL_E_INVALID, "vial_box_create_from: no path, or unknown flags");
	return box_create_from(v, path, spec, flags & VIAL_FROM_TRUST, ret, err);
}
