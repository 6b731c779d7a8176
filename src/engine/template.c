// SPDX-License-Identifier: Apache-2.0
// The template cache: find, check, publish, evict. Building is in template_build.c.
#include "engine/template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/checksum.h"
#include "base/sha256.h"
#include "base/str.h"
#include "engine/filecache.h"
#include "engine/layout.h"
#include "engine/template_build.h"
#include "engine/template_frozen.h"

/* ---- key ---- */

void template_host_cpu(struct buf *b)
{
	static const char *const wanted[] = { "model name", "flags", "microcode" };
	_cleanup_free_ char *info = NULL;
	char *save = NULL;
	int seen = 0;

	if (fd_read_file_at(AT_FDCWD, "/proc/cpuinfo", MIB(4), &info, NULL) < 0)
		return; /* not everywhere readable: the key is then coarser, the restore checks by itself */
	for (char *line = strtok_r(info, "\n", &save); line && seen < 3; line = strtok_r(NULL, "\n", &save)) {
		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
			if (!str_has_prefix(line, wanted[i]))
				continue;
			buf_printf(b, "%s\n", line);
			seen++;
		}
	}
}

static int make_key(const struct template_env *env, const struct template_spec *s, char ret[33],
		    struct vial_err *err)
{
	_cleanup_buf_ struct buf text = { 0 };
	uint8_t digest[SHA256_SIZE];
	char hex[65];
	struct utsname u;
	struct sha256 h;
	int r;

	buf_printf(&text,
		   "layout %d\nengine %s %s\nmachine %s\naccel %s\nvcpus %u\nmemory %llu\ncmdline %s\n",
		   LAYOUT_VERSION, engine_host_name(s->host), s->host->digest, s->host->machine,
		   s->host->accel, s->vcpus, (unsigned long long)s->memory, s->cmdline);
	/* KVM's idea of the CPU may change with the host's kernel. */
	if (strcmp(s->host->accel, "kvm") == 0 && uname(&u) == 0)
		buf_printf(&text, "host %s %s\n", u.release, u.version);
	r = filecache_digest(env->cache_fd, s->kernel_fd, s->kernel_name, hex, err);
	if (r < 0)
		return r;
	buf_printf(&text, "kernel %s\n", hex);
	for (size_t i = 0; i < s->n_initrd; i++) {
		r = filecache_digest(env->cache_fd, s->initrd_fds[i], s->initrd_names[i], hex, err);
		if (r < 0)
			return r;
		buf_printf(&text, "initrd %s\n", hex);
	}
	if (s->root) {
		r = filecache_checksum(env->cache_fd, s->root->base_fd, s->root->base_name, hex, err);
		if (r < 0)
			return r;
		buf_printf(&text, "root %s %s\nupper %s\n", s->root->fstype, s->root->digest, hex);
	}
	template_host_cpu(&text);
	if (!buf_ok(&text))
		return err_sys(err, -ENOMEM, "find the template");
	sha256_init(&h);
	sha256_update(&h, text.data, text.len);
	sha256_final(&h, digest);
	str_hex(digest, 16, ret);
	return 0;
}

/* ---- check ---- */

/* Text that changes whenever somebody touches one of the files, or the host reboots. */
static int identity_text(const struct template *t, char *out, size_t n)
{
	const int fds[] = { t->mem_fd, t->state_fd, t->upper_fd };
	char boot[40];
	size_t at;

	host_boot_id(boot);
	at = (size_t)snprintf(out, n, "%s", boot);
	for (size_t i = 0; i < ARRAY_SIZE(fds) && fds[i] >= 0 && at < n; i++) {
		struct stat st;
		if (fstat(fds[i], &st) < 0)
			return -errno;
		at += (size_t)snprintf(out + at, n - at, " %llu %llu %lld.%09ld",
				       (unsigned long long)st.st_ino, (unsigned long long)st.st_size,
				       (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	return 0;
}

struct sums {
	char mem[CHECKSUM_HEX], state[CHECKSUM_HEX], upper[CHECKSUM_HEX];
};

static int sum_all(const struct template *t, struct sums *ret)
{
	int r = checksum_sparse(t->mem_fd, ret->mem);

	r = r ?: checksum_sparse(t->state_fd, ret->state);
	return r ?: checksum_sparse(t->upper_fd, ret->upper);
}

/* "meta": version, reset key, checksums; see write_meta(). */
static int read_meta(int dir_fd, struct template *t, struct sums *ret)
{
	_cleanup_free_ char *text = NULL;
	char key[2 * LINK_KEY_SIZE + 1];
	int r = fd_read_file_at(dir_fd, "meta", KIB(4), &text, NULL);

	if (r < 0)
		return r;
	if (sscanf(text, "vial-template 2 %32s %64s %64s %64s", key, ret->mem, ret->state, ret->upper) != 4)
		return -EBADMSG;
	return str_unhex(key, t->reset_key, LINK_KEY_SIZE);
}

static int write_meta(int dir_fd, const struct template *t)
{
	char key[2 * LINK_KEY_SIZE + 1], text[400];
	struct sums s;
	int r = sum_all(t, &s);

	if (r < 0)
		return r;
	str_hex(t->reset_key, LINK_KEY_SIZE, key);
	snprintf(text, sizeof(text), "vial-template 2 %s %s %s %s\n", key, s.mem, s.state, s.upper);
	return fd_write_file_at(dir_fd, "meta", text, strlen(text), 0600);
}

static int write_ok(int dir_fd, const struct template *t)
{
	char text[300];
	int r = identity_text(t, text, sizeof(text));

	return r < 0 ? r : fd_write_file_at(dir_fd, "ok", text, strlen(text), 0600);
}

/* 0 if the template may be used; -EBADMSG if it is damaged; other -errno. */
static int check(int dir_fd, struct template *t)
{
	struct sums want, found;
	char now[300];
	_cleanup_free_ char *ok = NULL;
	int r = read_meta(dir_fd, t, &want);

	r = r ?: identity_text(t, now, sizeof(now));
	if (r < 0)
		return r;
	if (fd_read_file_at(dir_fd, "ok", KIB(1), &ok, NULL) == 0 && strcmp(ok, now) == 0)
		return 0;
	log_debug("template %s: full check", t->key);
	r = sum_all(t, &found);
	if (r == 0 && (strcmp(found.mem, want.mem) != 0 || strcmp(found.state, want.state) != 0 ||
		       strcmp(found.upper, want.upper) != 0))
		r = -EBADMSG;
	return r ?: write_ok(dir_fd, t);
}

void template_done(struct template *t)
{
	fd_close(&t->mem_fd);
	fd_close(&t->state_fd);
	fd_close(&t->upper_fd);
	fd_close(&t->frozen_fd);
	fd_close(&t->frozen_upper_fd);
}

static int open_one(const struct template_env *env, const char *key, struct template *ret)
{
	_cleanup_(template_done) struct template t = TEMPLATE_NONE;
	_cleanup_fd_ int dir = openat(env->dir_fd, key, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir < 0)
		return -errno;
	memcpy(t.key, key, sizeof(t.key));
	t.mem_fd = openat(dir, "mem", O_RDONLY | O_CLOEXEC);
	t.state_fd = openat(dir, "state", O_RDONLY | O_CLOEXEC);
	t.upper_fd = openat(dir, "upper", O_RDONLY | O_CLOEXEC);
	if (t.mem_fd < 0 || t.state_fd < 0 || (t.upper_fd < 0 && errno != ENOENT))
		return -EBADMSG;
	r = check(dir, &t);
	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	/* The directory's time says when it was last used; eviction goes by it. */
	(void)futimens(dir, NULL);
	*ret = t;
	t = TEMPLATE_NONE;
	return 0;
}

/* ---- eviction ---- */

struct candidate {
	char name[64];
	struct timespec used;
	uint64_t bytes;
};

static int by_use(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

static uint64_t bytes_in(int dir_fd, const char *key)
{
	static const char *const names[] = { "mem", "upper", "frozen", "frozen.upper" };
	uint64_t bytes = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct stat st;
		char path[64];
		snprintf(path, sizeof(path), "%.32s/%s", key, names[i]);
		if (fstatat(dir_fd, path, &st, 0) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

static size_t list_templates(int dir_fd, struct candidate *c, size_t max)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	size_t n = 0;

	if (!d)
		return 0;
	while ((e = readdir(d)) && n < max) {
		struct stat dir_st;
		if (strlen(e->d_name) != 32 || fstatat(dir_fd, e->d_name, &dir_st, 0) < 0)
			continue;
		memcpy(c[n].name, e->d_name, 33);
		c[n].used = dir_st.st_mtim;
		c[n++].bytes = bytes_in(dir_fd, e->d_name);
	}
	closedir(d);
	return n;
}

/* Removes what builders that were killed left (".new-<key>", as large as a template): those whose lock is free. */
static void sweep_unfinished(int dir_fd, const char *own_key)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		const char *key = e->d_name + strlen(".new-");
		struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		char name[48];

		if (!str_has_prefix(e->d_name, ".new-") || strlen(key) != 32 || strcmp(key, own_key) == 0)
			continue;
		snprintf(name, sizeof(name), "%.32s.lock", key);
		_cleanup_fd_ int lock_fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (lock_fd >= 0 && fcntl(lock_fd, F_OFD_SETLK, &lock) == 0)
			(void)path_rm_rf_at(dir_fd, e->d_name);
	}
	closedir(d);
}

/* Removes the longest unused beyond the cap; boxes that run from one keep it through their descriptors. */
static void evict(int dir_fd, const char *keep)
{
	struct candidate c[256];
	size_t n = list_templates(dir_fd, c, ARRAY_SIZE(c));
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += c[i].bytes;
	qsort(c, n, sizeof(c[0]), by_use);
	for (size_t i = 0; i < n && total > TEMPLATES_MAX_BYTES; i++) {
		if (strcmp(c[i].name, keep) == 0)
			continue;
		if (path_rm_rf_at(dir_fd, c[i].name) == 0)
			total -= c[i].bytes;
	}
}

/* ---- open, build ---- */

static int lock_key(const struct template_env *env, const char *key, int *ret_fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char name[48];

	snprintf(name, sizeof(name), "%s.lock", key);
	int fd = openat(env->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	while (fcntl(fd, F_OFD_SETLKW, &lock) < 0) {
		if (errno == EINTR)
			continue;
		int r = -errno;
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int publish(const struct template_env *env, const char *tmp, const char *key, struct template *t,
		   struct vial_err *err)
{
	_cleanup_fd_ int dir = openat(env->dir_fd, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : 0;

	if (r == 0 && (fchmod(t->mem_fd, 0400) < 0 || fchmod(t->state_fd, 0400) < 0 ||
		       (t->upper_fd >= 0 && fchmod(t->upper_fd, 0400) < 0)))
		r = -errno;
	r = r ?: write_meta(dir, t);
	r = r ?: write_ok(dir, t);
	if (r == 0 && (fsync(t->mem_fd) < 0 || fsync(t->state_fd) < 0 ||
		       (t->upper_fd >= 0 && fsync(t->upper_fd) < 0) || fsync(dir) < 0))
		r = -errno;
	r = r ?: path_rm_rf_at(env->dir_fd, key);
	if (r == 0 && renameat(env->dir_fd, tmp, env->dir_fd, key) < 0)
		r = -errno;
	if (r == 0 && fsync(env->dir_fd) < 0)
		r = -errno;
	return r < 0 ? err_sys(err, r, "publish the template") : 0;
}

static int build(const struct template_env *env, const struct template_spec *spec, const char *key,
		 struct vial_err *err)
{
	_cleanup_(template_done) struct template t = TEMPLATE_NONE;
	char tmp[48];
	int r;

	snprintf(tmp, sizeof(tmp), ".new-%s", key);
	/* Under the key's lock: what stands there is of a builder that died. */
	r = path_rm_rf_at(env->dir_fd, tmp);
	if (r == 0 && mkdirat(env->dir_fd, tmp, 0700) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(err, r, "build a template: make its directory");
	sweep_unfinished(env->dir_fd, key);
	if (env->progress)
		env->progress(env->progress_data,
			      spec->root ? "preparing the image's machine (once for this image)"
					 : "booting a machine (once for this kind of machine)");
	r = template_build(env, spec, tmp, &t, err);
	r = r ?: publish(env, tmp, key, &t, err);
	if (r < 0) {
		(void)path_rm_rf_at(env->dir_fd, tmp);
		return r;
	}
	evict(env->dir_fd, key);
	return 0;
}

static int open_or_build(const struct template_env *env, const struct template_spec *spec, bool rebuild,
			 struct template *ret, struct vial_err *err)
{
	_cleanup_fd_ int lock = -1;
	char key[33];
	int r = make_key(env, spec, key, err);

	if (r < 0)
		return r;
	if (!rebuild && open_one(env, key, ret) == 0)
		return 0;
	r = lock_key(env, key, &lock);
	if (r < 0)
		return err_sys(err, r, "lock the template");
	/* Another process may have built it while this one waited. */
	r = rebuild ? -ENOENT : open_one(env, key, ret);
	if (r == 0)
		return 0;
	if (r == -EBADMSG && env->progress)
		env->progress(env->progress_data, "the template is damaged: building it anew");
	r = build(env, spec, key, err);
	if (r < 0)
		return r;
	r = open_one(env, key, ret);
	return r < 0 ? err_sys(err, r, "open the template just built") : 0;
}

int template_open(const struct template_env *env, const struct template_spec *spec, bool rebuild,
		  struct template *ret, struct vial_err *err)
{
	_cleanup_fd_ int lock = -1;
	int r = open_or_build(env, spec, rebuild, ret, err);

	if (r < 0 || !frozen_wanted(env, spec) || frozen_open(env, ret) == 0)
		return r;
	r = lock_key(env, ret->key, &lock);
	if (r < 0 || frozen_open(env, ret) == 0)
		return 0;
	/* Without, it starts as well, only later. */
	frozen_build(env, spec, ret);
	return 0;
}
