// SPDX-License-Identifier: Apache-2.0
// Checks on what callers of the library hand in.
#include "api/check.h"

#include <string.h>

#include "base/attr.h"
#include "base/err.h"

int check_options(const void *given, size_t known, void *ret, const char *what, struct vial_err *err)
{
	const char *bytes = given;
	size_t size;

	memset(ret, 0, known);
	if (given) {
		memcpy(&size, given, sizeof(size));
		if (size < sizeof(size) || size > 65536)
			return err_set(err, VIAL_E_INVALID, "%s: size is not set", what);
		for (size_t i = known; i < size; i++)
			if (bytes[i])
				return err_set(err, VIAL_E_INVALID,
					       "%s: uses options newer than this library", what);
		memcpy(ret, given, MIN(size, known));
	}
	memcpy(ret, &known, sizeof(known));
	return 0;
}
