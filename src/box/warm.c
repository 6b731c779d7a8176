// SPDX-License-Identifier: Apache-2.0
/*
 * What a start from a template touches.
 *
 * Theory of operation
 *
 * The first start from a new template finds no list beside it, and makes one: a box is started for nothing else, runs a
 * command and is forked, which writes down the memory that it changed. What was only read leaves no trace, but for one thing that
 * is known to be read all over: the kernel's code, which is where the kernel's file says (kernels that move themselves are
 * somewhere else: then some other pages are read ahead in vain).
 * One process does that at a time; the others, and all after a failure, start without.
 * Who is trusted: the guest of that box is the user's own image, run for the first time. What it writes can make the list useless, no more.
 */
#include "box/warm.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/exec.h"
#include "box/saved.h"

#define CHUNK	       (WARM_HUGE * (size_t)WARM_PAGE)
#define RECORD_MS      20000 /* the command's time; it needs a few */
#define KERNEL_HEAD    1024
#define TEXT_PAGES_MIN 256 /* of a chunk that is worth a huge page, so many are not zeros */

/* ---- the list ---- */

struct compare {
	struct warm_run *runs;
	int n;
	uint8_t *was, *is; /* a chunk of memory then and now */
};

static void compare_done(struct compare *c)
{
	free(c->was);
	free(c->is);
}

static bool is_zero(const uint8_t *p)
{
	return p[0] == 0 && memcmp(p, p + 1, WARM_PAGE - 1) == 0;
}

static int add(struct compare *c, uint64_t page, uint32_t n, uint32_t kind)
{
	if (c->n > 0) {
		struct warm_run *last = &c->runs[c->n - 1];
		if (last->kind == kind && last->page + last->n == page) {
			last->n += n;
			return 0;
		}
	}
	if (c->n == WARM_RUNS_MAX)
		return -E2BIG;
	c->runs[c->n++] = (struct warm_run){ page, n, kind };
	return 0;
}

static int add_written(struct compare *c, uint64_t first)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < WARM_HUGE; i++) {
		const uint8_t *is = c->is + i * (size_t)WARM_PAGE;

		if (!is_zero(is) && memcmp(is, c->was + i * (size_t)WARM_PAGE, WARM_PAGE) != 0)
			r = add(c, first + i, 1, WARM_WRITTEN);
	}
	return r;
}

static bool is_dense(const uint8_t *chunk)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WARM_HUGE; i++)
		n += !is_zero(chunk + i * (size_t)WARM_PAGE);
	return n >= TEXT_PAGES_MIN;
}

static bool has_data(int fd, uint64_t at)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	return data >= 0 && (uint64_t)data < at + CHUNK;
}

/* Memory that is no file's, being zeros, is not copied when it is written: nothing is to be had. */
static int compare_chunk(struct compare *c, int mem, int delta, uint64_t at, bool text)
{
	bool changed = has_data(delta, at);
	int before = c->n, r;

	if (!has_data(mem, at) || (!changed && !text))
		return 0;
	if (pread(mem, c->was, CHUNK, (off_t)at) != (ssize_t)CHUNK ||
	    pread(delta, c->is, CHUNK, (off_t)at) != (ssize_t)CHUNK)
		return -EIO;
	r = changed ? add_written(c, at / WARM_PAGE) : 0;
	if (r == 0 && text && c->n == before && is_dense(c->was))
		r = add(c, at / WARM_PAGE, WARM_HUGE, WARM_DENSE);
	return r;
}

int warm_compare(int mem, int delta, uint64_t bytes, uint64_t text, struct warm_run *ret)
{
	_cleanup_(compare_done) struct compare c = { .runs = ret, .was = malloc(CHUNK), .is = malloc(CHUNK) };
	int r = c.was && c.is ? 0 : -ENOMEM;

	for (uint64_t at = 0; r == 0 && at + CHUNK <= bytes; at += CHUNK)
		r = compare_chunk(&c, mem, delta, at,
				  text && at >= text && at < text + WARM_DENSE_CHUNKS * CHUNK);
	return r < 0 ? r : c.n;
}

/* ---- finding it out ---- */

/* Physical address of an ELF kernel's first segment of code. */
static uint64_t elf_text(const uint8_t *head)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	memcpy(&eh, head, sizeof(eh));
	for (uint64_t i = 0; i < eh.e_phnum; i++) {
		if (eh.e_phoff > KERNEL_HEAD || eh.e_phoff + (i + 1) * sizeof(ph) > KERNEL_HEAD)
			return 0;
		memcpy(&ph, head + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_LOAD && ph.p_flags & PF_X)
			return ph.p_paddr;
	}
	return 0;
}

/* Where a kernel says that its code shall be. [x86/boot: 1.1] pref_address at 0x258 of a bzImage */
static uint64_t text_of(int kernel)
{
	uint8_t head[KERNEL_HEAD];
	uint64_t at = 0;

	if (pread(kernel, head, sizeof(head), 0) != sizeof(head))
		return 0;
	if (memcmp(head + 0x202, "HdrS", 4) == 0) {
		memcpy(&at, head + 0x258, sizeof(at));
		at = le64toh(at);
	} else if (memcmp(head, ELFMAG, SELFMAG) == 0 && head[EI_CLASS] == ELFCLASS64) {
		at = elf_text(head);
	}
	return at % CHUNK ? 0 : at;
}

/* A box like @b that has run a command. */
static int start_one(struct vial_box *b, struct vial_box **ret, struct vial_err *err)
{
	static const char *const argv[] = { "true", NULL };
	const struct vial_exec_opts o = { .size = sizeof(o), .argv = argv, .timeout_ms = RECORD_MS };
	struct vial_output out = { .size = sizeof(out) };
	_cleanup_(box_freep) struct vial_box *w = NULL;
	int r = box_new(b->home, &w, err);

	r = r ?: spec_copy(b->spec, &w->spec, err);
	r = r ?: box_open_image(w, err);
	if (r < 0)
		return r;
	w->recording = true;
	r = box_start(w, err);
	if (r < 0)
		return r;
	/* An image may lack it: that it was looked for is most of what a start does. */
	if (exec_run(w, &o, NULL, 0, KIB(64), &out, NULL) == 0) {
		free(out.out);
		free(out.err);
	}
	*ret = take_ptr(w);
	return 0;
}

static int find_out(struct vial_box *b, const struct machine *m, int mem, struct buf *out,
		    struct vial_err *err)
{
	_cleanup_(saved_done) struct saved s = SAVED_NONE;
	_cleanup_(box_freep) struct vial_box *w = NULL;
	_cleanup_free_ struct warm_run *runs = calloc(WARM_RUNS_MAX, sizeof(*runs));
	int r = runs ? start_one(b, &w, err) : -ENOMEM;

	r = r ?: saved_take(w, false, &s, err);
	if (r == 0 && s.n_deltas != 1)
		return -EINVAL;
	r = r ?: warm_compare(mem, s.deltas[0], m->t.memory, text_of(m->t.kernel_fd), runs);
	return r < 0 ? r : warm_encode(runs, (size_t)r, out);
}

/* Whatever goes wrong: an empty list, so that it is not tried again each time. */
static void record(struct vial_box *b, const struct machine *m, int mem, int dir)
{
	_cleanup_buf_ struct buf out = { 0 };
	struct vial_err err = VIAL_ERR_INIT;
	int r = find_out(b, m, mem, &out, &err);

	if (r < 0)
		log_debug("no list of what a start touches: %s", err.msg[0] ? err.msg : strerror(-r));
	if (r < 0) {
		buf_consume(&out, out.len);
		r = warm_encode(NULL, 0, &out);
	}
	if (r == 0)
		(void)fd_write_file_at(dir, "warm", out.data, out.len, 0400);
}

int warm_open(struct vial_box *b, const struct machine *m, const struct template *t)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_fd_ int dir = openat(b->home->templates_fd, t->key, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int lock_fd = -1;
	int fd = dir < 0 ? -1 : openat(dir, "warm", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (dir < 0 || fd >= 0 || errno != ENOENT || b->recording)
		return fd;
	lock_fd = openat(dir, "warm.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock_fd < 0 || fcntl(lock_fd, F_OFD_SETLK, &lock) < 0)
		return -1;
	record(b, m, t->mem_fd, dir);
	return openat(dir, "warm", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}
