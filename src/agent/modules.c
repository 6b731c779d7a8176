// SPDX-License-Identifier: Apache-2.0
// Loading modules by modules.dep, whose lines name each module's dependencies, the last one to be loaded first.
#include "agent/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/module.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define PATH_SIZE 512

#ifndef MODULE_INIT_COMPRESSED_FILE
#define MODULE_INIT_COMPRESSED_FILE 4
#endif

static const char *const wanted[] = {
	"virtio_pci", "virtio_mmio",	"virtio_console", "vmw_vsock_virtio_transport",
	"virtio_rng", "virtio_blk",	"crc32c_intel",	  "libcrc32c",
	"erofs",      "ext4",		"overlay",	  "fuse",
	"virtio_net", "virtio_balloon",
};

static bool same_name(const char *p, size_t n, const char *name)
{
	if (n != strlen(name))
		return false;
	for (size_t i = 0; i < n; i++)
		if (p[i] != name[i] && !((p[i] == '-' || p[i] == '_') && (name[i] == '-' || name[i] == '_')))
			return false;
	return true;
}

/* Is @path (@n bytes), as in "kernel/fs/erofs/erofs.ko.xz", module @name? */
static bool path_is_module(const char *path, size_t n, const char *name)
{
	const char *slash = memrchr(path, '/', n);
	const char *base = slash ? slash + 1 : path;
	size_t len = n - (size_t)(base - path);
	const char *ko = memmem(base, len, ".ko", 3);

	return ko && same_name(base, (size_t)(ko - base), name);
}

int modules_dep_find(const char *dep, const char *name, const char **ret, size_t *ret_len)
{
	while (*dep) {
		const char *end = strchrnul(dep, '\n');
		const char *colon = memchr(dep, ':', (size_t)(end - dep));
		if (colon && path_is_module(dep, (size_t)(colon - dep), name)) {
			*ret = dep;
			*ret_len = (size_t)(end - dep);
			return 0;
		}
		dep = *end ? end + 1 : end;
	}
	return -ENOENT;
}

static int load_file(int dir, const char *path, size_t n)
{
	char file[PATH_SIZE];

	if (n >= sizeof(file))
		return -ENAMETOOLONG;
	memcpy(file, path, n);
	file[n] = '\0';
	_cleanup_fd_ int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int flags = n > 3 && strcmp(file + n - 3, ".ko") != 0 ? MODULE_INIT_COMPRESSED_FILE : 0;
	if (syscall(SYS_finit_module, fd, "", flags) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

/* Loads the modules of one line, from its end to its start. */
static int load_line(int dir, const char *line, size_t n)
{
	size_t end = n;

	while (end > 0) {
		size_t start = end;
		while (start > 0 && line[start - 1] != ' ')
			start--;
		size_t len = end - start;
		if (len > 0 && line[start + len - 1] == ':')
			len--;
		int r = len > 0 ? load_file(dir, line + start, len) : 0;
		if (r < 0) {
			log_warn("module %.*s: %s", (int)len, line + start, strerror(-r));
			return r;
		}
		end = start > 0 ? start - 1 : 0;
	}
	return 0;
}

void modules_load_all(void)
{
	_cleanup_free_ char *dep = NULL;
	char path[PATH_SIZE];
	struct utsname u;

	if (uname(&u) < 0)
		return;
	snprintf(path, sizeof(path), "/lib/modules/%s", u.release);
	_cleanup_fd_ int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fd_read_file_at(dir, "modules.dep", MODULES_DEP_MAX, &dep, NULL) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		const char *line;
		size_t n;
		if (modules_dep_find(dep, wanted[i], &line, &n) == 0)
			(void)load_line(dir, line, n);
	}
}
