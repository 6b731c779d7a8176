// SPDX-License-Identifier: Apache-2.0
/*
 * Two links back to back, driven by a list of operations: {operation, argument, argument} each. While
 * nobody broke the rules, every byte must arrive once, in order, on its own connection, and in the
 * end all of them. Raw bytes from a hostile peer may do anything but crash the other end.
 */
#include <string.h>

#include "fuzz.h"
#include "base/attr.h"
#include "wire/link.h"

#define CONNS	  48	/* connections an epoch */
#define SEND_UNIT 256	/* bytes for each step of the argument: 255 of them are less than PERIOD */
#define PERIOD	  65521 /* of the bytes that are sent */

enum op {
	OP_OPEN,
	OP_SEND,
	OP_SHUT,
	OP_ABORT,
	OP_MOVE,
	OP_CONTROL,
	OP_RESET,
	OP_RAW,
	OP_PACKET,
	OP_SEND_MANY,
	OP_COUNT,
};

/* One direction of a connection, told from its sender's end; @closed: this end has aborted it or was told */
struct flow {
	size_t sent, got;
	bool shut, got_shut, closed;
};

/* One end; @flows are those it sends */
struct end {
	struct link *link;
	struct end *peer;
	struct flow flows[CONNS];
	bool opened[CONNS];
};

struct world {
	struct end host, guest;
	uint32_t last;
	uint8_t key; /* the guest's current key, all its bytes */
	bool clean;  /* nobody broke the rules in this epoch */
};

static struct world *world;

/* @n bytes, at most PERIOD, that @conn carries from its byte @at on */
static const uint8_t *pattern(uint32_t conn, size_t at)
{
	static uint8_t bytes[2 * PERIOD];
	static bool made;

	for (size_t i = 0; !made && i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i % PERIOD * 2654435761u >> 13);
	made = true;
	return bytes + (conn * 997 + at) % PERIOD;
}

static void on_opened(void *owner, uint32_t conn)
{
	struct end *e = owner;

	FUZZ_CHECK(e == &world->guest && conn != 0);
	if (conn < CONNS && world->clean)
		FUZZ_CHECK(!e->opened[conn]);
	if (conn < CONNS)
		e->opened[conn] = true;
}

static void on_data(void *owner, uint32_t conn, const uint8_t *p, size_t n)
{
	struct end *e = owner;

	FUZZ_CHECK(conn != 0 && n > 0 && n <= LINK_CHUNK);
	/* Every byte is there to be read (ASan), expected or not. */
	bool same = memcmp(p, pattern(conn, conn < CONNS ? e->peer->flows[conn].got : 0), n) == 0;
	if (!world->clean)
		return;
	FUZZ_CHECK(conn < CONNS);
	struct flow *f = &e->peer->flows[conn];
	FUZZ_CHECK(!f->got_shut && !e->flows[conn].closed);
	FUZZ_CHECK(same);
	f->got += n;
	FUZZ_CHECK(f->got <= f->sent);
}

static void on_shut(void *owner, uint32_t conn)
{
	struct end *e = owner;

	if (!world->clean)
		return;
	FUZZ_CHECK(conn < CONNS);
	struct flow *f = &e->peer->flows[conn];
	FUZZ_CHECK(f->shut && !f->got_shut && f->got == f->sent && !e->flows[conn].closed);
	f->got_shut = true;
}

static void on_aborted(void *owner, uint32_t conn)
{
	struct end *e = owner;

	if (!world->clean)
		return;
	FUZZ_CHECK(conn < CONNS && !e->flows[conn].closed);
	FUZZ_CHECK(e->peer->flows[conn].closed);
	e->flows[conn].closed = true;
}

static void on_reset(void *owner)
{
	(void)owner;
}

static const struct link_ops ops = { on_opened, on_data, on_shut, on_aborted, on_reset };

/* Feeds a copy of exactly these bytes. */
static int feed(struct end *to, const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	FUZZ_CHECK(copy);
	if (n)
		memcpy(copy, p, n);
	int r = link_feed(to->link, copy, n);
	free(copy);
	return r;
}

/* Writes at most @step bytes of @from's output; false if there is none. */
static bool move(struct end *from, size_t step)
{
	const uint8_t *p;
	size_t n = link_pending(from->link, &p);

	FUZZ_CHECK(n <= LINK_HEADER + LINK_CHUNK);
	if (n == 0)
		return false;
	n = MIN(n, step);
	int r = feed(from->peer, p, n);
	if (world->clean)
		FUZZ_CHECK(r == 0);
	link_drained(from->link, n);
	return true;
}

static void settle(struct world *w)
{
	bool busy = true;

	while (busy) {
		busy = move(&w->host, SIZE_MAX);
		busy |= move(&w->guest, SIZE_MAX);
	}
}

static void do_send(struct end *e, uint32_t conn, size_t n)
{
	struct flow *f = &e->flows[conn];
	size_t before = link_queued(e->link, conn);
	int r = link_send(e->link, conn, pattern(conn, f->sent), n);

	if (r < 0)
		return;
	FUZZ_CHECK(link_queued(e->link, conn) == before + n);
	if (world->clean)
		FUZZ_CHECK(!f->shut && !f->closed);
	f->sent += n;
}

/* A new epoch. The host may be a new one, after a restore; the record goes out whole or byte by byte. */
static void do_reset(struct world *w, uint8_t how)
{
	uint8_t key[16], next[16], epoch[16];

	memset(key, w->key, 16);
	memset(next, ++w->key, 16);
	memset(epoch, w->key ^ 0x55, 16);
	if (how & 1) {
		link_free(w->host.link);
		FUZZ_CHECK(link_new(LINK_HOST, &ops, &w->host, &w->host.link) == 0);
	}
	FUZZ_CHECK(link_reset(w->host.link, key, next, epoch) == 0);
	w->clean = !(how & 2);
	while (move(&w->host, how & 2 ? (size_t)1 + how / 4 : SIZE_MAX))
		;
	w->clean = true;
	w->last = 0;
	memset(w->host.flows, 0, sizeof(w->host.flows));
	memset(w->guest.flows, 0, sizeof(w->guest.flows));
	memset(w->guest.opened, 0, sizeof(w->guest.opened));
}

/* A header with any values, and some bytes after it */
static void do_packet(struct end *to, const uint8_t *arg)
{
	uint8_t bytes[LINK_HEADER + 64] = { arg[0] & 7, arg[0] >> 7, arg[1] & 0x80,	arg[1] & 0x3f, 0,
					    0,		0,	     (arg[0] >> 3) & 15 };

	feed(to, bytes, LINK_HEADER + (bytes[3] & 63));
}

/* Whether @conn was opened in this epoch, as far as @e can know */
static bool knows(const struct world *w, const struct end *e, uint32_t conn)
{
	return e == &w->host ? conn <= w->last : w->guest.opened[conn];
}

static void do_op(struct world *w, const uint8_t *op)
{
	struct end *e = op[0] & 0x80 ? &w->guest : &w->host;
	uint32_t conn = 1 + op[1] % (CONNS - 1);
	static const uint8_t raw[] = LINK_MAGIC "\2\0\0\1\0\0\0\1x\3\0\0\0\0\0\0\1\4\0\0\0\0\0\0\1";

	switch ((op[0] & 0x7f) % OP_COUNT) {
	case OP_OPEN:
		if (w->last < CONNS - 1 && link_open(w->host.link, op[1] & 1, &conn) == 0)
			w->last = conn;
		break;
	case OP_SEND:
		do_send(e, conn, op[2]);
		break;
	case OP_SEND_MANY:
		do_send(e, conn, (size_t)op[2] * SEND_UNIT);
		break;
	case OP_SHUT:
		link_shut(e->link, conn);
		if (knows(w, e, conn))
			e->flows[conn].shut = true;
		break;
	case OP_ABORT:
		link_abort(e->link, conn);
		FUZZ_CHECK(link_queued(e->link, conn) == 0);
		FUZZ_CHECK(link_send(e->link, conn, "x", 1) < 0);
		if (knows(w, e, conn))
			e->flows[conn].closed = true;
		break;
	case OP_MOVE:
		move(e, op[1] ? (size_t)op[1] * (1 + op[2]) : SIZE_MAX);
		break;
	case OP_CONTROL:
		link_set_control(e->link, conn);
		break;
	case OP_RESET:
		do_reset(w, op[1]);
		break;
	case OP_RAW:
		w->clean = false;
		feed(e, raw + op[1] % sizeof(raw), op[2] % (sizeof(raw) - op[1] % sizeof(raw)));
		break;
	case OP_PACKET:
		w->clean = false;
		do_packet(e, op + 1);
		break;
	}
}

/* Everything that was sent has come, on connections nobody aborted. */
static void check_end(struct world *w)
{
	settle(w);
	if (!w->clean)
		return;
	for (uint32_t c = 1; c <= w->last; c++) {
		struct flow *h = &w->host.flows[c], *g = &w->guest.flows[c];

		FUZZ_CHECK(link_queued(w->host.link, c) == 0 && link_queued(w->guest.link, c) == 0);
		if (h->closed || g->closed)
			continue;
		FUZZ_CHECK(w->guest.opened[c]);
		FUZZ_CHECK(h->got == h->sent && g->got == g->sent);
		FUZZ_CHECK(h->shut == h->got_shut);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { 0 };

	world = &w;
	w.host.peer = &w.guest;
	w.guest.peer = &w.host;
	FUZZ_CHECK(link_new(LINK_HOST, &ops, &w.host, &w.host.link) == 0);
	FUZZ_CHECK(link_new(LINK_GUEST, &ops, &w.guest, &w.guest.link) == 0);
	for (size_t at = 0; at + 3 <= size && at < 3 * 400; at += 3)
		do_op(&w, data + at);
	check_end(&w);
	link_free(w.host.link);
	link_free(w.guest.link);
	return 0;
}
