// SPDX-License-Identifier: Apache-2.0
// vial_info_json(), vial_doctor(): the exported names.
#include "api/export.h"

#include "box/info.h"

int vial_info_json(struct vial *v, char **ret, struct vial_err *err)
{
	return info_json(v, ret, err);
}

int vial_doctor(struct vial *v, void (*fn)(void *data, const struct vial_check *c), void *data,
		struct vial_err *err)
{
	return doctor(v, fn, data, err);
}
