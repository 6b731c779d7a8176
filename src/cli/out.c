// SPDX-License-Identifier: Apache-2.0
// One line on stderr, in one write.
#include "cli/out.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

#define LINE_SIZE (VIAL_ERR_MSG_SIZE + 64)

void out_line(const char *fmt, ...)
{
	char line[LINE_SIZE] = "vial: ";
	size_t n = strlen(line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	str_defuse(line);
	n = strlen(line);
	line[n++] = '\n';
	fflush(stdout);
	(void)fd_write_full(STDERR_FILENO, line, n);
}

void out_error(const struct vial_err *err)
{
	out_line("%s", err->msg[0] ? err->msg : vial_error_name(err->code));
}
