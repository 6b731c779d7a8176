/* SPDX-License-Identifier: Apache-2.0 */
/* One-value files of proc, sysfs and cgroupfs. */
#ifndef AGENT_SYSFILE_H
#define AGENT_SYSFILE_H

#include <stddef.h>

/* sysfile_write() - one write of @value to @path below @dirfd; 0 or -errno */
int sysfile_write(int dirfd, const char *path, const char *value);
int sysfile_writef(int dirfd, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* sysfile_read() - first line, cut at @size - 1 bytes, without the newline; 0 or -errno */
int sysfile_read(int dirfd, const char *path, char *buf, size_t size);

#endif
