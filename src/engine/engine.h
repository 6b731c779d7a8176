/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine interface: one machine, started and held by a box's monitor.
 *
 * Both engines give the guest the machine of engine/layout.h and the monitor a way to the agent.
 * All operations are called on the monitor's loop thread; what takes time reports through engine_events.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/loop.h"
#include "vial/error.h"
#include "wire/launch.h"

struct engine;

/**
 * enum engine_form - what engine_ops.snapshot leaves behind
 * @ENGINE_FORM_STREAM:	all in state_fd, memory and devices in one stream; LAUNCH_CONVERT makes a pair of it
 * @ENGINE_FORM_PAIR:	devices in state_fd; in mem_fd the guest's memory, each byte at its place, a sparse file as long as
 *		the machine's memory. A restore takes both as they are: LAUNCH_FD_STATE and LAUNCH_FD_MEM
 * @ENGINE_FORM_DELTA:	the same, but mem_fd has only what differs from the files that the machine was started with; a
 *		restore takes it as the last LAUNCH_FD_DELTA over those. The machine itself goes on over mem_fd: the next delta
 *		differs from that, and mem_fd's bytes must not change any more
 */
enum engine_form { ENGINE_FORM_STREAM = 1, ENGINE_FORM_PAIR = 2, ENGINE_FORM_DELTA = 3 };

/**
 * struct engine_snapshot - where engine_ops.snapshot writes; all stay the caller's and open until snapshotted()
 * @state_fd:	empty file, written from its start
 * @mem_fd:	empty file, read-write; -1 where the engine's form is ENGINE_FORM_STREAM
 * @upper_fd:	an empty qcow2 of the writable disk's size, read-write. The box goes on in it; the file it wrote until
 *		now is its backing and is written no more
 * @upper_ro_fd: the same file opened read-only, for the next snapshot to freeze it
 * @delta:	ENGINE_FORM_DELTA is wanted; only of a resumed machine, and where the engine's form is ENGINE_FORM_PAIR
 */
struct engine_snapshot {
	int state_fd;
	int mem_fd;
	int upper_fd;
	int upper_ro_fd;
	bool delta;
};

/**
 * struct engine_events - what an engine tells its owner; called from the loop, never nested in an operation
 * @running:	the guest executes instructions (after boot start or restore); not told again after a pause
 * @saved:	engine_save_template() is through; @why is NULL, or one line that says why it failed
 * @paused:	no vCPU executes any more
 * @resumed:	after resume(): they do again
 * @snapshotted: snapshot() is through and the machine goes on as before it (running, or paused). @why is NULL, or one
 *		line; then what was written is worthless. @switched: the box goes on in the new upper. @pause_ns: how long no
 *		vCPU ran
 * @exited:	the machine is gone; @why is NULL after a clean power-off, or one line. The last event
 * @written_ahead: after write_ahead(): snapshot() can come
 * @agent_listens: the agent of a guest that was booted waits for connections; engines with @connect only
 */
struct engine_events {
	void (*running)(void *data);
	void (*saved)(void *data, const char *why);
	void (*paused)(void *data);
	void (*resumed)(void *data);
	void (*snapshotted)(void *data, const char *why, bool switched, uint64_t pause_ns);
	void (*written_ahead)(void *data);
	void (*exited)(void *data, const char *why);
	void (*agent_listens)(void *data);
};

/**
 * struct engine_ops - an engine
 * @name:	"qemu", "kvm"
 * @start:	start the machine @l describes; descriptors are found with launch_fd() and stay the caller's
 * @agent_fd:	byte pipe for wire/link.h (borrowed, non-blocking); NULL if the engine has @connect
 * @connect:	join the stream socket @fd (borrowed) to a new connection to vsock port @port of the guest; the
 *		guest's refusal and the connection's end are the end of the stream. 0 or -errno; NULL if it has @agent_fd
 * @console_fd:	serial console (borrowed, non-blocking), -1 if the client holds it
 * @save_template: write memory and device state of the quiesced machine to LAUNCH_FD_MEM and
 *		LAUNCH_FD_STATE_OUT
 * @pause:	stop all vCPUs, keep everything; paused() follows
 * @resume:	let them go on; resumed() follows
 * @write_ahead: write what has changed to the file that will be the mem_fd of a delta, while the guest runs, so that snapshot() has
 *		less to write; written_ahead() follows, also where that cannot be done. -1: it will not come, no event follows. NULL if the
 *		engine cannot
 * @snapshot:	write memory, devices and disk of one instant of a machine whose agent is quiesced (or that is paused), and
 *		go on; snapshotted() follows. One at a time; no pause(), resume() or save_template() before its event
 * @form:	what @snapshot writes if no delta is wanted, enum engine_form
 * @kill:	end it at once; @exited follows
 * @free:	NULL is fine; kills if need be, without events
 */
struct engine_ops {
	const char *name;
	int (*start)(struct loop *loop, const struct launch *l, const struct engine_events *ev, void *data,
		     struct engine **ret, struct vial_err *err);
	int (*agent_fd)(struct engine *e);
	int (*connect)(struct engine *e, uint32_t port, int fd);
	int (*console_fd)(struct engine *e);
	int (*save_template)(struct engine *e, struct vial_err *err);
	int (*pause)(struct engine *e, struct vial_err *err);
	int (*resume)(struct engine *e, struct vial_err *err);
	int (*write_ahead)(struct engine *e, int mem_fd, struct vial_err *err);
	int (*snapshot)(struct engine *e, const struct engine_snapshot *s, struct vial_err *err);
	uint32_t form;
	void (*kill)(struct engine *e);
	void (*free)(struct engine *e);
};

extern const struct engine_ops engine_qemu; /* qemu.c */
extern const struct engine_ops engine_kvm;  /* kvm.c */

#endif
