/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vial-vmm's launch description and control protocol.
 *
 * Theory of operation
 *
 * Launch: a TLV list in a memfd, inherited as VMM_FD_BLOB; VMM_FD_CONTROL is the control socket, and the
 * descriptors that the description speaks of follow from VMM_FD_FIRST in the order of its roles.
 * vial-vmm takes what it needs, closes nothing else because there is nothing else, and starts the machine: booted
 * (VMM_COLD) or from a saved state (VMM_RESTORE). Where it cannot, it says EXITED with VMM_EXIT_ERROR and ends.
 *
 * Control: SOCK_SEQPACKET, one message a packet, fixed little-endian shapes {le16 type, le16 version, body};
 * descriptors ride along by SCM_RIGHTS, as many as the type says (vmm_msg_fds()). Requests are
 * carried out in order; PAUSE, RESUME, AHEAD, SNAPSHOT and BALLOON are each answered by one DONE, STATS by STATS_IS, the
 * others by nothing. So a monitor may send PAUSE, SNAPSHOT, QUIT in one go. What comes while AHEAD is carried out is
 * done in between; a PAUSE ends it.
 *
 * Streams: CONNECT hands over one end of a stream socketpair and asks for a vsock connection from
 * the host to that port of the guest, joined to it. It may be sent at any time: before the guest's driver is
 * ready it waits. A refusal, and the end of the connection, is the closing of that end; shutdown of a direction
 * passes through both ways. A connection that the guest opens is told as GUEST_CONNECTS with a number, and waits
 * until ACCEPT brings it a stream or REFUSE resets it. After a restore all connections that the
 * saved guest had are reset before any new one is made.
 *
 * Who is trusted: the monitor by vial-vmm; vial-vmm by nobody: its guest may have taken it over, so the monitor
 * checks all it reads and never waits for it without a way to kill it.
 */
#ifndef WIRE_VMM_H
#define WIRE_VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "wire/agent_msg.h" /* struct slice */

#define VMM_VERSION	1
#define VMM_FD_BLOB	3 /* the description */
#define VMM_FD_CONTROL	4
#define VMM_FD_FIRST	5 /* descriptor of roles[0], then counting up */
#define VMM_FDS_MAX	176
#define VMM_EXTENTS_MAX 128
#define VMM_CMDLINE_MAX 2047 /* COMMAND_LINE_SIZE of x86 and its NUL */
#define VMM_LAUNCH_MAX	(64 * 1024)

enum vmm_mode { VMM_COLD = 1, VMM_RESTORE = 2 };

enum vmm_role {
	VMM_FD_KVM = 1,	       /* /dev/kvm, read-write */
	VMM_FD_KERNEL = 2,     /* COLD: bzImage or vmlinux */
	VMM_FD_INITRD = 3,     /* COLD: one file; may be missing */
	VMM_FD_MEM = 4,	       /* see enum vmm_mem */
	VMM_FD_STATE = 5,      /* RESTORE: machine state, read-only */
	VMM_FD_EXTENT = 6,     /* root disk, repeated in order, read-only */
	VMM_FD_UPPER = 7,      /* writable disk: qcow2, read-write */
	VMM_FD_UPPER_MID = 8,  /* qcow2 below it, repeated, the lowest first, read-only; may be missing */
	VMM_FD_UPPER_BASE = 9, /* raw, below them, read-only */
	VMM_FD_CONSOLE = 10,   /* stream socket: the guest's console */
	VMM_FD_LOG = 11,       /* diagnostics */
	VMM_FD_NET = 12,   /* SEQPACKET socket, a frame a message; there is a network device if it is given */
	VMM_FD_WARM = 14,  /* RESTORE: wire/warm.h, read-only; may be missing */
	VMM_FD_DELTA = 13, /* RESTORE: changed pages, over VMM_FD_MEM, repeated, oldest first, read-only */
};

enum vmm_mem {
	VMM_MEM_ANON = 1, /* anonymous, no VMM_FD_MEM (RESTORE: it is read from VMM_FD_MEM) */
	VMM_MEM_SHARED =
		2, /* COLD: VMM_FD_MEM, read-write, of the right size, mapped shared: what is saved is there */
	VMM_MEM_PRIVATE = 3, /* RESTORE: VMM_FD_MEM, read-only, mapped copy-on-write */
};

/**
 * struct vmm_launch - decoded description; strings are owned
 * @mode:	enum vmm_mode
 * @mem_kind:	enum vmm_mem
 * @vcpus:	1..64
 * @memory:	bytes, multiple of 2 MiB
 * @cmdline:	COLD: the kernel's command line
 * @extent_bytes: length of each root extent, @n_extents of them, multiples of 512
 * @upper_bytes: virtual size of the upper disk
 * @disks_differ: RESTORE: other disks than those that were saved; the guest has no driver on them
 * @log_level:	enum log_level
 * @without:	JAIL_NO_* bits to pretend missing: tests
 * @roles:	@n_roles descriptor roles, VMM_FD_FIRST + index
 */
struct vmm_launch {
	uint32_t mode;
	uint32_t mem_kind;
	uint32_t vcpus;
	uint64_t memory;
	char *cmdline;
	uint64_t extent_bytes[VMM_EXTENTS_MAX];
	size_t n_extents;
	uint64_t upper_bytes;
	uint32_t log_level;
	uint32_t without;
	uint32_t disks_differ;
	uint32_t roles[VMM_FDS_MAX];
	size_t n_roles;
};

void vmm_launch_done(struct vmm_launch *l);
/* vmm_launch_encode() - 0, -ENOMEM, -EFBIG */
int vmm_launch_encode(const struct vmm_launch *l, struct buf *out);
/* vmm_launch_decode() - @ret zeroed first, vmm_launch_done() on success; 0, -EBADMSG, -EPROTONOSUPPORT, -E2BIG, -ENOMEM */
int vmm_launch_decode(const void *p, size_t n, struct vmm_launch *ret);
/* vmm_launch_fd() - descriptor number of the @nth (from 0) descriptor with @role, or -1 */
int vmm_launch_fd(const struct vmm_launch *l, uint32_t role, size_t nth);

#define VMM_TEXT_MAX 450
#define VMM_MSG_MAX  512 /* any message fits */

enum vmm_type {
	/* monitor to vial-vmm */
	VMM_PAUSE = 1,	  /* stop all vCPUs; pausing what is paused succeeds */
	VMM_RESUME = 2,	  /* let them run (again) */
	VMM_SNAPSHOT = 3, /* of a paused machine; body: le32 flags VMM_SNAP_*; fds: see there */
	VMM_CONNECT = 4,  /* body: le32 port; fd: stream */
	VMM_ACCEPT = 5,	  /* body: le32 id; fd: stream */
	VMM_REFUSE = 6,	  /* body: le32 id */
	VMM_BALLOON = 7,  /* body: le64 bytes that the guest shall give back */
	VMM_STATS = 8,
	VMM_AHEAD =
		10, /* of a running machine: write what has changed to the file that a SNAPSHOT with DELTA and REMAP will be
			      * for, to have less to write then; fd: that file, empty */
	VMM_AHEAD_DROP = 11, /* that SNAPSHOT will not come */
	VMM_QUIT = 9,	     /* end at once, after what was asked before; EXITED follows */
	/* vial-vmm to monitor */
	VMM_RUNNING = 32,	 /* all vCPUs run for the first time */
	VMM_DONE = 33,		 /* body: le32 type answered, le32 errno (0: it succeeded), text */
	VMM_GUEST_CONNECTS = 34, /* body: le32 id, le32 port */
	VMM_EXITED = 35,	 /* body: le32 reason, text; the last message */
	VMM_STATS_IS = 36,	 /* body: VMM_STATS_N le64 */
};

/* Flags of SNAPSHOT; one that fails leaves the machine as it was. The first descriptor is for the machine state; each of the first two flags adds one, in this order. */
enum {
	VMM_SNAP_MEMORY = 1, /* write memory to it (VMM_MEM_SHARED needs no such: it is there already) */
	VMM_SNAP_UPPER = 2,  /* an empty qcow2: the upper disk from now on, over what was it until now */
	VMM_SNAP_DELTA = 4,  /* with MEMORY: only pages that differ from VMM_FD_MEM */
	VMM_SNAP_REMAP = 8,  /* with MEMORY: use what was written, copy-on-write, from now on (fork) */
	VMM_SNAP_ALL = 15,
};

enum vmm_exit {
	VMM_EXIT_POWEROFF = 1, /* the guest said so (sleep register) */
	VMM_EXIT_RESET = 2,    /* the guest wanted a reset */
	VMM_EXIT_CRASH = 3,    /* triple fault */
	VMM_EXIT_QUIT = 4,     /* VMM_QUIT, or the control socket's end */
	VMM_EXIT_ERROR = 5,    /* text says what */
	VMM_EXIT_MEMORY = 6,   /* the host gave no memory; text says how much was wanted */
};

enum vmm_stat {
	VMM_STAT_EXITS,		/* KVM_RUN returns, all vCPUs */
	VMM_STAT_MMIO,		/* of these, register accesses */
	VMM_STAT_BALLOON_BYTES, /* given back by the balloon */
	VMM_STAT_FREE_BYTES,	/* given back by free page reporting, altogether */
	VMM_STAT_DISK_READ,	/* bytes */
	VMM_STAT_DISK_WRITTEN,
	VMM_STAT_VSOCK_TO_GUEST,
	VMM_STAT_VSOCK_FROM_GUEST,
	VMM_STATS_N,
};

/* struct vmm_msg - one message; @text borrows from the packet */
struct vmm_msg {
	uint16_t type; /* enum vmm_type */
	union {
		uint32_t flags;		/* SNAPSHOT */
		uint32_t port;		/* CONNECT */
		uint32_t id;		/* ACCEPT, REFUSE */
		uint64_t balloon_bytes; /* BALLOON */
		struct {
			uint32_t of; /* enum vmm_type */
			uint32_t sys_errno;
			struct slice text;
		} done;
		struct {
			uint32_t id, port;
		} guest_connects;
		struct {
			uint32_t reason; /* enum vmm_exit */
			struct slice text;
		} exited;
		uint64_t stats[VMM_STATS_N]; /* STATS_IS, by enum vmm_stat */
	};
};

/* vmm_msg_encode() - @ret filled, @ret_len its length; text is cut at VMM_TEXT_MAX; 0 or -EINVAL (type) */
int vmm_msg_encode(const struct vmm_msg *m, uint8_t ret[VMM_MSG_MAX], size_t *ret_len);
/* vmm_msg_decode() - 0, -EBADMSG (type, length, unknown flag), -EPROTONOSUPPORT (version) */
int vmm_msg_decode(const uint8_t *p, size_t n, struct vmm_msg *ret);
/* vmm_msg_fds() - how many descriptors come with @m */
size_t vmm_msg_fds(const struct vmm_msg *m);

/**
 * vmm_msg_send() - one packet on the control socket
 * @fds:	vmm_msg_fds() of them, borrowed
 * Return: 0, -EAGAIN, other -errno.
 */
int vmm_msg_send(int sock, const struct vmm_msg *m, const int *fds);
/**
 * vmm_msg_recv() - one packet from the control socket
 * @buf:	@ret borrows from it
 * @ret_fds:	vmm_msg_fds() descriptors, owned by the caller; a packet with another number is refused
 * Return: 1 with a message, 0 at the end, -EAGAIN, -EBADMSG, -EPROTONOSUPPORT, -EPROTO, other -errno.
 */
int vmm_msg_recv(int sock, uint8_t buf[VMM_MSG_MAX], struct vmm_msg *ret, int ret_fds[3]);

#endif
