// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshot files.
 *
 * Theory of operation
 *
 * The format is wire/snapshot.h. Writing reads each part twice, once for the digests that the header begins with, once to copy; blocks of
 * zeros are left out. Reading back checks the header first, then each chunk before it is written to the file that the engine gets, so
 * nothing unchecked is used, also when somebody changes the file meanwhile.
 * Who is trusted: nobody's file. Its numbers are checked in wire/snapshot.c, its disk layers' headers in qcow2_check(): a layer that named
 * another file of the host would be refused there, before an engine is asked. What the engine makes of device state and of the rest
 * of a layer is its own affair (vial-vmm's loader is fuzzed, QEMU's was not written for strangers): so a file that this state directory did not write itself (its MAC, under a key that only the
 * directory's owner can read) is not loaded unless the caller says that he trusts it, and then in a full jail only.
 */
#include "box/snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "engine/filecache.h"
#include "engine/layout.h"
#include "engine/qcow2.h"

#define BLOCK KIB(64) /* a run of zeros shorter than that is written like data */

#ifdef __x86_64__
#define ARCH "x86_64"
#else
#define ARCH "aarch64"
#endif

/* ---- the key ---- */

/* 32 random bytes, made once; who can read them can make files that pass for ours. */
static int home_key(struct vial *v, uint8_t ret[SNAPSHOT_KEY_SIZE], struct vial_err *err)
{
	uint8_t unique[8];
	char tmp[48], hex[2 * sizeof(unique) + 1];

	for (int tries = 0; tries < 2; tries++) {
		_cleanup_fd_ int fd = openat(v->fd, "snapshot.key", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && fd_read_full(fd, ret, SNAPSHOT_KEY_SIZE) == SNAPSHOT_KEY_SIZE)
			return 0;
		if (fd >= 0 || errno != ENOENT || getrandom(ret, SNAPSHOT_KEY_SIZE, 0) != SNAPSHOT_KEY_SIZE ||
		    getrandom(unique, sizeof(unique), 0) != sizeof(unique))
			break;
		/* No other thread's, nor another process's of the same number elsewhere. */
		str_hex(unique, sizeof(unique), hex);
		snprintf(tmp, sizeof(tmp), ".snapshot.key-%s", hex);
		int r = fd_write_file_at(v->fd, tmp, ret, SNAPSHOT_KEY_SIZE, 0600);
		/* The first one wins; the others read it. */
		if (r == 0 && linkat(v->fd, tmp, v->fd, "snapshot.key", 0) < 0 && errno != EEXIST)
			r = -errno;
		(void)unlinkat(v->fd, tmp, 0);
		if (r < 0)
			break;
	}
	return err_set(err, VIAL_E_IO, "'%s/snapshot.key' cannot be read or made", v->path);
}

/* ---- what this host is ---- */

static int host_of(struct vial *v, char **ret_cpu, char **ret_digest, char base[CHECKSUM_HEX],
		   struct vial_err *err)
{
	_cleanup_buf_ struct buf text = { 0 };
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX];
	struct sha256 h;
	int r = home_host(v, err);

	if (r < 0)
		return r;
	_cleanup_fd_ int fd = home_asset(v, "upper.ext4", NULL, err);
	if (fd < 0)
		return fd;
	r = filecache_checksum(v->cache_fd, fd, "upper.ext4", base, err);
	if (r < 0)
		return r;
	template_host_cpu(&text);
	if (!buf_ok(&text))
		return err_sys(err, -ENOMEM, "look at the processor");
	sha256_init(&h);
	sha256_update(&h, text.data, text.len);
	sha256_final(&h, digest);
	str_hex(digest, sizeof(digest), hex);
	/* The first line is "model name : …". */
	const char *line = buf_cstr(&text), *colon = line ? strchr(line, ':') : NULL;
	const char *name = colon && colon[1] ? colon + 2 : "unknown";
	*ret_cpu = strndup(name, strcspn(name, "\n"));
	*ret_digest = strdup(hex);
	return *ret_cpu && *ret_digest ? 0 : err_sys(err, -ENOMEM, "look at the processor");
}

/* ---- writing ---- */

struct writer {
	struct snapshot s;
	uint8_t *room; /* SNAPSHOT_CHUNK_MAX */
};

static void writer_done(struct writer *w)
{
	snapshot_done(&w->s);
	free(w->room);
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int add_run(struct writer *w, uint32_t part, uint64_t at, const uint8_t *p, size_t n)
{
	struct snapshot_chunk c = { .part = part, .bytes = (uint32_t)n, .at = at };
	struct sha256 h;

	if (n == 0)
		return 0;
	sha256_init(&h);
	sha256_update(&h, p, n);
	sha256_final(&h, c.digest);
	return snapshot_add_chunk(&w->s, &c);
}

/* Makes chunks of what is not zeros among @n bytes at @at. */
static int add_window(struct writer *w, uint32_t part, uint64_t at, size_t n)
{
	size_t from = 0, to = 0; /* the run being collected */
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i += BLOCK) {
		size_t len = MIN(n - i, (size_t)BLOCK);
		if (!is_zero(w->room + i, len)) {
			from = to == from ? i : from;
			to = i + len;
			continue;
		}
		r = add_run(w, part, at + from, w->room + from, to - from);
		from = to = i;
	}
	return r ?: add_run(w, part, at + from, w->room + from, to - from);
}

static int add_part(struct writer *w, uint32_t part, int fd)
{
	uint64_t bytes = snapshot_part_bytes(&w->s, part);
	off_t at = 0, hole;

	while ((uint64_t)at < bytes && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		at &= ~(off_t)4095;
		hole = lseek(fd, at, SEEK_HOLE);
		size_t n = (size_t)MIN((uint64_t)SNAPSHOT_CHUNK_MAX, bytes - (uint64_t)at);
		if (hole > at)
			n = MIN(n, (size_t)(hole - at));
		ssize_t got = pread(fd, w->room, n, at);
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		int r = add_window(w, part, (uint64_t)at, (size_t)got);
		if (r < 0)
			return r;
		at += got;
	}
	return at >= 0 || errno == ENXIO ? 0 : -errno;
}

static int part_fd(const struct saved *s, uint32_t part)
{
	return part == SNAPSHOT_MEMORY	? s->mem_fd
	       : part == SNAPSHOT_STATE ? s->state_fd
					: s->mids[part - SNAPSHOT_DISK];
}

static int copy_chunks(const struct writer *w, const struct saved *s, int fd)
{
	for (size_t i = 0; i < w->s.n_chunks; i++) {
		const struct snapshot_chunk *c = &w->s.chunks[i];
		ssize_t n = pread(part_fd(s, c->part), w->room, c->bytes, (off_t)c->at);
		if (n != (ssize_t)c->bytes)
			return n < 0 ? -errno : -EIO;
		int r = fd_write_full(fd, w->room, c->bytes);
		if (r < 0)
			return r;
	}
	return 0;
}

static int set_text(char **to, const char *value)
{
	*to = strdup(value ? value : "");
	return *to ? 0 : -ENOMEM;
}

static int file_bytes(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* All of the header but the chunks. */
static int describe(const struct vial_box *b, const struct saved *s, struct snapshot *h, struct vial_err *err)
{
	const struct launch *l = &b->launcher.launch;
	char base[CHECKSUM_HEX];
	int r = host_of(b->home, &h->cpu, &h->cpu_digest, base, err);

	r = r ?: spec_to_json(b->spec, &h->spec, err);
	if (r < 0)
		return r;
	r = set_text(&h->arch, ARCH);
	r = r ?: set_text(&h->engine, engine_host_name(&b->home->host));
	r = r ?: set_text(&h->engine_digest, b->home->host.digest);
	r = r ?: set_text(&h->machine, l->machine);
	r = r ?: set_text(&h->accel, l->accel);
	r = r ?: set_text(&h->base_digest, base);
	r = r ?: set_text(&h->image, b->spec->rootfs ? b->spec->rootfs : b->spec->image);
	r = r ?: set_text(&h->image_digest, b->image.digest);
	r = r ?: set_text(&h->fstype, b->image.fstype);
	h->layout = LAYOUT_VERSION;
	h->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	h->vcpus = s->vcpus;
	h->cpus = s->cpus;
	h->memory = s->memory;
	h->memory_max = s->memory_max;
	h->upper_bytes = s->upper_bytes;
	for (size_t i = 0; i < b->image.n_extents; i++)
		h->root_bytes += b->image.extents[i].bytes;
	memcpy(h->key, s->key, sizeof(h->key));
	r = r ?: file_bytes(s->state_fd, &h->state_bytes);
	for (size_t i = 0; r == 0 && i < s->n_mids; i++)
		r = file_bytes(s->mids[h->n_layers++], &h->layer_bytes[i]);
	return r < 0 ? err_sys(err, r, "describe the snapshot") : 0;
}

int snapfile_write(const struct vial_box *b, const struct saved *s, int fd, struct vial_err *err)
{
	_cleanup_(writer_done) struct writer w = { .room = malloc(SNAPSHOT_CHUNK_MAX) };
	_cleanup_buf_ struct buf head = { 0 };
	uint8_t key[SNAPSHOT_KEY_SIZE];
	int r = describe(b, s, &w.s, err);

	r = r ?: home_key(b->home, key, err);
	if (r < 0)
		return r;
	r = w.room ? add_part(&w, SNAPSHOT_MEMORY, s->mem_fd) : -ENOMEM;
	r = r ?: add_part(&w, SNAPSHOT_STATE, s->state_fd);
	for (size_t i = 0; r == 0 && i < s->n_mids; i++)
		r = add_part(&w, SNAPSHOT_DISK + (uint32_t)i, s->mids[i]);
	r = r ?: snapshot_encode(&w.s, key, &head);
	r = r ?: fd_write_full(fd, head.data, head.len);
	r = r ?: copy_chunks(&w, s, fd);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? err_sys(err, r, "write the snapshot") : 0;
}

/* ---- reading ---- */

static int explain(int r, const char *name, struct vial_err *err)
{
	switch (r) {
	case -ENOMSG:
		return err_set(err, VIAL_E_INVALID, "'%s' is not a snapshot", name);
	case -EPROTONOSUPPORT:
		return err_set(
			err, VIAL_E_UNSUPPORTED,
			"snapshot '%s' is of another version of the format (this vial reads version %d)",
			name, SNAPSHOT_VERSION);
	case -ENODATA:
		return err_set(err, VIAL_E_CORRUPT, "snapshot '%s' is cut short: copy it again", name);
	case -EBADMSG:
	case -E2BIG:
		return err_set(err, VIAL_E_CORRUPT,
			       "snapshot '%s' was altered or damaged: its header fails its check", name);
	default:
		return err_sys(err, r, "read snapshot '%s'", name);
	}
}

int snapfile_head(struct vial *v, int fd, const char *name, struct snapshot *ret, bool *ret_own,
		  struct vial_err *err)
{
	_cleanup_free_ uint8_t *head = NULL;
	uint8_t first[SNAPSHOT_FIXED], key[SNAPSHOT_KEY_SIZE];
	struct stat st;
	size_t bytes;
	ssize_t n;
	int r = home_key(v, key, err);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "snapshot '%s'", name);
	if (!S_ISREG(st.st_mode))
		return explain(-ENOMSG, name, err);
	n = pread(fd, first, sizeof(first), 0);
	r = n < 0 ? -errno : snapshot_peek(first, (size_t)n, (uint64_t)st.st_size, &bytes);
	if (r < 0)
		return explain(r, name, err);
	head = malloc(bytes);
	n = head ? pread(fd, head, bytes, 0) : 0;
	if (!head || n < 0)
		return err_sys(err, head ? -errno : -ENOMEM, "read snapshot '%s'", name);
	r = (size_t)n < bytes ? -ENODATA : snapshot_decode(head, bytes, key, ret, ret_own);
	return r < 0 ? explain(r, name, err) : 0;
}

static int differs(struct vial_err *err, const char *name, const char *what, const char *theirs,
		   const char *ours)
{
	return err_set(err, VIAL_E_UNSUPPORTED, "snapshot '%s' was made %s '%.100s', this is '%.100s'", name,
		       what, theirs, ours);
}

static int fits_host(struct vial *v, const struct snapshot *s, const char *name, struct vial_err *err)
{
	_cleanup_free_ char *cpu = NULL, *cpu_digest = NULL;
	char base[CHECKSUM_HEX];
	int r = host_of(v, &cpu, &cpu_digest, base, err);

	if (r < 0)
		return r;
	if (strcmp(s->cpu_digest, cpu_digest) != 0)
		return differs(err, name, "on another processor:", s->cpu,
			       strcmp(s->cpu, cpu) == 0 ? "the same model with other features or microcode"
							: cpu);
	if (strcmp(s->engine_digest, v->host.digest) != 0)
		return differs(err, name, "by another build of the engine:", s->engine_digest,
			       v->host.digest);
	if (strcmp(s->base_digest, base) != 0)
		return differs(err, name, "over another base disk:", s->base_digest, base);
	return 0;
}

int snapfile_fits(struct vial *v, const struct snapshot *s, const char *name, struct vial_err *err)
{
	uint64_t host_pages = (uint64_t)sysconf(_SC_PHYS_PAGES), page = (uint64_t)sysconf(_SC_PAGESIZE);
	int r = home_host(v, err);

	if (r < 0)
		return r;
	if (strcmp(s->arch, ARCH) != 0)
		return differs(err, name, "for the architecture", s->arch, ARCH);
	if (strcmp(s->engine, engine_host_name(&v->host)) != 0)
		return differs(err, name, "by the engine", s->engine, engine_host_name(&v->host));
	if (strcmp(s->accel, v->host.accel) != 0)
		return differs(err, name, "with the accelerator", s->accel, v->host.accel);
	if (strcmp(s->machine, v->host.machine) != 0)
		return differs(err, name, "with the machine type", s->machine, v->host.machine);
	if (s->layout != LAYOUT_VERSION || s->page_size != page)
		return err_set(
			err, VIAL_E_UNSUPPORTED,
			"snapshot '%s' has machine layout %u and pages of %u bytes, here it is %d and %llu",
			name, s->layout, s->page_size, LAYOUT_VERSION, (unsigned long long)page);
	if (s->vcpus > LAYOUT_VCPUS_MAX || s->vcpus & (s->vcpus - 1) || s->memory < LAYOUT_MEMORY_MIN ||
	    s->memory & (s->memory - 1))
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "snapshot '%s' has a machine of a size that there is not", name);
	if (s->memory / page > host_pages)
		return err_set(err, VIAL_E_NO_MEMORY,
			       "snapshot '%s' needs %llu MiB of memory, this host has %llu MiB", name,
			       (unsigned long long)(s->memory >> 20),
			       (unsigned long long)(host_pages * page >> 20));
	return fits_host(v, s, name, err);
}

/* Where a part goes: @ret->…; it is read-only from then on. */
static int *slot(struct saved *ret, uint32_t part)
{
	return part == SNAPSHOT_MEMORY	? &ret->mem_fd
	       : part == SNAPSHOT_STATE ? &ret->state_fd
					: &ret->mids[part - SNAPSHOT_DISK];
}

static int make_parts(struct vial *v, const struct snapshot *s, struct saved *ret)
{
	for (uint32_t part = SNAPSHOT_MEMORY; part < SNAPSHOT_DISK + s->n_layers; part++) {
		int fd = box_file(v);
		if (fd < 0)
			return fd;
		*slot(ret, part) = fd;
		if (part >= SNAPSHOT_DISK)
			ret->n_mids++;
		if (ftruncate(fd, (off_t)snapshot_part_bytes(s, part)) < 0)
			return -errno;
	}
	return 0;
}

static int extract_chunk(int fd, const struct snapshot_chunk *c, int to, uint8_t *room)
{
	uint8_t digest[SHA256_SIZE];
	struct sha256 h;
	ssize_t n = pread(fd, room, c->bytes, (off_t)c->offset);

	if (n != (ssize_t)c->bytes)
		return n < 0 ? -errno : -ENODATA;
	sha256_init(&h);
	sha256_update(&h, room, c->bytes);
	sha256_final(&h, digest);
	if (memcmp(digest, c->digest, sizeof(digest)) != 0)
		return -EBADMSG;
	n = pwrite(to, room, c->bytes, (off_t)c->at);
	return n == (ssize_t)c->bytes ? 0 : n < 0 ? -errno : -ENOSPC;
}

static int finish_parts(const struct snapshot *s, struct saved *ret, const char *name, struct vial_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ret->n_mids; i++)
		if (qcow2_check(ret->mids[i], s->upper_bytes) < 0)
			return err_set(
				err, VIAL_E_CORRUPT,
				"snapshot '%s': layer %zu of its disk is shorter than recorded, or no disk",
				name, i);
	for (uint32_t part = SNAPSHOT_MEMORY; r == 0 && part < SNAPSHOT_DISK + s->n_layers; part++) {
		int *fd = slot(ret, part), ro = fd_reopen(*fd, O_RDONLY);
		r = ro < 0 ? ro : 0;
		fd_close(fd);
		*fd = ro;
	}
	return r < 0 ? err_sys(err, r, "open the parts of snapshot '%s'", name) : 0;
}

int snapfile_extract(struct vial *v, int fd, const char *name, const struct snapshot *s, struct saved *ret,
		     struct vial_err *err)
{
	_cleanup_(saved_done) struct saved t = SAVED_NONE;
	_cleanup_free_ uint8_t *room = malloc(SNAPSHOT_CHUNK_MAX);
	int r = room ? make_parts(v, s, &t) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < s->n_chunks; i++) {
		r = extract_chunk(fd, &s->chunks[i], *slot(&t, s->chunks[i].part), room);
		if (r == -EBADMSG || r == -ENODATA)
			return err_set(
				err, VIAL_E_CORRUPT,
				"snapshot '%s' was altered or damaged: %u bytes at %llu fail their check",
				name, s->chunks[i].bytes, (unsigned long long)s->chunks[i].offset);
	}
	if (r < 0)
		return err_sys(err, r, "unpack snapshot '%s' in '%s'", name, v->path);
	r = finish_parts(s, &t, name, err);
	if (r < 0)
		return r;
	t.vcpus = s->vcpus;
	t.cpus = s->cpus;
	t.memory = s->memory;
	t.memory_max = s->memory_max;
	t.upper_bytes = s->upper_bytes;
	memcpy(t.key, s->key, sizeof(t.key));
	*ret = t;
	t = SAVED_NONE;
	return 0;
}
