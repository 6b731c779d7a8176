/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root disks from images. The parsing of hostile bytes (tar, JSON of images) happens in the jailed
 * vial-unpack; this side keeps the cache and starts it.
 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/str.h"
#include "vial/error.h"

#define IMAGE_LAYERS_MAX  127
#define IMAGE_EXTENTS_MAX (IMAGE_LAYERS_MAX + 1)

/* struct image_config - what the image says about running it; all owned, strings NULL if unset */
struct image_config {
	struct strv entrypoint;
	struct strv cmd;
	struct strv env;
	char *user;
	char *workdir;
	char *stop_signal;
};

/**
 * struct image - a root disk ready for a machine
 * @extents:	@n_extents read-only descriptors (owned) that make up the disk one after the other;
 *		each a multiple of 4096 bytes long
 * @fstype:	"erofs" or what was found on a disk image ("ext4")
 * @digest:	hex SHA-256 that names the root's content; for logs and keys
 * @kernel, @initrd: found beside a disk image; NULL otherwise; owned
 */
struct image {
	struct {
		int fd;
		uint64_t bytes;
	} extents[IMAGE_EXTENTS_MAX];
	size_t n_extents;
	char fstype[16];
	char digest[65];
	struct image_config config;
	char *kernel;
	char *initrd;
};

/**
 * struct image_env - where images are kept and how helpers are started
 * @store_fd:	directory $VIAL_HOME/images, made by the caller
 * @unpack_path: the vial-unpack program
 * @base_path:	tar of the built-in "base" image
 * @uid, @gid:	what vial-unpack runs as, (uid_t)-1: unchanged
 * @progress:	may be NULL
 */
struct image_env {
	int store_fd;
	const char *unpack_path;
	const char *base_path;
	uid_t uid;
	gid_t gid;
	void (*progress)(void *data, const char *line);
	void *progress_data;
};

/**
 * image_open() - root disk of @ref, imported if it is not in the store yet
 * @ref:	"base", or a path (starts with '/', "./" or "../", or any existing path when @is_path): directory,
 *		tar (plain, gzip, zstd), OCI layout directory or its tar, docker-archive, raw disk image with ext4
 * @ret:	zeroed first; end with image_done()
 * Several processes importing the same source do the work once. A kill at any moment leaves the store usable.
 */
int image_open(const struct image_env *env, const char *ref, bool is_path, struct image *ret,
	       struct vial_err *err);
void image_done(struct image *i);

#endif
