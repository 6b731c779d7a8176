// SPDX-License-Identifier: Apache-2.0
/*
 * OCI image layouts and docker-archives.
 *
 * Theory of operation
 *
 * Input: JSON documents, hostile in form and content. jansson parses them (bounded in size by the caller, in depth by
 * jansson); every field is checked for type before use. A document reached by digest must have that digest, so a layout is as
 * good as its index.json; layers' own digests are handed on and checked when they are unpacked.
 * Limits: INDEX_DEPTH_MAX indexes inside each other, IMAGE_LAYERS_MAX layers, CONFIG_STRINGS_MAX strings of a kind.
 * [OCI image spec 1.1: image-layout.md, image-index.md, manifest.md, config.md; Docker image spec 1.2]
 */
#include "image/oci.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/config.h"
#include "image/limits.h"

#define INDEX_DEPTH_MAX 4
#define DIGEST_PREFIX	"sha256:"

static inline void json_freep(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(json_freep)

void oci_image_done(struct oci_image *i)
{
	config_done(&i->config);
	for (size_t k = 0; k < i->n_layers; k++)
		free(i->layers[k].name);
	i->n_layers = 0;
}

static int parse(const char *what, const char *text, size_t len, json_t **ret, struct vial_err *err)
{
	json_error_t e;

	*ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
	if (*ret && json_is_object(*ret))
		return 0;
	if (*ret)
		return err_set(err, VIAL_E_CORRUPT, "%s is not a JSON object", what);
	return err_set(err, VIAL_E_CORRUPT, "%s, line %d: %s", what, e.line, e.text);
}

static const char *get_string(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* "sha256:" and 64 hex digits. */
static int parse_digest(const char *s, uint8_t ret[SHA256_SIZE], struct vial_err *err)
{
	if (!s)
		return err_set(err, VIAL_E_CORRUPT, "a descriptor lacks its digest");
	if (!str_has_prefix(s, DIGEST_PREFIX) || str_unhex(s + strlen(DIGEST_PREFIX), ret, SHA256_SIZE) < 0)
		return err_set(err, VIAL_E_UNSUPPORTED, "digest '%.100s' is not of the form sha256:<64 hex digits>", s);
	return 0;
}

static int check_digest(const char *what, const char *text, size_t len, const uint8_t want[SHA256_SIZE],
			struct vial_err *err)
{
	uint8_t d[SHA256_SIZE];
	char hex[SHA256_HEX];

	str_hex(want, SHA256_SIZE, hex);
	if (!EVP_Digest(text, len, d, NULL, EVP_sha256(), NULL) || memcmp(d, want, SHA256_SIZE) != 0)
		return err_set(err, VIAL_E_CORRUPT, "%s sha256:%s: its contents do not have that digest (damaged or changed)",
			       what, hex);
	return 0;
}

/* Document that descriptor @d points to, checked. */
static int load_blob(const struct oci_docs *docs, const char *what, const json_t *d, json_t **ret,
		     struct oci_image *image, struct vial_err *err)
{
	_cleanup_free_ char *text = NULL;
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX];
	size_t len;
	int r = parse_digest(get_string(d, "digest"), digest, err);

	if (r < 0)
		return r;
	str_hex(digest, sizeof(digest), hex);
	r = docs->blob(docs->data, hex, &text, &len, err);
	if (r == OCI_NEED)
		memcpy(image->need, hex, sizeof(hex));
	if (r != 0)
		return r;
	r = check_digest(what, text, len, digest, err);
	return r < 0 ? r : parse(what, text, len, ret, err);
}

static int put_strings(struct strv *s, const json_t *list, const char *key, struct vial_err *err)
{
	const json_t *v;
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list) || json_array_size(list) > CONFIG_STRINGS_MAX)
		return err_set(err, VIAL_E_CORRUPT, "config: '%s' is not a list of strings", key);
	json_array_foreach(list, i, v) {
		if (!json_is_string(v) || json_string_length(v) > CONFIG_STRING_MAX)
			return err_set(err, VIAL_E_CORRUPT, "config: '%s' is not a list of strings", key);
		if (strv_add(s, json_string_value(v)) < 0)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	}
	return 0;
}

static int put_string(char **s, const json_t *v, const char *key, struct vial_err *err)
{
	if (!v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0))
		return 0;
	if (!json_is_string(v) || json_string_length(v) > CONFIG_STRING_MAX)
		return err_set(err, VIAL_E_CORRUPT, "config: '%s' is not a string", key);
	*s = strdup(json_string_value(v));
	return *s ? 0 : err_set(err, VIAL_E_NO_MEMORY, "out of memory");
}

static int read_run_config(const json_t *c, struct image_config *ret, struct vial_err *err)
{
	int r = put_strings(&ret->entrypoint, json_object_get(c, "Entrypoint"), "Entrypoint", err);

	if (r == 0)
		r = put_strings(&ret->cmd, json_object_get(c, "Cmd"), "Cmd", err);
	if (r == 0)
		r = put_strings(&ret->env, json_object_get(c, "Env"), "Env", err);
	if (r == 0)
		r = put_string(&ret->user, json_object_get(c, "User"), "User", err);
	if (r == 0)
		r = put_string(&ret->workdir, json_object_get(c, "WorkingDir"), "WorkingDir", err);
	if (r == 0)
		r = put_string(&ret->stop_signal, json_object_get(c, "StopSignal"), "StopSignal", err);
	return r;
}

static int check_platform(const json_t *config, const char *arch, struct vial_err *err)
{
	const char *os = get_string(config, "os"), *a = get_string(config, "architecture");

	if ((os && *os && strcmp(os, "linux") != 0) || (a && *a && strcmp(a, arch) != 0))
		return err_set(err, VIAL_E_UNSUPPORTED, "the image is for %.20s/%.20s, this machine runs linux/%s",
			       os ? os : "?", a ? a : "?", arch);
	return 0;
}

static int read_diff_ids(const json_t *config, struct oci_image *ret, struct vial_err *err)
{
	const json_t *ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids"), *id;
	size_t i;

	if (!json_is_array(ids) || json_array_size(ids) != ret->n_layers)
		return err_set(err, VIAL_E_CORRUPT, "config: rootfs.diff_ids does not match the %zu layers of the manifest",
			       ret->n_layers);
	json_array_foreach(ids, i, id) {
		int r = parse_digest(json_string_value(id), ret->layers[i].diff_id, err);
		if (r < 0)
			return err_prefix(err, "config: rootfs.diff_ids");
	}
	return 0;
}

static int read_config(const json_t *config, const char *arch, struct oci_image *ret, struct vial_err *err)
{
	int r = check_platform(config, arch, err);

	if (r == 0)
		r = read_diff_ids(config, ret, err);
	return r < 0 ? r : read_run_config(json_object_get(config, "config"), &ret->config, err);
}

static int read_layer(const json_t *d, struct oci_layer *l, struct vial_err *err)
{
	const char *type = get_string(d, "mediaType");
	const json_t *size = json_object_get(d, "size");
	int r = parse_digest(get_string(d, "digest"), l->blob, err);

	if (r < 0)
		return r;
	if (type && strstr(type, "encrypted"))
		return err_set(err, VIAL_E_UNSUPPORTED, "a layer is encrypted");
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_set(err, VIAL_E_CORRUPT, "manifest: a layer lacks its size");
	l->has_blob = true;
	l->bytes = (uint64_t)json_integer_value(size);
	return 0;
}

static int add_layers(const json_t *list, struct oci_image *ret,
		      int (*read)(const json_t *, struct oci_layer *, struct vial_err *), struct vial_err *err)
{
	const json_t *d;
	size_t i;

	if (!json_is_array(list))
		return err_set(err, VIAL_E_CORRUPT, "the manifest has no list of layers");
	if (json_array_size(list) > IMAGE_LAYERS_MAX)
		return err_set(err, VIAL_E_LIMIT, "more than %d layers", IMAGE_LAYERS_MAX);
	json_array_foreach(list, i, d) {
		ret->layers[ret->n_layers] = (struct oci_layer){ 0 };
		int r = read(d, &ret->layers[ret->n_layers++], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_manifest(const struct oci_docs *docs, const json_t *manifest, const char *arch, struct oci_image *ret,
			 struct vial_err *err)
{
	_cleanup_json_ json_t *config = NULL;
	const json_t *d = json_object_get(manifest, "config");
	const char *type = get_string(d, "mediaType");
	int r;

	if (type && !strstr(type, "image"))
		return err_set(err, VIAL_E_UNSUPPORTED, "this is an artifact (%.80s), not an image", type);
	r = load_blob(docs, "config", d, &config, ret, err);
	if (r != 0)
		return r;
	r = add_layers(json_object_get(manifest, "layers"), ret, read_layer, err);
	return r < 0 ? r : read_config(config, arch, ret, err);
}

static bool platform_fits(const json_t *descriptor, const char *arch)
{
	const json_t *p = json_object_get(descriptor, "platform");
	const char *os = get_string(p, "os"), *a = get_string(p, "architecture");

	/* Without a platform anything goes: the config is asked later. */
	return !p || (os && a && strcmp(os, "linux") == 0 && strcmp(a, arch) == 0);
}

static const char *ref_name(const json_t *d)
{
	const char *name = get_string(json_object_get(d, "annotations"), "org.opencontainers.image.ref.name");

	return name ? name : "unnamed";
}

/* The one descriptor of @index for this machine. */
static int choose(const json_t *index, const char *arch, const json_t **ret, struct vial_err *err)
{
	const json_t *list = json_object_get(index, "manifests"), *d, *found = NULL;
	size_t i;

	json_array_foreach(list, i, d) {
		const char *digest = get_string(d, "digest"), *have = found ? get_string(found, "digest") : NULL;
		if (!digest || !platform_fits(d, arch) || (have && strcmp(have, digest) == 0))
			continue;
		if (!found || (!json_object_get(found, "platform") && json_object_get(d, "platform"))) {
			found = d;
			continue;
		}
		/* Buildkit's attestations and further variants of one platform come behind the image proper. */
		if (json_object_get(d, "platform"))
			continue;
		return err_set(err, VIAL_E_INVALID, "the layout holds several images ('%.60s', '%.60s', …); give one that holds one",
			       ref_name(found), ref_name(d));
	}
	if (!found)
		return err_set(err, VIAL_E_UNSUPPORTED, "no image for linux/%s in the index", arch);
	*ret = found;
	return 0;
}

/* Recursion is bounded by INDEX_DEPTH_MAX. */
static int read_index(const struct oci_docs *docs, const json_t *index, const char *arch, unsigned int depth,
		      struct oci_image *ret, struct vial_err *err)
{
	_cleanup_json_ json_t *doc = NULL;
	const json_t *d = NULL;
	int r;

	if (depth > INDEX_DEPTH_MAX)
		return err_set(err, VIAL_E_LIMIT, "indexes are nested deeper than %d", INDEX_DEPTH_MAX);
	r = choose(index, arch, &d, err);
	if (r == 0)
		r = load_blob(docs, "manifest", d, &doc, ret, err);
	if (r != 0)
		return r;
	if (json_object_get(doc, "manifests"))
		return read_index(docs, doc, arch, depth + 1, ret, err);
	r = parse_digest(get_string(d, "digest"), ret->digest, err);
	return r < 0 ? r : read_manifest(docs, doc, arch, ret, err);
}

int oci_read_layout(const struct oci_docs *docs, const char *arch, struct oci_image *ret, struct vial_err *err)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *index = NULL;
	size_t len;
	int r = docs->file(docs->data, "index.json", &text, &len, err);

	if (r == 0)
		r = parse("index.json", text, len, &index, err);
	return r != 0 ? r : read_index(docs, index, arch, 1, ret, err);
}

static int read_docker_layer(const json_t *d, struct oci_layer *l, struct vial_err *err)
{
	if (!json_is_string(d) || json_string_length(d) > IMAGE_PATH_MAX)
		return err_set(err, VIAL_E_CORRUPT, "manifest.json: a layer is not a file name");
	l->name = strdup(json_string_value(d));
	return l->name ? 0 : err_set(err, VIAL_E_NO_MEMORY, "out of memory");
}

/* A config called <digest>.json, sha256:<digest> or blobs/sha256/<digest> promises its digest by that. */
static int check_config_name(const char *name, const char *text, size_t len, uint8_t ret[SHA256_SIZE],
			     struct vial_err *err)
{
	const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	char hex[SHA256_HEX] = { 0 };
	uint8_t want[SHA256_SIZE];

	if (str_has_prefix(base, DIGEST_PREFIX))
		base += strlen(DIGEST_PREFIX);
	strncpy(hex, base, sizeof(hex) - 1);
	if (!EVP_Digest(text, len, ret, NULL, EVP_sha256(), NULL))
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	if (str_unhex(hex, want, sizeof(want)) < 0 || (base[64] != '\0' && strcmp(base + 64, ".json") != 0))
		return 0;
	return check_digest("config", text, len, want, err);
}

/* manifest.json is a list with one object per image. */
static int parse_docker_manifest(const char *text, size_t len, json_t **ret, struct vial_err *err)
{
	_cleanup_json_ json_t *list = NULL;
	json_error_t e;

	list = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
	if (!list)
		return err_set(err, VIAL_E_CORRUPT, "manifest.json, line %d: %s", e.line, e.text);
	if (!json_is_object(json_array_get(list, 0)))
		return err_set(err, VIAL_E_CORRUPT, "manifest.json is not a list of images");
	if (json_array_size(list) > 1)
		return err_set(err, VIAL_E_INVALID, "the archive holds %zu images; save one by itself",
			       json_array_size(list));
	*ret = json_incref(json_array_get(list, 0));
	return 0;
}

int oci_read_docker(const struct oci_docs *docs, const char *arch, struct oci_image *ret, struct vial_err *err)
{
	_cleanup_free_ char *text = NULL, *config_text = NULL;
	_cleanup_json_ json_t *manifest = NULL, *config = NULL;
	size_t len;
	int r = docs->file(docs->data, "manifest.json", &text, &len, err);

	if (r == 0)
		r = parse_docker_manifest(text, len, &manifest, err);
	if (r < 0)
		return r;
	const char *name = get_string(manifest, "Config");
	if (!name)
		return err_set(err, VIAL_E_CORRUPT, "manifest.json names no config");
	r = docs->file(docs->data, name, &config_text, &len, err);
	if (r == 0)
		r = check_config_name(name, config_text, len, ret->digest, err);
	if (r == 0)
		r = parse("config", config_text, len, &config, err);
	if (r == 0)
		r = add_layers(json_object_get(manifest, "Layers"), ret, read_docker_layer, err);
	return r < 0 ? r : read_config(config, arch, ret, err);
}
