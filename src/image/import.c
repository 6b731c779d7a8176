// SPDX-License-Identifier: Apache-2.0
/*
 * Sources into layers of the store, through vial-unpack.
 *
 * Theory of operation
 *
 * Purpose: have the helper turn each layer into files of the store, once.
 * Who is trusted: not the helper, which a hostile image may have taken over. A layer's key is the digest of the
 * bytes the helper was given, computed here: it can spoil what those very bytes become, and no other image's layers.
 * The diff-id it reports is compared only to find damage.
 */
#include "image/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/helper.h"
#include "image/report.h"
#include "image/root.h"
#include "image/store.h"
#include "image/walk.h"

#define LAYOUT_DOCS_MAX 8 /* indexes, manifest, config */

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

static int job_temps(const struct image_env *env, struct job *j, const char *name, struct vial_err *err)
{
	char tmp[STORE_NAME_MAX];
	int r;

	snprintf(tmp, sizeof(tmp), "%.64s.data", name);
	r = store_temp_make(env->store_fd, tmp, &j->data, err);
	if (r < 0)
		return r;
	snprintf(tmp, sizeof(tmp), "%.64s.tree", name);
	return store_temp_make(env->store_fd, tmp, &j->tree, err);
}

static int job_run(const struct image_env *env, struct job *j, const char *mode, const char *name, int in,
		   struct window w, struct vial_err *err)
{
	char verb[16], offset[24], bytes[24];
	int r = job_temps(env, j, name, err);

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
	return helper_run(env, args, fds, ARRAY_SIZE(fds), NULL, NULL, &j->report, err);
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

static int window_digest(int fd, struct window w, uint8_t ret[SHA256_SIZE])
{
	static const size_t chunk = KIB(64);
	_cleanup_free_ uint8_t *p = malloc(chunk);
	struct sha256 s;

	if (!p)
		return -ENOMEM;
	sha256_init(&s);
	while (w.bytes > 0) {
		ssize_t n = pread(fd, p, (size_t)MIN(w.bytes, (uint64_t)chunk), (off_t)w.offset);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		sha256_update(&s, p, (size_t)n);
		w.offset += (uint64_t)n;
		w.bytes -= (uint64_t)n;
	}
	sha256_final(&s, ret);
	return 0;
}

/* A root's tar and a layer with the same bytes differ where ".wh." names are concerned: so do their keys. */
static void layer_key(const uint8_t digest[SHA256_SIZE], const char *kind, char key[SHA256_HEX])
{
	uint8_t d[SHA256_SIZE];
	struct sha256 s;

	sha256_init(&s);
	sha256_update(&s, kind, strlen(kind));
	sha256_update(&s, digest, SHA256_SIZE);
	sha256_final(&s, d);
	str_hex(d, sizeof(d), key);
}

/*
 * Whether the helper has read the bytes whose digest is the key: a file that somebody changes between the two readings would
 * put its later contents under the name of the earlier ones, which may be another image's layer.
 */
static int check_same(const struct job *j, const uint8_t digest[SHA256_SIZE], struct vial_err *err)
{
	if (memcmp(j->report.raw_digest, digest, SHA256_SIZE) == 0)
		return 0;
	return err_set(err, VIAL_E_CORRUPT, "it was changed while it was read: try again");
}

static int import_rootfs(const struct image_env *env, int fd, const char *name, struct source_root *ret,
			 struct vial_err *err)
{
	_cleanup_(job_done) struct job j = { .data.fd = -1, .tree.fd = -1 };
	const struct window whole = { 0, UINT64_MAX };
	uint8_t digest[SHA256_SIZE];
	char key[SHA256_HEX];
	int r = window_digest(fd, whole, digest);

	if (r < 0)
		return err_sys(err, r, "read it");
	r = job_run(env, &j, "tar", name, fd, whole, err);
	r = r ?: check_same(&j, digest, err);
	if (r < 0)
		return r;
	layer_key(digest, "vial tar\n", key);
	return job_publish(&j, key, ret, err);
}

/* struct feed - a directory on its way to the helper */
struct feed {
	int dirfd;
	int ours, theirs; /* ends of the socket */
	uint8_t digest[SHA256_SIZE];
};

static void feed_done(struct feed *f)
{
	fd_close(&f->ours);
	fd_close(&f->theirs);
}

static int feed_dir(void *data, struct vial_err *err)
{
	struct feed *f = data;

	/* Without our copy of its end, the helper's death ends our sending. */
	fd_close(&f->theirs);
	int r = walk_send(f->dirfd, f->ours, f->digest, err);
	fd_close(&f->ours);
	return r;
}

int import_dir(const struct image_env *env, int dirfd, const char *name, struct source_root *ret,
	       struct vial_err *err)
{
	_cleanup_(job_done) struct job j = { .data.fd = -1, .tree.fd = -1 };
	_cleanup_(feed_done) struct feed f = { .dirfd = dirfd, .ours = -1, .theirs = -1 };
	char key[SHA256_HEX], verb[] = "dir";
	char *args[] = { verb, NULL };
	int pair[2], r = job_temps(env, &j, name, err);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, -errno, "socketpair");
	f.ours = pair[0];
	f.theirs = pair[1];
	struct jail_fd fds[] = {
		{ f.theirs, UNPACK_FD_IN },
		{ j.data.fd, UNPACK_FD_OUT },
		{ j.tree.fd, UNPACK_FD_TREE },
	};
	r = helper_run(env, args, fds, ARRAY_SIZE(fds), feed_dir, &f, &j.report, err);
	if (r < 0)
		return r;
	layer_key(f.digest, "vial dir\n", key);
	return job_publish(&j, key, ret, err);
}

/* struct layer_from - where layers' bytes are: windows of @archive_fd, or blobs below @layout_fd */
struct layer_from {
	int archive_fd;
	int layout_fd;
};

static int open_blob(int layout_fd, const uint8_t digest[SHA256_SIZE], struct vial_err *err)
{
	char path[16 + SHA256_HEX] = "blobs/sha256/";

	str_hex(digest, SHA256_SIZE, path + strlen(path));
	int fd = openat(layout_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? err_sys(err, -errno, "'%s' of the layout", path) : fd;
}

/* Where a layer's bytes are: the descriptor; @ret_blob is the caller's to close, if it is one. */
static int layer_fd(const struct layer_from *from, const struct helper_layer *l, int *ret_blob,
		    struct vial_err *err)
{
	if (from->layout_fd < 0)
		return from->archive_fd;
	*ret_blob = open_blob(from->layout_fd, l->blob, err);
	return *ret_blob;
}

static int unpack_layer(const struct image_env *env, const struct helper_layer *l, int fd,
			const uint8_t digest[SHA256_SIZE], const char *key, struct source_root *ret,
			struct vial_err *err)
{
	_cleanup_(job_done) struct job j = { .data.fd = -1, .tree.fd = -1 };
	int r = job_run(env, &j, "layer", key, fd, (struct window){ l->offset, l->bytes }, err);

	r = r ?: check_same(&j, digest, err);
	if (r < 0)
		return r;
	if (memcmp(l->diff_id, j.report.plain_digest, SHA256_SIZE) != 0)
		return err_set(err, VIAL_E_CORRUPT,
			       "its contents do not have the diff-id that the config states");
	return job_publish(&j, key, ret, err);
}

static int import_layer(const struct image_env *env, const struct layer_from *from,
			const struct helper_layer *l, struct source_root *ret, struct vial_err *err)
{
	struct source_layer *place = &ret->layers[ret->n_layers];
	_cleanup_fd_ int blob = -1;
	_cleanup_lock_ int lock = -1;
	uint8_t digest[SHA256_SIZE];
	char key[SHA256_HEX];
	int fd = layer_fd(from, l, &blob, err);

	if (fd < 0)
		return fd;
	int r = window_digest(fd, (struct window){ l->offset, l->bytes }, digest);
	if (r < 0)
		return err_sys(err, r, "read it");
	if (l->has_blob && memcmp(l->blob, digest, sizeof(digest)) != 0)
		return err_set(err, VIAL_E_CORRUPT,
			       "its contents do not have that digest (damaged or changed)");
	layer_key(digest, "vial layer\n", key);
	r = store_lock(env->store_fd, true, key, &lock, err);
	if (r < 0)
		return r;
	if (root_layer_find(env, key, &place->bytes) == 0) {
		memcpy(place->key, key, sizeof(key));
		ret->n_layers++;
		return 0;
	}
	return unpack_layer(env, l, fd, digest, key, ret, err);
}

static int import_layers(const struct image_env *env, const struct layer_from *from, struct report *report,
			 struct source_root *ret, struct vial_err *err)
{
	for (size_t i = 0; i < report->n_layers; i++) {
		const struct helper_layer *l = &report->layers[i];
		char hex[SHA256_HEX], line[64];
		snprintf(line, sizeof(line), "layer %zu of %zu", i + 1, report->n_layers);
		if (env->progress)
			env->progress(env->progress_data, line);
		int r = import_layer(env, from, l, ret, err);
		str_hex(l->has_blob ? l->blob : l->diff_id, SHA256_SIZE, hex);
		if (r < 0)
			return err_prefix(err, "%s (sha256:%.12s…)", line, hex);
	}
	ret->config = report->config;
	report->config = (struct image_config){ 0 };
	return 0;
}

static int ask(const struct image_env *env, const char *verb, int in, int out, struct report *ret,
	       struct vial_err *err)
{
	char job[16];
	char *args[] = { job, NULL };
	struct jail_fd fds[] = { { in, UNPACK_FD_IN }, { out, UNPACK_FD_OUT } };

	snprintf(job, sizeof(job), "%s", verb);
	return helper_run(env, args, fds, out >= 0 ? 2 : 1, NULL, NULL, ret, err);
}

/* An image's archive that is compressed as a whole is unpacked first: layers are read by offset. */
static int import_compressed(const struct image_env *env, int fd, const char *name, struct source_root *ret,
			     struct vial_err *err)
{
	_cleanup_(store_temp_done) struct store_temp plain = { .fd = -1 };
	_cleanup_(report_done) struct report inflated = { 0 }, report = { 0 };
	char tmp[STORE_NAME_MAX];
	int r;

	snprintf(tmp, sizeof(tmp), "%.64s.plain", name);
	r = store_temp_make(env->store_fd, tmp, &plain, err);
	if (r == 0)
		r = ask(env, "inflate", fd, plain.fd, &inflated, err);
	if (r == 0)
		r = ask(env, "archive", plain.fd, -1, &report, err);
	if (r < 0)
		return r;
	if (report.kind != KIND_IMAGE)
		return err_set(err, VIAL_E_CORRUPT, "not an image archive after all");
	return import_layers(env, &(struct layer_from){ plain.fd, -1 }, &report, ret, err);
}

int import_archive(const struct image_env *env, int fd, const char *name, struct source_root *ret,
		   struct vial_err *err)
{
	_cleanup_(report_done) struct report report = { 0 };
	int r = ask(env, "archive", fd, -1, &report, err);

	if (r < 0)
		return r;
	if (report.kind == KIND_IMAGE)
		return import_layers(env, &(struct layer_from){ fd, -1 }, &report, ret, err);
	if (report.kind == KIND_COMPRESSED_IMAGE)
		return import_compressed(env, fd, name, ret, err);
	return import_rootfs(env, fd, name, ret, err);
}

/* struct given - documents of a layout that the helper has asked for so far */
struct given {
	struct jail_fd fds[LAYOUT_DOCS_MAX + 1];
	size_t n;
	char digests[LAYOUT_DOCS_MAX * SHA256_HEX + 1];
};

static void given_done(struct given *g)
{
	/* The first is index.json, the caller's. */
	for (size_t i = 1; i < g->n; i++)
		fd_close(&g->fds[i].fd);
}

static int give(struct given *g, int dirfd, const char *need, struct vial_err *err)
{
	uint8_t digest[SHA256_SIZE];

	if (g->n > LAYOUT_DOCS_MAX || str_unhex(need, digest, sizeof(digest)) < 0 || strstr(g->digests, need))
		return err_set(err, VIAL_E_PROTOCOL, "vial-unpack asks for odd documents");
	int fd = open_blob(dirfd, digest, err);
	if (fd < 0)
		return fd;
	g->fds[g->n] = (struct jail_fd){ fd, UNPACK_FD_LAYER + (int)g->n - 1 };
	strcat(g->digests, need);
	strcat(g->digests, ",");
	g->n++;
	return 0;
}

/* Run the helper until it has all documents: it gets descriptors only, so it cannot open them itself. */
static int ask_layout(const struct image_env *env, int dirfd, struct given *g, struct report *ret,
		      struct vial_err *err)
{
	char verb[] = "layout";
	char *args[] = { verb, g->digests, NULL };

	for (;;) {
		for (size_t i = 0; i < g->n; i++)
			if (lseek(g->fds[i].fd, 0, SEEK_SET) < 0)
				return err_sys(err, -errno, "read the layout");
		int r = helper_run(env, args, g->fds, g->n, NULL, NULL, ret, err);
		if (r < 0 || !ret->need)
			return r;
		r = give(g, dirfd, ret->need, err);
		report_done(ret);
		if (r < 0)
			return r;
	}
}

int import_layout(const struct image_env *env, int dirfd, int index_fd, struct source_root *ret,
		  struct vial_err *err)
{
	_cleanup_(report_done) struct report report = { 0 };
	_cleanup_(given_done) struct given g = { .fds[0] = { index_fd, UNPACK_FD_IN }, .n = 1 };
	int r = ask_layout(env, dirfd, &g, &report, err);

	return r < 0 ? r : import_layers(env, &(struct layer_from){ -1, dirfd }, &report, ret, err);
}
