// SPDX-License-Identifier: Apache-2.0
/*
 * What kind of tar a file is, and where things lie in it.
 *
 * Theory of operation
 *
 * The first entry that no image archive would hold makes the file a root's tar: mostly the first or second one, so that
 * the scan costs nothing. Otherwise all headers are read (contents are skipped by offset), and what is found by then
 * decides. Layers are then unpacked straight from their place in the archive.
 * Input: hostile. An offset that libarchive took wrongly would give a wrong digest later, nothing worse.
 * Limits: BUNDLE_FILES_MAX files, IMAGE_PATH_MAX paths, IMAGE_SYMLINKS_MAX links to links.
 */
#include "image/bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/limits.h"
#include "image/stream.h"

#define CHUNK KIB(64)

/* struct scan - reading of the headers; @stream: only for compressed files */
struct scan {
	int fd;
	uint64_t off;
	uint64_t size;
	struct stream *stream;
	struct archive *a;
	struct vial_err *err;
	uint8_t chunk[CHUNK];
};

static void scan_free(struct scan *s)
{
	if (!s)
		return;
	archive_read_free(s->a);
	stream_free(s->stream);
	free(s);
}
DEFINE_CLEANUP(struct scan, scan_free)

void bundle_done(struct bundle *x)
{
	for (size_t i = 0; i < x->n; i++) {
		free(x->v[i].path);
		free(x->v[i].link);
	}
	free(x->v);
	x->v = NULL;
	x->n = 0;
}

static la_ssize_t read_cb(struct archive *a, void *data, const void **ret)
{
	struct scan *s = data;
	ssize_t n;

	if (s->stream) {
		n = stream_next(s->stream, ret, s->err);
	} else {
		n = pread(s->fd, s->chunk, sizeof(s->chunk), (off_t)s->off);
		if (n < 0)
			err_sys(s->err, -errno, "read");
		else
			s->off += (uint64_t)n;
		*ret = s->chunk;
	}
	if (n < 0)
		archive_set_error(a, EIO, "input");
	return n < 0 ? ARCHIVE_FATAL : n;
}

static la_int64_t skip_cb(struct archive *a _unused_, void *data, la_int64_t request)
{
	struct scan *s = data;

	if (s->stream || request <= 0 || s->off > s->size)
		return 0;
	uint64_t n = MIN((uint64_t)request, s->size - s->off);
	s->off += n;
	return (la_int64_t)n;
}

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n > k && strcmp(s + n - k, suffix) == 0;
}

static bool starts_with_digest(const char *s)
{
	return strspn(s, "0123456789abcdef") == 2 * SHA256_SIZE;
}

/* Whether an entry called @p may belong to an image archive. */
static bool belongs(const char *p)
{
	static const char *const names[] = { "", "oci-layout", "index.json", "manifest.json", "repositories", "blobs",
					     "VERSION", "json" };

	if (str_has_prefix(p, "blobs/") || str_has_prefix(p, "sha256:") || starts_with_digest(p))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(p, names[i]) == 0)
			return true;
	return !strchr(p, '/') && (has_suffix(p, ".json") || has_suffix(p, ".tar") || has_suffix(p, ".tar.gz"));
}

/* "./a//b/" to "a/b", ".." as chroot would: malloc'ed. @base: directory that a relative @p starts from. */
static char *normal_path(const char *base, size_t base_len, const char *p)
{
	_cleanup_buf_ struct buf b = { .limit = 4 * IMAGE_PATH_MAX };

	if (p[0] != '/')
		buf_append(&b, base, base_len);
	while (*p) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			while (b.len > 0 && b.data[--b.len] != '/')
				;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			buf_append(&b, "/", b.len > 0);
			buf_append(&b, p, n);
		}
		p += n + (p[n] == '/');
	}
	return buf_cstr(&b) ? strdup(buf_cstr(&b)) : NULL;
}

static int add_file(struct bundle *x, struct bundle_file f, struct vial_err *err)
{
	struct bundle_file *more;

	if (x->n >= BUNDLE_FILES_MAX)
		return err_set(err, VIAL_E_LIMIT, "more than %d files in the image's archive", BUNDLE_FILES_MAX);
	/* Room grows by doubling: at every power of two. */
	if ((x->n & (x->n - 1)) == 0) {
		more = realloc(x->v, MAX(x->n * 2, (size_t)1) * sizeof(*more));
		if (!more)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
		x->v = more;
	}
	x->v[x->n++] = f;
	return 0;
}

static char *link_target(const char *path, struct archive_entry *e)
{
	const char *slash = strrchr(path, '/');

	if (archive_entry_hardlink(e))
		return normal_path("", 0, archive_entry_hardlink(e));
	if (archive_entry_symlink(e))
		return normal_path(path, slash ? (size_t)(slash - path) : 0, archive_entry_symlink(e));
	return NULL;
}

/* Return: 1 if the entry shows that this is no image archive, 0, or an error. */
static int scan_entry(struct scan *s, struct archive_entry *e, struct bundle *x)
{
	const char *name = archive_entry_pathname(e);
	_cleanup_free_ char *path = name ? normal_path("", 0, name) : NULL;
	_cleanup_free_ char *link = path ? link_target(path, e) : NULL;

	if (!path)
		return err_set(s->err, VIAL_E_CORRUPT, "entry with a bad name");
	bool is_link = archive_entry_hardlink(e) || archive_entry_symlink(e);
	unsigned int type = archive_entry_filetype(e);
	if (!belongs(path) || (!is_link && type != S_IFREG && type != S_IFDIR) || (is_link && !link))
		return 1;
	if (type == S_IFDIR && !is_link)
		return 0;
	if (archive_entry_sparse_count(e) > 0)
		return err_set(s->err, VIAL_E_UNSUPPORTED, "'%s' is stored as a sparse file", path);
	struct bundle_file f = {
		.path = path, .link = link,
		.offset = (uint64_t)archive_filter_bytes(s->a, 0),
		.bytes = (uint64_t)MAX(archive_entry_size(e), (la_int64_t)0),
	};
	int r = add_file(x, f, s->err);
	if (r < 0)
		return r;
	path = NULL;
	link = NULL;
	return 0;
}

static int scan_error(struct scan *s)
{
	const char *text = archive_error_string(s->a);

	if (s->err->code)
		return s->err->code;
	if (!text || strstr(text, "Unrecognized archive format"))
		return err_set(s->err, VIAL_E_CORRUPT, "not a tar archive (or damaged at its start)");
	return err_set(s->err, VIAL_E_CORRUPT, "damaged or truncated archive: %s", text);
}

static int scan_all(struct scan *s, struct bundle *x)
{
	struct archive_entry *e;

	for (;;) {
		int got = archive_read_next_header(s->a, &e);
		if (got == ARCHIVE_EOF)
			return 0;
		if (got < ARCHIVE_WARN)
			return scan_error(s);
		int r = scan_entry(s, e, x);
		if (r != 0)
			return r;
	}
}

static int scan_open(struct scan *s, int fd, struct vial_err *err)
{
	struct stat st;
	int r = stream_open(fd, 0, UINT64_MAX, &s->stream, err);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "stat");
	s->fd = fd;
	s->size = (uint64_t)st.st_size;
	s->err = err;
	if (!stream_is_compressed(s->stream)) {
		stream_free(s->stream);
		s->stream = NULL;
	}
	s->a = archive_read_new();
	if (!s->a)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	archive_read_support_format_tar(s->a);
	archive_read_set_read_callback(s->a, read_cb);
	archive_read_set_skip_callback(s->a, skip_cb);
	archive_read_set_callback_data(s->a, s);
	return archive_read_open1(s->a) != ARCHIVE_OK ? scan_error(s) : 0;
}

int bundle_scan(int fd, struct bundle *ret, struct vial_err *err)
{
	_cleanup_(scan_freep) struct scan *s = calloc(1, sizeof(*s));
	int r;

	*ret = (struct bundle){ .fd = fd, .kind = BUNDLE_ROOTFS };
	if (!s)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	r = scan_open(s, fd, err);
	if (r == 0)
		r = scan_all(s, ret);
	if (r != 0)
		return r < 0 ? r : 0;
	/* `docker save` of today writes both: the OCI layout is the one with digests all the way. */
	if (bundle_find(ret, "oci-layout") && bundle_find(ret, "index.json"))
		ret->kind = BUNDLE_OCI;
	else if (bundle_find(ret, "manifest.json"))
		ret->kind = BUNDLE_DOCKER;
	if (ret->kind != BUNDLE_ROOTFS && s->stream)
		ret->kind = BUNDLE_COMPRESSED;
	return 0;
}

static const struct bundle_file *find_exact(const struct bundle *x, const char *path)
{
	/* From the end: later entries replace earlier ones. */
	for (size_t i = x->n; i-- > 0;)
		if (strcmp(x->v[i].path, path) == 0)
			return &x->v[i];
	return NULL;
}

const struct bundle_file *bundle_find(const struct bundle *x, const char *path)
{
	_cleanup_free_ char *normal = normal_path("", 0, path);
	const struct bundle_file *f = normal ? find_exact(x, normal) : NULL;

	for (unsigned int i = 0; f && f->link; i++)
		f = i < IMAGE_SYMLINKS_MAX ? find_exact(x, f->link) : NULL;
	return f;
}

static int docs_file(void *data, const char *name, char **ret, size_t *ret_len, struct vial_err *err)
{
	struct bundle *x = data;
	const struct bundle_file *f = bundle_find(x, name);

	if (!f)
		return err_set(err, VIAL_E_CORRUPT, "'%.200s' is not in the archive", name);
	if (f->bytes > IMAGE_JSON_MAX)
		return err_set(err, VIAL_E_LIMIT, "'%.200s' is larger than %zu MiB", name, IMAGE_JSON_MAX / MIB(1));
	_cleanup_free_ char *text = malloc(f->bytes + 1);
	if (!text)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	ssize_t n = pread(x->fd, text, f->bytes, (off_t)f->offset);
	if (n < 0 || (uint64_t)n != f->bytes)
		return err_set(err, VIAL_E_CORRUPT, "'%.200s': truncated archive", name);
	text[n] = '\0';
	*ret_len = (size_t)n;
	*ret = take_ptr(text);
	return 0;
}

static int docs_blob(void *data, const char *hex, char **ret, size_t *ret_len, struct vial_err *err)
{
	char path[16 + SHA256_HEX];

	snprintf(path, sizeof(path), "blobs/sha256/%.64s", hex);
	return docs_file(data, path, ret, ret_len, err);
}

struct oci_docs bundle_docs(struct bundle *x)
{
	return (struct oci_docs){ .data = x, .file = docs_file, .blob = docs_blob };
}
