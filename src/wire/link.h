/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Link layer: many connections over one byte pipe (a virtio-serial port).
 *
 * Theory of operation
 *
 * Purpose: what vsock gives on the kvm engine, for the qemu engine: independent byte-stream
 * connections that the host opens to the guest. A pure state machine: it does no I/O, knows no
 * clock, and is fed and drained by its owner.
 *
 * Packets: 8-byte header {u8 type, u8 flags, be16 length, be32 connection}, then length bytes,
 * at most LINK_CHUNK. Types: OPEN, DATA, SHUT (no more data from the sender), ABORT, RESET, HELLO.
 *
 * Epochs and RESET: a machine restored from a snapshot may be in the middle of a packet in either
 * direction. The host starts every epoch with a RESET record: LINK_MAGIC, the guest's current
 * reset key, the next reset key and a fresh random epoch. The guest searches everything it
 * receives for LINK_MAGIC + its current key, in mid-packet too; nobody who supplies stream
 * bytes knows the key. On RESET it drops all connections and queued output and answers with HELLO: LINK_MAGIC
 * and the epoch. The host throws away all it receives up to LINK_MAGIC + its epoch. The first key, of a
 * guest that just booted, is all zeros. The owner of a snapshot keeps the key with it.
 *
 * Who is trusted: neither side. A wrong packet is -EPROTO: the guest then waits for a RESET,
 * the host gives the machine up.
 *
 * Limits: LINK_CONNS_MAX connections; LINK_CHUNK bytes a packet. Memory for queued output is
 * bounded by the credit of the protocol above; link_send() refuses beyond LINK_QUEUE_MAX a connection.
 *
 * Order: within a connection, sent order. Among connections: those marked as control first, then
 * the others in turn, one chunk each, so a busy stream delays another by one chunk at most.
 *
 * Threads: none; one owner.
 */
#ifndef WIRE_LINK_H
#define WIRE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/* Starts a RESET and a HELLO record; 16 bytes, of which the first is no packet's type. */
#define LINK_MAGIC	"\xf5vial-link\x01\xa7\x1c\xe3\x9b\r"
#define LINK_MAGIC_SIZE 16
#define LINK_HEADER	8
#define LINK_CHUNK	(32 * 1024 - LINK_HEADER) /* a guest's write to virtio-serial is cut at 32 KiB */
#define LINK_CONNS_MAX	1024
#define LINK_QUEUE_MAX	(20 * 1024 * 1024) /* an exec request of FRAME_MAX_EXEC fits */
#define LINK_KEY_SIZE	16
#define LINK_EPOCH_SIZE 16

enum link_role { LINK_HOST, LINK_GUEST };

struct link;

/**
 * struct link_ops - what the link tells its owner; called from link_feed() only
 * @opened:	guest: the host opened connection @conn (1..2^32-1)
 * @data:	bytes arrived on @conn, borrowed
 * @shut:	the peer will send no more on @conn
 * @aborted:	@conn is gone: forget it
 * @reset:	guest: a RESET arrived, all connections are gone, HELLO is queued; host: the guest's HELLO
 *		arrived
 *
 * Callbacks may call link_send(), link_shut(), link_abort() and link_open(); not link_feed() or link_free().
 */
struct link_ops {
	void (*opened)(void *owner, uint32_t conn);
	void (*data)(void *owner, uint32_t conn, const uint8_t *p, size_t n);
	void (*shut)(void *owner, uint32_t conn);
	void (*aborted)(void *owner, uint32_t conn);
	void (*reset)(void *owner);
};

/**
 * link_new() - a link that is not usable before its first RESET
 * @ops:	borrowed for the link's life; every member set (guest needs @opened)
 * Return: 0 or -ENOMEM.
 */
int link_new(enum link_role role, const struct link_ops *ops, void *owner, struct link **ret);
void link_free(struct link *l);
DEFINE_CLEANUP(struct link, link_free)

/**
 * link_reset() - host: queue the RESET that starts a new epoch; connections of the old one are dropped silently
 * @key:	the guest's current key
 * @next_key:	random; the guest's key from then on
 * @epoch:	random, never used before
 * A record that was begun must be written to its end before the next, and no snapshot be taken before its HELLO.
 * Return: 0 or -ENOMEM.
 */
int link_reset(struct link *l, const uint8_t key[LINK_KEY_SIZE], const uint8_t next_key[LINK_KEY_SIZE],
	       const uint8_t epoch[LINK_EPOCH_SIZE]);

/**
 * link_feed() - bytes received from the pipe, any cut
 * Return: 0, -EPROTO if the peer broke the protocol (guest: it waits for a RESET now), -ENOMEM.
 */
int link_feed(struct link *l, const void *p, size_t n);

/**
 * link_open() - host: open a connection; usable at once (data may be sent in the same breath)
 * @control:	its output goes before that of others
 * It need not wait for the HELLO: what is sent before follows the RESET in the pipe.
 * Return: 0 with the number in @ret, -ENOTCONN before the first link_reset(), -EMFILE, -ENOMEM.
 */
int link_open(struct link *l, bool control, uint32_t *ret);
/* link_set_control() - guest: output of @conn goes before that of others */
void link_set_control(struct link *l, uint32_t conn);

/* link_send() - queue bytes; 0, -EPIPE if @conn is gone or shut, -ENOBUFS past LINK_QUEUE_MAX, -ENOMEM */
int link_send(struct link *l, uint32_t conn, const void *p, size_t n);
/* link_queued() - bytes queued on @conn and not yet drained; what link_pending() gave counts until all of it is */
size_t link_queued(const struct link *l, uint32_t conn);
/* link_shut() - no more data from here, after what is queued; a connection shut both ways is gone */
void link_shut(struct link *l, uint32_t conn);
/* link_abort() - forget @conn at once and tell the peer; @aborted is not called for it */
void link_abort(struct link *l, uint32_t conn);

/**
 * link_pending() - bytes to write to the pipe, at most one chunk with header at a time
 * @ret:	borrowed until the next call on @l
 * Return: length, 0 if there is nothing.
 */
size_t link_pending(struct link *l, const uint8_t **ret);
/* link_drained() - the first @n bytes of link_pending() were written */
void link_drained(struct link *l, size_t n);

#endif
