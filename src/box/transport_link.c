// SPDX-License-Identifier: Apache-2.0
/*
 * Connections over one byte pipe, the qemu engine's: wire/link.h does the work, this is its I/O. What one event
 * queues leaves in few writes.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "box/transport.h"
#include "wire/link.h"

struct tlink {
	struct transport t;
	struct link *link;
	int fd; /* the engine's */
	struct loop_src *src;
};

static struct tlink *as_tlink(struct transport *t)
{
	return container_of(t, struct tlink, t);
}

static void op_flush(struct transport *t)
{
	struct tlink *l = as_tlink(t);
	const uint8_t *p;
	size_t n;

	while (l->src && (n = link_pending(l->link, &p)) > 0) {
		ssize_t r = send(l->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			/* A dead machine is reported by its exit. */
			loop_src_set_events(l->src, EPOLLIN | (errno == EAGAIN ? EPOLLOUT : 0));
			return;
		}
		link_drained(l->link, (size_t)r);
	}
	if (l->src)
		loop_src_set_events(l->src, EPOLLIN);
}

static void on_pipe(struct loop_src *src, uint32_t events, void *data)
{
	static uint8_t chunk[KIB(64)]; /* one thread; contents do not outlive the call */
	struct tlink *l = data;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = recv(l->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n > 0 && link_feed(l->link, chunk, (size_t)n) < 0) {
			l->t.ev->broken(l->t.owner);
			return;
		}
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			loop_src_free(src);
			l->src = NULL;
		}
	}
	op_flush(&l->t);
}

static void on_opened(void *owner _unused_, uint32_t conn _unused_)
{
	/* Only hosts open connections; the link refuses others. */
}

static void on_data(void *owner, uint32_t conn, const uint8_t *p, size_t n)
{
	struct tlink *l = owner;

	l->t.ev->data(l->t.owner, conn, p, n);
}

static void on_shut(void *owner, uint32_t conn)
{
	struct tlink *l = owner;

	l->t.ev->shut(l->t.owner, conn);
}

static void on_aborted(void *owner, uint32_t conn)
{
	struct tlink *l = owner;

	l->t.ev->aborted(l->t.owner, conn);
}

static void on_reset(void *owner)
{
	struct tlink *l = owner;

	l->t.ev->ready(l->t.owner);
}

static const struct link_ops link_callbacks = { on_opened, on_data, on_shut, on_aborted, on_reset };

static int op_attach(struct transport *t, struct loop *loop, const struct engine_ops *ops, struct engine *e)
{
	struct tlink *l = as_tlink(t);

	l->fd = ops->agent_fd(e);
	return loop_add_fd(loop, l->fd, EPOLLIN, on_pipe, l, &l->src);
}

static void op_heard(struct transport *t _unused_)
{
	/* The link's HELLO tells. */
}

static int op_open(struct transport *t, bool control, uint32_t *ret)
{
	return link_open(as_tlink(t)->link, control, ret);
}

static int op_send(struct transport *t, uint32_t conn, const void *p, size_t n)
{
	return link_send(as_tlink(t)->link, conn, p, n);
}

static void op_shut(struct transport *t, uint32_t conn)
{
	link_shut(as_tlink(t)->link, conn);
}

static void op_abort(struct transport *t, uint32_t conn)
{
	link_abort(as_tlink(t)->link, conn);
}

static void op_free(struct transport *t)
{
	struct tlink *l = as_tlink(t);

	loop_src_free(l->src);
	link_free(l->link);
	free(l);
}

static const struct transport_ops link_transport = {
	.attach = op_attach,
	.heard = op_heard,
	.open = op_open,
	.send = op_send,
	.shut = op_shut,
	.abort = op_abort,
	.flush = op_flush,
	.free = op_free,
};

int transport_link_new(const struct launch *launch, const struct transport_events *ev, void *owner,
		       struct transport **ret)
{
	struct tlink *l = calloc(1, sizeof(*l));
	uint8_t epoch[LINK_EPOCH_SIZE];
	int r;

	if (!l)
		return -ENOMEM;
	*l = (struct tlink){ .t = { &link_transport, ev, owner }, .fd = -1 };
	r = link_new(LINK_HOST, &link_callbacks, l, &l->link);
	if (r == 0 && getrandom(epoch, sizeof(epoch), 0) != sizeof(epoch))
		r = -EIO;
	/*
	 * Where a snapshot is converted nobody runs who would read. QEMU would put it into the guest's buffers all the same, perhaps
	 * between saving the device and the end, and a guest made of the two would miss what it is sent first.
	 */
	if (launch->mode != LAUNCH_CONVERT)
		r = r ?: link_reset(l->link, launch->reset_key, launch->next_key, epoch);
	if (r < 0) {
		op_free(&l->t);
		return r;
	}
	*ret = &l->t;
	return 0;
}

void transport_free(struct transport *t)
{
	if (t)
		t->ops->free(t);
}
