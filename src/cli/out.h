/* SPDX-License-Identifier: Apache-2.0 */
/* What vial itself tells people: one line on stderr. */
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include "base/attr.h"
#include "vial/error.h"

/* out_error() - "vial: message"; control characters (of names a user or a guest chose) are shown as '?' */
void out_error(const struct vial_err *err);
/* out_line() - the same with a message of our own */
void out_line(const char *fmt, ...) _printf_(1, 2);

#endif
