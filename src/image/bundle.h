/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of tar a file is, and where an image's documents and layers lie in it; in vial-unpack. */
#ifndef IMAGE_BUNDLE_H
#define IMAGE_BUNDLE_H

#include "image/oci.h"

enum bundle_kind {
	BUNDLE_ROOTFS,	    /* the files of a root */
	BUNDLE_OCI,	    /* OCI layout */
	BUNDLE_DOCKER,	    /* docker-archive */
	BUNDLE_COMPRESSED, /* one of the latter two, compressed as a whole */
};

/* struct bundle_file - a regular file or link in the tar */
struct bundle_file {
	char *path;
	char *link; /* path it is a link to, NULL for files */
	uint64_t offset;
	uint64_t bytes;
};

#define BUNDLE_FILES_MAX 16384

struct bundle {
	int fd;
	enum bundle_kind kind;
	struct bundle_file *v;
	size_t n;
};

/**
 * bundle_scan() - look at @fd's entries until it is clear what it is
 * @fd:		regular file, hostile
 * @ret:	for OCI layouts and docker-archives also the index; end with bundle_done() in any case
 */
int bundle_scan(int fd, struct bundle *ret, struct vial_err *err);
void bundle_done(struct bundle *x);

/* bundle_find() - file at @path, through links; NULL if there is none */
const struct bundle_file *bundle_find(const struct bundle *x, const char *path);
/* bundle_docs() - documents of the archive, for oci.h */
struct oci_docs bundle_docs(struct bundle *x);

#endif
