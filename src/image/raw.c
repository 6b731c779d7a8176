// SPDX-License-Identifier: Apache-2.0
// Disk images as they are: the file itself is the root disk.
#include "image/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/sha256.h"
#include "base/str.h"
#include "image/limits.h"

#define PROBE_BYTES 4096

struct magic {
	size_t off;
	size_t n;
	const char *bytes;
	const char *what;
};

static const struct magic ext4_magic = { 1080, 2, "\x53\xef", "ext4" };

static const struct magic refused[] = {
	{ 0, 4, "QFI\xfb", "a qcow2 disk image" },
	{ 0, 4, "hsqs", "a squashfs image" },
	{ 0, 4, "KDMV", "a VMDK disk image" },
	{ 0, 4, "XFSB", "a raw disk image with XFS" },
	{ 1024, 4, "\xe2\xe1\xf5\xe0", "a raw disk image with EROFS" },
	{ 0, 4,
	  "\x7f"
	  "ELF",
	  "a program" },
	{ 512, 8, "EFI PART", "a disk image with partitions (GPT)" },
};

static bool matches(const uint8_t *p, size_t n, const struct magic *m)
{
	return m->off + m->n <= n && memcmp(p + m->off, m->bytes, m->n) == 0;
}

static int beside(const char *path, const char *prefix, char **ret)
{
	const char *slash = strrchr(path, '/');
	int dir_len = slash ? (int)(slash - path + 1) : 0;
	glob_t g;

	/* The directory's own name must not be taken for a pattern: GLOB_NOESCAPE is off, so escape it. */
	_cleanup_buf_ struct buf b = { 0 };
	for (int i = 0; i < dir_len; i++) {
		if (strchr("*?[\\", path[i]))
			buf_append(&b, "\\", 1);
		buf_append(&b, path + i, 1);
	}
	buf_printf(&b, "%s*", prefix);
	if (!buf_ok(&b))
		return -ENOMEM;
	if (glob(buf_cstr(&b), 0, NULL, &g) == 0 && g.gl_pathc > 0)
		*ret = strdup(g.gl_pathv[g.gl_pathc - 1]);
	globfree(&g);
	return 0;
}

static void name_digest(const struct stat *st, const char *path, char ret[SHA256_HEX])
{
	uint8_t d[SHA256_SIZE];
	struct sha256 s;

	/* Not of the content: hashing gigabytes at each start would cost more than the start. */
	sha256_init(&s);
	sha256_update(&s, path, strlen(path));
	sha256_update(&s, &st->st_ino, sizeof(st->st_ino));
	sha256_update(&s, &st->st_size, sizeof(st->st_size));
	sha256_update(&s, &st->st_mtim, sizeof(st->st_mtim));
	sha256_final(&s, d);
	str_hex(d, sizeof(d), ret);
}

static int take(int fd, const char *path, struct image *ret, struct vial_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "read '%s'", path);
	if (st.st_size % IMAGE_BLOCK != 0)
		return err_set(err, VIAL_E_INVALID,
			       "the disk's size (%lld) is not a multiple of %u bytes (truncated? extend it: "
			       "truncate -s %%%u)",
			       (long long)st.st_size, IMAGE_BLOCK, IMAGE_BLOCK);
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return err_sys(err, -errno, "read '%s'", path);
	ret->extents[0].fd = copy;
	ret->extents[0].bytes = (uint64_t)st.st_size;
	ret->n_extents = 1;
	strcpy(ret->fstype, ext4_magic.what);
	name_digest(&st, path, ret->digest);
	if (beside(path, "vmlinuz", &ret->kernel) < 0 || beside(path, "initrd", &ret->initrd) < 0)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	return 1;
}

int raw_open(int fd, const char *path, struct image *ret, struct vial_err *err)
{
	uint8_t p[PROBE_BYTES];
	ssize_t n = pread(fd, p, sizeof(p), 0);

	if (n < 0)
		return err_sys(err, -errno, "read '%s'", path);
	if (n == 0)
		return err_set(err, VIAL_E_INVALID, "the file is empty");
	if (matches(p, (size_t)n, &ext4_magic))
		return take(fd, path, ret, err);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (matches(p, (size_t)n, &refused[i]))
			return err_set(err, VIAL_E_UNSUPPORTED,
				       "this is %s; give a tar, an OCI layout, a docker-archive, a directory "
				       "or a raw ext4 disk",
				       refused[i].what);
	return 0;
}
