// SPDX-License-Identifier: Apache-2.0
// Finding and writing what has changed; delta.h tells how.
#include "vmm/snapshot/delta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vmm/snapshot/memory.h"
#include "vmm/snapshot/pages.h"

#define CHUNK_PAGES (MEMMAP_CHUNK / GMEM_PAGE)
#define GAP_FIRST   16	 /* clean pages written along to join two changed runs … */
#define GAP_LAST    1024 /* … and up to this many if there are too many runs */
#define RUNS_MAX    4096
#define ROUNDS_MAX  5
#define ROUND_MIN   128 /* pages; fewer are left to the pause */

/* struct runs - stretches to write, in order */
struct runs {
	struct memmap_extent *e;
	size_t n;
	uint64_t gap;
	uint32_t layer;
};

/* ---- bitmaps ---- */

/* enum kind - sets of pages. DIRTY: changed, and not in the file as they are; CHANGED: changed; MISSING: not in the file as they are */
enum kind { DIRTY, CHANGED, MISSING };

static uint64_t word(const struct delta *d, const struct gmem *mem, enum kind kind, uint64_t w)
{
	uint64_t copied = d->copied ? d->copied[w] : 0;

	return mem->dirty[w] | (kind == CHANGED ? copied : kind == MISSING ? ~copied : 0);
}

/* next() - the first page from @page on that is (@in) or is not of a kind; @end if there is none before it */
static uint64_t next(const struct delta *d, const struct gmem *mem, enum kind kind, bool in, uint64_t page,
		     uint64_t end)
{
	while (page < end) {
		uint64_t bits = word(d, mem, kind, page / 64);

		bits = (in ? bits : ~bits) & ~0ULL << page % 64;
		if (bits)
			return MIN(end, page / 64 * 64 + (uint64_t)__builtin_ctzll(bits));
		page = (page / 64 + 1) * 64;
	}
	return end;
}

static void mark_copied(struct delta *d, uint64_t page, uint64_t n)
{
	for (; n > 0; page++, n--)
		d->copied[page / 64] |= 1ULL << (page % 64);
}

static void mark_dirty(struct gmem *mem, uint64_t page, uint64_t n)
{
	gmem_dirty_mark(mem, mem->base + page * GMEM_PAGE, n * GMEM_PAGE);
}

static int fetch_slot(struct vm *vm, size_t i)
{
	const struct vm_slot *s = &vm->slots[i];
	size_t words = (s->len / GMEM_PAGE + 63) / 64;
	_cleanup_free_ uint64_t *bits = calloc(words, sizeof(*bits));
	struct kvm_dirty_log log = { .slot = (uint32_t)i, .dirty_bitmap = bits };

	if (!bits)
		return -ENOMEM;
	int r = kvm_call(&vm->kvm, vm->fd, KVM_GET_DIRTY_LOG, &log);
	if (r < 0)
		return r;
	for (size_t w = 0; w < words; w++)
		for (uint64_t left = bits[w]; left; left &= left - 1)
			mark_dirty(vm->mem, s->off / GMEM_PAGE + w * 64 + (uint64_t)__builtin_ctzll(left), 1);
	return 0;
}

/* fetch_log() - what vCPUs wrote since the last time, into the bitmap */
static int fetch_log(struct vm *vm)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < vm->n_slots; i++)
		if (vm->slots[i].log)
			r = fetch_slot(vm, i);
	return r;
}

/* ---- finding ---- */

/* add_run() - false if there is no room */
static bool add_run(struct runs *r, uint64_t page, uint64_t n, bool joinable)
{
	if (r->n > 0) {
		struct memmap_extent *l = &r->e[r->n - 1];

		if (l->layer == r->layer && page - (l->page + l->n) <= (joinable ? r->gap : 0)) {
			l->n = (uint32_t)(page + n - l->page);
			return true;
		}
	}
	if (r->n == RUNS_MAX)
		return false;
	r->e[r->n++] = (struct memmap_extent){ page, (uint32_t)n, r->layer };
	return true;
}

/*
 * add_kind() - pages of a kind from @page to @end. Clean pages between two runs may be written along to save
 * mappings: within one extent only, where they are no hole of zeros.
 */
static bool add_kind(struct runs *r, const struct delta *d, const struct gmem *mem, enum kind kind,
		     uint64_t page, uint64_t end)
{
	bool first = true, fits = true;

	page = next(d, mem, kind, true, page, end);
	while (fits && page < end) {
		uint64_t stop = next(d, mem, kind, false, page, end);

		fits = add_run(r, page, stop - page, !first);
		first = false;
		page = next(d, mem, kind, true, stop, end);
	}
	return fits;
}

static bool chunk_has_data(const struct gmem *mem, uint64_t page, uint64_t n, bool may_skip)
{
	if (may_skip && pages_untouched(mem, page, n))
		return false;
	for (uint64_t i = 0; i < n; i++)
		if (!pages_zero(mem->base + (page + i) * GMEM_PAGE))
			return true;
	return false;
}

/* filled() - were these anonymous pages filled from a file? */
static bool filled(const struct gmem *mem, uint64_t page, uint64_t n)
{
	uint64_t at = page * GMEM_PAGE, len = n * GMEM_PAGE;

	return mem->origin && at >= mem->origin_off && at + len <= mem->origin_off + mem->origin_len;
}

/* as_filled() - are they still what that file has? Then they need not be written */
static bool as_filled(const struct gmem *mem, uint64_t page, uint64_t n)
{
	return filled(mem, page, n) &&
	       memcmp(mem->base + page * GMEM_PAGE, mem->origin + (page * GMEM_PAGE - mem->origin_off),
		      n * GMEM_PAGE) == 0;
}

/* add_filled() - a stretch that stands in a file already; false if there is no room */
static bool add_filled(struct runs *r, const struct gmem *mem, uint64_t page, uint64_t n)
{
	if (r->n == RUNS_MAX)
		return false;
	r->e[r->n++] = (struct memmap_extent){ page, (uint32_t)n, mem->origin_layer };
	return true;
}

static uint64_t chunk_pages(uint64_t page, uint64_t end)
{
	return MIN(end, (page / CHUNK_PAGES + 1) * CHUNK_PAGES) - page;
}

/* find_anon_runs() - chunks of an anonymous extent that hold anything */
static bool find_anon_runs(struct runs *r, const struct gmem *mem, const struct memmap_extent *e,
			   bool may_skip)
{
	uint64_t page = e->page, end = e->page + e->n;

	while (page < end) {
		uint64_t n = chunk_pages(page, end), window = MIN(end - page, PAGES_WINDOW);

		if (may_skip && window > n && pages_untouched(mem, page, window)) {
			page += window;
			continue;
		}
		if (as_filled(mem, page, n)) {
			if (!add_filled(r, mem, page, n))
				return false;
		} else if (chunk_has_data(mem, page, n, may_skip) && !add_run(r, page, n, true)) {
			return false;
		}
		page += n;
	}
	return true;
}

/* find_known_runs() - the same where the bitmaps know everything: what was filled, and is not in them, is as it was */
static bool find_known_runs(struct runs *r, const struct delta *d, const struct gmem *mem,
			    const struct memmap_extent *e)
{
	uint64_t page = e->page, end = e->page + e->n;
	bool fits = true;

	while (fits && page < end) {
		uint64_t n = chunk_pages(page, end);
		bool changed = next(d, mem, CHANGED, true, page, page + n) < page + n;

		if (!filled(mem, page, n))
			fits = add_kind(r, d, mem, CHANGED, page, page + n);
		else
			fits = changed ? add_run(r, page, n, true) : add_filled(r, mem, page, n);
		page += n;
	}
	return fits;
}

static bool find_runs(struct runs *r, const struct delta *d, const struct gmem *mem, const struct memmap *map)
{
	bool may_skip = !d->known && !pages_swapped(), fits = true;

	r->n = 0;
	for (size_t i = 0; fits && i < map->n; i++) {
		const struct memmap_extent *e = &map->e[i];

		if (e->layer)
			fits = add_kind(r, d, mem, CHANGED, e->page, e->page + e->n);
		else if (d->known)
			fits = find_known_runs(r, d, mem, e);
		else
			fits = find_anon_runs(r, mem, e, may_skip);
	}
	return fits;
}

/* find_joined() - with as many clean pages between as it takes; 0 or -E2BIG */
static int find_joined(struct runs *r, const struct delta *d, const struct gmem *mem,
		       const struct memmap *map)
{
	r->gap = GAP_FIRST;
	while (!find_runs(r, d, mem, map)) {
		if (r->gap >= GAP_LAST)
			return -E2BIG;
		r->gap *= 4;
	}
	return 0;
}

/* ---- ahead ---- */

void delta_done(struct delta *d)
{
	if (d->copied)
		fd_close(&d->fd);
	free(d->copied);
	free(d->todo);
	*d = (struct delta){ 0 };
}

static size_t bitmap_words(const struct gmem *mem)
{
	return (mem->size / GMEM_PAGE + 63) / 64;
}

static uint64_t count_dirty(const struct gmem *mem)
{
	uint64_t n = 0;

	for (size_t w = 0; w < bitmap_words(mem); w++)
		n += (uint64_t)__builtin_popcountll(mem->dirty[w]);
	return n;
}

static void start_round(struct delta *d, struct gmem *mem, const struct runs *runs)
{
	d->n = runs->n;
	d->at = 0;
	d->page = runs->n ? runs->e[0].page : 0;
	d->rounds++;
	gmem_dirty_clear(mem);
}

/* Only what is to be copied: not what stands in an older file. */
static void keep_layer(struct runs *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n; i++)
		if (r->e[i].layer == r->layer)
			r->e[n++] = r->e[i];
	r->n = n;
}

static int begin(struct delta *d, struct vm *vm, const struct memmap *map, int fd)
{
	struct runs runs = { .layer = map->layers + 1 };

	d->fd = -1;
	d->copied = calloc(bitmap_words(vm->mem), sizeof(*d->copied));
	d->todo = runs.e = calloc(RUNS_MAX, sizeof(*d->todo));
	if (!d->copied || !d->todo)
		return -ENOMEM;
	int r = memory_log_slots(vm, NULL);
	r = r ?: fetch_log(vm);
	r = r ?: find_joined(&runs, d, vm->mem, map);
	if (r == 0 && ftruncate(fd, (off_t)vm->mem->size) < 0)
		r = -errno;
	if (r < 0)
		return r;
	keep_layer(&runs);
	for (size_t i = 0; i < runs.n; i++)
		d->pages += runs.e[i].n;
	start_round(d, vm->mem, &runs);
	d->known = true;
	return 0;
}

int delta_begin(struct delta *d, struct vm *vm, const struct memmap *map, int fd)
{
	int r = begin(d, vm, map, fd);

	if (r < 0)
		delta_done(d);
	else
		d->fd = fd;
	return r;
}

int delta_step(struct delta *d, const struct gmem *mem, uint64_t pages)
{
	while (pages > 0 && d->at < d->n) {
		const struct memmap_extent *e = &d->todo[d->at];
		uint64_t n = MIN(e->page + e->n - d->page, pages);
		int64_t r = pages_write(mem, d->fd, d->page, n, d->copied);

		if (r < 0)
			return (int)r;
		mark_copied(d, d->page, n);
		pages -= n;
		d->page += n;
		if (d->page == e->page + e->n && ++d->at < d->n)
			d->page = d->todo[d->at].page;
	}
	return d->at < d->n;
}

bool delta_round(struct delta *d, struct vm *vm)
{
	struct runs runs = { .e = d->todo };

	if (d->rounds >= ROUNDS_MAX || fetch_log(vm) < 0)
		return false;
	uint64_t pages = count_dirty(vm->mem);
	if (pages < ROUND_MIN || pages > d->pages / 2 ||
	    !add_kind(&runs, d, vm->mem, DIRTY, 0, vm->mem->size / GMEM_PAGE))
		return false;
	d->pages = pages;
	start_round(d, vm->mem, &runs);
	return true;
}

void delta_stop(struct delta *d, struct gmem *mem)
{
	for (; d->at < d->n; d->at++) {
		const struct memmap_extent *e = &d->todo[d->at];
		uint64_t from = MAX(d->page, e->page);

		mark_dirty(mem, from, e->page + e->n - from);
		d->page = 0;
	}
}

void delta_drop(struct delta *d, struct gmem *mem)
{
	delta_stop(d, mem);
	for (size_t w = 0; d->copied && w < bitmap_words(mem); w++)
		mem->dirty[w] |= d->copied[w];
	delta_done(d);
}

/* ---- writing ---- */

/* write_run() - of a stretch what is not in the file as it is. Zeros stay holes: the map says whose page it is. */
static int write_run(const struct delta *d, const struct gmem *mem, int fd, const struct memmap_extent *e)
{
	uint64_t end = e->page + e->n, page = next(d, mem, MISSING, true, e->page, end);

	while (page < end) {
		uint64_t stop = next(d, mem, MISSING, false, page, end);
		int64_t r = pages_write(mem, fd, page, stop - page, d->copied);

		if (r < 0)
			return (int)r;
		page = next(d, mem, MISSING, true, stop, end);
	}
	return 0;
}

/* write_runs() - the changed pages; -E2BIG if that would be too many stretches */
static int write_runs(const struct gmem *mem, const struct memmap *map, const struct delta *d, int fd,
		      struct runs *runs, struct memmap *ret)
{
	int r = find_joined(runs, d, mem, map);

	r = r ?: memmap_overlay(map, runs->e, runs->n, ret);
	if (r == 0 && ftruncate(fd, (off_t)mem->size) < 0)
		r = -errno;
	for (size_t i = 0; r == 0 && i < runs->n; i++)
		if (runs->e[i].layer == runs->layer)
			r = write_run(d, mem, fd, &runs->e[i]);
	ret->layers = runs->layer;
	return r;
}

int delta_write(struct vm *vm, const struct memmap *map, struct delta *d, int fd, struct memmap *ret)
{
	_cleanup_free_ struct memmap_extent *e = calloc(RUNS_MAX, sizeof(*e));
	struct runs runs = { .e = e, .layer = map->layers + 1 };

	if (!e)
		return -ENOMEM;
	if (runs.layer > MEMMAP_LAYERS_MAX)
		return -E2BIG;
	delta_stop(d, vm->mem);
	int r = fetch_log(vm);
	r = r ?: write_runs(vm->mem, map, d, fd, &runs, ret);
	if (r != -E2BIG)
		return r;
	/* Too scattered: everything then, and one mapping for each stretch of data. */
	memmap_done(ret);
	return memory_write_layer(vm->mem, map, fd, runs.layer, ret);
}
