// SPDX-License-Identifier: Apache-2.0
// Sources into layers of the store, through vial-unpack.
#include "image/import.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "image/helper.h"
#include "image/report.h"
#include "image/root.h"
#include "image/store.h"

/* struct window - a part of an input */
struct window {
	uint64_t offset;
	uint64_t bytes; /* UINT64_MAX: to the end */
};

/* struct job - one layer on its way into the store */
struct job {
	struct store_temp data, tree;
	struct report report;
};

static void job_done(struct job *j)
{
	store_temp_done(&j->data);
	store_temp_done(&j->tree);
	report_done(&j->report);
}

static int job_run(const struct image_env *env, struct job *j, const char *mode, const char *name, int in,
		   struct window w, struct vial_err *err)
{
	char tmp[STORE_NAME_MAX], verb[16], offset[24], bytes[24];
	int r;

	snprintf(tmp, sizeof(tmp), "%.64s.data", name);
	r = store_temp_make(env->store_fd, tmp, &j->data, err);
	if (r < 0)
		return r;
	snprintf(tmp, sizeof(tmp), "%.64s.tree", name);
	r = store_temp_make(env->store_fd, tmp, &j->tree, err);
	if (r < 0)
		return r;
	snprintf(verb, sizeof(verb), "%s", mode);
	snprintf(offset, sizeof(offset), "%llu", (unsigned long long)w.offset);
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)w.bytes);
	char *args[] = { verb, offset, bytes, NULL };
	struct jail_fd fds[] = {
		{ in, UNPACK_FD_IN },
		{ j->data.fd, UNPACK_FD_OUT },
		{ j->tree.fd, UNPACK_FD_TREE },
	};
	return helper_run(env, args, fds, ARRAY_SIZE(fds), &j->report, err);
}

static int job_publish(struct job *j, const char *key, struct source_root *ret, struct vial_err *err)
{
	struct source_layer *l = &ret->layers[ret->n_layers];
	char path[STORE_NAME_MAX];
	int r;

	snprintf(path, sizeof(path), "layers/%.64s.data", key);
	r = store_temp_publish(&j->data, path, err);
	if (r < 0)
		return r;
	/* The tree comes last: a layer without it does not count. */
	snprintf(path, sizeof(path), "layers/%.64s.tree", key);
	r = store_temp_publish(&j->tree, path, err);
	if (r < 0)
		return r;
	snprintf(l->key, sizeof(l->key), "%.64s", key);
	l->bytes = j->report.data_bytes;
	ret->n_layers++;
	return 0;
}

/* A root's tar and a layer with the same bytes differ where ".wh." names are concerned: so do their keys. */
static void rootfs_key(const uint8_t digest[SHA256_SIZE], const char *kind, char key[SHA256_HEX])
{
	uint8_t d[SHA256_SIZE];
	struct sha256 s;

	sha256_init(&s);
	sha256_update(&s, kind, strlen(kind));
	sha256_update(&s, digest, SHA256_SIZE);
	sha256_final(&s, d);
	str_hex(d, sizeof(d), key);
}

static int import_rootfs(const struct image_env *env, int fd, const char *name, struct source_root *ret,
			 struct vial_err *err)
{
	_cleanup_(job_done) struct job j = { .data.fd = -1, .tree.fd = -1 };
	char key[SHA256_HEX];
	int r = job_run(env, &j, "tar", name, fd, (struct window){ 0, UINT64_MAX }, err);

	if (r < 0)
		return r;
	rootfs_key(j.report.plain_digest, "vial tar\n", key);
	return job_publish(&j, key, ret, err);
}

int import_archive(const struct image_env *env, int fd, const char *name, struct source_root *ret, struct vial_err *err)
{
	return import_rootfs(env, fd, name, ret, err);
}
