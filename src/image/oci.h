/* SPDX-License-Identifier: Apache-2.0 */
/* OCI image layouts and docker-archives: JSON documents into layers and a configuration; in vial-unpack. */
#ifndef IMAGE_OCI_H
#define IMAGE_OCI_H

#include "base/sha256.h"
#include "image/image.h"

#define OCI_NEED 1 /* a blob is not here yet: struct oci_image's @need tells which */

/* struct oci_layer - expected digests; @name: of its file in an archive, owned, NULL in a layout */
struct oci_layer {
	uint8_t diff_id[SHA256_SIZE];
	uint8_t blob[SHA256_SIZE];
	bool has_blob;
	uint64_t bytes;
	char *name;
};

struct oci_image {
	struct image_config config;
	struct oci_layer layers[IMAGE_LAYERS_MAX];
	size_t n_layers;
	uint8_t digest[SHA256_SIZE];
	char need[SHA256_HEX];
};

void oci_image_done(struct oci_image *i);

/**
 * struct oci_docs - where documents are found; all of them hostile
 * @file:	document called @name ("index.json", "manifest.json", a config's name)
 * @blob:	document with digest @hex; may return OCI_NEED
 * Both give malloc'ed bytes of at most IMAGE_JSON_MAX. Digests are checked by oci.c.
 */
struct oci_docs {
	void *data;
	int (*file)(void *data, const char *name, char **ret, size_t *ret_len, struct vial_err *err);
	int (*blob)(void *data, const char *hex, char **ret, size_t *ret_len, struct vial_err *err);
};

/**
 * oci_read_layout() - index.json, through indexes and manifest, to the config
 * @arch:	GOARCH name of the host ("amd64"): decides between several manifests
 * Return: 0, OCI_NEED, or an error.
 */
int oci_read_layout(const struct oci_docs *docs, const char *arch, struct oci_image *ret, struct vial_err *err);

/* oci_read_docker() - manifest.json of a docker-archive, to the config */
int oci_read_docker(const struct oci_docs *docs, const char *arch, struct oci_image *ret, struct vial_err *err);

#endif
