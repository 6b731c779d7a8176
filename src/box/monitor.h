/* SPDX-License-Identifier: Apache-2.0 */
/* vial-monitor's parts: one box's machine, its agent, its clients. One thread, one loop. */
#ifndef BOX_MONITOR_H
#define BOX_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/outq.h"
#include "base/str.h"
#include "box/transport.h"
#include "engine/engine.h"
#include "wire/agent_msg.h"
#include "wire/frame.h"
#include "wire/launch.h"
#include "wire/mon.h"

#define MON_CLIENTS_MAX	    512
#define MON_CONSOLE_MAX	    KIB(8) /* the tail that is kept for messages */
#define MON_START_TIMEOUT_S 120	   /* a guest that has not answered by then is given up */
#define MON_OUT_FRAME	    12	   /* a MON_OUTPUT without its data */
/* Queued to one client: its credit, each byte of which may come as a message of its own, and some control */
#define MON_OUT_MAX (2 * AGENT_WINDOW * (MON_OUT_FRAME + 1) + MIB(1))

/* enum mon_state - STARTING (machine starts) -> UP (agent answers) -> READY (root set up) -> ENDING -> DEAD */
enum mon_state { MON_STARTING, MON_UP, MON_READY, MON_ENDING, MON_DEAD };

/* enum mon_stop - why a box is ENDING: to be killed, to power off, to be killed since it has not, or cannot be asked to */
enum mon_stop { STOP_KILL, STOP_ASKED, STOP_LATE, STOP_BUSY };

struct monitor;

/**
 * struct client - a connection that runs one command
 * @conn:	connection of the transport, 0 before the command was started
 * @request:	the MON_EXEC body of a command that waits, as long as the box is held
 * @granted:	bytes of stdout [1] and stderr [2] the client allows and the guest has not sent
 * @stdin_room:	bytes of stdin the agent allows and the client has not sent
 * @ending:	last message queued: close once it is written
 */
struct client {
	struct client *prev, *next; /* monitor.clients */
	struct monitor *m;
	int fd;
	struct loop_src *src;
	struct frame_in in;
	struct outq out;
	uint32_t conn;
	struct frame_in guest_in;
	struct buf request;
	bool requested;
	bool running; /* the agent said so */
	bool lost;    /* its connection has ended too early */
	bool ending;
	uint16_t control; /* MON_PAUSE … that waits for its turn, 0 */
	uint32_t update_cpus;
	uint64_t update_memory;
	uint32_t snapshot_flags;   /* MON_SNAP_* */
	int fds[MON_SNAPSHOT_FDS]; /* owned, -1 */
	int64_t granted[3];
	int64_t stdin_room;
};

/**
 * struct control_op - the request about the whole box that is being done
 * @type:	MON_PAUSE …, 0: none
 * @client:	who waits for the answer; NULL: gone, or it has it
 * @to:		of a snapshot; owned
 * @sync:	the agent has still to write what files hold in memory
 * @ahead:	the engine has written memory ahead of it, or is about to
 * @returning:	all that is left of it is the agent's: REFRESH and THAW are asked
 * @engine_told: to pause, or to save; its answer is awaited
 * @cpus, @memory: of an update: the new limits, then the former ones
 */
struct control_op {
	uint16_t type;
	struct client *client;
	struct engine_snapshot to;
	bool sync;
	bool ahead;
	bool returning;
	bool engine_told;
	uint32_t cpus;
	uint64_t memory;
};

/**
 * struct monitor - the box
 * @held:	from QUIESCE to THAW, and while a guest boots: no command is started
 * @quiesced:	the agent has said that nothing runs in the guest
 */
struct monitor {
	struct loop *loop;
	struct launch launch;
	enum mon_state state;
	enum mon_stop stop;
	const struct engine_ops *ops;
	struct engine *engine;
	struct transport *transport;
	struct loop_src *console_src, *lifeline_src, *client_src, *listen_src, *accept_timer, *timer;
	struct frame_in lifeline_in;
	struct outq lifeline_out;
	uint32_t control; /* connection of the transport */
	struct frame_in control_in;
	uint32_t warm; /* connection of the warm-up command, 0 */
	size_t n_warmed;
	enum agent_host_type asked[4]; /* control requests without answer, oldest first */
	size_t n_asked;
	uint64_t generation; /* identities given to the guest */
	struct control_op control_op;
	struct loop_src *control_timer;
	bool held, quiesced, paused;
	bool control_lost; /* the control connection has ended */
	struct loop_src *lost_timer;
	struct client *clients;
	size_t n_clients;
	struct buf console;
	int lock, listening;	     /* of the box's directory, or -1 */
	char boxes_path[32];	     /* of LAUNCH_FD_BOXES, for Landlock */
	char own_path[80];	     /* of this box's directory in it */
	char why[VIAL_ERR_MSG_SIZE]; /* why the box cannot run; empty while it can */
	int why_code;
};

/* monitor.c */
/* monitor_start() - start the machine of @m->launch (the rest of @m zero) and watch all there is; then loop_run() */
int monitor_start(struct monitor *m, const struct engine_ops *ops, struct vial_err *err);
/* monitor_done() - end the machine, remove the box's directory, free everything */
void monitor_done(struct monitor *m);
void monitor_fail(struct monitor *m, int code, const char *fmt, ...) _printf_(3, 4); /* the box is over */
/* monitor_end() - what this machine was started for is done: end it, successfully */
void monitor_end(struct monitor *m);
void monitor_ready(struct monitor *m);
void monitor_flush_agent(struct monitor *m);

/* guest.c: the way to the agent and its control connection */
int guest_init(struct monitor *m, struct vial_err *err);
int guest_ask(struct monitor *m, const struct agent_host_msg *msg);
/* guest_refresh() - identity, limits, clock and fresh entropy; 0 or -errno */
int guest_refresh(struct monitor *m);
void guest_fill_hello(struct agent_host_msg *msg);

/* control.c: pause, resume, update, snapshot */
int control_init(struct monitor *m);
void control_done(struct monitor *m);
/* control_request() - a client waits with one, or the box has become ready */
void control_request(struct monitor *m);
void control_client_gone(struct monitor *m, const struct client *c);
/* control_can_ask() - may the agent be asked something else now? */
bool control_can_ask(const struct monitor *m);
/* What the agent (false: the box is broken) and the engine answer */
void control_agent_done(struct monitor *m, enum agent_host_type what);
bool control_agent_failed(struct monitor *m, enum agent_host_type what, struct slice text);
void control_paused(void *data);
void control_resumed(void *data);
void control_snapshotted(void *data, const char *why, bool switched, uint64_t pause_ns);
void control_written_ahead(void *data);

/* client.c: clients and their commands */
/* client_tell() - a message of control.c; @last: and then goodbye */
void client_tell(struct client *c, const struct mon_msg *msg, bool last);
/* clients_accept() - take one connection; false if there is no descriptor or memory for it now, and it waits */
bool clients_accept(struct monitor *m, int listen_fd);
/* clients_start_pending() - the box is held no more */
void clients_start_pending(struct monitor *m);
void clients_fail_all(struct monitor *m);
bool clients_guest_data(struct monitor *m, uint32_t conn, const uint8_t *p, size_t n);
void clients_guest_gone(struct monitor *m, uint32_t conn);
/* clients_guest_lost() - the same, but why is not known yet: clients_fail_lost() or clients_fail_all() follows */
void clients_guest_lost(struct monitor *m, uint32_t conn);
void clients_fail_lost(struct monitor *m);
void clients_free_all(struct monitor *m);

#endif
