/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launch description: what vial-monitor is told to run. A TLV list in a memfd, inherited as LAUNCH_FD_BLOB;
 * the descriptors it speaks of follow it in the order of @roles. Written by the library, which is
 * trusted; read once at start.
 */
#ifndef WIRE_LAUNCH_H
#define WIRE_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "wire/link.h"

#define LAUNCH_VERSION	   1
#define LAUNCH_FD_BLOB	   3 /* the description itself */
#define LAUNCH_FD_FIRST	   4 /* descriptor of roles[0], then counting up */
#define LAUNCH_FDS_MAX	   192
#define LAUNCH_EXTENTS_MAX 128
#define LAUNCH_UPPERS_MAX  16 /* LAUNCH_FD_UPPER_MID: each snapshot and fork of a box adds one */

enum launch_mode {
	LAUNCH_COLD = 1,    /* boot the kernel */
	LAUNCH_RESTORE = 2, /* resume a template */
	LAUNCH_BUILD = 3,   /* boot, quiesce, write a template, end */
	LAUNCH_PREPARE =
		4, /* resume a template on a copy of its memory, set the root up, write another, end */
	LAUNCH_CONVERT =
		5, /* load a snapshot's stream, write it as a template's memory and state, end; nothing runs */
	LAUNCH_FREEZE = 6, /* qemu: resume a template, run a few commands, freeze the process, end */
	LAUNCH_TRY = 7,	   /* qemu: wake a frozen process; when its agent has answered, end */
};

enum launch_engine { LAUNCH_QEMU = 0, LAUNCH_KVM = 1 };

enum launch_role {
	LAUNCH_FD_LIFELINE = 1, /* stream socket to the client; its end ends the box */
	LAUNCH_FD_CLIENT = 2,	/* pidfd of the client */
	LAUNCH_FD_BOXES =
		4, /* directory in which the monitor makes the box's own, named by id; RESTORE, COLD */
	LAUNCH_FD_KERNEL = 5,	   /* COLD, BUILD; RESTORE: a stub that is never run */
	LAUNCH_FD_INITRD = 6,	   /* COLD, BUILD */
	LAUNCH_FD_MEM = 7,	   /* RESTORE: read-only; else read-write */
	LAUNCH_FD_STATE = 8,	   /* RESTORE, PREPARE, CONVERT: read-only */
	LAUNCH_FD_EXTENT = 9,	   /* root disk, repeated in order, read-only */
	LAUNCH_FD_UPPER = 10,	   /* qcow2, read-write */
	LAUNCH_FD_UPPER_BASE = 11, /* raw backing of the upper, read-only */
	LAUNCH_FD_CONSOLE = 12,	   /* stream socket for the serial console, if the client wants it */
	LAUNCH_FD_LOG = 13,	   /* diagnostics */
	LAUNCH_FD_HOLD = 14,	   /* held open for the box's life (locks) */
	/* qcow2s between upper and its base, the lowest first: what a template wrote, then what the boxes that this one is a
	 * copy of wrote; read-only; repeated, may be missing */
	LAUNCH_FD_UPPER_MID = 15,
	LAUNCH_FD_STATE_OUT = 16, /* BUILD, PREPARE, CONVERT: write */
	LAUNCH_FD_UPPER_RO =
		17,	    /* RESTORE: UPPER once more, read-only: it becomes a backing when it is frozen */
	LAUNCH_FD_KVM = 18, /* kvm engine: /dev/kvm, read-write */
	/* kvm engine, BUILD, PREPARE: memory is written to it; PREPARE: MEM is read-only */
	LAUNCH_FD_MEM_OUT = 19,
	/* kvm engine, RESTORE: changed pages over MEM, oldest first; repeated, may be missing */
	LAUNCH_FD_DELTA = 20,
	/* kvm engine, RESTORE: what a start from this template touches (wire/warm.h); may be missing */
	LAUNCH_FD_WARM = 21,
	/* qemu engine: a frozen process; RESTORE, where it may be missing, and TRY: read-only; FREEZE: read-write */
	LAUNCH_FD_FROZEN = 22,
	LAUNCH_FD_FREEZER = 23, /* FREEZE: the library that QEMU preloads */
};

/**
 * struct launch - decoded description; strings are owned
 * @id:		box id, 32 hex digits
 * @engine:	enum launch_engine
 * @program:	the engine's: QEMU, or vial-vmm
 * @accel:	"tcg" or "kvm"
 * @vcpus, @memory: the machine's class; memory in bytes
 * @cpus, @memory_max: the box's exact share, 0: all
 * @reset_key:	the guest's current reset key; @next_key: given to it now
 * @extent_bytes: length of each root extent, @n_extents of them
 * @upper_bytes: virtual size of the upper disk
 * @untrusted:	the state resumed came from elsewhere
 * @rooted:	the template resumed has its root set up already
 * @thaw:	program that wakes LAUNCH_FD_FROZEN
 * @without:	JAIL_NO_* bits to pretend missing: tests
 * @roles:	@n_roles descriptor roles, LAUNCH_FD_FIRST + index
 */
struct launch {
	uint32_t mode; /* enum launch_mode */
	char id[33];
	uint32_t engine;
	char *program;
	char *accel;
	char *machine;
	char *cmdline;
	uint32_t vcpus;
	uint64_t memory;
	uint32_t cpus;
	uint64_t memory_max;
	uint8_t reset_key[LINK_KEY_SIZE];
	uint8_t next_key[LINK_KEY_SIZE];
	char *fstype;
	uint64_t extent_bytes[LAUNCH_EXTENTS_MAX];
	size_t n_extents;
	uint64_t upper_bytes;
	char *hostname;
	char *console_shell;
	uint32_t strict;
	uint32_t without;
	uint32_t log_level;
	uint32_t rooted;
	uint32_t untrusted;
	char *thaw;
	uint32_t roles[LAUNCH_FDS_MAX];
	size_t n_roles;
};

void launch_done(struct launch *l);
/* launch_encode() - 0, -ENOMEM, -EFBIG */
int launch_encode(const struct launch *l, struct buf *out);
/* launch_decode() - @ret zeroed first, launch_done() on success; 0, -EBADMSG, -EPROTONOSUPPORT (version), -E2BIG, -ENOMEM */
int launch_decode(const void *p, size_t n, struct launch *ret);
/* launch_incoming() - is the machine resumed (rather than booted)? */
static inline bool launch_incoming(const struct launch *l)
{
	return l->mode == LAUNCH_RESTORE || l->mode == LAUNCH_PREPARE || l->mode == LAUNCH_CONVERT ||
	       l->mode == LAUNCH_FREEZE || l->mode == LAUNCH_TRY;
}

/* launch_private() - is its memory its own, whatever file it began as? */
static inline bool launch_private(const struct launch *l)
{
	return l->mode == LAUNCH_RESTORE || l->mode == LAUNCH_FREEZE || l->mode == LAUNCH_TRY;
}

/* launch_saves() - does it end in a template? */
static inline bool launch_saves(const struct launch *l)
{
	return l->mode == LAUNCH_BUILD || l->mode == LAUNCH_PREPARE || l->mode == LAUNCH_CONVERT ||
	       l->mode == LAUNCH_FREEZE;
}

/* launch_warms() - are commands run in it before it is saved? */
static inline bool launch_warms(const struct launch *l)
{
	return l->mode == LAUNCH_PREPARE || l->mode == LAUNCH_FREEZE;
}

/* launch_fd() - descriptor number of the @nth (from 0) descriptor with @role, or -1 */
int launch_fd(const struct launch *l, uint32_t role, size_t nth);

#endif
