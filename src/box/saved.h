/* SPDX-License-Identifier: Apache-2.0 */
/* A saved machine: what any number of boxes can be started from. */
#ifndef BOX_SAVED_H
#define BOX_SAVED_H

#include "box/box.h"

/**
 * struct saved - a machine at rest
 * @mem_fd, @state_fd: read-only, owned; -1: none
 * @deltas:	changed pages over mem_fd, the oldest first: @n_deltas read-only descriptors, owned
 * @mids:	the writable disk's qcow2s that it saw, the lowest first: @n_mids read-only descriptors, owned
 * @key:	the link key its guest holds
 * @vcpus, @memory: the machine's class
 * @cpus, @memory_max: the box's share of it, 0: all
 * @upper_bytes: size of the writable disk
 * @untrusted:	came from elsewhere
 */
struct saved {
	int mem_fd, state_fd;
	int deltas[LAUNCH_UPPERS_MAX];
	size_t n_deltas;
	int mids[LAUNCH_UPPERS_MAX];
	size_t n_mids;
	uint8_t key[LINK_KEY_SIZE];
	uint32_t vcpus, cpus;
	uint64_t memory, memory_max;
	uint64_t upper_bytes;
	bool untrusted;
};

#define SAVED_NONE ((struct saved){ .mem_fd = -1, .state_fd = -1 })

void saved_done(struct saved *s);
/* saved_free() - the same, and the struct */
void saved_free(struct saved *s);
DEFINE_CLEANUP(struct saved, saved_free)

/* saved_add_mid() - one more layer on top, a duplicate of @fd; 0, -EMFILE beyond LAUNCH_UPPERS_MAX, -errno */
int saved_add_mid(struct saved *s, int fd);
/* saved_copy() - an independent one that shares the files; 0 or -errno */
int saved_copy(const struct saved *s, struct saved *ret);

/**
 * saved_take() - save a running box, which goes on
 * @whole:	all of its memory in one file; false: what differs from what it was started with will do, if the engine can
 * The box's writable disk so far becomes @ret's, and the backing of a new one of the box's.
 */
int saved_take(struct vial_box *b, bool whole, struct saved *ret, struct vial_err *err);

#endif
