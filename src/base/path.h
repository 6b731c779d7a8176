/* SPDX-License-Identifier: Apache-2.0 */
/* Directories: making, removing whole trees, finding our own programs. */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <stddef.h>
#include <sys/types.h>

/* path_mkdir_p() - make @path and missing parents with @mode; existing ones are left as they are; 0 or -errno */
int path_mkdir_p(const char *path, mode_t mode);

/**
 * path_rm_rf_at() - remove @name below @dirfd, a directory tree or a file
 * Symlinks are removed, never followed; other mounts inside are not entered.
 * Return: 0 (also when it does not exist) or -errno of the first failure.
 */
int path_rm_rf_at(int dirfd, const char *name);

/**
 * path_empty_at() - remove all that is in directory @name below @dirfd, and leave it
 * Return: as path_rm_rf_at(); -ENOTDIR or -ELOOP if it is no directory.
 */
int path_empty_at(int dirfd, const char *name);

/**
 * path_self_dir() - directory of the running executable
 * @ret:	malloc'ed
 * Return: 0 or -errno.
 */
int path_self_dir(char **ret);

#endif
