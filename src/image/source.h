/* SPDX-License-Identifier: Apache-2.0 */
/* What a source (a file or directory of the user) became: the store's quick way from a path to a root. */
#ifndef IMAGE_SOURCE_H
#define IMAGE_SOURCE_H

#include <sys/stat.h>

#include "base/sha256.h"
#include "image/image.h"

/* struct source_id - the state of the source; any change of it makes a new import */
struct source_id {
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
	uint8_t fingerprint[SHA256_SIZE]; /* directories: of everything below; files: zero */
};

struct source_layer {
	char key[SHA256_HEX];
	uint64_t bytes;
};

/* struct source_root - a root disk's parts; extents of length 0 are listed and left out of the disk */
struct source_root {
	char key[SHA256_HEX];
	uint64_t meta_bytes;
	struct source_layer layers[IMAGE_LAYERS_MAX];
	size_t n_layers;
	struct image_config config;
};

void source_id_stat(struct source_id *id, const struct stat *st);
void source_root_done(struct source_root *r);

/* source_load() - 0, or -ENOENT when nothing current is known about @id */
int source_load(int store_fd, const struct source_id *id, struct source_root *ret);
int source_save(int store_fd, const struct source_id *id, const struct source_root *r, struct vial_err *err);
/* source_name() - of locks and temporary files; @buf: STORE_NAME_MAX bytes */
void source_name(const struct source_id *id, char *buf);

#endif
