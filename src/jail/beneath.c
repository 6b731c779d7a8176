// SPDX-License-Identifier: Apache-2.0
/*
 * Opening a file for a jailed child only where it may look.
 *
 * The path is hostile, the file systems below the prefixes are the host's own. A path is opened first (for
 * reading, without side effects: no device, fifo or terminal is ever opened, see O_PATH below) and judged
 * by where the kernel says it led, not by its text, so neither ".." nor symlinks matter.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "jail/jail.h"

#define FLAGS_REFUSED (O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY))

/* real_path() - where @fd is, as the kernel sees it; 0 or -errno */
static int real_path(int fd, char ret[PATH_MAX])
{
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, ret, PATH_MAX - 1);
	if (n < 0)
		return -errno;
	if (n == PATH_MAX - 1)
		return -ENAMETOOLONG;
	ret[n] = '\0';
	return ret[0] == '/' ? 0 : -EACCES;
}

static int open_path(const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS };
	long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static bool below(const char *prefix, const char *real)
{
	char root[PATH_MAX];
	_cleanup_fd_ int fd = open_path(prefix);

	if (fd < 0 || real_path(fd, root) < 0)
		return false;
	size_t n = strlen(root);
	if (strcmp(root, "/") == 0)
		return true;
	return strncmp(real, root, n) == 0 && (real[n] == '/' || real[n] == '\0');
}

/* reopen() - the file behind @fd, for reading; it was checked, its name no longer matters */
static int reopen(int fd, int flags)
{
	char link[32];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	int file = open(link, O_RDONLY | O_CLOEXEC | O_NOCTTY | (flags & O_DIRECTORY));
	return file < 0 ? -errno : file;
}

int jail_open_beneath(const char *const *prefixes, const char *path, int flags)
{
	char real[PATH_MAX];
	struct stat st;

	/* QEMU probes file locks on it, read-write. */
	if (!strcmp(path, "/dev/null")) {
		int null = open(path, O_RDWR | O_CLOEXEC);
		return null < 0 ? -errno : null;
	}
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & FLAGS_REFUSED) || path[0] != '/')
		return -EACCES;
	_cleanup_fd_ int fd = open_path(path);
	if (fd < 0)
		return fd;
	int rc = real_path(fd, real);
	if (rc < 0)
		return rc;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EACCES;
	for (; *prefixes; prefixes++)
		if (below(*prefixes, real))
			return reopen(fd, flags);
	return -EACCES;
}
