/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine interface: one machine, started and held by a box's monitor.
 *
 * Both engines give the guest the machine of engine/layout.h and the monitor a way to the agent.
 * All operations are called on the monitor's loop thread; what takes time reports through engine_events.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdint.h>

#include "base/attr.h"
#include "base/loop.h"
#include "vial/error.h"
#include "wire/launch.h"

struct engine;

/**
 * struct engine_events - what an engine tells its owner; called from the loop, never nested in an operation
 * @running:	the guest executes instructions (after boot start or restore)
 * @saved:	engine_save_template() is through; @why is NULL, or one line that says why it failed
 * @exited:	the machine is gone; @why is NULL after a clean power-off, or one line. The last event
 * @agent_listens: the agent of a guest that was booted waits for connections; engines with @connect only
 */
struct engine_events {
	void (*running)(void *data);
	void (*saved)(void *data, const char *why);
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
	void (*kill)(struct engine *e);
	void (*free)(struct engine *e);
};

extern const struct engine_ops engine_qemu;

#endif
