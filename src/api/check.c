// SPDX-License-Identifier: Apache-2.0
// Checks on what callers of the library hand in.
#include "api/check.h"

#include <string.h>

#include "base/attr.h"
#include "base/err.h"

#define SIZE_MAX_SANE 65536

int check_options(const void *given, size_t known, void *ret, const char *what, struct vial_err *err)
{
	const char *bytes = given;
	size_t size;

	memset(ret, 0, known);
	if (given) {
		memcpy(&size, given, sizeof(size));
		if (size < sizeof(size) || size > SIZE_MAX_SANE)
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

int check_output(const void *given, size_t first, const char *what, struct vial_err *err)
{
	size_t size;

	memcpy(&size, given, sizeof(size));
	return size < first || size > SIZE_MAX_SANE
		       ? err_set(err, VIAL_E_INVALID, "%s: size is not set", what)
		       : 0;
}

void give_output(void *to, const void *from, size_t known)
{
	size_t size, skip = sizeof(size);

	memcpy(&size, to, sizeof(size));
	memcpy((char *)to + skip, (const char *)from + skip, MIN(size, known) - skip);
	if (size > known)
		memset((char *)to + known, 0, size - known);
}
