// SPDX-License-Identifier: Apache-2.0
/*
 * A directory of the host as a source.
 *
 * Theory of operation
 *
 * One walk, in order of bytes, serves both uses. It goes by descriptors (O_NOFOLLOW below an open directory), so a
 * directory that is swapped for a symlink meanwhile leads nowhere else. Owner of the tree may be hostile; the kernel vouches for the
 * form of what is read here, and nothing is parsed.
 * Limits: IMAGE_DEPTH_MAX levels, one descriptor each.
 */
#include "image/walk.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/limits.h"
#include "wire/tlv.h"

#define CHUNK KIB(256)

struct walk;
/* visit_fn - @name in @dirfd is @st; @path as WALK_PATH. Return: 0, 1 to end the walk quietly, or an error. */
typedef int visit_fn(struct walk *w, int dirfd, const char *name, const char *path, const struct stat *st);

struct walk {
	visit_fn *visit;
	dev_t dev;
	struct vial_err *err;
	struct sha256 sha; /* of the fingerprint's text, or of the stream */
	/* fingerprint */
	int64_t ctime_ns;
	/* stream */
	int sock;
	void *links; /* tsearch of struct seen */
	char *chunk;
};

/* struct seen - first path of a file with several names */
struct seen {
	dev_t dev;
	ino_t ino;
	char path[];
};

static int keep(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* struct names - a directory's sorted list */
struct names {
	struct dirent **v;
	int n;
};

static void names_done(struct names *l)
{
	while (l->n > 0)
		free(l->v[--l->n]);
	free(l->v);
}

static int walk_dir(struct walk *w, int dirfd, struct buf *path, unsigned int depth);

static int walk_entry(struct walk *w, int dirfd, const char *name, struct buf *path, unsigned int depth)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(w->err, -errno, "'%s'", buf_cstr(path));
	int r = w->visit(w, dirfd, name, buf_cstr(path), &st);
	if (r != 0 || !S_ISDIR(st.st_mode) || st.st_dev != w->dev)
		return r;
	_cleanup_fd_ int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(w->err, -errno, "'%s'", buf_cstr(path));
	return walk_dir(w, fd, path, depth + 1);
}

/* Recursion is bounded by IMAGE_DEPTH_MAX. */
static int walk_dir(struct walk *w, int dirfd, struct buf *path, unsigned int depth)
{
	_cleanup_(names_done) struct names l = { 0 };
	size_t len = path->len;
	int r = 0;

	if (depth > IMAGE_DEPTH_MAX)
		return err_set(w->err, VIAL_E_LIMIT, "directories are nested deeper than %u",
			       IMAGE_DEPTH_MAX);
	l.n = scandirat(dirfd, ".", &l.v, keep, by_bytes);
	if (l.n < 0) {
		l.n = 0;
		return err_sys(w->err, -errno, "'%s'", buf_cstr(path));
	}
	for (int i = 0; i < l.n && r == 0; i++) {
		buf_printf(path, "%s%s", len ? "/" : "", l.v[i]->d_name);
		if (!buf_cstr(path))
			return err_set(w->err, VIAL_E_NO_MEMORY, "out of memory");
		r = walk_entry(w, dirfd, l.v[i]->d_name, path, depth);
		path->len = len;
	}
	return r;
}

static int walk_top(struct walk *w, int dirfd)
{
	_cleanup_buf_ struct buf path = { 0 };
	struct stat st;

	if (fstat(dirfd, &st) < 0)
		return err_sys(w->err, -errno, "stat");
	w->dev = st.st_dev;
	int r = w->visit(w, dirfd, ".", "", &st);
	return r != 0 ? r : walk_dir(w, dirfd, &path, 0);
}

static int64_t ns_of(const struct timespec *t)
{
	return (int64_t)t->tv_sec * (int64_t)NS_PER_S + t->tv_nsec;
}

static int visit_fingerprint(struct walk *w, int dirfd _unused_, const char *name _unused_, const char *path,
			     const struct stat *st)
{
	uint64_t v[] = {
		st->st_dev,
		st->st_ino,
		st->st_mode,
		st->st_nlink,
		st->st_uid,
		st->st_gid,
		st->st_rdev,
		(uint64_t)st->st_size,
		(uint64_t)ns_of(&st->st_mtim),
		(uint64_t)ns_of(&st->st_ctim),
	};

	sha256_update(&w->sha, path, strlen(path) + 1);
	sha256_update(&w->sha, v, sizeof(v));
	w->ctime_ns = MAX(w->ctime_ns, ns_of(&st->st_ctim));
	return 0;
}

int walk_fingerprint(int dirfd, uint8_t ret[SHA256_SIZE], int64_t *ret_ctime_ns, struct vial_err *err)
{
	struct walk w = { .visit = visit_fingerprint, .err = err, .ctime_ns = INT64_MIN };

	sha256_init(&w.sha);
	int r = walk_top(&w, dirfd);
	if (r < 0)
		return r;
	sha256_final(&w.sha, ret);
	*ret_ctime_ns = w.ctime_ns;
	return 0;
}

/* Return: 0, or 1 when the receiver is gone. */
static int send_all(struct walk *w, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t k = send(w->sock, at, n, MSG_NOSIGNAL);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return 1;
		sha256_update(&w->sha, at, (size_t)k);
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

static int seen_cmp(const void *pa, const void *pb)
{
	const struct seen *a = pa, *b = pb;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->dev < b->dev ? -1 : a->dev > b->dev;
}

/* First path of the same file, NULL if @path is the first itself (and is remembered). */
static int find_link(struct walk *w, const char *path, const struct stat *st, const char **ret)
{
	struct seen key = { .dev = st->st_dev, .ino = st->st_ino };
	void *found = tfind(&key, &w->links, seen_cmp);

	*ret = found ? (*(struct seen **)found)->path : NULL;
	if (found)
		return 0;
	struct seen *s = malloc(sizeof(*s) + strlen(path) + 1);
	if (!s)
		return err_set(w->err, VIAL_E_NO_MEMORY, "out of memory");
	*s = key;
	strcpy(s->path, path);
	if (!tsearch(s, &w->links, seen_cmp)) {
		free(s);
		return err_set(w->err, VIAL_E_NO_MEMORY, "out of memory");
	}
	return 0;
}

static int put_target(struct walk *w, int dirfd, const char *name, const char *path, struct buf *b)
{
	char target[IMAGE_TARGET_MAX + 2];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target));

	if (n < 0)
		return err_sys(w->err, -errno, "'%s'", path);
	tlv_put(b, WALK_TARGET, target, (size_t)n);
	return 0;
}

static void put_xattr(const char *proc_path, const char *name, struct buf *b)
{
	_cleanup_free_ char *value = malloc(IMAGE_XATTR_VALUE_MAX + 1);
	_cleanup_buf_ struct buf both = { 0 };

	if (!value)
		return;
	ssize_t n = lgetxattr(proc_path, name, value, IMAGE_XATTR_VALUE_MAX + 1);
	if (n < 0) /* went away, or not for us to read */
		return;
	buf_append(&both, name, strlen(name) + 1);
	buf_append(&both, value, (size_t)n);
	tlv_put(b, WALK_XATTR, both.data, both.len);
}

static void put_xattrs(int dirfd, const char *name, struct buf *b)
{
	_cleanup_free_ char *list = NULL;
	char proc_path[64 + IMAGE_NAME_MAX];

	/* There is no llistxattrat(): through the descriptor's magic link it means the same. */
	snprintf(proc_path, sizeof(proc_path), "/proc/self/fd/%d/%s", dirfd, name);
	ssize_t n = llistxattr(proc_path, NULL, 0);
	if (n <= 0)
		return;
	list = malloc((size_t)n);
	if (!list)
		return;
	n = llistxattr(proc_path, list, (size_t)n);
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(list + at) + 1)
		put_xattr(proc_path, list + at, b);
}

static int send_record(struct walk *w, const struct buf *b, const char *path)
{
	uint32_t len_le = htole32((uint32_t)b->len);

	if (!buf_ok(b) || b->len > WALK_RECORD_MAX)
		return err_set(w->err, VIAL_E_LIMIT, "attributes of '%s' are too large", path);
	int r = send_all(w, &len_le, sizeof(len_le));
	return r != 0 ? r : send_all(w, b->data, b->len);
}

static int send_contents(struct walk *w, int dirfd, const char *name, const char *path, const struct stat *st)
{
	_cleanup_fd_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t left = (uint64_t)st->st_size;
	struct stat now;

	if (fd < 0)
		return err_sys(w->err, -errno, "'%s'", path);
	if (fstat(fd, &now) < 0 || now.st_ino != st->st_ino || !S_ISREG(now.st_mode))
		return err_set(w->err, VIAL_E_STATE, "'%s' changed while it was read; try again", path);
	while (left > 0) {
		ssize_t n = fd_read_full(fd, w->chunk, (size_t)MIN(left, (uint64_t)CHUNK));
		if (n < 0)
			return err_sys(w->err, (int)n, "'%s'", path);
		if (n == 0)
			return err_set(w->err, VIAL_E_STATE, "'%s' changed while it was read; try again",
				       path);
		if (send_all(w, w->chunk, (size_t)n))
			return 1;
		left -= (uint64_t)n;
	}
	return 0;
}

static void put_attributes(struct buf *b, const char *path, const struct stat *st)
{
	tlv_put_str(b, WALK_PATH, path);
	tlv_put_u32(b, WALK_MODE, st->st_mode);
	tlv_put_u32(b, WALK_UID, st->st_uid);
	tlv_put_u32(b, WALK_GID, st->st_gid);
	tlv_put_u64(b, WALK_MTIME, (uint64_t)st->st_mtim.tv_sec);
	tlv_put_u32(b, WALK_MTIME_NS, (uint32_t)st->st_mtim.tv_nsec);
	if (S_ISREG(st->st_mode))
		tlv_put_u64(b, WALK_SIZE, (uint64_t)st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		tlv_put_u32(b, WALK_MAJOR, major(st->st_rdev));
		tlv_put_u32(b, WALK_MINOR, minor(st->st_rdev));
	}
}

static int visit_send(struct walk *w, int dirfd, const char *name, const char *path, const struct stat *st)
{
	_cleanup_buf_ struct buf b = { 0 };
	const char *link = NULL;
	int r = 0;

	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1)
		r = find_link(w, path, st, &link);
	if (r < 0)
		return r;
	if (link) {
		tlv_put_str(&b, WALK_PATH, path);
		tlv_put_str(&b, WALK_LINK, link);
		return send_record(w, &b, path);
	}
	put_attributes(&b, path, st);
	if (S_ISLNK(st->st_mode))
		r = put_target(w, dirfd, name, path, &b);
	if (r < 0)
		return r;
	put_xattrs(dirfd, name, &b);
	r = send_record(w, &b, path);
	return r != 0 || !S_ISREG(st->st_mode) ? r : send_contents(w, dirfd, name, path, st);
}

int walk_send(int dirfd, int sock, uint8_t ret_digest[SHA256_SIZE], struct vial_err *err)
{
	_cleanup_free_ char *chunk = malloc(CHUNK);
	struct walk w = { .visit = visit_send, .err = err, .sock = sock, .chunk = chunk };
	static const uint32_t end;

	if (!chunk)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	sha256_init(&w.sha);
	int r = walk_top(&w, dirfd);
	tdestroy(w.links, free);
	if (r == 0)
		r = send_all(&w, &end, sizeof(end));
	sha256_final(&w.sha, ret_digest);
	return r < 0 ? r : 0;
}
