// SPDX-License-Identifier: Apache-2.0
// Facts about files, kept by the file's identity.
#include "engine/filecache.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/checksum.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"

static void entry_name(const char *kind, const struct stat *st, char *out, size_t n)
{
	snprintf(out, n, "%s-%llx-%llx-%llx-%llx.%lx-%llx.%lx", kind, (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
		 (unsigned long long)st->st_mtim.tv_sec, (unsigned long)st->st_mtim.tv_nsec,
		 (unsigned long long)st->st_ctim.tv_sec, (unsigned long)st->st_ctim.tv_nsec);
}

int filecache_get(int cache_fd, const char *kind, const struct stat *st, char ret[FILECACHE_VALUE_MAX])
{
	_cleanup_free_ char *value = NULL;
	char name[200];
	size_t n;

	entry_name(kind, st, name, sizeof(name));
	if (fd_read_file_at(cache_fd, name, FILECACHE_VALUE_MAX - 1, &value, &n) < 0 || n == 0)
		return -ENOENT;
	memcpy(ret, value, n + 1);
	return 0;
}

void filecache_put(int cache_fd, const char *kind, const struct stat *st, const char *value)
{
	char name[200];

	entry_name(kind, st, name, sizeof(name));
	(void)fd_write_file_at(cache_fd, name, value, strlen(value), 0600);
}

static int sha256_hex(int fd, char ret[65])
{
	uint8_t digest[SHA256_SIZE];
	int r = sha256_fd(fd, digest);

	if (r == 0)
		str_hex(digest, sizeof(digest), ret);
	return r;
}

static int cached(int cache_fd, const char *kind, int (*find)(int fd, char ret[65]), int fd, const char *name,
		  char ret[65], struct vial_err *err)
{
	char value[FILECACHE_VALUE_MAX];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "stat %s", name);
	if (filecache_get(cache_fd, kind, &st, value) == 0 && strlen(value) == 64) {
		memcpy(ret, value, 65);
		return 0;
	}
	r = find(fd, ret);
	if (r < 0)
		return err_sys(err, r, "read %s", name);
	filecache_put(cache_fd, kind, &st, ret);
	return 0;
}

int filecache_digest(int cache_fd, int fd, const char *name, char ret[65], struct vial_err *err)
{
	return cached(cache_fd, "sha256", sha256_hex, fd, name, ret, err);
}

int filecache_checksum(int cache_fd, int fd, const char *name, char ret[65], struct vial_err *err)
{
	return cached(cache_fd, "sum", checksum_sparse, fd, name, ret, err);
}
