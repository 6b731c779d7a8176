// SPDX-License-Identifier: Apache-2.0
// Root disks of the store: metadata over layers.
#include "image/root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/report.h"
#include "image/store.h"

#define ROOT_FORMAT "vial root 1\n" /* changes when the same layers would give other metadata */

static void layer_path(char buf[STORE_NAME_MAX], const char *key, const char *what)
{
	snprintf(buf, STORE_NAME_MAX, "layers/%.64s.%.8s", key, what);
}

static void meta_path(char buf[STORE_NAME_MAX], const char *key)
{
	snprintf(buf, STORE_NAME_MAX, "roots/%.64s.meta", key);
}

int root_layer_find(const struct image_env *env, const char *key, uint64_t *ret_bytes)
{
	char path[STORE_NAME_MAX];

	layer_path(path, key, "tree");
	_cleanup_fd_ int tree = openat(env->store_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	layer_path(path, key, "data");
	_cleanup_fd_ int data = store_open(env->store_fd, path, UINT64_MAX, ret_bytes);
	return tree < 0 || data < 0 ? -ENOENT : 0;
}

static void root_key(struct source_root *r)
{
	uint8_t d[SHA256_SIZE];
	struct sha256 s;

	sha256_init(&s);
	sha256_update(&s, ROOT_FORMAT, strlen(ROOT_FORMAT));
	for (size_t i = 0; i < r->n_layers; i++)
		sha256_update(&s, r->layers[i].key, SHA256_HEX - 1);
	sha256_final(&s, d);
	str_hex(d, sizeof(d), r->key);
}

/* struct trees - the layers' tree files, as the helper gets them */
struct trees {
	struct jail_fd fds[IMAGE_LAYERS_MAX + 1];
	size_t n;
};

static void trees_done(struct trees *t)
{
	for (size_t i = 0; i < t->n; i++)
		fd_close(&t->fds[i].fd);
}

static int trees_open(const struct image_env *env, const struct source_root *r, struct trees *ret, struct vial_err *err)
{
	char path[STORE_NAME_MAX];

	for (size_t i = 0; i < r->n_layers; i++) {
		layer_path(path, r->layers[i].key, "tree");
		int fd = openat(env->store_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return err_sys(err, -errno, "open '%s' of the image store", path);
		ret->fds[ret->n++] = (struct jail_fd){ .fd = fd, .as = UNPACK_FD_LAYER + (int)i };
	}
	return 0;
}

static int merge(const struct image_env *env, struct source_root *r, struct vial_err *err)
{
	_cleanup_(store_temp_done) struct store_temp out = { .fd = -1 };
	_cleanup_(trees_done) struct trees trees = { .n = 0 };
	_cleanup_(report_done) struct report report = { 0 };
	char n[8], uuid[33], path[STORE_NAME_MAX], tmp[STORE_NAME_MAX];
	struct jail_fd fds[IMAGE_LAYERS_MAX + 1];
	int e = trees_open(env, r, &trees, err);

	if (e < 0)
		return e;
	snprintf(tmp, sizeof(tmp), "%s.meta", r->key);
	e = store_temp_make(env->store_fd, tmp, &out, err);
	if (e < 0)
		return e;
	memcpy(fds, trees.fds, trees.n * sizeof(*fds));
	fds[trees.n] = (struct jail_fd){ .fd = out.fd, .as = UNPACK_FD_OUT };
	snprintf(n, sizeof(n), "%zu", r->n_layers);
	snprintf(uuid, sizeof(uuid), "%.32s", r->key);
	char *args[] = { (char[]){ "merge" }, n, uuid, NULL };
	e = helper_run(env, args, fds, trees.n + 1, NULL, NULL, &report, err);
	if (e < 0)
		return e;
	meta_path(path, r->key);
	r->meta_bytes = report.data_bytes;
	return store_temp_publish(&out, path, err);
}

int root_build(const struct image_env *env, struct source_root *r, struct vial_err *err)
{
	_cleanup_lock_ int lock = -1;
	char path[STORE_NAME_MAX];
	int e;

	root_key(r);
	meta_path(path, r->key);
	e = store_lock(env->store_fd, true, path, &lock, err);
	if (e < 0)
		return e;
	_cleanup_fd_ int fd = store_open(env->store_fd, path, UINT64_MAX, &r->meta_bytes);
	return fd >= 0 && r->meta_bytes > 0 ? 0 : merge(env, r, err);
}

static int add_extent(struct image *i, int fd, uint64_t bytes)
{
	if (fd < 0)
		return fd;
	i->extents[i->n_extents].fd = fd;
	i->extents[i->n_extents++].bytes = bytes;
	return 0;
}

int root_open(const struct image_env *env, struct source_root *r, struct image *ret)
{
	char path[STORE_NAME_MAX];
	int e;

	meta_path(path, r->key);
	e = add_extent(ret, store_open(env->store_fd, path, r->meta_bytes, NULL), r->meta_bytes);
	for (size_t i = 0; i < r->n_layers && e == 0; i++) {
		if (r->layers[i].bytes == 0)
			continue;
		layer_path(path, r->layers[i].key, "data");
		e = add_extent(ret, store_open(env->store_fd, path, r->layers[i].bytes, NULL), r->layers[i].bytes);
	}
	if (e < 0) {
		while (ret->n_extents > 0)
			fd_close(&ret->extents[--ret->n_extents].fd);
		return e;
	}
	strcpy(ret->fstype, "erofs");
	memcpy(ret->digest, r->key, sizeof(ret->digest));
	ret->config = r->config;
	r->config = (struct image_config){ 0 };
	return 0;
}
