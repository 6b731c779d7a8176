/* SPDX-License-Identifier: Apache-2.0 */
/* Inside vial-freeze.so. Nothing here uses the C library once a freeze has begun. */
#ifndef FREEZE_FREEZE_H
#define FREEZE_FREEZE_H

#include <stdbool.h>
#include <stdint.h>

#include "freeze/frozen.h"

/* Opened when the library is loaded, while opens are answered; used when the process freezes. */
#define FREEZE_FD_MAPS	  FROZEN_FD_FILE
#define FREEZE_FD_PAGEMAP (FROZEN_FD_FILE + 1)
#define FREEZE_FD_STAT	  (FROZEN_FD_FILE + 2)

/* struct context - a place in the program to come back to; context.S.h knows the order */
struct context {
	uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
};

/* context_save() - 0; 1 when it returns once more, by context_go() or with the address of that and of @c in another process */
int context_save(struct context *c) __attribute__((returns_twice));
void context_go(const struct context *c) __attribute__((noreturn));

/**
 * dump_write() - write all memory of this process, whose other threads stand still, to FROZEN_FD_IMAGE
 * @main:	where its main thread shall go on
 * Return: NULL, or what is in the way; @ret_number says more (an address, a negative errno).
 */
const char *dump_write(const struct context *main, uint64_t main_fs, uint32_t n_refs, uint64_t *ret_number);

#endif
