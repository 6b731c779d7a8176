// SPDX-License-Identifier: Apache-2.0
#include "engine/template_frozen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/frozen.h"
#include "engine/template_build.h"

#define META_MAX 400

bool frozen_wanted(const struct template_env *env, const struct template_spec *spec)
{
	struct rlimit files;

	return env->freezer_path && spec->root && spec->host->engine == LAUNCH_QEMU &&
	       strcmp(spec->host->accel, "tcg") == 0 && getrlimit(RLIMIT_NOFILE, &files) == 0 &&
	       files.rlim_cur >= FROZEN_FDS_WANTED;
}

/*
 * The directory of the template that @t was opened from, not one of the same name that took its place while this process waited for
 * the lock: a frozen QEMU fits one memory file only.
 */
static int open_dir(const struct template_env *env, const struct template *t)
{
	_cleanup_fd_ int dir = openat(env->dir_fd, t->key, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat here, opened;

	if (dir < 0 || fstatat(dir, "mem", &here, AT_SYMLINK_NOFOLLOW) < 0 || fstat(t->mem_fd, &opened) < 0)
		return -errno;
	if (here.st_ino != opened.st_ino || here.st_dev != opened.st_dev)
		return -ESTALE;
	return take_fd(dir);
}

/* "vial-frozen 1", key, boot, identities; without files: "none" in place of the key */
static int meta_text(const struct template *t, char out[META_MAX])
{
	char boot[40], key[2 * LINK_KEY_SIZE + 1];
	struct stat image, upper;

	host_boot_id(boot);
	if (t->frozen_fd < 0) {
		snprintf(out, META_MAX, "vial-frozen 1 none %s\n", boot);
		return 0;
	}
	if (fstat(t->frozen_fd, &image) < 0 || fstat(t->frozen_upper_fd, &upper) < 0)
		return -errno;
	str_hex(t->frozen_key, LINK_KEY_SIZE, key);
	snprintf(out, META_MAX, "vial-frozen 1 %s %s %llu %llu %lld.%09ld %llu %llu %lld.%09ld\n", key, boot,
		 (unsigned long long)image.st_ino, (unsigned long long)image.st_size,
		 (long long)image.st_mtim.tv_sec, image.st_mtim.tv_nsec, (unsigned long long)upper.st_ino,
		 (unsigned long long)upper.st_size, (long long)upper.st_mtim.tv_sec, upper.st_mtim.tv_nsec);
	return 0;
}

static void close_frozen(struct template *t)
{
	fd_close(&t->frozen_fd);
	fd_close(&t->frozen_upper_fd);
}

static int open_files(int dir, struct template *t)
{
	t->frozen_fd = openat(dir, "frozen", O_RDONLY | O_CLOEXEC);
	t->frozen_upper_fd = openat(dir, "frozen.upper", O_RDONLY | O_CLOEXEC);
	return t->frozen_fd < 0 || t->frozen_upper_fd < 0 ? -errno : 0;
}

int frozen_open(const struct template_env *env, struct template *t)
{
	_cleanup_fd_ int dir = open_dir(env, t);
	_cleanup_free_ char *found = NULL;
	char want[META_MAX], key[2 * LINK_KEY_SIZE + 1];
	int r;

	if (dir < 0)
		return dir;
	r = fd_read_file_at(dir, "frozen.meta", META_MAX, &found, NULL);
	if (r < 0)
		return r;
	r = meta_text(t, want);
	if (r < 0 || strcmp(found, want) == 0)
		return r;
	if (sscanf(found, "vial-frozen 1 %32s", key) != 1 || str_unhex(key, t->frozen_key, LINK_KEY_SIZE) < 0)
		return -EBADMSG;
	r = open_files(dir, t);
	r = r ?: meta_text(t, want);
	if (r == 0 && strcmp(found, want) != 0)
		r = -ESTALE;
	r = r ?: frozen_check(t->frozen_fd, NULL, NULL);
	if (r < 0)
		close_frozen(t);
	return r;
}

void frozen_build(const struct template_env *env, const struct template_spec *spec, struct template *t)
{
	_cleanup_fd_ int dir = open_dir(env, t);
	struct vial_err err = VIAL_ERR_INIT;
	char meta[META_MAX], line[sizeof(err.msg) + 100];
	int r = 0;

	if (dir < 0)
		return; /* it was replaced: this box starts without */
	(void)unlinkat(dir, "frozen.meta", 0);
	if (env->progress)
		env->progress(env->progress_data,
			      "warming the machine up (once for this image after a boot of the host)");
	r = r ?: template_freeze(env, spec, dir, t, &err);
	r = r ?: open_files(dir, t);
	r = r ?: template_try_frozen(env, spec, t, &err);
	if (r < 0) {
		snprintf(line, sizeof(line),
			 "starts will take longer: the template's QEMU cannot be frozen: %s",
			 err.msg[0] ? err.msg : strerror(-r));
		log_warn("%s", line);
		if (env->progress)
			env->progress(env->progress_data, line);
		close_frozen(t);
		(void)unlinkat(dir, "frozen", 0); /* of no use, and perhaps what has filled the disk */
		(void)unlinkat(dir, "frozen.upper", 0);
	}
	r = meta_text(t, meta);
	r = r ?: fd_write_file_at(dir, "frozen.meta", meta, strlen(meta), 0600);
	if (r < 0) {
		log_warn("the template's frozen QEMU cannot be kept: %s", strerror(-r));
		close_frozen(t);
	}
}
