/* SPDX-License-Identifier: Apache-2.0 */
/* Root disks of the store: metadata over layers. */
#ifndef IMAGE_ROOT_H
#define IMAGE_ROOT_H

#include "image/helper.h"
#include "image/source.h"

/* root_layer_find() - length of layer @key's data into @ret_bytes; 0 or -ENOENT */
int root_layer_find(const struct image_env *env, const char *key, uint64_t *ret_bytes);

/* root_build() - fill r->key and r->meta_bytes from r->layers, merging them if no one has yet */
int root_build(const struct image_env *env, struct source_root *r, struct vial_err *err);

/**
 * root_open() - @r's extents into @ret; r->config moves there
 * Return: 0, -ENOENT if a part is missing (nothing is moved then) or another -errno.
 */
int root_open(const struct image_env *env, struct source_root *r, struct image *ret);

#endif
