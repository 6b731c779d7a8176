// SPDX-License-Identifier: Apache-2.0
// Tests of wire/link.c and link_out.c: two links back to back, and hand-made bytes.
#include "test.h"

#include "wire/link.h"

#define CONNS 64

/* One end: a link and what it told us, by connection number */
struct end {
	struct link *link;
	struct buf data[CONNS];
	unsigned int opened[CONNS], shut[CONNS], aborted[CONNS], resets;
	size_t calls;
	void (*on_data)(struct end *e, uint32_t conn);
};

static void on_opened(void *owner, uint32_t conn)
{
	((struct end *)owner)->opened[conn % CONNS]++;
}

static void on_data(void *owner, uint32_t conn, const uint8_t *p, size_t n)
{
	struct end *e = owner;

	assert_true(n > 0);
	e->calls++;
	buf_append(&e->data[conn % CONNS], p, n);
	if (e->on_data)
		e->on_data(e, conn);
}

static void on_shut(void *owner, uint32_t conn)
{
	((struct end *)owner)->shut[conn % CONNS]++;
}

static void on_aborted(void *owner, uint32_t conn)
{
	((struct end *)owner)->aborted[conn % CONNS]++;
}

static void on_reset(void *owner)
{
	((struct end *)owner)->resets++;
}

static const struct link_ops ops = { on_opened, on_data, on_shut, on_aborted, on_reset };

static void end_init(struct end *e, enum link_role role)
{
	memset(e, 0, sizeof(*e));
	assert_int_equal(link_new(role, &ops, e, &e->link), 0);
}

static void end_done(struct end *e)
{
	for (size_t i = 0; i < CONNS; i++)
		buf_done(&e->data[i]);
	link_free(e->link);
}

struct pair {
	struct end host, guest;
};

static const uint8_t KEY0[LINK_KEY_SIZE];
static const uint8_t KEY1[LINK_KEY_SIZE] = "key number one";
static const uint8_t EPOCH1[LINK_EPOCH_SIZE] = "epoch one";

/* Writes one unit of @from to @to, in pieces of at most @step bytes; false if there was none. */
static bool move_unit(struct end *from, struct end *to, size_t step)
{
	const uint8_t *p;
	size_t n = link_pending(from->link, &p);

	if (n == 0)
		return false;
	n = MIN(n, step);
	_cleanup_free_ uint8_t *copy = exact_copy(p, n);
	link_drained(from->link, n);
	assert_int_equal(link_feed(to->link, copy, n), 0);
	return true;
}

static void settle(struct pair *w, size_t step)
{
	bool busy = true;

	while (busy) {
		busy = move_unit(&w->host, &w->guest, step);
		busy |= move_unit(&w->guest, &w->host, step);
	}
}

static void pair_init(struct pair *w)
{
	end_init(&w->host, LINK_HOST);
	end_init(&w->guest, LINK_GUEST);
	assert_int_equal(link_reset(w->host.link, KEY0, KEY1, EPOCH1), 0);
	settle(w, SIZE_MAX);
	assert_int_equal(w->host.resets, 1);
	assert_int_equal(w->guest.resets, 1);
}

static void pair_done(struct pair *w)
{
	end_done(&w->host);
	end_done(&w->guest);
}

#define _cleanup_pair_ _cleanup_(pair_done)

static void assert_got(struct end *e, uint32_t conn, const void *p, size_t n)
{
	assert_int_equal(e->data[conn].len, n);
	assert_memory_equal(e->data[conn].data, p, n);
}

static void talks_both_ways(void **state)
{
	_cleanup_pair_ struct pair w;
	uint32_t c;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_send(w.host.link, c, "ping", 4), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.guest.opened[c], 1);
	assert_got(&w.guest, c, "ping", 4);
	assert_int_equal(link_send(w.guest.link, c, "pong", 4), 0);
	link_shut(w.guest.link, c);
	assert_int_equal(link_send(w.guest.link, c, "x", 1), -EPIPE);
	settle(&w, SIZE_MAX);
	assert_got(&w.host, c, "pong", 4);
	assert_int_equal(w.host.shut[c], 1);
	assert_int_equal(link_send(w.host.link, c, "more", 4), 0);
	link_shut(w.host.link, c);
	settle(&w, SIZE_MAX);
	assert_got(&w.guest, c, "pingmore", 8);
	assert_int_equal(w.guest.shut[c], 1);
	assert_int_equal(link_send(w.host.link, c, "x", 1), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(talks_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
