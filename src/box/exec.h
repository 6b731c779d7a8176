/* SPDX-License-Identifier: Apache-2.0 */
/* A command in a box, seen from the client: one connection to the monitor. */
#ifndef BOX_EXEC_H
#define BOX_EXEC_H

#include <stdbool.h>

#include "base/outq.h"
#include "box/box.h"
#include "wire/frame.h"
#include "wire/mon.h"

#define EXEC_ACK_STEP (AGENT_WINDOW / 4) /* credit is given back in portions of at least this */

/**
 * struct vial_exec - a command
 * @unacked:	bytes of stdout [1], stderr [2] dealt with and not yet granted anew
 * @last:	stream and length of the event handed out last, acknowledged at the next call
 * @stdin_room:	bytes of stdin the guest allows
 * @wants_write: a write was cut short: tell when there is room
 * @exited:	the last event was handed out
 */
struct vial_exec {
	int fd;
	bool manual_ack;
	struct frame_in in;
	struct outq out;
	size_t unacked[3];
	int last_stream;
	size_t last_len;
	size_t stdin_room;
	bool started;
	bool wants_write;
	bool tell_writable;
	bool stdin_closed;
	bool exited;
};

int exec_start(struct vial_box *b, const struct vial_exec_opts *opts, struct vial_exec **ret,
	       struct vial_err *err);
void exec_free(struct vial_exec *x);
DEFINE_CLEANUP(struct vial_exec, exec_free)

/* The rest as the vial_exec_* of the same name. */
int exec_next(struct vial_exec *x, int timeout_ms, struct vial_event *ret, struct vial_err *err);
short exec_poll_events(const struct vial_exec *x);
int exec_ack(struct vial_exec *x, int stream, size_t n, struct vial_err *err);
ssize_t exec_write(struct vial_exec *x, const void *p, size_t n, struct vial_err *err);
int exec_close_stdin(struct vial_exec *x, struct vial_err *err);
int exec_send(struct vial_exec *x, const struct mon_msg *m, struct vial_err *err);
/* exec_request() - the request that @opts makes in @b (exec_request.c); end with exec_request_done() */
int exec_request(const struct vial_box *b, const struct vial_exec_opts *opts, struct agent_exec *ret,
		 struct vial_err *err);
void exec_request_done(struct agent_exec *r);
int exec_run(struct vial_box *b, const struct vial_exec_opts *opts, const void *input, size_t input_len,
	     size_t limit, struct vial_output *ret, struct vial_err *err);

#endif
