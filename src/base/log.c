// SPDX-License-Identifier: Apache-2.0
// Diagnostics of our own processes.
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

/* Process-wide by nature: set once from main() before anything logs. */
static const char *log_name = "vial";
static int log_fd = -1;
static enum log_level log_max = LOG_LEVEL_WARN;

static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };

void log_open(const char *name, int fd, enum log_level level)
{
	log_name = name;
	log_fd = fd;
	log_max = level;
}

int log_level_parse(const char *s, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (strcmp(s, level_names[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int head, body;

	if (log_fd < 0 || level > log_max)
		return;
	uint64_t now = clock_mono_ns();
	head = snprintf(line, sizeof(line), "%s[%d] %llu.%06llu %s: ", log_name, (int)getpid(),
			(unsigned long long)(now / NS_PER_S), (unsigned long long)(now % NS_PER_S / 1000),
			level_names[level]);
	va_start(ap, fmt);
	body = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, fmt, ap);
	va_end(ap);
	size_t n = (size_t)head + MIN((size_t)MAX(body, 0), sizeof(line) - (size_t)head - 2);
	line[n] = '\0';
	str_defuse(line);
	line[n++] = '\n';
	/* Nowhere to report a failing log. */
	if (write(log_fd, line, n) < 0)
		return;
}
