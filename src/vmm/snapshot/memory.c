// SPDX-License-Identifier: Apache-2.0
/*
 * Writing guest memory out.
 *
 * Everything happens while the guest stands still, so what matters is to touch little: anonymous stretches that were
 * never used are recognised by mincore() (unless the host swaps: then absent does not mean zero), zero pages are
 * not written, and runs go out in one call each.
 */
#include "vmm/snapshot/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/mem.h"

#define CHUNK_PAGES  (MEMMAP_CHUNK / GMEM_PAGE)
#define WINDOW_PAGES (8 * CHUNK_PAGES) /* looked at in one go: most of a machine's memory was never used */
#define GAP_FIRST    16		       /* clean pages written along to join two changed runs … */
#define GAP_LAST     1024	       /* … and up to this many if there are too many runs */
#define RUNS_MAX     4096

size_t memory_slots(const struct memmap *map, const struct gmem *mem, bool log, struct vm_slot *ret)
{
	size_t n = 0;

	/* From the end of one slot to the next long anonymous stretch everything is one logged slot. */
	for (size_t i = 0; log && i < map->n; i++) {
		uint64_t at = map->e[i].page * GMEM_PAGE, len = map->e[i].n * GMEM_PAGE;
		bool plain = map->e[i].layer == 0 && len >= MEMORY_SLOT_MIN;

		/* One slot never lies on both sides of the hole below 4 GiB; three are kept for the rest. */
		if (plain && n + 3 <= VM_SLOTS_MAX && !(at < GMEM_LOW_MAX && at + len > GMEM_LOW_MAX))
			ret[n++] = (struct vm_slot){ at, len, false };
		else if (n && ret[n - 1].log && ret[n - 1].off + ret[n - 1].len == at && at != GMEM_LOW_MAX)
			ret[n - 1].len += len;
		else
			ret[n++] = (struct vm_slot){ at, len, true };
	}
	if (n == 0)
		ret[n++] = (struct vm_slot){ 0, mem->size, log };
	/* Cut what reaches over the hole. */
	for (size_t i = 0; i < n; i++) {
		uint64_t end = ret[i].off + ret[i].len;

		if (ret[i].off >= GMEM_LOW_MAX || end <= GMEM_LOW_MAX)
			continue;
		memmove(&ret[i + 2], &ret[i + 1], (n - i - 1) * sizeof(*ret));
		ret[i + 1] = (struct vm_slot){ GMEM_LOW_MAX, end - GMEM_LOW_MAX, ret[i].log };
		ret[i].len = GMEM_LOW_MAX - ret[i].off;
		n++;
		break;
	}
	return n;
}

static bool is_zero(const uint8_t *page)
{
	const uint64_t *p = (const void *)page;
	uint64_t any = 0;

	for (size_t i = 0; i < GMEM_PAGE / sizeof(*p); i += 8) {
		any |= p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] | p[i + 7];
		if (any)
			return false;
	}
	return true;
}

/* swap_used() - then a page that mincore() calls absent may have been written all the same */
static bool swap_used(void)
{
	struct sysinfo si;

	return sysinfo(&si) < 0 || si.totalswap != si.freeswap;
}

/* untouched() - surely nothing but zeros in these anonymous pages (at most WINDOW_PAGES), without looking at them */
static bool untouched(const struct gmem *mem, uint64_t page, uint64_t n)
{
	uint64_t there[WINDOW_PAGES / 8] = { 0 }, any = 0; /* a byte each */

	if (mincore(mem->base + page * GMEM_PAGE, n * GMEM_PAGE, (unsigned char *)there) < 0)
		return false;
	for (uint64_t i = 0; i < (n + 7) / 8; i++)
		any |= there[i];
	return (any & 0x0101010101010101) == 0;
}

static int write_pages(const struct gmem *mem, int fd, uint64_t page, uint64_t n)
{
	uint64_t at = page * GMEM_PAGE, len = n * GMEM_PAGE;

	while (len > 0) {
		ssize_t done = pwrite(fd, mem->base + at, len, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		at += (uint64_t)done;
		len -= (uint64_t)done;
	}
	return 0;
}

/* write_nonzero() - the pages of a stretch that are not zero; returns how many, or -errno */
static int64_t write_nonzero(const struct gmem *mem, int fd, uint64_t page, uint64_t n)
{
	uint64_t run = 0, end = page + n;
	int64_t total = 0;

	for (; page < end; page++) {
		bool data = !is_zero(mem->base + page * GMEM_PAGE);

		run += data;
		total += data;
		if (run == 0 || (data && page + 1 < end))
			continue;
		int r = write_pages(mem, fd, page + data - run, run);
		if (r < 0)
			return r;
		run = 0;
	}
	return total;
}

/* anonymous() - is the whole stretch of layer 0? */
static bool anonymous(const struct memmap *map, uint64_t page, uint64_t n)
{
	for (size_t i = memmap_find(map, page); i < map->n && map->e[i].page < page + n; i++)
		if (map->e[i].layer)
			return false;
	return true;
}

/* write_whole() - all that is not zero, as @layer; the map then names no other */
static int write_whole(const struct gmem *mem, const struct memmap *map, int fd, uint32_t layer,
		       struct memmap *ret)
{
	bool may_skip = !swap_used();
	uint64_t pages = mem->size / GMEM_PAGE;
	int r = ftruncate(fd, (off_t)mem->size) < 0 ? -errno : 0;

	for (uint64_t page = 0; r == 0 && page < pages; page += CHUNK_PAGES) {
		bool skip =
			may_skip && anonymous(map, page, CHUNK_PAGES) && untouched(mem, page, CHUNK_PAGES);
		int64_t written = skip ? 0 : write_nonzero(mem, fd, page, CHUNK_PAGES);

		if (written < 0)
			return (int)written;
		r = memmap_add(ret, CHUNK_PAGES, written > 0 ? layer : 0);
	}
	ret->layers = layer;
	return r;
}

int memory_write_all(const struct gmem *mem, const struct memmap *map, int fd, struct memmap *ret)
{
	return write_whole(mem, map, fd, 1, ret);
}

/* fetch_log() - what vCPUs wrote since the last time, into the bitmap */
static int fetch_log(struct vm *vm)
{
	for (size_t i = 0; i < vm->n_slots; i++) {
		const struct vm_slot *s = &vm->slots[i];
		size_t words = (s->len / GMEM_PAGE + 63) / 64;

		if (!s->log)
			continue;
		_cleanup_free_ uint64_t *bits = calloc(words, sizeof(*bits));
		struct kvm_dirty_log log = { .slot = (uint32_t)i, .dirty_bitmap = bits };
		if (!bits)
			return -ENOMEM;
		int r = kvm_call(&vm->kvm, vm->fd, KVM_GET_DIRTY_LOG, &log);
		if (r < 0)
			return r;
		for (size_t w = 0; w < words; w++)
			for (uint64_t left = bits[w]; left; left &= left - 1) {
				uint64_t page = w * 64 + (uint64_t)__builtin_ctzll(left);

				gmem_dirty_mark(vm->mem, vm->mem->base + s->off + page * GMEM_PAGE, 1);
			}
	}
	return 0;
}

static bool is_dirty(const struct gmem *mem, uint64_t page)
{
	return mem->dirty[page / 64] >> (page % 64) & 1;
}

/* struct runs - stretches to write, in order */
struct runs {
	struct memmap_extent *e;
	size_t n;
	uint64_t gap;
	uint32_t layer;
};

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
 * find_file_runs() - changed pages of a file-backed extent. Clean pages between two runs may be written along
 * to save mappings: within one extent only, where they are no hole of zeros.
 */
static bool find_file_runs(struct runs *r, const struct gmem *mem, const struct memmap_extent *e)
{
	bool first = true;

	for (uint64_t page = e->page; page < e->page + e->n; page++) {
		if (!mem->dirty[page / 64]) {
			page |= 63; /* nothing in this word */
			continue;
		}
		if (!is_dirty(mem, page))
			continue;
		if (!add_run(r, page, 1, !first))
			return false;
		first = false;
	}
	return true;
}

static bool chunk_has_data(const struct gmem *mem, uint64_t page, uint64_t n, bool may_skip)
{
	if (may_skip && untouched(mem, page, n))
		return false;
	for (uint64_t i = 0; i < n; i++)
		if (!is_zero(mem->base + (page + i) * GMEM_PAGE))
			return true;
	return false;
}

/* as_filled() - are these anonymous pages still what a file had? Then they need not be written */
static bool as_filled(const struct gmem *mem, uint64_t page, uint64_t n)
{
	uint64_t at = page * GMEM_PAGE, len = n * GMEM_PAGE;

	return mem->origin && at >= mem->origin_off && at + len <= mem->origin_off + mem->origin_len &&
	       memcmp(mem->base + at, mem->origin + (at - mem->origin_off), len) == 0;
}

/* add_filled() - a stretch that stands in a file already; false if there is no room */
static bool add_filled(struct runs *r, const struct gmem *mem, uint64_t page, uint64_t n)
{
	if (r->n == RUNS_MAX)
		return false;
	r->e[r->n++] = (struct memmap_extent){ page, (uint32_t)n, mem->origin_layer };
	return true;
}

/* find_anon_runs() - chunks of an anonymous extent that hold anything */
static bool find_anon_runs(struct runs *r, const struct gmem *mem, const struct memmap_extent *e,
			   bool may_skip)
{
	uint64_t page = e->page, end = e->page + e->n;

	while (page < end) {
		uint64_t n = MIN(end, (page / CHUNK_PAGES + 1) * CHUNK_PAGES) - page;
		uint64_t window = MIN(end - page, (uint64_t)WINDOW_PAGES);

		if (may_skip && window > n && untouched(mem, page, window)) {
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

static bool find_runs(struct runs *r, const struct gmem *mem, const struct memmap *map)
{
	bool may_skip = !swap_used(), fits = true;

	r->n = 0;
	for (size_t i = 0; fits && i < map->n; i++)
		fits = map->e[i].layer ? find_file_runs(r, mem, &map->e[i])
				       : find_anon_runs(r, mem, &map->e[i], may_skip);
	return fits;
}

/* write_runs() - the changed pages; -E2BIG if that would be too many stretches */
static int write_runs(const struct gmem *mem, const struct memmap *map, int fd, struct runs *runs,
		      struct memmap *ret)
{
	while (!find_runs(runs, mem, map)) {
		if (runs->gap >= GAP_LAST)
			return -E2BIG;
		runs->gap *= 4;
	}
	int r = memmap_overlay(map, runs->e, runs->n, ret);
	if (r < 0)
		return r;
	if (ftruncate(fd, (off_t)mem->size) < 0)
		return -errno;
	for (size_t i = 0; i < runs->n; i++) {
		if (runs->e[i].layer != runs->layer)
			continue;
		/* Zeros stay holes even where a file below has other bytes: the map says whose page it is. */
		int64_t n = write_nonzero(mem, fd, runs->e[i].page, runs->e[i].n);

		if (n < 0)
			return (int)n;
	}
	ret->layers = runs->layer;
	return 0;
}

int memory_write_changed(struct vm *vm, const struct memmap *map, int fd, struct memmap *ret)
{
	_cleanup_free_ struct memmap_extent *e = calloc(RUNS_MAX, sizeof(*e));
	struct runs runs = { .e = e, .gap = GAP_FIRST, .layer = map->layers + 1 };

	if (!e)
		return -ENOMEM;
	if (runs.layer > MEMMAP_LAYERS_MAX)
		return -E2BIG;
	int r = fetch_log(vm);
	if (r == 0)
		r = write_runs(vm->mem, map, fd, &runs, ret);
	if (r != -E2BIG)
		return r;
	/* Too scattered: everything then, and one mapping for each stretch of data. */
	memmap_done(ret);
	return write_whole(vm->mem, map, fd, runs.layer, ret);
}

/* log_slots() - slots that now have file-backed pages must be logged */
static int log_slots(struct vm *vm, const struct memmap *map)
{
	for (size_t i = 0; i < vm->n_slots; i++) {
		struct vm_slot *s = &vm->slots[i];

		if (s->log || anonymous(map, s->off / GMEM_PAGE, s->len / GMEM_PAGE))
			continue;
		s->log = true;
		int r = vm_set_slot(vm, i);
		if (r < 0) {
			s->log = false;
			return r;
		}
	}
	return 0;
}

int memory_remap(struct vm *vm, const struct memmap *map, int fd)
{
	int r = log_slots(vm, map);

	for (size_t i = 0; r == 0 && i < map->n; i++)
		if (map->e[i].layer == map->layers)
			r = gmem_map_file(vm->mem, map->e[i].page * GMEM_PAGE, map->e[i].n * GMEM_PAGE, fd);
	/* Last: as long as this has not worked, what has changed since the older files still counts as changed. */
	return r == 0 ? gmem_dirty_start(vm->mem) : r;
}

/* struct stretch - data of a file, with a hole in front of it: bytes @from to @to, found last */
struct stretch {
	int fd;
	uint64_t from, to;
};

/* hole() - is the page at byte @at surely a hole of the file? What was mapped and written is none. */
static bool hole(struct stretch *s, uint64_t at)
{
	if (at >= s->to) {
		off_t from = lseek(s->fd, (off_t)at, SEEK_DATA);
		off_t to = from < 0 ? -1 : lseek(s->fd, from, SEEK_HOLE);

		s->from = from >= 0 ? (uint64_t)from : errno == ENXIO ? UINT64_MAX : at;
		s->to = to >= 0 ? (uint64_t)to : UINT64_MAX;
	}
	return s->from >= GMEM_PAGE && at <= s->from - GMEM_PAGE;
}

/* punch_chunk() - make holes of zeros; returns how many pages are something else */
static uint64_t punch_chunk(const struct gmem *mem, struct stretch *s, uint64_t page)
{
	uint64_t run = 0, data = 0;

	for (uint64_t i = page; i < page + CHUNK_PAGES; i++) {
		/* Not looked at: each page of a hole that is read through the mapping costs one of the host's. */
		bool zero = hole(s, i * GMEM_PAGE) || is_zero(mem->base + i * GMEM_PAGE);

		data += !zero;
		run += zero;
		if (run == 0 || (zero && i + 1 < page + CHUNK_PAGES))
			continue;
		/* Not every file system can; then the file is only larger than it need be. */
		(void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)((i + zero - run) * GMEM_PAGE), (off_t)(run * GMEM_PAGE));
		run = 0;
	}
	return data;
}

int memory_punch(const struct gmem *mem, int fd, struct memmap *ret)
{
	struct stretch s = { .fd = fd };
	uint64_t pages = mem->size / GMEM_PAGE;
	int r = 0;

	for (uint64_t page = 0; r == 0 && page < pages; page += CHUNK_PAGES) {
		bool empty = hole(&s, page * GMEM_PAGE) && s.from >= (page + CHUNK_PAGES) * GMEM_PAGE;

		r = memmap_add(ret, CHUNK_PAGES, !empty && punch_chunk(mem, &s, page) > 0);
	}
	ret->layers = 1;
	return r;
}
