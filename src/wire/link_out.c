// SPDX-License-Identifier: Apache-2.0
// The sending half of the link layer.
#include "wire/link_out.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A packet with more payload than this goes to the pipe from its block, uncopied. */
#define COPY_MAX KIB(4)

/* Smallest block, so that small sends do not cost an allocation each. */
#define BLOCK_MIN 1024

static void put_header(uint8_t h[LINK_HEADER], enum link_packet type, size_t len, uint32_t number)
{
	h[0] = (uint8_t)type;
	h[1] = 0;
	h[2] = (uint8_t)(len >> 8);
	h[3] = (uint8_t)len;
	h[4] = (uint8_t)(number >> 24);
	h[5] = (uint8_t)(number >> 16);
	h[6] = (uint8_t)(number >> 8);
	h[7] = (uint8_t)number;
}

/* ---- ready lists ---- */

static struct link_list *list_of(struct link_out *o, const struct link_conn *c)
{
	return c->control ? &o->control : &o->normal;
}

static void push(struct link_list *l, struct link_conn *c)
{
	c->prev = l->tail;
	c->next = NULL;
	if (l->tail)
		l->tail->next = c;
	else
		l->head = c;
	l->tail = c;
	c->ready = true;
}

static void unlink_ready(struct link_list *l, struct link_conn *c)
{
	if (!c->ready)
		return;
	if (c->prev)
		c->prev->next = c->next;
	else
		l->head = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		l->tail = c->prev;
	c->ready = false;
}

/* ---- connections ---- */

static struct link_conn **bucket(const struct link_out *o, uint32_t number)
{
	return (struct link_conn **)&o->hash[number % LINK_HASH];
}

struct link_conn *link_conn_find(const struct link_out *o, uint32_t number)
{
	struct link_conn *c = *bucket(o, number);

	while (c && c->number != number)
		c = c->hash_next;
	return c;
}

int link_conn_add(struct link_out *o, uint32_t number, struct link_conn **ret)
{
	struct link_conn **slot = bucket(o, number);

	if (o->n_conns >= LINK_CONNS_MAX)
		return -EMFILE;
	struct link_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->number = number;
	c->hash_next = *slot;
	*slot = c;
	o->n_conns++;
	*ret = c;
	return 0;
}

void link_conn_remove(struct link_out *o, struct link_conn *c)
{
	struct link_conn **slot = bucket(o, c->number);

	while (*slot != c)
		slot = &(*slot)->hash_next;
	*slot = c->hash_next;
	o->n_conns--;
	unlink_ready(list_of(o, c), c);
	link_conn_drop_queue(c);
	free(c);
}

void link_conn_wake(struct link_out *o, struct link_conn *c)
{
	if (!c->ready && (c->want_open || c->first || c->want_shut || c->want_abort))
		push(list_of(o, c), c);
}

void link_conn_set_control(struct link_out *o, struct link_conn *c)
{
	unlink_ready(list_of(o, c), c);
	c->control = true;
	link_conn_wake(o, c);
}

/* ---- queues ---- */

void link_conn_drop_queue(struct link_conn *c)
{
	while (c->first) {
		struct link_block *b = c->first;

		c->first = b->next;
		free(b);
	}
	c->last = NULL;
	c->queued = 0;
}

static struct link_block *new_block(size_t want)
{
	size_t cap = MIN(MAX(want, (size_t)BLOCK_MIN), (size_t)LINK_CHUNK);
	struct link_block *b = malloc(sizeof(*b) + LINK_HEADER + cap);

	if (b) {
		b->next = NULL;
		b->len = 0;
		b->cap = cap;
	}
	return b;
}

static size_t fill(struct link_block *b, const uint8_t *p, size_t n)
{
	size_t take = MIN(n, b->cap - b->len);

	memcpy(b->bytes + LINK_HEADER + b->len, p, take);
	b->len += take;
	return take;
}

/* A list of new blocks for @n bytes; -ENOMEM leaves nothing behind. */
static int make_blocks(const uint8_t *p, size_t n, struct link_block **ret_first,
		       struct link_block **ret_last)
{
	struct link_block *first = NULL, *last = NULL;

	while (n > 0) {
		struct link_block *b = new_block(n);
		if (!b) {
			while (first) {
				b = first->next;
				free(first);
				first = b;
			}
			return -ENOMEM;
		}
		if (last)
			last->next = b;
		else
			first = b;
		last = b;
		size_t took = fill(b, p, n);
		p += took;
		n -= took;
	}
	*ret_first = first;
	*ret_last = last;
	return 0;
}

int link_conn_queue(struct link_conn *c, const uint8_t *p, size_t n)
{
	struct link_block *first = NULL, *last = NULL;
	size_t room = c->last ? c->last->cap - c->last->len : 0;
	size_t now = MIN(n, room);

	if (n > LINK_QUEUE_MAX || c->queued > LINK_QUEUE_MAX - n)
		return -ENOBUFS;
	int r = make_blocks(p + now, n - now, &first, &last);
	if (r < 0)
		return r;
	if (now)
		fill(c->last, p, now);
	if (first) {
		if (c->last)
			c->last->next = first;
		else
			c->first = first;
		c->last = last;
	}
	c->queued += n;
	return 0;
}

/* ---- write units ---- */

void link_out_clear(struct link_out *o)
{
	for (size_t i = 0; i < LINK_HASH; i++)
		while (o->hash[i])
			link_conn_remove(o, o->hash[i]);
	free(o->block);
	o->block = NULL;
	o->unit_len = o->unit_done = 0;
	o->turn++;
}

void link_out_record(struct link_out *o, const void *p, size_t n)
{
	assert(o->unit_len == 0 && n <= sizeof(o->small));
	memcpy(o->small, p, n);
	o->unit = o->small;
	o->unit_len = n;
}

static void count_out(struct link_out *o, struct link_conn *c, size_t n)
{
	if (c->out_turn != o->turn)
		c->out_bytes = 0;
	c->out_turn = o->turn;
	c->out_bytes += n;
	c->queued -= n;
}

/* Whether @c's next packet may join the write unit. */
static bool fits(const struct link_out *o, const struct link_conn *c)
{
	size_t n = 0;

	if (!c->want_open && !c->want_abort && c->first)
		n = c->first->len;
	if (o->unit_len > 0 && n > COPY_MAX)
		return false;
	return LINK_HEADER + n <= sizeof(o->small) - o->unit_len;
}

static void gather(struct link_out *o, const void *p, size_t n)
{
	memcpy(o->small + o->unit_len, p, n);
	o->unit_len += n;
}

static void gather_header(struct link_out *o, enum link_packet type, const struct link_conn *c)
{
	uint8_t h[LINK_HEADER];

	put_header(h, type, 0, c->number);
	gather(o, h, sizeof(h));
}

/* Moves @c's first block into the write unit; true if it is a unit of its own. */
static bool take_block(struct link_out *o, struct link_conn *c)
{
	struct link_block *b = c->first;
	size_t n = LINK_HEADER + b->len;

	put_header(b->bytes, LINK_DATA, b->len, c->number);
	c->first = b->next;
	if (!c->first)
		c->last = NULL;
	count_out(o, c, b->len);
	if (b->len > COPY_MAX) { /* fits() saw to it that the unit is empty */
		o->block = b;
		o->unit = b->bytes;
		o->unit_len = n;
		return true;
	}
	gather(o, b->bytes, n);
	free(b);
	return false;
}

/* Puts @c's next packet into the write unit; true if the unit is complete. May remove @c. */
static bool take_packet(struct link_out *o, struct link_conn *c)
{
	bool whole = false;

	if (c->want_open) {
		gather_header(o, LINK_OPEN, c);
		c->want_open = false;
	} else if (c->want_abort) {
		gather_header(o, LINK_ABORT, c);
		link_conn_remove(o, c);
		return false;
	} else if (c->first) {
		whole = take_block(o, c);
	} else {
		gather_header(o, LINK_SHUT, c);
		c->want_shut = false;
		c->sent_shut = true;
		if (c->got_shut) {
			link_conn_remove(o, c);
			return false;
		}
	}
	link_conn_wake(o, c);
	return whole;
}

/* Control connections first; the others in turn, for take_packet() puts a connection back at the end. */
static void fill_unit(struct link_out *o)
{
	o->unit = o->small;
	while (o->control.head || o->normal.head) {
		struct link_list *l = o->control.head ? &o->control : &o->normal;
		struct link_conn *c = l->head;

		if (!fits(o, c))
			return;
		unlink_ready(l, c);
		if (take_packet(o, c))
			return;
	}
}

size_t link_out_pending(struct link_out *o, const uint8_t **ret)
{
	if (o->unit_len == 0)
		fill_unit(o);
	*ret = o->unit + o->unit_done;
	return o->unit_len - o->unit_done;
}

void link_out_drained(struct link_out *o, size_t n)
{
	assert(n <= o->unit_len - o->unit_done);
	o->unit_done += n;
	if (o->unit_done < o->unit_len)
		return;
	free(o->block);
	o->block = NULL;
	o->unit_len = o->unit_done = 0;
	o->turn++;
}
