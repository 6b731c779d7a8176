// SPDX-License-Identifier: Apache-2.0
/*
 * The link layer's receiving half and its interface; link.h tells how the whole works.
 *
 * States of the receiver
 *
 *	WAIT	everything is dropped until a marker: LINK_MAGIC and the epoch (host), LINK_MAGIC and the
 *		current key (guest). Start; after a broken packet; host: after link_reset().
 *	RECORD	guest: the marker was seen, the rest of the RESET record is collected.
 *	PACKETS	packets are taken.
 *
 * A guest looks for its marker in WAIT and PACKETS, before bytes are parsed as anything else; a
 * host only in WAIT. A packet is handed out when all of it is there, so one that a RESET interrupts
 * is never seen. Whole packets are handed out from the caller's buffer; only one that is cut between two
 * feeds is copied.
 *
 * A marker that is cut between feeds can reach the parser with its first part. At a packet boundary
 * its first byte, LINK_MARK, announces it and the parser lets MARKER_SIZE bytes pass. In mid-packet its first part
 * counts as payload: at worst that completes the packet, then the rest is a broken packet, and then
 * comes the reset that drops the connections anyway.
 */
#include "wire/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/link_out.h"
#include "wire/marker.h"

#define RECORD_REST (LINK_KEY_SIZE + LINK_EPOCH_SIZE) /* of a RESET, after its marker */
#define RESET_SIZE  (MARKER_SIZE + RECORD_REST)
#define HELLO_SIZE  MARKER_SIZE

_Static_assert(sizeof(LINK_MAGIC) - 1 == LINK_MAGIC_SIZE, "16 bytes");
_Static_assert(LINK_MAGIC_SIZE + LINK_KEY_SIZE == MARKER_SIZE &&
		       LINK_MAGIC_SIZE + LINK_EPOCH_SIZE == MARKER_SIZE,
	       "marker is magic and key, or magic and epoch");

enum state { WAIT, RECORD, PACKETS };

/**
 * struct link
 * @broken:	host: the guest broke the protocol; every feed fails until link_reset()
 * @packet, @have: the packet or record being collected, and how much of it is there
 * @next_number: host: of the next connection
 */
struct link {
	enum link_role role;
	const struct link_ops *ops;
	void *owner;
	enum state state;
	bool broken;
	struct marker marker;
	uint32_t next_number;
	size_t have;
	uint8_t packet[LINK_HEADER + LINK_CHUNK];
	struct link_out out;
};

static const uint8_t *magic(void)
{
	return (const uint8_t *)LINK_MAGIC;
}

int link_new(enum link_role role, const struct link_ops *ops, void *owner, struct link **ret)
{
	static const uint8_t first_key[LINK_KEY_SIZE];
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->role = role;
	l->ops = ops;
	l->owner = owner;
	l->state = WAIT;
	l->broken = role == LINK_HOST; /* until the first link_reset() nothing may arrive */
	marker_set(&l->marker, magic(), first_key);
	*ret = l;
	return 0;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	link_out_clear(&l->out);
	free(l);
}

int link_reset(struct link *l, const uint8_t key[LINK_KEY_SIZE], const uint8_t next_key[LINK_KEY_SIZE],
	       const uint8_t epoch[LINK_EPOCH_SIZE])
{
	uint8_t record[RESET_SIZE];

	memcpy(record, magic(), LINK_MAGIC_SIZE);
	memcpy(record + LINK_MAGIC_SIZE, key, LINK_KEY_SIZE);
	memcpy(record + MARKER_SIZE, next_key, LINK_KEY_SIZE);
	memcpy(record + MARKER_SIZE + LINK_KEY_SIZE, epoch, LINK_EPOCH_SIZE);
	link_out_clear(&l->out);
	link_out_record(&l->out, record, sizeof(record));
	marker_set(&l->marker, magic(), epoch);
	l->state = WAIT;
	l->broken = false;
	l->have = 0;
	l->next_number = 1;
	return 0;
}

/* ---- packets ---- */

struct packet {
	uint8_t type;
	size_t len;
	uint32_t number;
};

/* 0, or -EPROTO if no packet may look so */
static int parse_header(const uint8_t *h, struct packet *ret)
{
	struct packet k = {
		.type = h[0],
		.len = (size_t)h[2] << 8 | h[3],
		.number = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7],
	};

	if (k.type < LINK_OPEN || k.type > LINK_ABORT || h[1] != 0 || k.number == 0)
		return -EPROTO;
	if (k.type == LINK_DATA ? k.len == 0 || k.len > LINK_CHUNK : k.len != 0)
		return -EPROTO;
	*ret = k;
	return 0;
}

static int take_open(struct link *l, uint32_t number)
{
	struct link_conn *c;

	if (l->role == LINK_HOST || link_conn_find(&l->out, number))
		return -EPROTO;
	int r = link_conn_add(&l->out, number, &c);
	if (r < 0)
		return r == -EMFILE ? -EPROTO : r;
	l->ops->opened(l->owner, number);
	return 0;
}

static int take_shut(struct link *l, struct link_conn *c)
{
	uint32_t number = c->number;

	if (c->got_shut)
		return -EPROTO;
	c->got_shut = true;
	if (c->sent_shut)
		link_conn_remove(&l->out, c);
	l->ops->shut(l->owner, number);
	return 0;
}

/* A whole packet. Callbacks may remove the connection, so they come last. */
static int take_packet(struct link *l, const struct packet *k, const uint8_t *payload)
{
	if (k->type == LINK_OPEN)
		return take_open(l, k->number);
	if (l->role == LINK_HOST && k->number >= l->next_number)
		return -EPROTO;
	struct link_conn *c = link_conn_find(&l->out, k->number);
	if (!c)
		return 0; /* crossed with an abort or the last shut of ours */
	if (c->want_abort) {
		if (k->type == LINK_ABORT)
			link_conn_remove(&l->out, c);
		return 0;
	}
	if (k->type == LINK_SHUT)
		return take_shut(l, c);
	if (k->type == LINK_ABORT) {
		link_conn_remove(&l->out, c);
		l->ops->aborted(l->owner, k->number);
		return 0;
	}
	if (c->got_shut)
		return -EPROTO;
	l->ops->data(l->owner, k->number, payload, k->len);
	return 0;
}

/* Bytes that the packet or record being collected needs in all, as far as can be told yet; -EPROTO */
static int packet_need(const uint8_t *p, size_t n, struct packet *k, size_t *ret)
{
	*ret = LINK_HEADER;
	if (n > 0 && p[0] == LINK_MARK) {
		*ret = MARKER_SIZE;
		return 0;
	}
	if (n < LINK_HEADER)
		return 0;
	int r = parse_header(p, k);
	if (r < 0)
		return r;
	*ret = LINK_HEADER + k->len;
	return 0;
}

/* A whole packet at @p; a record here is not our marker, else it had been found before. */
static int take_whole(struct link *l, const uint8_t *p, const struct packet *k)
{
	if (p[0] == LINK_MARK)
		return -EPROTO;
	return take_packet(l, k, p + LINK_HEADER);
}

/* Adds bytes to the packet that is being collected; takes it when whole. Returns bytes used or an error. */
static ssize_t collect(struct link *l, const uint8_t *p, size_t n)
{
	size_t used = 0;

	for (;;) {
		struct packet k;
		size_t need;
		int r = packet_need(l->packet, l->have, &k, &need);

		if (r < 0)
			return r;
		if (l->have >= need) {
			l->have = 0;
			r = take_whole(l, l->packet, &k);
			return r < 0 ? r : (ssize_t)used;
		}
		size_t take = MIN(need - l->have, n - used);
		if (take == 0)
			return (ssize_t)used;
		memcpy(l->packet + l->have, p + used, take);
		l->have += take;
		used += take;
	}
}

/* Takes packets that are whole in @p, uncopied, and collects what is left. */
static int take_packets(struct link *l, const uint8_t *p, size_t n)
{
	while (n > 0) {
		struct packet k;
		size_t need;
		ssize_t used;

		int r = l->have ? 0 : packet_need(p, n, &k, &need);
		if (r < 0)
			return r;
		if (l->have || n < LINK_HEADER || n < need) {
			used = collect(l, p, n);
		} else {
			r = take_whole(l, p, &k);
			used = r < 0 ? r : (ssize_t)need;
		}
		if (used < 0)
			return (int)used;
		p += used;
		n -= (size_t)used;
	}
	return 0;
}

/* ---- markers ---- */

/* The whole RESET record is there: @rest is next key and epoch. */
static void take_reset(struct link *l, const uint8_t rest[RECORD_REST])
{
	uint8_t hello[HELLO_SIZE];

	memcpy(hello, magic(), LINK_MAGIC_SIZE);
	memcpy(hello + LINK_MAGIC_SIZE, rest + LINK_KEY_SIZE, LINK_EPOCH_SIZE);
	link_out_clear(&l->out);
	link_out_record(&l->out, hello, sizeof(hello));
	marker_set(&l->marker, magic(), rest);
	l->have = 0;
	l->state = PACKETS;
	l->ops->reset(l->owner);
}

static void take_record(struct link *l, const uint8_t *p, size_t n)
{
	memcpy(l->packet + l->have, p, n);
	l->have += n;
	if (l->have == RECORD_REST)
		take_reset(l, l->packet);
}

static void found_marker(struct link *l)
{
	l->have = 0;
	if (l->role == LINK_GUEST) {
		l->state = RECORD;
		return;
	}
	l->state = PACKETS;
	l->ops->reset(l->owner);
}

/* Bytes without a marker in them */
static int take_bytes(struct link *l, const uint8_t *p, size_t n)
{
	if (l->state == WAIT || n == 0)
		return 0;
	if (l->state == RECORD) {
		take_record(l, p, n);
		return 0;
	}
	int r = take_packets(l, p, n);
	if (r < 0) {
		l->state = WAIT;
		l->have = 0;
		l->broken = true;
	}
	return r;
}

/* Bytes that may be handled in one go: the key changes where a RESET record ends. */
static size_t span(const struct link *l, size_t n)
{
	return l->state == RECORD ? MIN(n, RECORD_REST - l->have) : n;
}

static bool searching(const struct link *l)
{
	return l->state == WAIT || (l->state == PACKETS && l->role == LINK_GUEST);
}

int link_feed(struct link *l, const void *data, size_t n)
{
	const uint8_t *p = data;
	int r = 0;

	if (l->role == LINK_HOST && l->broken)
		return -EPROTO;
	while (n > 0) {
		size_t piece = span(l, n), before = piece, end = 0;

		if (searching(l))
			end = marker_find(&l->marker, p, piece, &before);
		if (end == 0)
			before = piece;
		int e = take_bytes(l, p, before);
		if (e < 0)
			r = e;
		if (l->role == LINK_HOST && r < 0)
			return r;
		if (end) {
			found_marker(l);
			r = 0; /* whatever was wrong before, a new epoch begins */
		}
		p += end ? end : piece;
		n -= end ? end : piece;
	}
	return r;
}

/* ---- connections ---- */

/* The connection if its owner may still use it */
static struct link_conn *usable(const struct link *l, uint32_t number)
{
	struct link_conn *c = link_conn_find(&l->out, number);

	return c && !c->want_abort ? c : NULL;
}

int link_open(struct link *l, bool control, uint32_t *ret)
{
	struct link_conn *c;

	if (l->role != LINK_HOST || l->broken)
		return -ENOTCONN;
	if (l->next_number == UINT32_MAX)
		return -EMFILE;
	int r = link_conn_add(&l->out, l->next_number, &c);
	if (r < 0)
		return r;
	c->control = control;
	c->want_open = true;
	link_conn_wake(&l->out, c);
	*ret = l->next_number++;
	return 0;
}

void link_set_control(struct link *l, uint32_t conn)
{
	struct link_conn *c = usable(l, conn);

	if (c)
		link_conn_set_control(&l->out, c);
}

int link_send(struct link *l, uint32_t conn, const void *p, size_t n)
{
	struct link_conn *c = usable(l, conn);

	if (!c || c->want_shut || c->sent_shut)
		return -EPIPE;
	int r = link_conn_queue(c, p, n);
	if (r < 0)
		return r;
	link_conn_wake(&l->out, c);
	return 0;
}

size_t link_queued(const struct link *l, uint32_t conn)
{
	const struct link_conn *c = usable(l, conn);

	if (!c)
		return 0;
	return c->queued + (c->out_turn == l->out.turn ? c->out_bytes : 0);
}

void link_shut(struct link *l, uint32_t conn)
{
	struct link_conn *c = usable(l, conn);

	if (!c || c->sent_shut)
		return;
	c->want_shut = true;
	link_conn_wake(&l->out, c);
}

void link_abort(struct link *l, uint32_t conn)
{
	struct link_conn *c = usable(l, conn);

	if (!c)
		return;
	if (c->want_open) { /* the peer never heard of it */
		link_conn_remove(&l->out, c);
		return;
	}
	/* It stays, and counts, until the packet is out: the peer must never see more than the limit. */
	link_conn_drop_queue(c);
	c->want_shut = false;
	c->want_abort = true;
	link_conn_wake(&l->out, c);
}

size_t link_pending(struct link *l, const uint8_t **ret)
{
	return link_out_pending(&l->out, ret);
}

void link_drained(struct link *l, size_t n)
{
	link_out_drained(&l->out, n);
}
