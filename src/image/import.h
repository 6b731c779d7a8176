/* SPDX-License-Identifier: Apache-2.0 */
/* Sources into layers of the store, through vial-unpack. */
#ifndef IMAGE_IMPORT_H
#define IMAGE_IMPORT_H

#include "image/source.h"

/**
 * import_archive() - tar of a root file system, OCI layout or docker-archive
 * @fd:		regular file, read from its start
 * @name:	source_name(), whose lock is held
 * @ret:	layers and config are filled in
 */
int import_archive(const struct image_env *env, int fd, const char *name, struct source_root *ret, struct vial_err *err);

/* import_dir() - the tree below @dirfd; parameters as above */
int import_dir(const struct image_env *env, int dirfd, const char *name, struct source_root *ret, struct vial_err *err);

/* import_layout() - OCI image layout in @dirfd, whose index.json is open as @index_fd */
int import_layout(const struct image_env *env, int dirfd, int index_fd, struct source_root *ret, struct vial_err *err);

#endif
