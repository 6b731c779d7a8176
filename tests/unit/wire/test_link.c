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

static uint32_t random_u32(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static const uint8_t KEY0[LINK_KEY_SIZE];
static const uint8_t KEY1[LINK_KEY_SIZE] = "key number one";
static const uint8_t KEY2[LINK_KEY_SIZE] = "key number two";
static const uint8_t EPOCH1[LINK_EPOCH_SIZE] = "epoch one";
static const uint8_t EPOCH2[LINK_EPOCH_SIZE] = "epoch two";

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

/* Many connections, random cuts on both pipes, random sizes: every byte arrives, in order, where it belongs. */
static void random_cuts(void **state)
{
	uint32_t seed = 7;

	(void)state;
	for (int round = 0; round < 30; round++) {
		_cleanup_pair_ struct pair w;
		uint32_t conns[CONNS / 2];
		struct buf want[CONNS / 2] = { 0 };

		pair_init(&w);
		for (size_t i = 0; i < ARRAY_SIZE(conns); i++)
			assert_int_equal(link_open(w.host.link, i % 8 == 0, &conns[i]), 0);
		for (int op = 0; op < 300; op++) {
			size_t i = random_u32(&seed) % ARRAY_SIZE(conns);
			size_t n = random_u32(&seed) % (random_u32(&seed) % 8 ? 50 : 70000);
			_cleanup_free_ uint8_t *bytes = malloc(n + 1);
			struct end *from = i % 2 ? &w.host : &w.guest, *to = i % 2 ? &w.guest : &w.host;

			for (size_t k = 0; k < n; k++)
				bytes[k] = (uint8_t)random_u32(&seed);
			if (link_send(from->link, conns[i], bytes, n) == 0)
				buf_append(&want[i], bytes, n);
			else
				assert_int_equal(w.guest.opened[conns[i]], 0); /* not there yet */
			move_unit(from, to, 1 + random_u32(&seed) % 40000);
			move_unit(to, from, 1 + random_u32(&seed) % 20);
		}
		settle(&w, 1 + random_u32(&seed) % 5000);
		for (size_t i = 0; i < ARRAY_SIZE(conns); i++) {
			assert_int_equal(w.guest.opened[conns[i]], 1);
			assert_got(i % 2 ? &w.guest : &w.host, conns[i], want[i].data, want[i].len);
			assert_int_equal(link_queued(w.host.link, conns[i]), 0);
			buf_done(&want[i]);
		}
	}
}

/* A megabyte is queued on one connection; what is sent on another then comes after one chunk at most. */
static void a_busy_stream_delays_another_by_one_chunk(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(4));
	uint32_t busy, other;
	const uint8_t *p;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &busy), 0);
	assert_int_equal(link_open(w.host.link, false, &other), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(link_send(w.guest.link, busy, big, MIB(4)), 0);
	assert_true(link_pending(w.guest.link, &p) > 0); /* a chunk of the busy one is on its way */
	assert_int_equal(link_send(w.guest.link, other, "quick", 5), 0);
	assert_true(move_unit(&w.guest, &w.host, SIZE_MAX));
	assert_int_equal(w.host.data[busy].len, LINK_CHUNK);
	assert_int_equal(link_queued(w.guest.link, busy), MIB(4) - LINK_CHUNK);
	assert_true(move_unit(&w.guest, &w.host, SIZE_MAX));
	assert_true(w.host.data[busy].len <= 2 * LINK_CHUNK);
	if (w.host.data[other].len == 0)
		assert_true(move_unit(&w.guest, &w.host, SIZE_MAX));
	assert_got(&w.host, other, "quick", 5);
	assert_true(w.host.data[busy].len <= 2 * LINK_CHUNK);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.host.data[busy].len, MIB(4));
}

/* Two busy streams get their turns alike. */
static void busy_streams_take_turns(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(1));
	uint32_t a, b;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &a), 0);
	assert_int_equal(link_open(w.host.link, false, &b), 0);
	assert_int_equal(link_send(w.host.link, a, big, MIB(1)), 0);
	assert_int_equal(link_send(w.host.link, b, big, MIB(1)), 0);
	for (int i = 0; i < 20; i++) {
		assert_true(move_unit(&w.host, &w.guest, SIZE_MAX));
		size_t na = w.guest.data[a].len, nb = w.guest.data[b].len;
		assert_true(MAX(na, nb) - MIN(na, nb) <= LINK_CHUNK);
	}
}

static void control_goes_first(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(1));
	uint32_t busy[8], control;

	(void)state;
	pair_init(&w);
	for (size_t i = 0; i < ARRAY_SIZE(busy); i++)
		assert_int_equal(link_open(w.host.link, false, &busy[i]), 0);
	assert_int_equal(link_open(w.host.link, true, &control), 0);
	settle(&w, SIZE_MAX);
	link_set_control(w.guest.link, control);
	for (size_t i = 0; i < ARRAY_SIZE(busy); i++) {
		assert_int_equal(link_send(w.host.link, busy[i], big, MIB(1)), 0);
		assert_int_equal(link_send(w.guest.link, busy[i], big, MIB(1)), 0);
	}
	assert_int_equal(link_send(w.host.link, control, "quiesce", 7), 0);
	assert_int_equal(link_send(w.guest.link, control, "done", 4), 0);
	assert_true(move_unit(&w.host, &w.guest, SIZE_MAX));
	assert_true(move_unit(&w.guest, &w.host, SIZE_MAX));
	assert_got(&w.guest, control, "quiesce", 7);
	assert_got(&w.host, control, "done", 4);
	assert_int_equal(w.guest.calls, 1);
	assert_int_equal(w.host.calls, 1);
}

/* A connection made control while it waits among the others is not lost. */
static void control_can_be_set_while_queued(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(1));
	uint32_t busy, control;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &busy), 0);
	assert_int_equal(link_open(w.host.link, false, &control), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(link_send(w.guest.link, busy, big, MIB(1)), 0);
	assert_int_equal(link_send(w.guest.link, control, "done", 4), 0);
	link_set_control(w.guest.link, control);
	assert_true(move_unit(&w.guest, &w.host, SIZE_MAX));
	assert_got(&w.host, control, "done", 4);
}

static void write_units_are_at_most_a_chunk(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(1));
	const uint8_t *p;
	size_t n, units = 0;

	(void)state;
	pair_init(&w);
	for (size_t i = 0; i < CONNS - 1; i++) {
		uint32_t c;
		assert_int_equal(link_open(w.host.link, false, &c), 0);
		assert_int_equal(link_send(w.host.link, c, big, i * 3001 % 70000), 0);
	}
	while ((n = link_pending(w.host.link, &p)) > 0) {
		assert_true(n <= LINK_HEADER + LINK_CHUNK);
		link_drained(w.host.link, n);
		units++;
	}
	/* Small packets share a write. */
	assert_true(units < 250);
}

static void queue_has_a_limit(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, LINK_QUEUE_MAX);
	uint32_t c;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_send(w.host.link, c, big, LINK_QUEUE_MAX), 0);
	assert_int_equal(link_send(w.host.link, c, "x", 1), -ENOBUFS);
	assert_int_equal(link_send(w.host.link, c, big, SIZE_MAX), -ENOBUFS);
	assert_int_equal(link_queued(w.host.link, c), LINK_QUEUE_MAX);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.guest.data[c].len, LINK_QUEUE_MAX);
	assert_int_equal(link_queued(w.host.link, c), 0);
	assert_int_equal(link_send(w.host.link, c, "x", 1), 0);
}

static void connections_have_a_limit(void **state)
{
	_cleanup_pair_ struct pair w;
	uint32_t c, first = 0;

	(void)state;
	pair_init(&w);
	for (int i = 0; i < LINK_CONNS_MAX; i++) {
		assert_int_equal(link_open(w.host.link, false, &c), 0);
		first = first ? first : c;
	}
	assert_int_equal(link_open(w.host.link, true, &c), -EMFILE);
	settle(&w, SIZE_MAX);
	/* An aborted one counts until the guest can know of it: the new one's OPEN would overtake. */
	link_abort(w.host.link, first);
	assert_int_equal(link_open(w.host.link, true, &c), -EMFILE);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.guest.aborted[first], 1);
	assert_int_equal(link_open(w.host.link, true, &c), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.guest.opened[c % CONNS], 1 + LINK_CONNS_MAX / CONNS);
}

static void abort_forgets_both_ends(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(1));
	uint32_t c, d;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_open(w.host.link, false, &d), 0);
	settle(&w, SIZE_MAX);
	/* host's abort crosses the guest's data and abort */
	assert_int_equal(link_send(w.guest.link, c, big, MIB(1)), 0);
	assert_true(move_unit(&w.guest, &w.host, 100)); /* in mid-packet */
	link_abort(w.guest.link, c);
	link_abort(w.host.link, c);
	assert_int_equal(link_send(w.host.link, c, "x", 1), -EPIPE);
	assert_int_equal(link_queued(w.guest.link, c), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.host.aborted[c], 0);
	assert_int_equal(w.guest.aborted[c], 0);
	assert_int_equal(w.host.data[c].len, 0);
	/* the other goes on */
	assert_int_equal(link_send(w.guest.link, d, "on", 2), 0);
	settle(&w, SIZE_MAX);
	assert_got(&w.host, d, "on", 2);
	link_abort(w.guest.link, d);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.host.aborted[d], 1);
}

static void abort_before_open_was_sent_is_silent(void **state)
{
	_cleanup_pair_ struct pair w;
	uint32_t c;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	link_abort(w.host.link, c);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.guest.opened[c], 0);
	assert_int_equal(w.guest.aborted[c], 0);
}

static void shut_comes_after_the_data(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(1));
	uint32_t c;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_send(w.host.link, c, big, MIB(1)), 0);
	link_shut(w.host.link, c);
	link_shut(w.host.link, c);
	while (move_unit(&w.host, &w.guest, SIZE_MAX))
		assert_true(w.guest.shut[c] == 0 || w.guest.data[c].len == MIB(1));
	assert_int_equal(w.guest.shut[c], 1);
	assert_int_equal(w.guest.data[c].len, MIB(1));
	link_abort(w.guest.link, c); /* the host has not heard of the end yet */
	settle(&w, SIZE_MAX);
	assert_int_equal(w.host.aborted[c], 1);
}

/* ---- epochs ---- */

/* The host is replaced, as by a restore: a new link on the same guest. */
static void new_host(struct pair *w, const uint8_t *key, const uint8_t *next, const uint8_t *epoch)
{
	end_done(&w->host);
	end_init(&w->host, LINK_HOST);
	assert_int_equal(link_reset(w->host.link, key, next, epoch), 0);
}

static void assert_talks(struct pair *w)
{
	uint32_t c;

	assert_int_equal(link_open(w->host.link, false, &c), 0);
	buf_done(&w->guest.data[c]);
	buf_done(&w->host.data[c]);
	assert_int_equal(link_send(w->host.link, c, "hello", 5), 0);
	settle(w, SIZE_MAX);
	assert_got(&w->guest, c, "hello", 5);
	assert_int_equal(link_send(w->guest.link, c, "world", 5), 0);
	settle(w, SIZE_MAX);
	assert_got(&w->host, c, "world", 5);
}

/* A guest whose snapshot was taken at any byte of a packet finds the RESET, cut anywhere too. */
static void snapshot_in_mid_packet_to_the_guest(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < 60; cut++) {
		for (size_t step = 1; step <= 65; step += 16) {
			_cleanup_pair_ struct pair w;
			uint32_t c;

			pair_init(&w);
			assert_int_equal(link_open(w.host.link, false, &c), 0);
			settle(&w, SIZE_MAX);
			/* 8 + 52 bytes; the longest cut lacks one of them */
			assert_int_equal(link_send(w.host.link, c,
						   "a packet of which the guest got only the first part.",
						   52),
					 0);
			if (cut)
				assert_true(move_unit(&w.host, &w.guest, cut));
			assert_int_equal(w.guest.data[c].len, 0);
			new_host(&w, KEY1, KEY2, EPOCH2);
			/* The first part of a marker that is cut may count as payload: errors are allowed here. */
			const uint8_t *p;
			for (size_t n; (n = MIN(link_pending(w.host.link, &p), step)) > 0;) {
				int r = link_feed(w.guest.link, p, n);
				assert_true(r == 0 || (r == -EPROTO && step < 64));
				link_drained(w.host.link, n);
			}
			assert_int_equal(w.guest.resets, 2);
			if (step > 64)
				assert_int_equal(w.guest.data[c].len, 0);
			settle(&w, step);
			assert_int_equal(w.host.resets, 1);
			assert_talks(&w);
		}
	}
}

/* What the guest had half written before the snapshot, and what its device still held, is dropped. */
static void snapshot_in_mid_packet_from_the_guest(void **state)
{
	_cleanup_free_ uint8_t *big = malloc(MIB(1));

	(void)state;
	memset(big, 0x02, MIB(1));
	for (size_t cut = 1; cut < 4000; cut += 331) {
		_cleanup_pair_ struct pair w;
		uint32_t c;
		const uint8_t *p;

		pair_init(&w);
		assert_int_equal(link_open(w.host.link, false, &c), 0);
		settle(&w, SIZE_MAX);
		assert_int_equal(link_send(w.guest.link, c, big, MIB(1)), 0);
		assert_true(link_pending(w.guest.link, &p) >= cut);
		_cleanup_free_ uint8_t *stale = exact_copy(p, cut);
		link_drained(w.guest.link, cut);
		new_host(&w, KEY1, KEY2, EPOCH2);
		assert_int_equal(link_feed(w.host.link, stale, cut), 0);
		assert_int_equal(link_feed(w.host.link, LINK_MAGIC, 16), 0); /* an older HELLO */
		assert_int_equal(link_feed(w.host.link, EPOCH1, 16), 0);
		settle(&w, SIZE_MAX);
		assert_int_equal(w.host.resets, 1);
		assert_int_equal(w.host.calls, 0);
		assert_int_equal(link_send(w.guest.link, c, "x", 1), -EPIPE);
		assert_talks(&w);
	}
}

static void host_can_reset_a_live_link(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_free_ uint8_t *big = calloc(1, MIB(1));
	uint32_t c;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(link_send(w.host.link, c, big, MIB(1)), 0);
	assert_int_equal(link_send(w.guest.link, c, big, MIB(1)), 0);
	assert_true(move_unit(&w.host, &w.guest, 1000));
	assert_true(move_unit(&w.guest, &w.host, 1000));
	assert_int_equal(link_reset(w.host.link, KEY1, KEY2, EPOCH2), 0);
	assert_int_equal(link_send(w.host.link, c, "x", 1), -EPIPE);
	assert_int_equal(link_open(w.host.link, true, &c), 0); /* it need not wait for the HELLO */
	assert_int_equal(link_send(w.host.link, c, "new", 3), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.guest.resets, 2);
	assert_int_equal(w.host.resets, 2);
	assert_got(&w.guest, c, "new", 3);
	assert_talks(&w);
}

/* Feeds a RESET record with @key to the guest. */
static void feed_reset(struct end *guest, const uint8_t *key, const uint8_t *next, const uint8_t *epoch)
{
	assert_int_equal(link_feed(guest->link, LINK_MAGIC, 16), 0);
	link_feed(guest->link, key, 16);
	link_feed(guest->link, next, 16);
	link_feed(guest->link, epoch, 16);
}

static void a_wrong_key_does_nothing(void **state)
{
	struct end guest __attribute__((cleanup(end_done)));

	(void)state;
	end_init(&guest, LINK_GUEST);
	feed_reset(&guest, KEY1, KEY2, EPOCH1); /* its key is zeros */
	assert_int_equal(guest.resets, 0);
	feed_reset(&guest, KEY0, KEY1, EPOCH1);
	assert_int_equal(guest.resets, 1);
	feed_reset(&guest, KEY0, KEY2, EPOCH2); /* a key counts once */
	assert_int_equal(guest.resets, 1);
	feed_reset(&guest, KEY1, KEY2, EPOCH2);
	assert_int_equal(guest.resets, 2);
}

static void payload_with_the_magic_is_data(void **state)
{
	_cleanup_pair_ struct pair w;
	uint8_t bytes[64] = { 0 };
	uint32_t c;

	(void)state;
	pair_init(&w);
	memcpy(bytes + 3, LINK_MAGIC, 16); /* then zeros: the key of before */
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_send(w.host.link, c, bytes, sizeof(bytes)), 0);
	settle(&w, 7);
	assert_got(&w.guest, c, bytes, sizeof(bytes));
	/* …and at the very end, where it could be the start of a marker */
	assert_int_equal(link_send(w.host.link, c, LINK_MAGIC, 16), 0);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.guest.data[c].len, 80);
	assert_int_equal(link_send(w.guest.link, c, bytes, sizeof(bytes)), 0);
	settle(&w, SIZE_MAX);
	assert_got(&w.host, c, bytes, sizeof(bytes));
	assert_int_equal(w.guest.resets, 1);
}

static void bytes_before_a_reset_are_delivered(void **state)
{
	_cleanup_pair_ struct pair w;
	_cleanup_buf_ struct buf b = { 0 };
	uint32_t c;
	const uint8_t *p;
	size_t n;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_send(w.host.link, c, "last words", 10), 0);
	while ((n = link_pending(w.host.link, &p)) > 0) {
		buf_append(&b, p, n);
		link_drained(w.host.link, n);
	}
	buf_append(&b, LINK_MAGIC, 16);
	buf_append(&b, KEY1, 16);
	buf_append(&b, KEY2, 16);
	buf_append(&b, EPOCH2, 16);
	buf_append(&b, "\1\0\0\0\0\0\0\7\2\0\0\5\0\0\0\7again", 21);
	assert_int_equal(link_feed(w.guest.link, b.data, b.len), 0);
	assert_got(&w.guest, c, "last words", 10);
	assert_int_equal(w.guest.resets, 2);
	assert_got(&w.guest, 7, "again", 5);
}

/* ---- hostile peers ---- */

#define BAD(bytes)                       \
	{                                \
		bytes, sizeof(bytes) - 1 \
	}

static const struct {
	const char *p;
	size_t n;
} bad_packets[] = {
	BAD("\0\0\0\0\0\0\0\1"), /* no such type */
	BAD("\5\0\0\0\0\0\0\1"),
	BAD("\2\1\0\1\0\0\0\1x"),    /* flags */
	BAD("\2\0\0\0\0\0\0\1"),     /* DATA without data */
	BAD("\2\0\x7f\xf9\0\0\0\1"), /* more than a chunk */
	BAD("\2\0\xff\xff\0\0\0\1"),
	BAD("\2\0\0\1\0\0\0\0x"),		  /* connection 0 */
	BAD("\1\0\0\1\0\0\0\1x"),		  /* OPEN with data */
	BAD("\3\0\0\1\0\0\0\1x"),		  /* SHUT with data */
	BAD("\4\0\0\1\0\0\0\1x"),		  /* ABORT with data */
	BAD("\3\0\0\0\0\0\0\1\3\0\0\0\0\0\0\1"),  /* two SHUTs */
	BAD("\3\0\0\0\0\0\0\1\2\0\0\1\0\0\0\1x"), /* DATA after SHUT */
};

static void broken_packets_stop_the_guest_until_a_reset(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_packets); i++) {
		for (size_t step = 1; step < 20; step += 18) {
			_cleanup_pair_ struct pair w;
			uint32_t c;
			int r = 0;

			pair_init(&w);
			assert_int_equal(link_open(w.host.link, false, &c), 0);
			settle(&w, SIZE_MAX);
			for (size_t at = 0; at < bad_packets[i].n && r == 0; at += step)
				r = link_feed(w.guest.link, bad_packets[i].p + at,
					      MIN(bad_packets[i].n - at, step));
			assert_int_equal(r, -EPROTO);
			/* Told once; then nothing counts before the RESET. */
			assert_int_equal(link_feed(w.guest.link, "\1\0\0\0\0\0\0\x9", 8), 0);
			assert_int_equal(w.guest.opened[9], 0);
			assert_int_equal(link_reset(w.host.link, KEY1, KEY2, EPOCH2), 0);
			settle(&w, SIZE_MAX);
			assert_talks(&w);
		}
	}
}

static void broken_packets_end_the_host(void **state)
{
	(void)state;
	for (size_t i = 0; i <= ARRAY_SIZE(bad_packets) + 1; i++) {
		_cleanup_pair_ struct pair w;
		uint32_t c;

		pair_init(&w);
		assert_int_equal(link_open(w.host.link, false, &c), 0);
		settle(&w, SIZE_MAX);
		if (i < ARRAY_SIZE(bad_packets))
			assert_int_equal(link_feed(w.host.link, bad_packets[i].p, bad_packets[i].n), -EPROTO);
		else if (i == ARRAY_SIZE(bad_packets)) /* only hosts open */
			assert_int_equal(link_feed(w.host.link, "\1\0\0\0\0\0\0\2", 8), -EPROTO);
		else /* a connection there never was */
			assert_int_equal(link_feed(w.host.link, "\4\0\0\0\0\0\0\2", 8), -EPROTO);
		assert_int_equal(link_feed(w.host.link, "x", 1), -EPROTO);
		assert_int_equal(link_open(w.host.link, false, &c), -ENOTCONN);
	}
}

static void a_guest_is_not_opened_twice(void **state)
{
	_cleanup_pair_ struct pair w;

	(void)state;
	pair_init(&w);
	assert_int_equal(link_feed(w.guest.link, "\1\0\0\0\0\0\0\1", 8), 0);
	assert_int_equal(link_feed(w.guest.link, "\1\0\0\0\0\0\0\1", 8), -EPROTO);
}

static void a_guest_has_no_more_connections_than_the_limit(void **state)
{
	_cleanup_pair_ struct pair w;

	(void)state;
	pair_init(&w);
	for (unsigned int i = 1; i <= LINK_CONNS_MAX + 1; i++) {
		uint8_t open[8] = { 1, 0, 0, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i };
		assert_int_equal(link_feed(w.guest.link, open, 8), i <= LINK_CONNS_MAX ? 0 : -EPROTO);
	}
}

static void nothing_happens_before_the_first_reset(void **state)
{
	struct end host __attribute__((cleanup(end_done))), guest __attribute__((cleanup(end_done)));
	const uint8_t *p;
	uint32_t c;

	(void)state;
	end_init(&host, LINK_HOST);
	end_init(&guest, LINK_GUEST);
	assert_int_equal(link_open(host.link, false, &c), -ENOTCONN);
	assert_int_equal(link_open(guest.link, false, &c), -ENOTCONN);
	assert_int_equal(link_pending(host.link, &p), 0);
	assert_int_equal(link_pending(guest.link, &p), 0);
	assert_int_equal(link_feed(guest.link, "\1\0\0\0\0\0\0\1", 8), 0);
	assert_int_equal(guest.opened[1], 0);
	assert_int_equal(link_send(guest.link, 1, "x", 1), -EPIPE);
}

/* ---- callbacks that act ---- */

static void abort_it(struct end *e, uint32_t conn)
{
	link_abort(e->link, conn);
	assert_int_equal(link_send(e->link, conn, "x", 1), -EPIPE);
}

static void echo_and_shut(struct end *e, uint32_t conn)
{
	assert_int_equal(link_send(e->link, conn, "echo", 4), 0);
	link_shut(e->link, conn);
}

static void callbacks_may_act(void **state)
{
	_cleanup_pair_ struct pair w;
	uint32_t c;

	(void)state;
	pair_init(&w);
	w.guest.on_data = abort_it;
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_send(w.host.link, c, "a", 1), 0);
	link_shut(w.host.link, c);
	settle(&w, SIZE_MAX);
	assert_int_equal(w.host.aborted[c], 1);
	w.guest.on_data = echo_and_shut;
	assert_int_equal(link_open(w.host.link, false, &c), 0);
	assert_int_equal(link_send(w.host.link, c, "a", 1), 0);
	settle(&w, SIZE_MAX);
	assert_got(&w.host, c, "echo", 4);
	assert_int_equal(w.host.shut[c], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(talks_both_ways),
		cmocka_unit_test(random_cuts),
		cmocka_unit_test(a_busy_stream_delays_another_by_one_chunk),
		cmocka_unit_test(busy_streams_take_turns),
		cmocka_unit_test(control_goes_first),
		cmocka_unit_test(control_can_be_set_while_queued),
		cmocka_unit_test(write_units_are_at_most_a_chunk),
		cmocka_unit_test(queue_has_a_limit),
		cmocka_unit_test(connections_have_a_limit),
		cmocka_unit_test(abort_forgets_both_ends),
		cmocka_unit_test(abort_before_open_was_sent_is_silent),
		cmocka_unit_test(shut_comes_after_the_data),
		cmocka_unit_test(snapshot_in_mid_packet_to_the_guest),
		cmocka_unit_test(snapshot_in_mid_packet_from_the_guest),
		cmocka_unit_test(host_can_reset_a_live_link),
		cmocka_unit_test(a_wrong_key_does_nothing),
		cmocka_unit_test(payload_with_the_magic_is_data),
		cmocka_unit_test(bytes_before_a_reset_are_delivered),
		cmocka_unit_test(broken_packets_stop_the_guest_until_a_reset),
		cmocka_unit_test(broken_packets_end_the_host),
		cmocka_unit_test(a_guest_is_not_opened_twice),
		cmocka_unit_test(a_guest_has_no_more_connections_than_the_limit),
		cmocka_unit_test(nothing_happens_before_the_first_reset),
		cmocka_unit_test(callbacks_may_act),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
