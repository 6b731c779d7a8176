// SPDX-License-Identifier: Apache-2.0
/*
 * The vsock device behind virtio-mmio, with up to ENDS connections whose host ends write, read, stop and close as the input says.
 * After each operation the table of connections must be of one piece: lists, counts, bounds, descriptors.
 */
#include <errno.h>

#include "base/fd.h"
#include "vmm/virtio/vsock_conn.h"
#include "vmm_harness.h"
#include "vmm_pair.h"

#define ENDS 8

/* struct world - @asked: ids that the device waits for an answer to, @n_asked of them */
struct world {
	int ends[ENDS];
	uint32_t asked[VSOCK_ASKED_MAX + 1];
	uint32_t n_asked;
};

/* What waits for an answer stays bounded, whatever the guest opens and gives up. */
static void guest_connects(void *data, uint32_t id, uint32_t port)
{
	struct world *w = data;

	(void)port;
	FUZZ_CHECK(w->n_asked < VSOCK_ASKED_MAX);
	w->asked[w->n_asked++] = id;
}

static void make(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret)
{
	const struct vsock_host host = { h->data, guest_connects };

	FUZZ_CHECK(vsock_new(env, &host, ret) == 0);
}

static void gone(struct harness *h)
{
	struct world *w = h->data;

	w->n_asked = 0;
}

/* A new pair in slot @i; the device's end */
static int new_end(struct world *w, uint32_t i)
{
	int fds[2];

	fd_close(&w->ends[i]);
	pair_new(SOCK_STREAM, fds);
	w->ends[i] = fds[0];
	return fds[1];
}

static void answer(struct harness *h, bool yes, uint32_t end)
{
	struct world *w = h->data;

	if (w->n_asked == 0) {
		FUZZ_CHECK(vsock_refuse(h->dev, 12345) == -ENOENT);
		return;
	}
	uint32_t id = w->asked[--w->n_asked];
	int r = yes ? vsock_accept(h->dev, id, new_end(w, end)) : vsock_refuse(h->dev, id);
	FUZZ_CHECK(r == 0 || r == -ENOENT);
	FUZZ_CHECK(vsock_refuse(h->dev, id) == -ENOENT);
}

/* Eight seconds later */
static void expire(struct vsock *vs)
{
	struct vconn *c;

	for (c = TAILQ_FIRST(&vs->closing); c; c = TAILQ_NEXT(c, in_closing))
		c->deadline_ns = 1;
	vconn_expire(vs);
	vsock_serve(vs);
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	struct world *w = h->data;
	uint32_t i = arg % ENDS;

	switch (what % 10) {
	case 0:
		(void)vsock_connect(h->dev, arg / ENDS, new_end(w, i));
		break;
	case 1:
		pair_write(w->ends[i], arg);
		break;
	case 2:
		pair_read(w->ends[i], SIZE_MAX);
		break;
	case 3:
		pair_read(w->ends[i], 1);
		break;
	case 4:
		(void)shutdown(w->ends[i], SHUT_WR);
		break;
	case 5:
		(void)shutdown(w->ends[i], SHUT_RD);
		break;
	case 6:
		fd_close(&w->ends[i]);
		break;
	case 7:
		answer(h, true, i);
		break;
	case 8:
		answer(h, false, i);
		break;
	default:
		expire(vsock_of(h->dev));
		break;
	}
}

static bool may_be_ready(const struct vconn *c)
{
	return c->state != VCONN_FREE && c->state != VCONN_ASKED && c->state != VCONN_GONE &&
	       c->state != VCONN_DRAINING;
}

static bool has_socket(const struct vconn *c)
{
	return c->state == VCONN_PENDING || c->state == VCONN_REQUESTED || c->state == VCONN_OPEN ||
	       c->state == VCONN_DRAINING;
}

static void check_conn(struct vsock *vs, const struct vconn *c)
{
	bool named = c->state == VCONN_REQUESTED || c->state == VCONN_ASKED || c->state == VCONN_OPEN ||
		     c->state == VCONN_CLOSING;

	FUZZ_CHECK(c->ring_len <= VSOCK_BUF && c->ring_at < VSOCK_BUF);
	FUZZ_CHECK(c->ring_len == 0 || c->state == VCONN_OPEN || c->state == VCONN_DRAINING);
	FUZZ_CHECK(!c->ready || may_be_ready(c));
	FUZZ_CHECK(!c->todo || c->ready || c->state == VCONN_FREE);
	FUZZ_CHECK((c->fd >= 0) == has_socket(c));
	FUZZ_CHECK(!c->src || c->fd >= 0);
	FUZZ_CHECK(!named || vconn_find(vs, c->guest_port, c->host_port) == c);
	FUZZ_CHECK(c->forwarded - c->told <= VSOCK_BUF || c->state != VCONN_OPEN || c->ready);
}

static void check(struct harness *h)
{
	struct vsock *vs = vsock_of(h->dev);
	uint32_t asked = 0, by_guest = 0, ready = 0, closing = 0, in_ready = 0, in_closing = 0;
	struct vconn *c;

	for (uint32_t i = 0; i < VSOCK_CONNS_MAX; i++) {
		c = &vs->conns[i];
		check_conn(vs, c);
		asked += c->state == VCONN_ASKED || c->state == VCONN_GONE;
		by_guest += c->by_guest;
		ready += c->ready;
		closing += c->state == VCONN_CLOSING;
	}
	for (c = TAILQ_FIRST(&vs->ready); c; c = TAILQ_NEXT(c, in_ready))
		FUZZ_CHECK(c->ready && ++in_ready <= VSOCK_CONNS_MAX);
	for (c = TAILQ_FIRST(&vs->closing); c; c = TAILQ_NEXT(c, in_closing))
		FUZZ_CHECK(c->state == VCONN_CLOSING && ++in_closing <= VSOCK_CONNS_MAX);
	FUZZ_CHECK(ready == in_ready && closing == in_closing);
	FUZZ_CHECK(asked == vs->n_asked && asked <= VSOCK_ASKED_MAX);
	FUZZ_CHECK(asked == ((struct world *)h->data)->n_asked);
	FUZZ_CHECK(by_guest == vs->n_guest && by_guest <= VSOCK_GUEST_MAX);
	FUZZ_CHECK(vs->n_rsts <= VSOCK_RSTS_MAX && vs->rst_at < VSOCK_RSTS_MAX);
	for (uint32_t q = 0; q < VSOCK_QUEUES; q++)
		FUZZ_CHECK(h->dev->vq[q].in_flight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .n_asked = 0 };
	const struct harness_device device = { &w, make, gone, host, check };

	for (int i = 0; i < ENDS; i++)
		w.ends[i] = -1;
	harness_run(&device, data, size);
	for (int i = 0; i < ENDS; i++)
		fd_close(&w.ends[i]);
	return 0;
}
