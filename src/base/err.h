/* SPDX-License-Identifier: Apache-2.0 */
/* Filling struct vial_err: set once where it happens, prefixed by callers. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/attr.h"
#include "vial/error.h"

/**
 * err_set() - record an error that no system call caused
 * @err:	may be NULL; must be empty otherwise (asserted)
 * @code:	a VIAL_E_*
 *
 * Return: @code, so that `return err_set(…)` reads well.
 */
int err_set(struct vial_err *err, int code, const char *fmt, ...) _printf_(3, 4);

/**
 * err_sys() - record a failed system call; ": strerror" is appended to the message
 * @err:	may be NULL; must be empty otherwise (asserted)
 * @neg_errno:	-errno of the failed call; ENOENT, EACCES, EPERM, ENOSPC, EDQUOT,
 *		ENOMEM, EEXIST and ETIMEDOUT choose the matching VIAL_E_*, all others VIAL_E_IO
 *
 * Return: the chosen VIAL_E_*.
 */
int err_sys(struct vial_err *err, int neg_errno, const char *fmt, ...) _printf_(3, 4);

/**
 * err_prefix() - put "prefix: " before the message
 *
 * A prefix that does not fit is cut short; the root cause is kept as far as it fits.
 *
 * Return: @err's code (or VIAL_E_IO when @err is NULL).
 */
int err_prefix(struct vial_err *err, const char *fmt, ...) _printf_(2, 3);

/* err_clear() - make @err empty again, for a fallback after a failure that was handled */
void err_clear(struct vial_err *err);

#endif
