/* SPDX-License-Identifier: Apache-2.0 */
/* Inherited descriptors that are found by what they are for: launch descriptions list a role for each. */
#ifndef WIRE_ROLES_H
#define WIRE_ROLES_H

#include <stddef.h>
#include <stdint.h>

/* roles_fd() - number of the @nth (from 0) descriptor with @role, or -1; roles[0] is descriptor @first */
static inline int roles_fd(const uint32_t *roles, size_t n, uint32_t role, size_t nth, int first)
{
	for (size_t i = 0; i < n; i++)
		if (roles[i] == role && nth-- == 0)
			return first + (int)i;
	return -1;
}

#endif
