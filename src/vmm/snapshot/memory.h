/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as KVM's slots, and all of it written out while the vCPUs stand. What has changed: delta.h.
 */
#ifndef VMM_SNAPSHOT_MEMORY_H
#define VMM_SNAPSHOT_MEMORY_H

#include "vmm/mem.h"
#include "vmm/snapshot/memmap.h"
#include "vmm/vm.h"

/* Anonymous stretches of this and more get a slot without a log: with huge pages */
#define MEMORY_SLOT_MIN (2ULL << 20)

/**
 * memory_slots() - how KVM shall see the memory that @map describes
 * @log:	what is file-backed gets a log
 * @ret:	room for VM_SLOTS_MAX
 * Return: number of slots.
 */
size_t memory_slots(const struct memmap *map, const struct gmem *mem, bool log, struct vm_slot *ret);

/**
 * memory_write_all() - all of memory that is not zero to @fd (page n at its offset; the file gets the memory's length)
 * @map:	how memory is kept now
 * @ret:	zeroed; the map of what was written: layers 0 and 1
 * Return: 0 or -errno.
 */
int memory_write_all(const struct gmem *mem, const struct memmap *map, int fd, struct memmap *ret);

/* memory_write_layer() - the same with @layer instead of 1; the map then names no other */
int memory_write_layer(const struct gmem *mem, const struct memmap *map, int fd, uint32_t layer,
		       struct memmap *ret);

/**
 * memory_log_slots() - let KVM keep what vCPUs write
 * @map:	in slots that have file-backed pages; NULL: in all
 * Return: 0 or -errno.
 */
int memory_log_slots(struct vm *vm, const struct memmap *map);

/**
 * memory_remap() - go on with what is in @fd instead of the pages just written to it
 * @map:	of what @fd's layer (the highest) holds
 * From now on changes are counted anew.
 * Return: 0 or -errno; then part may be remapped (both hold the same bytes) and @vm goes on with its former map: nothing
 *	   that has changed is forgotten.
 */
int memory_remap(struct vm *vm, const struct memmap *map, int fd);

/* memory_punch() - holes in a file mapped shared where its pages are zeros; @ret: its map; 0 or -errno */
int memory_punch(const struct gmem *mem, int fd, struct memmap *ret);

#endif
