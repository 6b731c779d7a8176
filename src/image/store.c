// SPDX-License-Identifier: Apache-2.0
// Files of the image store. See store.h for the theory of operation.
#include "image/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/limits.h"

#define DIR_MODE  0700
#define FILE_MODE 0600

static const char *const dirs[] = { "layers", "roots", "sources", "tmp" };

int store_prepare(int store_fd, struct vial_err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdirat(store_fd, dirs[i], DIR_MODE) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "make '%s' in the image store", dirs[i]);
	return 0;
}

/* A byte of the lock file: bit 61 tells layers from sources, so the two kinds never meet. */
static off_t lock_byte(bool is_layer, const char *name)
{
	uint8_t d[SHA256_SIZE];
	struct sha256 s;
	uint64_t v;

	sha256_init(&s);
	sha256_update(&s, name, strlen(name));
	sha256_final(&s, d);
	memcpy(&v, d, sizeof(v));
	return (off_t)((v & ((1ULL << 61) - 1)) | (is_layer ? 1ULL << 61 : 0));
}

int store_lock(int store_fd, bool is_layer, const char *name, int *ret, struct vial_err *err)
{
	_cleanup_fd_ int fd = openat(store_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	struct flock l = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = lock_byte(is_layer, name), .l_len = 1
	};
	int r;

	if (fd < 0)
		return err_sys(err, -errno, "open the image store's lock");
	do
		r = fcntl(fd, F_OFD_SETLKW, &l);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_sys(err, -errno, "lock the image store");
	*ret = take_fd(fd);
	return 0;
}

void store_unlock(int *fd)
{
	struct flock l = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	if (*fd < 0)
		return;
	/* Not only close: another thread's fork may hold a copy of the descriptor for a moment. */
	(void)fcntl(*fd, F_OFD_SETLK, &l);
	fd_close(fd);
}

int store_temp_make(int store_fd, const char *name, struct store_temp *ret, struct vial_err *err)
{
	*ret = (struct store_temp){ .store_fd = store_fd, .fd = -1 };
	snprintf(ret->name, sizeof(ret->name), "tmp/%s", name);
	/* Not O_TRUNC: a reader may still map what a killed predecessor left. */
	(void)unlinkat(store_fd, ret->name, 0);
	ret->fd = openat(store_fd, ret->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	return ret->fd < 0 ? err_sys(err, -errno, "make '%s' in the image store", ret->name) : 0;
}

void store_temp_done(struct store_temp *t)
{
	if (t->fd < 0)
		return;
	(void)unlinkat(t->store_fd, t->name, 0);
	fd_close(&t->fd);
}

int store_temp_publish(struct store_temp *t, const char *path, struct vial_err *err)
{
	if (fsync(t->fd) < 0)
		return err_sys(err, -errno, "write '%s' of the image store", path);
	if (renameat(t->store_fd, t->name, t->store_fd, path) < 0)
		return err_sys(err, -errno, "rename to '%s' in the image store", path);
	fd_close(&t->fd);
	return 0;
}

int store_open(int store_fd, const char *path, uint64_t bytes, uint64_t *ret_bytes)
{
	_cleanup_fd_ int fd = openat(store_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	uint64_t size = (uint64_t)st.st_size;
	if (!S_ISREG(st.st_mode) || (bytes != UINT64_MAX ? size != bytes : size % IMAGE_BLOCK != 0))
		return -ENOENT;
	if (ret_bytes)
		*ret_bytes = size;
	return take_fd(fd);
}
