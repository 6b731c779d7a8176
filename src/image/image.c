// SPDX-License-Identifier: Apache-2.0
/*
 * Root disks from images: what a reference means, and the quick way to one that was imported before.
 *
 * Theory of operation
 *
 * Hot path: stat the source, read its small file in sources/, open the parts it names. Anything missing, changed or odd
 * leads to an import under the source's lock, which looks again first: whoever waited finds the work done.
 * Trusted here: the user's arguments. Contents of sources are looked at only for magic numbers (raw.c).
 */
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/config.h"
#include "image/import.h"
#include "image/raw.h"
#include "image/root.h"
#include "image/source.h"
#include "image/store.h"
#include "image/walk.h"

void image_done(struct image *i)
{
	for (size_t k = 0; k < i->n_extents; k++)
		fd_close(&i->extents[k].fd);
	config_done(&i->config);
	free(i->kernel);
	free(i->initrd);
	*i = (struct image){ 0 };
}

static int open_known(const struct image_env *env, const struct source_id *id, struct image *ret)
{
	_cleanup_(source_root_done) struct source_root root = { 0 };
	int r = source_load(env->store_fd, id, &root);

	return r < 0 ? r : root_open(env, &root, ret);
}

static void tell(const struct image_env *env, const char *line)
{
	if (env->progress)
		env->progress(env->progress_data, line);
}

enum source_kind { SOURCE_FILE, SOURCE_DIR, SOURCE_LAYOUT };

/* struct source - what is being opened: @fd a file or directory, @index_fd a layout's index.json */
struct source {
	enum source_kind kind;
	int fd;
	int index_fd;
	struct source_id id;
};

/* The state of the source as it is now. */
static int identify(const struct source *s, struct source_id *ret, struct vial_err *err)
{
	struct stat st;

	/* A layout's blobs are named by their digests: index.json stands for all. */
	if (fstat(s->kind == SOURCE_LAYOUT ? s->index_fd : s->fd, &st) < 0)
		return err_sys(err, -errno, "stat");
	source_id_stat(ret, &st);
	return s->kind == SOURCE_DIR ? walk_fingerprint(s->fd, ret->fingerprint, &ret->ctime_ns, err) : 0;
}

/* The source must be the same after the import as it was before. */
static int check_unchanged(const struct source *s, struct vial_err *err)
{
	struct source_id now;
	int r = identify(s, &now, err);

	if (r < 0)
		return r;
	if (memcmp(&now, &s->id, sizeof(now)) != 0)
		return err_set(err, VIAL_E_STATE, "it changed while it was read; try again");
	return 0;
}

static int import_locked(const struct image_env *env, const struct source *s, const char *name,
			 struct source_root *root, struct vial_err *err)
{
	int r;

	tell(env, "importing the image");
	if (s->kind == SOURCE_DIR)
		r = import_dir(env, s->fd, name, root, err);
	else if (s->kind == SOURCE_LAYOUT)
		r = import_layout(env, s->fd, s->index_fd, root, err);
	else
		r = import_archive(env, s->fd, name, root, err);
	if (r == 0)
		r = check_unchanged(s, err);
	if (r == 0)
		r = root_build(env, root, err);
	return r < 0 ? r : source_save(env->store_fd, &s->id, root, err);
}

static int import(const struct image_env *env, const struct source *s, struct image *ret, struct vial_err *err)
{
	_cleanup_(source_root_done) struct source_root root = { 0 };
	_cleanup_lock_ int lock = -1;
	char name[STORE_NAME_MAX];
	int r = store_prepare(env->store_fd, err);

	source_name(&s->id, name);
	if (r == 0)
		r = store_lock(env->store_fd, false, name, &lock, err);
	if (r < 0)
		return r;
	if (open_known(env, &s->id, ret) == 0)
		return 0;
	r = import_locked(env, s, name, &root, err);
	if (r < 0)
		return r;
	r = root_open(env, &root, ret);
	return r < 0 ? err_sys(err, r, "open the imported image") : 0;
}

static int open_dir(const struct image_env *env, int fd, struct image *ret, struct vial_err *err)
{
	struct source s = { .kind = SOURCE_DIR, .fd = fd };
	_cleanup_fd_ int index = openat(fd, "index.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int r;

	if (index >= 0 && faccessat(fd, "oci-layout", F_OK, 0) == 0) {
		s.kind = SOURCE_LAYOUT;
		s.index_fd = index;
	}
	r = identify(&s, &s.id, err);
	if (r < 0)
		return r;
	return open_known(env, &s.id, ret) == 0 ? 0 : import(env, &s, ret, err);
}

static int open_file(const struct image_env *env, int fd, const struct stat *st, const char *path, struct image *ret,
		     struct vial_err *err)
{
	struct source s = { .kind = SOURCE_FILE, .fd = fd };
	int r;

	source_id_stat(&s.id, st);
	if (open_known(env, &s.id, ret) == 0)
		return 0;
	r = raw_open(fd, path, ret, err);
	if (r != 0)
		return r < 0 ? r : 0;
	return import(env, &s, ret, err);
}

static int open_path(const struct image_env *env, const char *path, struct image *ret, struct vial_err *err)
{
	/* O_NONBLOCK: opening a FIFO must not hang. */
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return err_sys(err, -errno, "open");
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "stat");
	if (S_ISREG(st.st_mode))
		return open_file(env, fd, &st, path, ret, err);
	if (S_ISDIR(st.st_mode))
		return open_dir(env, fd, ret, err);
	return err_set(err, VIAL_E_UNSUPPORTED, "this is neither a file nor a directory");
}

static bool looks_like_path(const char *ref)
{
	return ref[0] == '/' || str_has_prefix(ref, "./") || str_has_prefix(ref, "../") || strcmp(ref, ".") == 0 ||
	       strcmp(ref, "..") == 0;
}

int image_open(const struct image_env *env, const char *ref, bool is_path, struct image *ret, struct vial_err *err)
{
	const char *path = ref;
	int r;

	*ret = (struct image){ 0 };
	if (!is_path && strcmp(ref, "base") == 0)
		path = env->base_path;
	else if (!is_path && !looks_like_path(ref))
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "image '%s': images from registries are not supported yet (for a file, write './%s'; "
			       "built in: 'base')",
			       ref, ref);
	r = open_path(env, path, ret, err);
	if (r < 0) {
		image_done(ret);
		return err_prefix(err, "image '%s'", ref);
	}
	return 0;
}
