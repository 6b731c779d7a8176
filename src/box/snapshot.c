// SPDX-License-Identifier: Apache-2.0
// A box to a snapshot file, and a box from one.
#include "box/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "box/saved.h"
#include "box/snapfile.h"

/* ---- to a file ---- */

static int save_to(struct vial_box *b, int fd, struct vial_err *err)
{
	_cleanup_(saved_done) struct saved s = SAVED_NONE;
	int r = saved_take(b, true, &s, err);

	r = r ?: snapfile_write(b, &s, fd, err);
	return r < 0 && err ? err_prefix(err, "save the box") : r;
}

/* Under a name of its own until it is whole: @path is the old file or the new one. */
static int save_as(struct vial_box *b, const char *path, struct vial_err *err)
{
	_cleanup_free_ char *tmp = NULL;
	_cleanup_fd_ int fd = -1;

	if (asprintf(&tmp, "%s.new-%.8s", path, b->id) < 0)
		return err_sys(err, -ENOMEM, "save the box");
	fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, -errno, "make '%s'", tmp);
	int r = save_to(b, fd, err);
	if (r == 0 && rename(tmp, path) < 0)
		r = err_sys(err, -errno, "name the snapshot '%s'", path);
	if (r < 0)
		(void)unlink(tmp);
	return r;
}

int box_snapshot(struct vial_box *b, const char *path, int fd, struct vial_err *err)
{
	return path ? save_as(b, path, err) : save_to(b, fd, err);
}

/* ---- from a file ---- */

/* What is decided by the saved machine and cannot be asked for anew. */
static int refuse_fields(const struct vial_spec *s, struct vial_err *err)
{
	static const struct {
		enum spec_id id;
		const char *name;
	} fixed[] = { { SPEC_KERNEL, "kernel" },     { SPEC_INITRD, "initrd" },
		      { SPEC_BOOT_ARG, "boot_arg" }, { SPEC_CONSOLE, "console" },
		      { SPEC_MAX_CPUS, "max_cpus" }, { SPEC_MAX_MEMORY, "max_memory" } };

	for (size_t i = 0; s && i < ARRAY_SIZE(fixed); i++)
		if (spec_is_set(s, fixed[i].id))
			return err_set(err, VIAL_E_INVALID,
				       "%s: a snapshot has its own, it cannot be given with 'from'",
				       fixed[i].name);
	return 0;
}

/*
 * Of one that came from elsewhere nothing is believed but its size: a specification can name files and variables of this
 * host that shall go into the box.
 */
static int foreign_spec(const struct snapshot *h, struct vial_spec **ret, struct vial_err *err)
{
	int r = spec_new(ret, err);

	if (r < 0)
		return r;
	(*ret)->cpus = h->cpus ? h->cpus : h->vcpus;
	(*ret)->memory_bytes = h->memory_max ? h->memory_max : h->memory;
	return 0;
}

/* The specification it was saved with, and over it what was given now. */
static int merge_spec(const struct snapshot *h, bool own, const struct vial_spec *given,
		      struct vial_spec **ret, struct vial_err *err)
{
	_cleanup_(spec_freep) struct vial_spec *s = NULL;
	_cleanup_free_ char *text = NULL;
	int r = own ? spec_from_blob(h->spec, strlen(h->spec), &s, err) : foreign_spec(h, &s, err);

	r = r ?: spec_reset(s, SPEC_CONSOLE, err);
	if (r == 0 && given && (given->image || given->rootfs)) {
		/* Where the same root disk is found here. */
		r = spec_reset(s, SPEC_IMAGE, err);
		r = r ?: spec_reset(s, SPEC_ROOTFS, err);
	}
	if (r == 0 && given) {
		r = spec_to_json(given, &text, err);
		r = r ?: spec_load_json(s, text, strlen(text), "specification", err);
	}
	r = r ?: spec_reset(s, SPEC_FROM, err);
	r = r ?: spec_check(s, err);
	if (r < 0)
		return r;
	*ret = take_ptr(s);
	return 0;
}

/* A box's share of the machine: as it was, unless something else is asked for. */
static int set_share(const struct snapshot *h, const struct vial_spec *given, struct saved *s,
		     struct vial_err *err)
{
	if (given && spec_is_set(given, SPEC_CPUS)) {
		if (given->cpus > h->vcpus)
			return err_set(err, VIAL_E_INVALID, "cpus: the snapshot's machine has %u", h->vcpus);
		s->cpus = given->cpus == h->vcpus ? 0 : (uint32_t)given->cpus;
	}
	if (given && spec_is_set(given, SPEC_MEMORY)) {
		if (given->memory_bytes > h->memory)
			return err_set(err, VIAL_E_INVALID, "memory: the snapshot's machine has %llu MiB",
				       (unsigned long long)(h->memory >> 20));
		s->memory_max = given->memory_bytes == h->memory ? 0 : given->memory_bytes;
	}
	return 0;
}

static int check_root(const struct vial_box *b, const struct snapshot *h, const char *path,
		      struct vial_err *err)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < b->image.n_extents; i++)
		bytes += b->image.extents[i].bytes;
	if (bytes < h->root_bytes)
		return err_set(err, VIAL_E_CORRUPT,
			       "snapshot '%s': its root disk is shorter than recorded (%llu of %llu bytes)",
			       path, (unsigned long long)bytes, (unsigned long long)h->root_bytes);
	if (strcmp(b->image.digest, h->image_digest) != 0 || strcmp(b->image.fstype, h->fstype) != 0)
		return err_set(err, VIAL_E_CORRUPT,
			       "snapshot '%s' was made of another root disk (%.12s…) than image '%.100s' is "
			       "here (%.12s…)",
			       path, h->image_digest, *h->image ? h->image : "base", b->image.digest);
	return 0;
}

static int fill(struct vial_box *b, int fd, const char *path, const struct snapshot *h, bool own,
		const struct vial_spec *given, struct vial_err *err)
{
	int r = snapfile_fits(b->home, h, path, err);

	r = r ?: merge_spec(h, own, given, &b->spec, err);
	r = r ?: box_open_image(b, err);
	r = r ?: check_root(b, h, path, err);
	if (r < 0)
		return r;
	b->from = malloc(sizeof(*b->from));
	if (!b->from)
		return err_sys(err, -ENOMEM, "create a box");
	*b->from = SAVED_NONE;
	r = snapfile_extract(b->home, fd, path, h, b->from, err);
	return r ?: set_share(h, given, b->from, err);
}

int box_create_from(struct vial *v, const char *path, const struct vial_spec *spec, bool trust,
		    struct vial_box **ret, struct vial_err *err)
{
	_cleanup_(box_freep) struct vial_box *b = NULL;
	_cleanup_(snapshot_done) struct snapshot h = { 0 };
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool own = false;
	int r;

	if (fd < 0)
		return err_sys(err, -errno, "snapshot '%s'", path);
	r = refuse_fields(spec, err);
	r = r ?: snapfile_head(v, fd, path, &h, &own, err);
	if (r < 0)
		return r;
	if (!own && !trust)
		return err_set(
			err, VIAL_E_DENIED,
			"snapshot '%s' was not made in this state directory: whoever made it could "
			"attack this host through the engine that loads it; give --trust if you trust him",
			path);
	r = box_new(v, &b, err);
	r = r ?: fill(b, fd, path, &h, own, spec, err);
	if (r < 0)
		return r;
	b->from->untrusted = !own;
	*ret = take_ptr(b);
	return 0;
}
