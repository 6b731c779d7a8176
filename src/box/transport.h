/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport: the monitor's byte-stream connections to the guest's agent.
 *
 * Theory of operation
 *
 * Two kinds. transport_link: all connections over the one byte pipe that the engine has to the guest (qemu engine,
 * virtio-serial), by wire/link.h. transport_vsock: each connection is a vsock connection of the guest, handed to
 * the engine as a stream socket (kvm engine).
 * Life: new -> [connections may be opened and written to; nothing leaves yet] -> attached to a started engine
 * -> ready: what was queued leaves -> freed. A connection is named by a number that is not used again.
 * What is queued leaves with transport_flush(), which the owner calls after each event it has handled.
 * Who is trusted: neither the guest nor the engine's process.
 * Limits: LINK_CONNS_MAX connections, LINK_QUEUE_MAX bytes queued on each.
 */
#ifndef BOX_TRANSPORT_H
#define BOX_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "engine/engine.h"
#include "vial/error.h"
#include "wire/launch.h"

struct transport;

/**
 * struct transport_events - what a transport tells its owner; called from the loop or from transport_heard()
 * @ready:	the agent is there, or will be as soon as the machine runs
 * @data:	bytes arrived on @conn, borrowed
 * @shut:	the guest will send no more on @conn
 * @aborted:	@conn is gone: forget it
 * @broken:	the guest broke the protocol of the pipe: nothing can be said to it any more
 *
 * Callbacks may call all of transport_open(), _send(), _shut() and _abort(), but not transport_free().
 */
struct transport_events {
	void (*ready)(void *owner);
	void (*data)(void *owner, uint32_t conn, const uint8_t *p, size_t n);
	void (*shut)(void *owner, uint32_t conn);
	void (*aborted)(void *owner, uint32_t conn);
	void (*broken)(void *owner);
};

/* struct transport_ops - one kind of transport; see the functions below */
struct transport_ops {
	int (*attach)(struct transport *t, struct loop *loop, const struct engine_ops *ops, struct engine *e);
	void (*heard)(struct transport *t);
	int (*open)(struct transport *t, bool control, uint32_t *ret);
	int (*send)(struct transport *t, uint32_t conn, const void *p, size_t n);
	void (*shut)(struct transport *t, uint32_t conn);
	void (*abort)(struct transport *t, uint32_t conn);
	void (*flush)(struct transport *t);
	void (*free)(struct transport *t);
};

/* struct transport - embedded as the first member by each kind */
struct transport {
	const struct transport_ops *ops;
	const struct transport_events *ev;
	void *owner;
};

/**
 * transport_link_new() - connections over the engine's byte pipe
 * @l:		its reset keys are used
 * The RESET that begins the epoch is queued at once: the pipe takes it when the guest opens it.
 * Return: 0 or -errno.
 */
int transport_link_new(const struct launch *l, const struct transport_events *ev, void *owner,
		       struct transport **ret);
/**
 * transport_vsock_new() - a vsock connection each
 * @waiting:	the machine resumed has an agent that listens: connect at once; otherwise after transport_heard()
 * Return: 0 or -ENOMEM.
 */
int transport_vsock_new(bool waiting, const struct transport_events *ev, void *owner, struct transport **ret);

/* transport_free() - with all connections; NULL is fine */
void transport_free(struct transport *t);

/* transport_attach() - to an engine that has been started and outlives it; once; 0 or -errno */
static inline int transport_attach(struct transport *t, struct loop *loop, const struct engine_ops *ops,
				   struct engine *e)
{
	return t->ops->attach(t, loop, ops, e);
}

/* transport_heard() - the guest's agent has said that it listens (engine_events.agent_listens) */
static inline void transport_heard(struct transport *t)
{
	t->ops->heard(t);
}

/**
 * transport_open() - open a connection; usable at once
 * @control:	its output goes before that of others, where they share a pipe
 * Return: 0 with the number in @ret, -ENOTCONN (link: before @ready), -EMFILE, -ENOMEM, other -errno.
 */
static inline int transport_open(struct transport *t, bool control, uint32_t *ret)
{
	return t->ops->open(t, control, ret);
}

/* transport_send() - queue bytes; 0, -EPIPE if @conn is gone or shut, -ENOBUFS past LINK_QUEUE_MAX, -ENOMEM */
static inline int transport_send(struct transport *t, uint32_t conn, const void *p, size_t n)
{
	return t->ops->send(t, conn, p, n);
}

/* transport_shut() - no more data from here, after what is queued; a connection shut both ways is gone */
static inline void transport_shut(struct transport *t, uint32_t conn)
{
	t->ops->shut(t, conn);
}

/* transport_abort() - forget @conn at once and tell the guest; no event comes for it any more */
static inline void transport_abort(struct transport *t, uint32_t conn)
{
	t->ops->abort(t, conn);
}

/* transport_flush() - let leave what is queued, as far as it goes now; the rest follows by itself */
static inline void transport_flush(struct transport *t)
{
	t->ops->flush(t);
}

#endif
