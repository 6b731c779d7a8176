/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor with everything around it played by the test: the machine (engine_ops), the guest's agent (link and
 * messages over a socketpair, or built with RIG_VSOCK=1 a stream for each connection), clients (sockets). One thread: rig_pump() lets each have its turn. One rig at a
 * time: its descriptors have fixed numbers.
 */
#ifndef TEST_BOX_RIG_H
#define TEST_BOX_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "box/monitor.h"

#define RIG_SEEN_MAX  2048
#define RIG_CONNS_MAX 600

/* struct rig_seen - one message that reached the agent; @text is argv[0] of an EXEC, bytes of a STDIN */
struct rig_seen {
	uint32_t conn;
	enum agent_host_type type;
	uint32_t number; /* signal, or credit's bytes */
	char text[40];
};

#ifndef RIG_VSOCK
#define RIG_VSOCK 0
#endif

/* struct rig_conn - @fd: of vsock */
struct rig_conn {
	uint32_t number;
	int fd;
	struct frame_in in;
	bool gone, shut;
};

struct rig {
	struct monitor m;
	struct vial_err err;
	int lifeline, client_pipe, boxes, console;
	char boxes_name[32];
	/* the machine */
	const struct engine_events *ev;
	void *ev_data;
	int agent_theirs, console_theirs;
	int kills, saves, pauses, resumes, snapshots, aheads, drops;
	struct engine_snapshot to; /* of the last snapshot */
	bool save_fails;
	bool agent_runs; /* vsock */
	/* the agent */
	int agent;
	struct link *link;
	struct rig_conn conns[RIG_CONNS_MAX];
	size_t n_conns;
	struct rig_seen seen[RIG_SEEN_MAX];
	size_t n_seen;
};

/* struct rig_client - the client's end of a connection */
struct rig_client {
	int fd;
	struct frame_in in;
	bool eof;
};

/* rig_new() - a started monitor in @mode, its agent silent still */
struct rig *rig_new(enum launch_mode mode);
/* rig_new_rooted() - the same, resumed from a template with its root set up */
struct rig *rig_new_rooted(void);
void rig_free(struct rig *r);
void rig_pump(struct rig *r);
void rig_wait(struct rig *r); /* vsock: until the next timer or event */
/* rig_agent_up() - the agent takes the RESET and says HELLO; vsock: it listens */
void rig_agent_up(struct rig *r);
/* rig_find() - the nth message of @type the agent got, or NULL */
const struct rig_seen *rig_find(const struct rig *r, enum agent_host_type type, size_t nth);
struct rig_conn *rig_conn(struct rig *r, uint32_t number);
/* rig_say() - the agent says @g on @conn */
void rig_say(struct rig *r, uint32_t conn, const struct agent_guest_msg *g);
void rig_say_type(struct rig *r, uint32_t conn, enum agent_guest_type type);
/* rig_say_raw() - any bytes on @conn */
void rig_say_raw(struct rig *r, uint32_t conn, const void *p, size_t n);
/* rig_shut(), rig_drop() - the agent will say no more on @conn; it drops it. Over vsock that is believed when the machine
 * does not end, too: rig_wait() */
void rig_shut(struct rig *r, uint32_t conn);
void rig_drop(struct rig *r, uint32_t conn);
void rig_output(struct rig *r, uint32_t conn, uint32_t stream, const void *p, size_t n);
void rig_started(struct rig *r, uint32_t conn, uint32_t window);
/* rig_control() - number of the control connection */
uint32_t rig_control(const struct rig *r);

struct rig_client rig_connect(struct rig *r);
void rig_hang_up(struct rig_client *c);
void rig_put(struct rig_client *c, const struct mon_msg *m);
void rig_exec(struct rig_client *c, const char *program, uint32_t window);
/* rig_command() - connect, exec @program, and the agent started it with @window of stdin; its connection in @ret */
struct rig_client rig_command(struct rig *r, const char *program, uint32_t window, uint32_t *ret);
/* rig_next() - next message to the client: true with it in @ret (borrowed until the next call) */
bool rig_next(struct rig *r, struct rig_client *c, struct mon_msg *ret);
/* rig_expect() - the next message is of @type */
struct mon_msg rig_expect(struct rig *r, struct rig_client *c, uint16_t type);
/* rig_expect_error() - the next and last message is an error of @code with @text in it */
void rig_expect_error(struct rig *r, struct rig_client *c, int code, const char *text);
/* rig_ended() - has the monitor's loop ended? */
bool rig_ended(const struct rig *r);

#endif
