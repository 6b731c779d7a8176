/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending half of the link layer: connections with their queues, and whose turn it is.
 *
 * Bytes are queued in blocks that leave room for a packet header in front, so that a full block
 * goes to the pipe as it is. Small packets are gathered to one write of at most a chunk.
 */
#ifndef WIRE_LINK_OUT_H
#define WIRE_LINK_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/link.h"

#define LINK_HASH 1024 /* buckets */

enum link_packet {
	LINK_OPEN = 1,
	LINK_DATA = 2,
	LINK_SHUT = 3,
	LINK_ABORT = 4,
	LINK_MARK = 0xf5, /* first byte of LINK_MAGIC: a RESET or HELLO record, not a packet */
};

/* struct link_block - part of a queue; @bytes holds LINK_HEADER, then @len of @cap bytes */
struct link_block {
	struct link_block *next;
	size_t len, cap;
	uint8_t bytes[];
};

/**
 * struct link_conn - one connection
 * @want_open, @want_shut, @want_abort: packets to send, in this order around the data
 * @sent_shut, @got_shut: direction is closed; both: the connection is gone
 * @ready:	in a ready list because it has something to send
 * @out_turn, @out_bytes: bytes of it in the write unit numbered @out_turn
 */
struct link_conn {
	uint32_t number;
	bool control, ready;
	bool want_open, want_shut, want_abort;
	bool sent_shut, got_shut;
	struct link_conn *hash_next;
	struct link_conn *prev, *next; /* ready list */
	struct link_block *first, *last;
	size_t queued;
	uint64_t out_turn;
	size_t out_bytes;
};

struct link_list {
	struct link_conn *head, *tail;
};

/**
 * struct link_out - all connections and what goes to the pipe
 * @unit:	the write unit: @unit_len bytes at @unit, @unit_done of them written
 * @block:	the block @unit lies in, owned; NULL if it lies in @small
 * @turn:	number of the write unit
 */
struct link_out {
	struct link_conn *hash[LINK_HASH];
	size_t n_conns;
	struct link_list control, normal;
	const uint8_t *unit;
	size_t unit_len, unit_done;
	struct link_block *block;
	uint64_t turn;
	uint8_t small[LINK_HEADER + LINK_CHUNK];
};

/* link_out_clear() - drop all connections and all output, a half-written unit too */
void link_out_clear(struct link_out *o);
/* link_out_record() - make a record (RESET, HELLO) the next write unit; only after link_out_clear() */
void link_out_record(struct link_out *o, const void *p, size_t n);

struct link_conn *link_conn_find(const struct link_out *o, uint32_t number);
/* link_conn_add() - 0 with the connection in @ret, -EMFILE or -ENOMEM; @number must be free */
int link_conn_add(struct link_out *o, uint32_t number, struct link_conn **ret);
void link_conn_remove(struct link_out *o, struct link_conn *c);
/* link_conn_wake() - to be called after each change that may give @c something to send */
void link_conn_wake(struct link_out *o, struct link_conn *c);
void link_conn_set_control(struct link_out *o, struct link_conn *c);
/* link_conn_queue() - append bytes to @c's queue; 0, -ENOBUFS or -ENOMEM (nothing queued then) */
int link_conn_queue(struct link_conn *c, const uint8_t *p, size_t n);
void link_conn_drop_queue(struct link_conn *c);

/* link_out_pending(), link_out_drained() - as link_pending() and link_drained() */
size_t link_out_pending(struct link_out *o, const uint8_t **ret);
void link_out_drained(struct link_out *o, size_t n);

#endif
