/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about files that are slow to find, kept by the file's identity (device, inode, size, mtime, ctime):
 * digests of kernels and programs, versions. A changed file has another identity.
 */
#ifndef ENGINE_FILECACHE_H
#define ENGINE_FILECACHE_H

#include <stddef.h>
#include <sys/stat.h>

#include "vial/error.h"

#define FILECACHE_VALUE_MAX 256

/* filecache_get() - 0 with the NUL-terminated value, or -ENOENT (any failure counts as a miss) */
int filecache_get(int cache_fd, const char *kind, const struct stat *st, char ret[FILECACHE_VALUE_MAX]);
/* filecache_put() - best effort: a cache that cannot be written only costs time */
void filecache_put(int cache_fd, const char *kind, const struct stat *st, const char *value);

/**
 * filecache_digest() - hex SHA-256 of an open file, from the cache if it is known
 * @ret:	65 bytes
 */
int filecache_digest(int cache_fd, int fd, const char *name, char ret[65], struct vial_err *err);

/* filecache_checksum() - the same with checksum_sparse(), for large files with holes */
int filecache_checksum(int cache_fd, int fd, const char *name, char ret[65], struct vial_err *err);

#endif
