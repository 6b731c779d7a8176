/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has changed in guest memory since its files were mapped, written to a file of its own.
 *
 * Theory of operation
 *
 * What changed is known from two sources that are joined in gmem's bitmap: KVM's log of what vCPUs wrote, and the devices' own
 * marks. In anonymous memory whatever is not zero has changed.
 *
 * A fork stands still while this is written, so most of it is written ahead, while the guest runs: delta_begin()
 * finds what has changed and starts the log anew, delta_step() copies it piece by piece, and delta_round() looks what was
 * changed meanwhile, until little is left or it does not become less. With all vCPUs parked, delta_write() then copies the rest.
 * As a live migration does it, only that the other side is a file.
 *
 * Invariant: a page that differs from what the map's files have is marked in gmem's bitmap, or in @copied and then its bytes are in @fd. In
 * anonymous memory that is so from delta_begin() on (@known); all slots are logged then.
 * Errors: nothing is ever lost: what delta_drop() gives up counts as changed again.
 * Threads: all is the I/O thread's. Devices have given back their chains (quiesced) whenever the log is read:
 * what they write later is marked anew.
 */
#ifndef VMM_SNAPSHOT_DELTA_H
#define VMM_SNAPSHOT_DELTA_H

#include "vmm/mem.h"
#include "vmm/snapshot/memmap.h"
#include "vmm/vm.h"

/**
 * struct delta - what is written ahead; zeroed: nothing
 * @copied:	pages that are in the file, a bit each; NULL: nothing is written ahead
 * @fd:		the file, owned; only with @copied
 * @known:	see above
 * @todo:	stretches of this round, @n of them; from page @page of number @at on they are not copied yet
 * @rounds:	begun so far; @pages: of the last
 */
struct delta {
	uint64_t *copied;
	int fd;
	bool known;
	struct memmap_extent *todo;
	size_t n, at;
	uint64_t page;
	unsigned int rounds;
	uint64_t pages;
};

/**
 * delta_begin() - find what has changed, in order to write it to @fd; all slots of @vm get a log
 * @d:		zeroed
 * @fd:		empty; taken over on success
 * Return: 0 or -errno (E2BIG: too scattered); then nothing has happened.
 */
int delta_begin(struct delta *d, struct vm *vm, const struct memmap *map, int fd);
/* delta_step() - copy up to @pages; 1 if there is more in this round, 0 if not, -errno */
int delta_step(struct delta *d, const struct gmem *mem, uint64_t pages);
/* delta_round() - has enough changed since the round began to be worth another? Then it has begun */
bool delta_round(struct delta *d, struct vm *vm);
/* delta_stop() - end the round before it is through */
void delta_stop(struct delta *d, struct gmem *mem);
/* delta_drop() - forget what was written ahead: it all counts as changed again */
void delta_drop(struct delta *d, struct gmem *mem);
/* delta_done() - release everything */
void delta_done(struct delta *d);

/**
 * delta_write() - all that differs from the files of @map, of a machine whose vCPUs are parked
 * @vm:		its slots' logs are read (and begin anew) into vm->mem->dirty
 * @d:		what is written ahead into the same file; otherwise zeroed. The caller drops it afterwards, or after memory_remap() is done with it
 * @ret:	zeroed; @map with layer map->layers + 1 where @fd has it
 * Return: 0 or -errno.
 */
int delta_write(struct vm *vm, const struct memmap *map, struct delta *d, int fd, struct memmap *ret);

#endif
