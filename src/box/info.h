/* SPDX-License-Identifier: Apache-2.0 */
/* What `vial info` and `vial doctor` say. */
#ifndef BOX_INFO_H
#define BOX_INFO_H

#include "box/home.h"

int info_json(struct vial *v, char **ret, struct vial_err *err);
int doctor(struct vial *v, void (*fn)(void *data, const struct vial_check *c), void *data,
	   struct vial_err *err);

#endif
