/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the vsock device, inside.
 *
 * Theory of operation
 *
 * Trust: the guest by nobody; it can break its own connections only. The other ends of our sockets belong to the
 * monitor and to clients: they may be slow, closed, or never read, and that may not touch other connections.
 *
 * States
 *	FREE	  not in use
 *	PENDING	  vsock_connect(): REQUEST not sent yet (no driver, no buffer, guest not reset); has no ports
 *	REQUESTED REQUEST is sent, RESPONSE awaited
 *	ASKED	  the guest sent REQUEST, our host is asked
 *	GONE	  as ASKED, but the guest gave up; waits for the answer so that the host's numbers stay bounded
 *	OPEN	  data flows
 *	CLOSING	  the host's end is closed and SHUTDOWN of both directions sent (or about to be); waits for RST
 *	RESETTING RST is about to be sent, then it is free
 *	DRAINING  the guest is done; what it sent is still being written to the socket
 *
 * From the guest: payload goes from its buffers straight into the socket. What the socket does not take is kept in the
 * connection's ring; fwd_cnt counts what reached the socket, so a guest that keeps to its credit always fits into
 * the ring and one that does not is reset. Memory: VSOCK_BUF a connection, address space reserved at start, pages
 * used only by connections whose reader is slow, given back when they end.
 * To the guest: the socket is read straight into buffers of the receive queue, never more than the guest's credit;
 * without credit or buffers the socket is not read. Nothing is queued: control packets are bits in @todo, except resets
 * for connections that do not exist, of which VSOCK_RSTS_MAX wait and more are dropped.
 * Fairness: connections that have something for the guest stand in one list and get one turn each, of at most
 * VSOCK_RX_BATCH buffers; after VSOCK_BURST turns or packets the loop gets its turn.
 *
 * Ends: SHUTDOWN flags and shutdown(2) are translated both ways, in order with the data. Both directions shut by the
 * guest: RST once all is written. Both shut by the host (it closed its end): SHUTDOWN, then RST from the guest or,
 * after VSOCK_CLOSE_NS, from us. RST of the guest after its SHUTDOWN loses nothing of what it sent before.
 *
 * Restore: all connections of the saved guest are void. It is told by TRANSPORT_RESET; until it has put that event's
 * buffer back - it has then dropped its connections - no new one is requested, or the event would end it, too.
 *
 * Threads: the I/O thread only; configuration is constant.
 */
#ifndef VMM_VIRTIO_VSOCK_CONN_H
#define VMM_VIRTIO_VSOCK_CONN_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vmm/virtio/vsock.h"

#define VSOCK_CONNS_MAX 1024	 /* a power of two; ids keep the slot in their low bits */
#define VSOCK_ASKED_MAX 32	 /* of these, waiting for the host's answer */
#define VSOCK_GUEST_MAX 256	 /* of these, opened by the guest */
#define VSOCK_RSTS_MAX	64	 /* resets for unknown connections */
#define VSOCK_BUF	KIB(128) /* buf_alloc: credit of the guest on each connection; a power of two */
#define VSOCK_PKT_MAX	KIB(64)	 /* payload of one packet to the guest */
#define VSOCK_RX_BATCH	32	 /* buffers filled by one read */
#define VSOCK_BURST	64
#define VSOCK_HASH	256
#define VSOCK_CLOSE_NS	(8 * NS_PER_S)

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

enum vconn_state {
	VCONN_FREE,
	VCONN_PENDING,
	VCONN_REQUESTED,
	VCONN_ASKED,
	VCONN_GONE,
	VCONN_OPEN,
	VCONN_CLOSING,
	VCONN_RESETTING,
	VCONN_DRAINING,
};

/* packets that a connection has to send; served from the lowest bit on */
enum vconn_todo {
	TODO_RST = 1 << 0,
	TODO_REQUEST = 1 << 1,
	TODO_RESPONSE = 1 << 2,
	TODO_SHUTDOWN = 1 << 3,
	TODO_CREDIT_UPDATE = 1 << 4,
	TODO_CREDIT_REQUEST = 1 << 5,
};

#define SHUT_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

struct vsock;

/**
 * struct vconn - one connection
 * @serial:	changes with each use of the slot; part of its id
 * @by_guest:	opened by the guest
 * @todo:	enum vconn_todo
 * @host_shut, @guest_shut: VIRTIO_VSOCK_SHUTDOWN_* bits of what each side does no more
 * @socket_shut: of @guest_shut, what shutdown(2) was done for
 * @hup:	the socket hung up and is not watched any more
 * @starved:	there was something to read, but no credit
 * @batch:	buffers for the next read: grows while reads fill them all
 * @guest_alloc, @guest_fwd: the guest's credit words as it last sent them
 * @sent:	payload bytes sent to the guest, modulo 2^32
 * @forwarded:	payload bytes of the guest that reached the socket; @told: as the guest last heard
 * @ring_at, @ring_len: what waits in the ring; @ring_used: it ever had something
 * @deadline_ns: CLOSING: when to give up
 */
struct vconn {
	struct vsock *vs;
	enum vconn_state state;
	uint32_t serial;
	uint32_t guest_port, host_port;
	int fd;
	struct loop_src *src;
	bool by_guest, hashed, ready, hup, starved, ring_used;
	uint8_t todo, host_shut, guest_shut, socket_shut, batch;
	uint32_t guest_alloc, guest_fwd, sent;
	uint32_t forwarded, told;
	uint32_t ring_at, ring_len;
	uint64_t deadline_ns;
	LIST_ENTRY(vconn) in_hash; /* or in the list of free slots */
	TAILQ_ENTRY(vconn) in_ready;
	TAILQ_ENTRY(vconn) in_closing;
};

/* struct vsock_rst - a reset for a connection we do not have; host byte order */
struct vsock_rst {
	uint64_t host_cid;
	uint32_t guest_port, host_port;
	uint16_t type;
};

/**
 * struct vsock - the device
 * @rings:	VSOCK_CONNS_MAX * VSOCK_BUF of address space
 * @ready:	connections with something to send, or to read, for the guest
 * @closing:	those in CLOSING, oldest first
 * @n_asked, @n_guest: how many are ASKED or GONE, and opened by the guest
 * @next_port:	where the search for a host port of ours goes on
 * @reset_wanted: TRANSPORT_RESET is to be sent
 * @reset_buffers: buffers in the event queue before it was sent; 0: the guest has handled it, or none was
 * @again:	timer that goes on after a burst; @closer: timer of CLOSING
 * @chains, @payload: scratch of one call
 */
struct vsock {
	struct virtio_dev dev;
	struct vsock_host host;
	uint8_t *rings;
	LIST_HEAD(vconn_slots, vconn) free;
	LIST_HEAD(vconn_bucket, vconn) hash[VSOCK_HASH];
	TAILQ_HEAD(vconn_line, vconn) ready;
	TAILQ_HEAD(vconn_leaving, vconn) closing;
	uint32_t n_asked, n_guest;
	uint32_t next_port;
	bool reset_wanted;
	uint32_t reset_buffers;
	struct loop_src *again, *closer;
	struct vsock_rst rsts[VSOCK_RSTS_MAX];
	uint32_t rst_at, n_rsts;
	uint64_t to_guest, from_guest;
	struct iovec chains[2 * VQ_CHAIN_MAX];
	struct iovec payload[VQ_CHAIN_MAX];
	struct vconn conns[VSOCK_CONNS_MAX];
};

static inline struct vsock *vsock_of(const struct virtio_dev *dev)
{
	return container_of(dev, struct vsock, dev);
}

/* vconn_new() - a slot in state @state, without descriptor; NULL if the table is full */
struct vconn *vconn_new(struct vsock *vs, enum vconn_state state);
/* vconn_free() - close its socket, forget all of it; the slot is FREE */
void vconn_free(struct vconn *c);
/* vconn_set_state() - and what counts states */
void vconn_set_state(struct vconn *c, enum vconn_state state);
/* vconn_join() - give it its socket (owned from now on, whatever happens); 0 or -errno */
int vconn_join(struct vconn *c, int fd);
/* vconn_id() - number for the host; vconn_by_id() - its connection, or NULL */
uint32_t vconn_id(const struct vconn *c);
struct vconn *vconn_by_id(struct vsock *vs, uint32_t id);

/* vconn_find() - the guest's connection between these ports, or NULL */
struct vconn *vconn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port);
/* vconn_name() - it has ports now and can be found */
void vconn_name(struct vconn *c, uint32_t guest_port, uint32_t host_port);
/* vconn_pick_port() - a host port that makes a new pair with @guest_port */
uint32_t vconn_pick_port(struct vsock *vs, uint32_t guest_port);

/* vconn_want() - add enum vconn_todo bits and get in line */
void vconn_want(struct vconn *c, uint8_t todo);
/* vconn_ready() - get in line for a turn in vsock_serve() */
void vconn_ready(struct vconn *c);
void vconn_unready(struct vconn *c);
/* vconn_credit() - bytes that the guest takes at the moment */
uint32_t vconn_credit(const struct vconn *c);
/* vconn_readable() - may its socket be read for the guest? */
bool vconn_readable(const struct vconn *c);
/* vconn_watch() - make the loop look for what can be used */
void vconn_watch(struct vconn *c);

/**
 * vconn_write() - payload of the guest to the socket, the rest into the ring
 * @iov:	@n entries with @len bytes in all; guest memory
 * Return: 0, or -ENOBUFS if the guest sent more than its credit (nothing was taken then).
 */
int vconn_write(struct vconn *c, const struct iovec *iov, size_t n, uint32_t len);
/* vconn_host_shut() - the host's side sends (SEND) or takes (RCV) no more */
void vconn_host_shut(struct vconn *c, uint8_t bits);
/* vconn_settle() - draw the consequences of what was shut, written or closed; may end in any state */
void vconn_settle(struct vconn *c);
/* vconn_reset() - close the socket, drop what waits, send RST, be free */
void vconn_reset(struct vconn *c);
/* vconn_guest_left() - the guest dropped it (RST): free, or DRAINING if it had shut its side before */
void vconn_guest_left(struct vconn *c);
/* vconn_expire() - CLOSING for too long: reset; sets the timer for the next */
void vconn_expire(struct vsock *vs);

/* vsock_serve() - give turns: send what is to be sent to the guest, as far as it has buffers */
void vsock_serve(struct vsock *vs);
/* vsock_rst() - answer a packet of no connection of ours; dropped if too many wait */
void vsock_rst(struct vsock *vs, const struct virtio_vsock_hdr *hdr);

#endif
