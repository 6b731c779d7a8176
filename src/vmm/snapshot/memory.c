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
#include <unistd.h>

#include "base/mem.h"
#include "vmm/snapshot/pages.h"

#define CHUNK_PAGES (MEMMAP_CHUNK / GMEM_PAGE)

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

/* anonymous() - is the whole stretch of layer 0? */
static bool anonymous(const struct memmap *map, uint64_t page, uint64_t n)
{
	for (size_t i = memmap_find(map, page); i < map->n && map->e[i].page < page + n; i++)
		if (map->e[i].layer)
			return false;
	return true;
}

/* resize() - a file of the memory's length, all of it holes */
static int resize(const struct gmem *mem, int fd)
{
	return ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)mem->size) < 0 ? -errno : 0;
}

int memory_write_layer(const struct gmem *mem, const struct memmap *map, int fd, uint32_t layer,
		       struct memmap *ret)
{
	bool may_skip = !pages_swapped();
	uint64_t pages = mem->size / GMEM_PAGE;
	int r = resize(mem, fd);

	for (uint64_t page = 0; r == 0 && page < pages; page += CHUNK_PAGES) {
		bool skip = may_skip && anonymous(map, page, CHUNK_PAGES) &&
			    pages_untouched(mem, page, CHUNK_PAGES);
		int64_t written = skip ? 0 : pages_write(mem, fd, page, CHUNK_PAGES, NULL);

		if (written < 0)
			return (int)written;
		r = memmap_add(ret, CHUNK_PAGES, written > 0 ? layer : 0);
	}
	ret->layers = layer;
	return r;
}

int memory_write_all(const struct gmem *mem, const struct memmap *map, int fd, struct memmap *ret)
{
	return memory_write_layer(mem, map, fd, 1, ret);
}

int memory_log_slots(struct vm *vm, const struct memmap *map)
{
	for (size_t i = 0; i < vm->n_slots; i++) {
		struct vm_slot *s = &vm->slots[i];

		if (s->log || (map && anonymous(map, s->off / GMEM_PAGE, s->len / GMEM_PAGE)))
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
	int r = memory_log_slots(vm, map);

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
		bool zero = hole(s, i * GMEM_PAGE) || pages_zero(mem->base + i * GMEM_PAGE);

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
