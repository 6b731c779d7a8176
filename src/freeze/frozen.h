/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frozen process: one file from which a QEMU that has already started, and has translated what its guest will run, is
 * brought back in a few milliseconds. Written by freeze.c inside that QEMU, mapped by thaw.c; README.md tells the story.
 *
 * File: struct frozen_head in the first FROZEN_HEAD_BYTES, then pages, then a hole of FROZEN_TAIL_BYTES: an allocator makes a
 * large piece larger by mremap(), and where the piece is mapped from here, so is what it grows by.
 * Whoever can write such a file decides what the process does: it is made and kept like a template, and taken from nowhere else.
 */
#ifndef FREEZE_FROZEN_H
#define FREEZE_FROZEN_H

#include <stdint.h>

#define FROZEN_MAGIC	  "vialice\2"
#define FROZEN_HEAD_BYTES (1UL << 20)
#define FROZEN_TAIL_BYTES (4ULL << 30) /* more than a process may grow by */
#define FROZEN_MAPS_MAX	  24576
#define FROZEN_FILES_MAX  96
#define FROZEN_PATH_MAX	  216
#define FROZEN_VDSO_MAX	  6

/* Descriptors. Below FROZEN_FDS_MAX lie the process's own; above, in both directions, those it was given for freezing or thawing. */
#define FROZEN_FDS_MAX	400
#define FROZEN_FD_IMAGE 400
#define FROZEN_FD_REF \
	401 /* the files that differ from box to box, in the order of qemu_args(); then the memory file */
#define FROZEN_REFS_MAX 150
#define FROZEN_FD_FILE	(FROZEN_FD_REF + FROZEN_REFS_MAX) /* frozen_head.files */
#define FROZEN_FD_END	(FROZEN_FD_FILE + FROZEN_FILES_MAX)
#define FROZEN_FDS_WANTED                                     \
	(FROZEN_FD_END + FROZEN_REFS_MAX + FROZEN_FILES_MAX + \
	 16) /* RLIMIT_NOFILE: each is moved up before it is placed */

/* Addresses that a frozen process does not use: while it freezes its tables lie here, while it thaws its loader. */
#define FROZEN_LOW	 0x10000000UL /* vial-thaw is linked to run here: see meson.build */
#define FROZEN_LOW_TABLE 0x20000000UL
#define FROZEN_LOW_VDSO	 0x30000000UL
#define FROZEN_LOW_END	 0x50000000UL
#define FROZEN_TOP	 0x7ffffffff000UL /* end of a process's addresses on x86-64 */

/* The process is asked to freeze by this signal, which nothing else in it uses. */
#define FROZEN_SIGNAL 42

/**
 * struct frozen_map - one mmap(), private, at a fixed address; later ones lie on earlier ones
 * @fd:		-1: anonymous, else a descriptor of above
 */
struct frozen_map {
	uint64_t start, bytes, offset;
	uint32_t prot;
	int32_t fd;
};

/* struct frozen_file - a file that is mapped, and how to know that it is still the same */
struct frozen_file {
	char path[FROZEN_PATH_MAX];
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
};

struct frozen_range {
	uint64_t start, bytes;
};

/**
 * struct frozen_head
 * @args:	made by the engine: digest of its program's arguments
 * @wake_ip, @wake_arg, @wake_fs: where the main thread goes on, with wake_arg in its first argument's register
 * @vdso:	the kernel's own pages, in address order; the last is the code, a copy of which is at @vdso_copy of the file
 */
struct frozen_head {
	char magic[8];
	uint8_t args[32];
	uint32_t n_maps, n_files, n_refs, n_vdso;
	uint64_t wake_ip, wake_arg, wake_fs;
	uint64_t vdso_copy;
	struct frozen_range vdso[FROZEN_VDSO_MAX];
	struct frozen_file files[FROZEN_FILES_MAX];
	struct frozen_map maps[];
};

_Static_assert(sizeof(struct frozen_head) + FROZEN_MAPS_MAX * sizeof(struct frozen_map) <= FROZEN_HEAD_BYTES,
	       "the tables fit before the pages");

#endif
