/* SPDX-License-Identifier: Apache-2.0 */
/* A command's streams: outputs under the host's credit, input under ours. */
#ifndef AGENT_STREAM_H
#define AGENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/str.h"
#include "wire/agent_msg.h"

#define OUT_TURNS 8

/**
 * struct out_stream - reads a pipe or PTY while the host grants credit
 * @fd:		non-blocking, owned; -1 when ended
 * @src:	watched only while there is credit and room: a hang-up would wake us without end
 * @draining:	the command is over: read at most @left bytes more and end when nothing is there, whoever
 *		else still holds the other side
 * @discard:	nobody is left to read: what comes is thrown away, so that the command does not wait for ever
 */
struct out_stream {
	struct loop *loop;
	int fd;
	struct loop_src *src;
	uint64_t credit;
	bool draining;
	bool discard;
	uint64_t left;
	uint32_t number; /* AGENT_STDOUT or AGENT_STDERR */
	/* may more be sent now? send what was read; false: the receiver is gone */
	bool (*room)(void *user);
	bool (*send)(void *user, uint32_t number, const uint8_t *p, size_t n);
	void (*ended)(void *user); /* @fd has just become -1 by itself */
	void *user;
};

void out_done(struct out_stream *o);
/* out_pump() - read and send as far as credit and room go, OUT_TURNS reads at most, then watch for more */
void out_pump(struct out_stream *o);
/* out_drain() - the command is over: see @draining */
void out_drain(struct out_stream *o);
/* out_discard() - see @discard */
void out_discard(struct out_stream *o);
/* out_grant() - more credit; 0 or -EPROTO past any sensible sum */
int out_grant(struct out_stream *o, uint32_t bytes);

/**
 * struct in_stream - queues what the host sent, at most its window, until the reader takes it
 * @fd:		non-blocking; owned unless @shared (a PTY's)
 * @window:	bytes the host may still send
 * @ending:	close (or type end-of-file) when the queue is empty
 * @closed:	nobody reads: what comes is dropped and credited
 */
struct in_stream {
	struct loop *loop;
	int fd;
	bool tty;
	bool ending, closed;
	struct loop_src *src;
	struct buf queue;
	uint64_t window;
	uint8_t last;			     /* last byte written, for a PTY's end of file */
	void (*taken)(void *user, size_t n); /* credit to give back */
	void (*reader_gone)(void *user);
	void *user;
};

void in_done(struct in_stream *in);
/* in_push() - bytes from the host; 0, -EPROTO beyond the window or after the end, -ENOMEM */
int in_push(struct in_stream *in, const uint8_t *p, size_t n);
void in_end(struct in_stream *in);
/* in_watch() - notice a reader that goes away; call once, after the command has started */
void in_watch(struct in_stream *in);

#endif
