/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel is one byte-stream connection that the host opened: a link connection over
 * virtio-serial (port.c) or a vsock connection (vsock.c). Sessions know only this.
 */
#ifndef AGENT_CHAN_H
#define AGENT_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chan;

/* struct chan_ops - what a transport implements; see the chan_ functions below */
struct chan_ops {
	int (*send)(struct chan *c, const void *p, size_t n);
	size_t (*queued)(const struct chan *c);
	void (*control)(struct chan *c);
	void (*shut)(struct chan *c);
	void (*close)(struct chan *c, bool abort);
};

/**
 * struct chan - one connection; lives until chan_close(), chan_abort() or the @gone event
 * @user:	the session's; set in the @opened event
 */
struct chan {
	const struct chan_ops *ops;
	void *user;
};

/**
 * struct chan_events - what a transport tells its owner
 * @opened:	a new connection; -errno refuses it
 * @data:	bytes arrived, borrowed; the callee may close or abort @c
 * @shut:	the host will send no more
 * @gone:	@c is dead and freed after this call; @reset: since the host began a new epoch
 * @drained:	some queued output has left
 */
struct chan_events {
	int (*opened)(void *owner, struct chan *c);
	void (*data)(void *owner, struct chan *c, const uint8_t *p, size_t n);
	void (*shut)(void *owner, struct chan *c);
	void (*gone)(void *owner, struct chan *c, bool reset);
	void (*drained)(void *owner);
};

/* chan_send() - queue bytes; 0, -EPIPE, -ENOBUFS or -ENOMEM */
static inline int chan_send(struct chan *c, const void *p, size_t n)
{
	return c->ops->send(c, p, n);
}

/* chan_queued() - bytes queued and not yet taken by the transport */
static inline size_t chan_queued(const struct chan *c)
{
	return c->ops->queued(c);
}

/* chan_control() - let this channel's output go before that of others */
static inline void chan_control(struct chan *c)
{
	c->ops->control(c);
}

/* chan_shut() - no more output after what is queued; @c stays */
static inline void chan_shut(struct chan *c)
{
	c->ops->shut(c);
}

/* chan_close() - chan_shut() and free @c; what is queued still leaves */
static inline void chan_close(struct chan *c)
{
	c->ops->close(c, false);
}

/* chan_abort() - drop what is queued, tell the host, free @c */
static inline void chan_abort(struct chan *c)
{
	c->ops->close(c, true);
}

#endif
