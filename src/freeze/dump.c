// SPDX-License-Identifier: Apache-2.0
/*
 * Writing a process's memory from inside.
 *
 * What is written is what no file holds: pages of anonymous memory and pages of private file mappings that were written to, as
 * the page map tells. All else is described: which file, which offset. The tables are built at FROZEN_LOW_TABLE, which is no
 * part of the image.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "freeze/freeze.h"
#include "freeze/sys.h"

#define PAGE	    4096UL
#define TEXT_BYTES  (512UL << 10)
#define BATCH_PAGES 8192UL /* page map entries read at once */
#define STACK_BYTES (8UL << 20)
/* A hole this small between pages that are written is filled, so that there is one mapping rather than two. */
#define GAP_ANON 64
#define GAP_FILE 8

/* [kernel: Documentation/admin-guide/mm/pagemap.rst] */
#define PM_FILE	   (1ULL << 61)
#define PM_SWAP	   (1ULL << 62)
#define PM_PRESENT (1ULL << 63)

/* struct area - one line of the maps file */
struct area {
	uint64_t start, end, offset, ino;
	unsigned int major, minor;
	uint32_t prot;
	bool shared;
	const char *path; /* NUL-terminated, may be "" */
};

struct dump {
	struct frozen_head *head;
	char *text;
	uint64_t *entries;
	uint64_t at;	   /* end of what was written to the image */
	uint64_t last_end; /* of the area before */
	const char *why;
	uint64_t number;
};

static int refuse(struct dump *d, const char *why, uint64_t number)
{
	if (!d->why) {
		d->why = why;
		d->number = number;
	}
	return -1;
}

static bool begins(const char *s, const char *with)
{
	while (*with)
		if (*s++ != *with++)
			return false;
	return true;
}

static bool same_text(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static uint64_t take_number(const char **s, unsigned int base)
{
	uint64_t n = 0;

	for (;; (*s)++) {
		char c = **s;
		unsigned int digit = c >= '0' && c <= '9'   ? (unsigned int)(c - '0')
				     : c >= 'a' && c <= 'f' ? (unsigned int)(c - 'a' + 10)
							    : 99;
		if (digit >= base)
			return n;
		n = n * base + digit;
	}
}

/* "55d0-55d1 r-xp 00001000 fe:00 1234   /usr/bin/x" [proc_pid_maps(5)]; @line loses its newline */
static char *take_area(char *line, struct area *ret)
{
	const char *s = line;
	char *end = line;

	while (*end && *end != '\n')
		end++;
	char *next = *end ? end + 1 : end;
	*end = '\0';
	ret->start = take_number(&s, 16);
	s++;
	ret->end = take_number(&s, 16);
	s++;
	ret->prot = (s[0] == 'r' ? PROT_READ : 0) | (s[1] == 'w' ? PROT_WRITE : 0) |
		    (s[2] == 'x' ? PROT_EXEC : 0);
	ret->shared = s[3] == 's';
	s += 5;
	ret->offset = take_number(&s, 16);
	s++;
	ret->major = (unsigned int)take_number(&s, 16);
	s++;
	ret->minor = (unsigned int)take_number(&s, 16);
	s++;
	ret->ino = take_number(&s, 10);
	while (*s == ' ')
		s++;
	ret->path = s;
	return next;
}

static int add_map(struct dump *d, uint64_t start, uint64_t bytes, uint32_t prot, int fd, uint64_t offset)
{
	struct frozen_head *h = d->head;

	if (h->n_maps == FROZEN_MAPS_MAX)
		return refuse(d, "its memory is in too many pieces", h->n_maps);
	h->maps[h->n_maps++] = (struct frozen_map){ start, bytes, offset, prot, fd };
	return 0;
}

/* ---- files ---- */

/* The descriptor of FROZEN_FD_REF and up that is the file of @a, or -1. */
static int find_ref(const struct dump *d, const struct area *a)
{
	for (uint32_t i = 0; i < d->head->n_refs; i++) {
		struct stat st;
		if (sys(SYS_fstat, FROZEN_FD_REF + i, &st) == 0 && st.st_ino == a->ino &&
		    major(st.st_dev) == a->major && minor(st.st_dev) == a->minor)
			return FROZEN_FD_REF + (int)i;
	}
	return -1;
}

static int find_file(struct dump *d, const struct area *a)
{
	struct frozen_head *h = d->head;
	struct frozen_file *f;
	struct stat st;
	size_t n = text_length(a->path);

	for (uint32_t i = h->n_files; i-- > 0;)
		if (same_text(h->files[i].path, a->path))
			return FROZEN_FD_FILE + (int)i;
	if (h->n_files == FROZEN_FILES_MAX || n >= FROZEN_PATH_MAX)
		return refuse(d, "too many files are mapped, or one with too long a name", a->start);
	long r = sys(SYS_newfstatat, AT_FDCWD, a->path, &st, 0);
	if (r < 0)
		return refuse(d, "a file that is mapped cannot be found any more", (uint64_t)r);
	f = &h->files[h->n_files++];
	for (size_t i = 0; i <= n; i++)
		f->path[i] = a->path[i];
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->size = (uint64_t)st.st_size;
	f->mtime_ns = st.st_mtim.tv_sec * 1000000000L + st.st_mtim.tv_nsec;
	f->ctime_ns = st.st_ctim.tv_sec * 1000000000L + st.st_ctim.tv_nsec;
	return FROZEN_FD_FILE + (int)h->n_files - 1;
}

/* ---- pages ---- */

static bool is_zero(uint64_t page)
{
	const uint64_t *p = (const uint64_t *)page;

	for (size_t i = 0; i < PAGE / sizeof(*p); i++)
		if (p[i])
			return false;
	return true;
}

static int write_all(struct dump *d, uint64_t from, uint64_t bytes)
{
	while (bytes) {
		long r = sys(SYS_pwrite64, FROZEN_FD_IMAGE, from, bytes, d->at);
		if (r <= 0)
			return refuse(d, "its memory cannot be written to the image", (uint64_t)r);
		from += (uint64_t)r;
		d->at += (uint64_t)r;
		bytes -= (uint64_t)r;
	}
	return 0;
}

static int write_run(struct dump *d, const struct area *a, uint64_t start, uint64_t end)
{
	if (start == end)
		return 0;
	if (add_map(d, start, end - start, a->prot, FROZEN_FD_IMAGE, d->at) < 0)
		return -1;
	return write_all(d, start, end - start);
}

/* @whole: of a file that the next process does not have: pages that were not written to are needed, too. */
static int write_pages(struct dump *d, const struct area *a, bool anon, bool whole)
{
	uint64_t gap = (anon ? GAP_ANON : GAP_FILE) * PAGE, start = 0, end = 0;

	for (uint64_t at = a->start; at < a->end;) {
		uint64_t n = (a->end - at) / PAGE;
		n = n < BATCH_PAGES ? n : BATCH_PAGES;
		long r = sys(SYS_pread64, FREEZE_FD_PAGEMAP, d->entries, n * 8, at / PAGE * 8);
		if (r != (long)(n * 8))
			return refuse(d, "the page map cannot be read", (uint64_t)r);
		for (uint64_t i = 0; i < n; i++, at += PAGE) {
			uint64_t e = d->entries[i];
			bool written = (e & (PM_PRESENT | PM_SWAP)) && !(e & PM_FILE);
			if ((!written && !whole) || (anon && is_zero(at)))
				continue;
			if (end == 0 || at - end > gap) {
				if (write_run(d, a, start, end) < 0)
					return -1;
				start = at;
			}
			end = at + PAGE;
		}
	}
	return write_run(d, a, start, end);
}

/* ---- areas ---- */

static int note_vdso(struct dump *d, const struct area *a)
{
	struct frozen_head *h = d->head;

	if (h->n_vdso == FROZEN_VDSO_MAX)
		return refuse(d, "the vDSO is in too many pieces", a->start);
	h->vdso[h->n_vdso++] = (struct frozen_range){ a->start, a->end - a->start };
	return 0;
}

static int dump_area(struct dump *d, struct area *a, uint64_t own_ino)
{
	bool own = a->path[0] == '/' && a->ino == own_ino, anon = own || a->path[0] != '/';
	int fd = -1;

	if (begins(a->path, "[vvar") || begins(a->path, "[vdso"))
		return note_vdso(d, a);
	if (begins(a->path, "[vsyscall") || (a->start >= FROZEN_LOW && a->end <= FROZEN_LOW_END))
		return 0;
	if (a->shared || a->start < FROZEN_LOW_END)
		return refuse(d, "it has shared memory, or memory at an address that is kept free", a->start);
	if (!anon) {
		fd = find_ref(d, a);
		fd = fd >= 0 ? fd : find_file(d, a);
		if (fd < 0)
			return -1;
	}
	uint64_t start = a->start;
	/* The first stack grows by itself only as what the kernel made it. */
	if (begins(a->path, "[stack]") && a->end - STACK_BYTES > d->last_end + STACK_BYTES)
		start = a->end - STACK_BYTES;
	d->last_end = a->end;
	if (add_map(d, start, a->end - start, a->prot, fd, fd < 0 ? 0 : a->offset) < 0)
		return -1;
	return a->prot & PROT_READ ? write_pages(d, a, anon, own) : 0;
}

static int read_maps(struct dump *d)
{
	uint64_t n = 0;
	long r;

	if (sys(SYS_lseek, FREEZE_FD_MAPS, 0, SEEK_SET) < 0)
		return refuse(d, "the list of its memory cannot be read", 0);
	while ((r = sys(SYS_read, FREEZE_FD_MAPS, d->text + n, TEXT_BYTES - 1 - n)) > 0)
		n += (uint64_t)r;
	if (r < 0 || n == TEXT_BYTES - 1)
		return refuse(d, "the list of its memory cannot be read", (uint64_t)r);
	d->text[n] = '\0';
	return 0;
}

/* The file that this code is mapped from need not be where the next process looks for it. */
static uint64_t own_file(const struct dump *d)
{
	uint64_t here = (uint64_t)(uintptr_t)&dump_write;
	struct area a;

	for (char *line = d->text, *next; *line; line = next) {
		char *end = line;
		while (*end && *end != '\n')
			end++;
		next = take_area(line, &a);
		if (*end == '\0' && next != end)
			*end = '\n';
		if (a.start <= here && here < a.end)
			return a.ino;
	}
	return 0;
}

static int dump_all(struct dump *d)
{
	struct frozen_head *h = d->head;
	struct area a;

	if (read_maps(d) < 0)
		return -1;
	uint64_t own = own_file(d);
	for (char *line = d->text; *line;) {
		line = take_area(line, &a);
		if (dump_area(d, &a, own) < 0)
			return -1;
	}
	if (h->n_vdso == 0)
		return refuse(d, "it has no vDSO", 0);
	h->vdso_copy = d->at;
	return write_all(d, h->vdso[h->n_vdso - 1].start, h->vdso[h->n_vdso - 1].bytes);
}

static void *tables(uint64_t at, uint64_t bytes)
{
	long r = sys(SYS_mmap, at, bytes, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return r == (long)at ? (void *)r : NULL;
}

const char *dump_write(const struct context *main, uint64_t main_fs, uint32_t n_refs, uint64_t *ret_number)
{
	struct dump d = { .head = tables(FROZEN_LOW_TABLE, FROZEN_HEAD_BYTES),
			  .text = tables(FROZEN_LOW_VDSO, TEXT_BYTES),
			  .entries = tables(FROZEN_LOW_VDSO + TEXT_BYTES, BATCH_PAGES * 8),
			  .at = FROZEN_HEAD_BYTES };

	if (!d.head || !d.text || !d.entries)
		return "the addresses kept for its tables are taken";
	d.head->n_refs = n_refs;
	d.head->wake_ip = (uint64_t)(uintptr_t)&context_go;
	d.head->wake_arg = (uint64_t)(uintptr_t)main;
	d.head->wake_fs = main_fs;
	if (dump_all(&d) == 0) {
		for (size_t i = 0; i < sizeof(d.head->magic); i++)
			d.head->magic[i] = FROZEN_MAGIC[i];
		uint64_t bytes = sizeof(*d.head) + d.head->n_maps * sizeof(d.head->maps[0]);
		long r = sys(SYS_pwrite64, FROZEN_FD_IMAGE, d.head, bytes, 0);
		if (r != (long)bytes)
			refuse(&d, "the image's head cannot be written", (uint64_t)r);
	}
	*ret_number = d.number;
	return d.why;
}
