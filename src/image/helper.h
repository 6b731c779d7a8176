/* SPDX-License-Identifier: Apache-2.0 */
/* Running vial-unpack and reading its report. */
#ifndef IMAGE_HELPER_H
#define IMAGE_HELPER_H

#include "base/sha256.h"
#include "image/image.h"
#include "jail/jail.h"

#define HELPER_FDS_MAX (IMAGE_LAYERS_MAX + 4)

/* struct helper_layer - one layer of an OCI image or docker-archive, as the helper found it */
struct helper_layer {
	uint8_t diff_id[SHA256_SIZE];
	uint8_t blob[SHA256_SIZE];
	bool has_blob;
	uint64_t offset;
	uint64_t bytes;
};

/* struct report - a decoded report; strings and lists owned */
struct report {
	uint8_t plain_digest[SHA256_SIZE];
	uint8_t raw_digest[SHA256_SIZE];
	uint8_t image_digest[SHA256_SIZE];
	uint64_t data_bytes;
	uint32_t kind;
	char *need;
	struct image_config config;
	struct helper_layer *layers; /* IMAGE_LAYERS_MAX places once there is one */
	size_t n_layers;
};

void report_done(struct report *r);

/* helper_feed_fn - gives the running helper its input; an error of this is what helper_run() returns */
typedef int helper_feed_fn(void *data, struct vial_err *err);

/**
 * helper_run() - run vial-unpack once
 * @args:	NULL-terminated, without the program's name
 * @fds:	what it gets besides the report
 * @feed:	called once it runs; may be NULL
 * @ret:	zeroed first; end with report_done() in any case
 * The helper's own message comes back as the error, made printable.
 */
int helper_run(const struct image_env *env, char *const *args, const struct jail_fd *fds, size_t n_fds,
	       helper_feed_fn *feed, void *feed_data, struct report *ret, struct vial_err *err);

#endif
