/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics of our own processes: level, time and process name to one descriptor. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/attr.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_TRACE };

/**
 * log_open() - where this process's log goes; called from main() only
 * @name:	static string, put before each line
 * @fd:		stays the caller's; -1 drops everything (the start value: a library never prints)
 */
void log_open(const char *name, int fd, enum log_level level);
/* log_level_parse() - "error" … "trace"; 0 or -EINVAL */
int log_level_parse(const char *s, enum log_level *ret);
/* log_line() - one line, one write; control characters in it are shown as '?' */
void log_line(enum log_level level, const char *fmt, ...) _printf_(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
