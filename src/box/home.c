// SPDX-License-Identifier: Apache-2.0
// The state directory: opening it, finding what is installed, giving out uids, sweeping dead boxes.
#include "box/home.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "box/boxdir.h"

static int refuse_network_fs(const struct vial *v, struct vial_err *err)
{
	static const struct {
		unsigned int magic;
		const char *name;
	} bad[] = { { 0x6969, "NFS" }, { 0xff534d42, "CIFS" }, { 0xfe534d42, "SMB" } };
	struct statfs fs;

	if (fstatfs(v->fd, &fs) < 0)
		return err_sys(err, -errno, "state directory '%s'", v->path);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if ((unsigned int)fs.f_type == bad[i].magic)
			return err_set(err, VIAL_E_UNSUPPORTED,
				       "state directory '%s' is on %s, where locks cannot be relied on: set "
				       "VIAL_HOME "
				       "to a local directory",
				       v->path, bad[i].name);
	return 0;
}

/*
 * What lies there is believed: templates are memory that boxes run, images are their roots. So nobody else may have
 * made the directory or be able to replace what is in it.
 */
static int refuse_foreign(const struct vial *v, struct vial_err *err)
{
	struct stat st;

	if (fstat(v->fd, &st) < 0)
		return err_sys(err, -errno, "state directory '%s'", v->path);
	if (st.st_uid != geteuid())
		return err_set(
			err, VIAL_E_DENIED,
			"state directory '%s' belongs to uid %u, not to you (uid %u): set VIAL_HOME to a "
			"directory of your own",
			v->path, st.st_uid, geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(
			err, VIAL_E_DENIED,
			"state directory '%s' can be written by others: 'chmod go-w' it, or set VIAL_HOME to "
			"another",
			v->path);
	return 0;
}

static int open_sub(struct vial *v, const char *name, mode_t mode, int *ret, struct vial_err *err)
{
	if (mkdirat(v->fd, name, mode) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "make '%s/%s'", v->path, name);
	*ret = openat(v->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret < 0)
		return err_sys(err, -errno, "open '%s/%s'", v->path, name);
	return 0;
}

static int open_dirs(struct vial *v, struct vial_err *err)
{
	int r = path_mkdir_p(v->path, 0700);

	v->fd = r < 0 ? r : open(v->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->fd < 0)
		return err_sys(err, r < 0 ? r : -errno, "state directory '%s' (set VIAL_HOME to another)",
			       v->path);
	r = refuse_foreign(v, err);
	r = r ?: refuse_network_fs(v, err);
	r = r ?: open_sub(v, "boxes", 0700, &v->boxes_fd, err);
	r = r ?: open_sub(v, "templates", 0700, &v->templates_fd, err);
	r = r ?: open_sub(v, "cache", 0700, &v->cache_fd, err);
	r = r ?: open_sub(v, "images", 0700, &v->images_fd, err);
	if (r < 0 || geteuid() != 0)
		return r;
	/*
	 * As root each box runs under a uid of its own and removes its own directory in the end, so all may
	 * write here and none may touch another's (sticky). Nobody else needs to see names: no read. Where the
	 * directory above was made by us (0700), nobody else gets here at all.
	 */
	if (fchmod(v->boxes_fd, 01733) < 0)
		return err_sys(err, -errno, "state directory '%s'", v->path);
	v->uids_fd = openat(v->fd, "uids.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return v->uids_fd < 0 ? err_sys(err, -errno, "open '%s/uids.lock'", v->path) : 0;
}

static int set_copy(char **to, const char *value)
{
	if (!value)
		return 0;
	free(*to);
	*to = strdup(value);
	return *to ? 0 : -ENOMEM;
}

static const char *first_env(const char *a, const char *b)
{
	const char *v = getenv(a);

	if ((!v || !*v) && b)
		v = getenv(b);
	return v && *v ? v : NULL;
}

static int choose_home(const char *given, char **ret, struct vial_err *err)
{
	const char *home = given && *given ? given : first_env("VIAL_HOME", NULL);
	const char *data = first_env("XDG_DATA_HOME", NULL), *user = first_env("HOME", NULL);
	_cleanup_free_ char *path = NULL;
	int n;

	if (home)
		n = asprintf(&path, "%s", home);
	else if (data && data[0] == '/')
		n = asprintf(&path, "%s/vial", data);
	else if (user && user[0] == '/')
		n = asprintf(&path, "%s/.local/share/vial", user);
	else
		return err_set(err, VIAL_E_INVALID,
			       "no state directory: set VIAL_HOME (HOME is not set either)");
	if (n < 0)
		return err_sys(err, -ENOMEM, "find the state directory");
	*ret = take_ptr(path);
	return 0;
}

/* Where this library lies: the helpers are beside it (built) or in ../libexec/vial (installed). */
static int find_installation(struct vial *v, const char *libexec)
{
	_cleanup_free_ char *self = NULL, *real = NULL, *monitor = NULL;
	Dl_info info;
	int r;

	r = set_copy(&v->libexec, libexec);
	if (r < 0)
		return r;
	if (dladdr((void *)(uintptr_t)find_installation, &info) && info.dli_fname &&
	    strchr(info.dli_fname, '/'))
		real = realpath(info.dli_fname, NULL);
	if (real && strrchr(real, '/')) {
		*strrchr(real, '/') = '\0';
		self = take_ptr(real);
	} else {
		r = path_self_dir(&self);
		if (r < 0)
			return r;
	}
	if (asprintf(&monitor, "%s/vial-monitor", self) < 0)
		return -ENOMEM;
	if (access(monitor, X_OK) == 0) {
		if (!v->libexec && (r = set_copy(&v->libexec, self)) < 0)
			return r;
		return asprintf(&v->assets, "%s/../guest", self) < 0 ? -ENOMEM : 0;
	}
	if (!v->libexec && asprintf(&v->libexec, "%s/../libexec/vial", self) < 0)
		return -ENOMEM;
	return asprintf(&v->assets, "%s/../share/vial/guest", self) < 0 ? -ENOMEM : 0;
}

static int take_opts(struct vial *v, const struct vial_opts *o, struct vial_err *err)
{
	const char *engine = o->engine ? o->engine : first_env("VIAL_ENGINE", NULL);
	const char *level = o->log_level ? o->log_level : first_env("VIAL_LOG", NULL);
	int r;

	if (engine && strcmp(engine, "auto") != 0 && strcmp(engine, "kvm") != 0 &&
	    strcmp(engine, "qemu") != 0)
		return err_set(err, VIAL_E_INVALID, "engine '%s': unknown (use auto, kvm or qemu)", engine);
	if (level && log_level_parse(level, &v->log_level) < 0)
		return err_set(err, VIAL_E_INVALID,
			       "log level '%s': unknown (use error, warn, info, debug or trace)", level);
	r = set_copy(&v->engine, engine ? engine : "auto");
	r = r ?: set_copy(&v->kernel, o->kernel ? o->kernel : first_env("VIAL_KERNEL", "SHURU_KERNEL"));
	r = r ?: set_copy(&v->initrd, o->initrd ? o->initrd : first_env("VIAL_INITRD", "SHURU_INITRD"));
	r = r ?: find_installation(v, o->libexec);
	if (r < 0)
		return err_sys(err, r, "open the state directory");
	v->log_fd = o->log_fd > 0 ? o->log_fd : -1;
	v->progress = o->progress;
	v->progress_data = o->progress_data;
	return 0;
}

int home_open(const struct vial_opts *opts, struct vial **ret, struct vial_err *err)
{
	static const struct vial_opts none = { .size = sizeof(none) };
	_cleanup_(home_closep) struct vial *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_sys(err, -ENOMEM, "open the state directory");
	v->fd = v->boxes_fd = v->templates_fd = v->cache_fd = v->images_fd = v->uids_fd = v->log_fd = -1;
	v->log_level = LOG_LEVEL_WARN;
	opts = opts ? opts : &none;
	r = take_opts(v, opts, err);
	r = r ?: choose_home(opts->home, &v->path, err);
	r = r ?: open_dirs(v, err);
	if (r < 0)
		return r;
	*ret = take_ptr(v);
	return 0;
}

void home_close(struct vial *v)
{
	if (!v)
		return;
	fd_close(&v->fd);
	fd_close(&v->boxes_fd);
	fd_close(&v->templates_fd);
	fd_close(&v->cache_fd);
	fd_close(&v->images_fd);
	fd_close(&v->uids_fd);
	free(v->path);
	free(v->libexec);
	free(v->freezer);
	free(v->thaw);
	free(v->assets);
	free(v->engine);
	free(v->kernel);
	free(v->initrd);
	engine_host_done(&v->host);
	free(v);
}

/* Not built everywhere, and not needed: machines start without, only later. */
static int find_freezer(struct vial *v, struct vial_err *err)
{
	_cleanup_free_ char *freezer = NULL, *thaw = NULL;

	if (asprintf(&freezer, "%s/vial-freeze.so", v->libexec) < 0 ||
	    asprintf(&thaw, "%s/vial-thaw", v->libexec) < 0)
		return err_sys(err, -ENOMEM, "probe the host");
	if (access(freezer, R_OK) == 0 && access(thaw, X_OK) == 0) {
		v->freezer = take_ptr(freezer);
		v->thaw = take_ptr(thaw);
	}
	return 0;
}

int home_host(struct vial *v, struct vial_err *err)
{
	_cleanup_free_ char *vmm = NULL;

	if (v->host_known)
		return 0;
	if (asprintf(&vmm, "%s/vial-vmm", v->libexec) < 0)
		return err_sys(err, -ENOMEM, "probe the host");
	int r = engine_host_probe(v->cache_fd, v->engine, vmm, &v->host, err);
	r = r ?: find_freezer(v, err);
	v->host_known = r == 0;
	return r;
}

const char *home_engine_why(const struct vial *v)
{
	if (strcmp(v->engine, "auto") != 0)
		return "asked for";
	if (v->host.engine == LAUNCH_KVM)
		return "KVM is usable";
	return v->host.kvm_why[0] ? "KVM is not usable" : "vial-vmm is not installed";
}

int home_helper(const struct vial *v, const char *name, char **ret, struct vial_err *err)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/%s", v->libexec, name) < 0)
		return err_sys(err, -ENOMEM, "find %s", name);
	if (access(path, X_OK) < 0)
		return err_sys(err, -errno, "helper '%s' (is vial installed whole?)", path);
	*ret = take_ptr(path);
	return 0;
}

int home_asset(const struct vial *v, const char *name, char **ret_path, struct vial_err *err)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/%s", v->assets, name) < 0)
		return err_sys(err, -ENOMEM, "find %s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "guest asset '%s' ('make demo' or 'vial init' provides it)",
			       path);
	if (ret_path)
		*ret_path = take_ptr(path);
	return fd;
}

int home_uid(struct vial *v, uid_t *ret_uid, int *ret_lock, struct vial_err *err)
{
	uint32_t start = 0;

	*ret_uid = (uid_t)-1;
	*ret_lock = -1;
	if (geteuid() != 0)
		return 0;
	/* A fresh open file description: its lock is this box's alone. */
	_cleanup_fd_ int fd = openat(v->fd, "uids.lock", O_RDWR | O_CLOEXEC);
	if (fd < 0 || getrandom(&start, sizeof(start), 0) != sizeof(start))
		return err_sys(err, -errno, "choose a uid for the box");
	for (uint32_t i = 0; i < HOME_UID_COUNT; i++) {
		uint32_t n = (start + i) % HOME_UID_COUNT;
		struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = n, .l_len = 1 };
		if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
			continue;
		*ret_uid = HOME_UID_BASE + n;
		*ret_lock = take_fd(fd);
		return 0;
	}
	return err_set(err, VIAL_E_LIMIT, "no free uid: %u boxes run", HOME_UID_COUNT);
}

/* Is the box of this directory gone? Its monitor holds a lock as long as it lives. */
static bool is_dead(struct vial *v, const char *name)
{
	char path[64];
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	snprintf(path, sizeof(path), "%.40s/" BOXDIR_LOCK, name);
	_cleanup_fd_ int fd = openat(v->boxes_fd, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT;
	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* Being made: it has no lock of its own for a moment, so whoever makes one holds the directory's. */
static bool is_half_made(const char *name)
{
	return name[0] == '.' && strlen(name) == 33;
}

void home_sweep(struct vial *v)
{
	int fd = openat(v->boxes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return;
	/* Nobody is making one: then nobody will finish those that are half made. */
	bool alone = flock(fd, LOCK_EX | LOCK_NB) == 0;
	while ((e = readdir(d))) {
		if ((strlen(e->d_name) == 32 && is_dead(v, e->d_name)) || (alone && is_half_made(e->d_name)))
			(void)path_rm_rf_at(v->boxes_fd, e->d_name);
	}
	closedir(d);
}
