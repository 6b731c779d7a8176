// SPDX-License-Identifier: Apache-2.0
// The files that a frozen process has mapped: programs and libraries of the host, which an upgrade may replace.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/frozen.h"

void frozen_done(struct frozen *f)
{
	for (size_t i = 0; i < f->n_fds; i++)
		fd_close(&f->fds[i]);
	f->n_fds = 0;
}

static int read_head(int image, struct frozen_head *h)
{
	ssize_t n = pread(image, h, sizeof(struct frozen_head), 0);

	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(struct frozen_head) || memcmp(h->magic, FROZEN_MAGIC, sizeof(h->magic)) != 0 ||
	    h->n_files > FROZEN_FILES_MAX || h->n_refs > FROZEN_REFS_MAX || h->n_maps > FROZEN_MAPS_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < h->n_files; i++)
		if (!memchr(h->files[i].path, '\0', sizeof(h->files[i].path)))
			return -EBADMSG;
	return 0;
}

static int64_t ns(struct timespec t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int check_file(const struct frozen_file *f, const struct stat *st)
{
	if (st->st_dev == f->dev && st->st_ino == f->ino && (uint64_t)st->st_size == f->size &&
	    ns(st->st_mtim) == f->mtime_ns && ns(st->st_ctim) == f->ctime_ns)
		return 0;
	log_info("frozen QEMU: %s has changed", f->path);
	return -ESTALE;
}

/* The process that wrote the image may have been taken over by then: it is not given what it could not have opened. */
static int open_file(const struct frozen_file *f, const char *const *prefixes)
{
	_cleanup_fd_ int fd = jail_open_beneath(prefixes, f->path, O_RDONLY);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	int r = check_file(f, &st);
	return r < 0 ? r : take_fd(fd);
}

int frozen_check(int image, const char *const *prefixes, struct frozen *ret)
{
	_cleanup_(frozen_done) struct frozen f = { .n_fds = 0 };
	_cleanup_free_ struct frozen_head *h = malloc(sizeof(struct frozen_head));
	int r = h ? read_head(image, h) : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < h->n_files; i++) {
		struct stat st;
		if (!prefixes) {
			r = stat(h->files[i].path, &st) < 0 ? -errno : check_file(&h->files[i], &st);
			continue;
		}
		int fd = open_file(&h->files[i], prefixes);
		if (fd < 0)
			return fd;
		f.fds[f.n_fds++] = fd;
	}
	if (r < 0)
		return r;
	if (prefixes) {
		*ret = f;
		f.n_fds = 0;
	}
	return 0;
}
