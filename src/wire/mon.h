/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Monitor protocol: what a client (libvial) and a box's vial-monitor say to each other.
 *
 * Theory of operation
 *
 * Transport: unix stream socket, frames of wire/frame.h; payload is {le16 type, le16 version,
 * body}. Each connection does one thing: its first message from the client is MON_EXEC or one of the
 * control requests (MON_PING, MON_PAUSE …), which is answered once. The monitor decodes everything that
 * comes from the guest's agent and says it again in these few fixed shapes: clients never parse a byte string a guest has formed,
 * other than text and output.
 *
 * Who is trusted: monitor and client are the same user; the monitor may be compromised by
 * its guest, so clients check all they read.
 *
 * Credit: as in the agent protocol. Data beyond what was granted is an error that ends the connection.
 */
#ifndef WIRE_MON_H
#define WIRE_MON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "wire/agent_msg.h"
#include "wire/link.h"

#define MON_VERSION  1
#define MON_TEXT_MAX 450 /* text of MON_ERROR */

enum mon_type {
	/* client to monitor */
	MON_EXEC = 1,	   /* body: TLV list, MON_X_*; makes this an exec connection */
	MON_STDIN = 2,	   /* body: 1..AGENT_DATA_MAX bytes */
	MON_STDIN_END = 3, /* no body */
	MON_CREDIT = 4,	   /* both ways; body: le32 stream, le32 bytes */
	MON_SIGNAL = 5,	   /* body: le32 number */
	MON_RESIZE = 6,	   /* body: le32 rows, le32 cols */
	MON_LAUNCH = 7,	   /* first message on the life line, with descriptors; body: TLV, wire/launch.h */
	MON_STOP = 8,	   /* body: le32 ms to wait for a clean power-off before the kill */
	MON_PING = 9,	   /* answered by MON_DONE */
	MON_PAUSE = 10,	   /* answered by MON_DONE, as the next two, or MON_ERROR; one at a time in a box */
	MON_RESUME = 11,   /* no body */
	MON_UPDATE = 12,   /* body: le32 cpus, le64 bytes of memory; 0: all there is */
	MON_SNAPSHOT =
		13, /* body: le32 MON_SNAP_* flags; with MON_SNAPSHOT_FDS descriptors; answered by MON_SNAPSHOTTED */
	/* monitor to client */
	MON_STARTED = 32,      /* exec: le32 guest pid, le32 window for stdin; launch: no body */
	MON_OUTPUT = 33,       /* body: le32 stream, 1..AGENT_DATA_MAX bytes */
	MON_EXITED = 34,       /* body: le32 code, le32 signal, le32 flags MON_F_*; the last message */
	MON_ERROR = 35,	       /* body: le32 VIAL_E_* (as int32), le32 errno, text; the last message */
	MON_DONE = 36,	       /* a control request succeeded; launch: clients can connect; no body */
	MON_STDIN_CLOSED = 37, /* nobody reads the command's stdin any more */
	/* 38 is free */
	MON_SNAPSHOTTED =
		39, /* body: le32 enum engine_form, le32 us no vCPU ran, 16 bytes: the guest's reset key */
};

/* Descriptors of MON_SNAPSHOT, in this order; see struct engine_snapshot */
enum { MON_SNAP_STATE, MON_SNAP_MEM, MON_SNAP_UPPER, MON_SNAP_UPPER_RO, MON_SNAPSHOT_FDS };

/*
 * Flags of MON_SNAPSHOT. DELTA: only what differs from the memory that the box was started with, see ENGINE_FORM_DELTA. SYNC: the
 * guest shall write what files hold in memory to its disks before
 */
enum { MON_SNAP_DELTA = 1, MON_SNAP_SYNC = 2 };

enum { MON_F_TIMED_OUT = 1, MON_F_OOM = 2 };

/* TLV tags of MON_EXEC */
enum {
	MON_X_ARG = 1, /* repeated, in order */
	MON_X_ENV = 2, /* repeated */
	MON_X_CWD = 3,
	MON_X_USER = 4,
	MON_X_TTY = 5,	   /* le32 rows << 16 | cols */
	MON_X_RLIMIT = 6,  /* repeated: le32 resource, le64 soft, le64 hard */
	MON_X_TIMEOUT = 7, /* le64 ms */
	MON_X_STDIN = 8,   /* le32 0 or 1 */
	MON_X_WINDOW = 9,  /* le32 */
	MON_X_INIT = 10,   /* le32 0 or 1 */
};

/* struct mon_msg - one message; byte strings borrow from the frame */
struct mon_msg {
	uint16_t type; /* enum mon_type, or a later version's */
	union {
		struct slice body;	    /* EXEC, LAUNCH, STDIN */
		struct agent_credit credit; /* CREDIT */
		uint32_t u32;		    /* SIGNAL, STOP, SNAPSHOT */
		struct {
			uint32_t cpus;
			uint64_t memory;
		} update;
		struct {
			uint32_t form, pause_us;
			uint8_t key[LINK_KEY_SIZE];
		} snapshotted;
		struct {
			uint32_t rows, cols;
		} resize;
		struct {
			uint32_t pid, window; /* both 0 for a launch */
		} started;
		struct agent_data output;
		struct {
			uint32_t code, signal, flags;
		} exited;
		struct {
			int32_t code;
			uint32_t sys_errno;
			struct slice text;
		} error;
	};
};

/* mon_msg_decode() - frame payload to message; 0, -EBADMSG (short, over a limit), -EPROTONOSUPPORT (version) */
int mon_msg_decode(const uint8_t *p, size_t n, struct mon_msg *ret);
/* mon_msg_put() - append one whole frame to @out; 0, -ENOMEM, -EFBIG */
int mon_msg_put(struct buf *out, const struct mon_msg *m);

/* mon_exec_put() - a MON_EXEC frame from @x; 0, -ENOMEM, -EFBIG (over FRAME_MAX_EXEC) */
int mon_exec_put(struct buf *out, const struct agent_exec *x);
/**
 * mon_exec_decode() - body of MON_EXEC
 * @ret:	zeroed first; cwd and user borrow from the body, argv and env are owned:
 *		strv_done() both
 * Return: 0, -EBADMSG, -E2BIG past a limit of agent_msg.h, -ENOMEM.
 */
int mon_exec_decode(struct slice body, struct agent_exec *ret);

#endif
