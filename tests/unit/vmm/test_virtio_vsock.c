// SPDX-License-Identifier: Apache-2.0
// The vsock device: connections, credit both ways, limits, restore, hostile packets.
#include "vsock_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/fd.h"

static void test_config(void **state)
{
	struct fixture *f = *state;
	uint64_t cid = 0;
	uint32_t high = 1;

	f->d.dev->ops->config_read(f->d.dev, 0, &cid, 8);
	assert_int_equal(cid, 3);
	f->d.dev->ops->config_read(f->d.dev, 4, &high, 4);
	assert_int_equal(high, 0);
}

static void test_connect_and_talk(void **state)
{
	struct fixture *f = *state;
	char buf[16];
	uint64_t to, from;
	int fds[2];

	pair(fds);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, fds[1]), 0);
	assert_int_equal(write(fds[0], "early", 5), 5);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(f->hdr.src_cid, VSOCK_HOST_CID);
	assert_int_equal(f->hdr.dst_port, AGENT_PORT);
	assert_int_equal(f->hdr.type, VIRTIO_VSOCK_TYPE_STREAM);
	assert_int_equal(f->hdr.buf_alloc, VSOCK_BUF);
	uint32_t port = f->hdr.src_port;
	expect_nothing(f); /* no data before the guest accepts */

	tx(f, port, VIRTIO_VSOCK_OP_RESPONSE, 0);
	drv_turn(&f->d);
	expect(f, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(f->hdr.len, 5);
	assert_memory_equal(f->data, "early", 5);

	struct virtio_vsock_hdr hdr = guest_hdr(f, AGENT_PORT, port, VIRTIO_VSOCK_OP_RW);
	hdr.len = 6;
	tx_raw(f, &hdr, "answer", 20); /* the header lies in two descriptors */
	tx_raw(f, &hdr, "second", HDR + 3);
	assert_int_equal(read(fds[0], buf, sizeof(buf)), 12);
	assert_memory_equal(buf, "answersecond", 12);

	tx(f, port, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	expect(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(f->hdr.fwd_cnt, 12);
	vsock_counts(f->d.dev, &to, &from);
	assert_int_equal(to, 5);
	assert_int_equal(from, 12);
	close(fds[0]);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	int fds[2];

	pair(fds);
	assert_int_equal(vsock_connect(f->d.dev, 77, fds[1]), 0);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	struct virtio_vsock_hdr hdr = guest_hdr(f, 77, f->hdr.src_port, VIRTIO_VSOCK_OP_RST);
	tx_raw(f, &hdr, NULL, HDR);
	expect_eof(fds[0]);
	assert_int_equal(n_used(f), 0);
	close(fds[0]);
}

static void test_before_driver(void **state)
{
	struct fixture *f = *state;
	int a[2], b[2];

	pair(a);
	pair(b);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, a[1]), 0);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, b[1]), 0);
	close(a[0]);
	drv_turn(&f->d);
	assert_int_equal(n_used(f), 1); /* nobody waits for the first any more */
	drv_start(&f->d);
	give_rx(f, 1);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	expect_nothing(f);
	expect_open(b[0]);

	/* A driver that starts over forgets what it was asked. */
	drv_reset(&f->d);
	expect_eof(b[0]);
	assert_int_equal(n_used(f), 0);
	close(b[0]);
}

static void test_guest_credit(void **state)
{
	struct fixture *f = *state;
	uint32_t port;

	f->guest_buf = 10;
	int fd = open_conn(f, &port);
	assert_int_equal(write(fd, "0123456789abcdef", 16), 16);
	drv_turn(&f->d);
	expect(f, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(f->hdr.len, 10);
	expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	expect_nothing(f);
	expect_nothing(f); /* asked once */

	f->fwd = 4;
	tx(f, port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	expect(f, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(f->hdr.len, 4);
	assert_memory_equal(f->data, "abcd", 4);
	expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST);

	/* More taken than was ever sent: no credit at all, rather than nearly 2^32 bytes of it. */
	f->fwd = 1000;
	tx(f, port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	expect_nothing(f);
	f->fwd = 14;
	tx(f, port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	expect(f, VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(f->data, "ef", 2);
	close(fd);
}

static void test_slow_reader(void **state)
{
	struct fixture *f = *state;
	uint32_t slow_port, port;
	char buf[8];
	uint64_t forwarded = 0;
	int slow = open_conn(f, &slow_port), fd = open_conn(f, &port);
	uint64_t sent = fill_up(f, slow_port, 0, &forwarded), got = 0;

	assert_true(sent >= VSOCK_BUF);
	assert_in_range(vconn_find(f->vs, AGENT_PORT, slow_port)->ring_len, VSOCK_BUF / 2, VSOCK_BUF);
	/* Another connection is not held up. */
	tx_data(f, port, "quick", 5);
	assert_int_equal(read(fd, buf, sizeof(buf)), 5);
	/* All arrives in order, over the ring's end, and the credit comes back. */
	for (int round = 0; round < 5; round++) {
		got = read_pattern(slow, got);
		drv_turn(&f->d);
		sent = fill_up(f, slow_port, sent, &forwarded);
	}
	assert_true(sent > 3 * VSOCK_BUF);
	while (got < sent) {
		got = read_pattern(slow, got);
		drv_turn(&f->d);
	}
	assert_int_equal(got, sent);
	close(slow);
	close(fd);
}

static void test_credit_exceeded(void **state)
{
	struct fixture *f = *state;
	uint64_t forwarded = 0;
	uint32_t port;
	int fd = open_conn(f, &port);
	uint64_t sent = fill_up(f, port, 0, &forwarded);

	/* What the socket took meanwhile is credit the guest was not told about yet. */
	struct vconn *c = vconn_find(f->vs, AGENT_PORT, port);
	while (c->state == VCONN_OPEN && sent < 2 * MIB(1)) {
		tx_pattern(f, port, sent, 1);
		sent++;
	}
	while (rx(f) && f->hdr.op != VIRTIO_VSOCK_OP_RST)
		continue;
	assert_int_equal(f->hdr.op, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(n_used(f), 0);
	assert_true(sent < MIB(1));
	close(fd);
}

static void guest_opens(struct fixture *f, uint32_t guest_port)
{
	struct virtio_vsock_hdr hdr = guest_hdr(f, guest_port, 9, VIRTIO_VSOCK_OP_REQUEST);

	tx_raw(f, &hdr, NULL, HDR);
}

static void test_guest_connects(void **state)
{
	struct fixture *f = *state;
	char buf[8];
	int fds[2];

	guest_opens(f, AGENT_PORT);
	assert_int_equal(f->asked, 1);
	assert_int_equal(f->asked_port, 9);
	expect_nothing(f);
	pair(fds);
	assert_int_equal(vsock_accept(f->d.dev, f->asked_id, fds[1]), 0);
	expect(f, VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(f->hdr.src_port, 9);
	assert_int_equal(f->hdr.dst_port, AGENT_PORT);
	tx_data(f, 9, "hello", 5);
	assert_int_equal(read(fds[0], buf, sizeof(buf)), 5);
	assert_int_equal(vsock_refuse(f->d.dev, f->asked_id), -ENOENT); /* answered already */
	expect_nothing(f);
	close(fds[0]);

	guest_opens(f, AGENT_PORT + 1);
	assert_int_equal(vsock_refuse(f->d.dev, f->asked_id), 0);
	while (rx(f) && f->hdr.op != VIRTIO_VSOCK_OP_RST)
		continue;
	assert_int_equal(f->hdr.dst_port, AGENT_PORT + 1);
}

static void test_guest_gives_up(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr hdr = guest_hdr(f, 50, 9, VIRTIO_VSOCK_OP_RST);
	int fds[2];

	guest_opens(f, 50);
	tx_raw(f, &hdr, NULL, HDR);
	assert_int_equal(f->vs->n_asked, 1); /* still counts: the host has not answered */
	pair(fds);
	assert_int_equal(vsock_accept(f->d.dev, f->asked_id, fds[1]), -ENOENT);
	expect_eof(fds[0]);
	close(fds[0]);
	assert_int_equal(n_used(f), 0);
	/* Anything but a reset while it waits is a breach. */
	guest_opens(f, 51);
	hdr = guest_hdr(f, 51, 9, VIRTIO_VSOCK_OP_RW);
	tx_raw(f, &hdr, NULL, HDR);
	expect(f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(vsock_refuse(f->d.dev, f->asked_id), -ENOENT);
	assert_int_equal(f->vs->n_asked, 0);
	assert_int_equal(f->vs->n_guest, 0);
}

static void test_guest_limit(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < VSOCK_ASKED_MAX + 3; i++)
		guest_opens(f, 100 + i);
	assert_int_equal(f->asked, VSOCK_ASKED_MAX);
	for (int i = 0; i < 3; i++)
		expect(f, VIRTIO_VSOCK_OP_RST);
	expect_nothing(f);
	drv_reset(&f->d); /* the answers are still awaited */
	assert_int_equal(f->vs->n_asked, VSOCK_ASKED_MAX);
}

static void test_unknown(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr hdr = guest_hdr(f, 5, 6, VIRTIO_VSOCK_OP_RW);

	tx_raw(f, &hdr, NULL, HDR);
	expect(f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(f->hdr.src_port, 6);
	assert_int_equal(f->hdr.dst_port, 5);
	hdr.op = VIRTIO_VSOCK_OP_RST; /* never answered, or two would answer each other forever */
	tx_raw(f, &hdr, NULL, HDR);
	hdr.dst_cid = 77;
	tx_raw(f, &hdr, NULL, HDR);
	expect_nothing(f);
	hdr.op = VIRTIO_VSOCK_OP_REQUEST;
	tx_raw(f, &hdr, NULL, HDR);
	expect(f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(f->hdr.src_cid, 77);
	hdr.dst_cid = VSOCK_HOST_CID;
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	tx_raw(f, &hdr, NULL, HDR);
	expect(f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(f->hdr.type, VIRTIO_VSOCK_TYPE_SEQPACKET);
	hdr.src_cid = 4; /* not the guest's own */
	tx_raw(f, &hdr, NULL, HDR);
	expect_nothing(f);
	assert_int_equal(f->asked, 0);
}

static void test_wrong_answers(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fds[2];

	pair(fds);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, fds[1]), 0);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	tx_data(f, f->hdr.src_port, "x", 1); /* before its RESPONSE */
	expect(f, VIRTIO_VSOCK_OP_RST);
	expect_eof(fds[0]);
	close(fds[0]);
	int fd = open_conn(f, &port);
	tx(f, port, VIRTIO_VSOCK_OP_RESPONSE, 0);
	expect(f, VIRTIO_VSOCK_OP_RST);
	expect_eof(fd);
	close(fd);
	assert_int_equal(n_used(f), 0);
}

static void test_resets_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr hdr = guest_hdr(f, 5, 6, VIRTIO_VSOCK_OP_RW);
	unsigned int n = 0;

	drv_start(&f->d); /* no receive buffers */
	for (hdr.src_port = 0; hdr.src_port < VSOCK_RSTS_MAX + 10; hdr.src_port++)
		tx_raw(f, &hdr, NULL, HDR);
	give_rx(f, RX_N);
	for (int i = 0; i < 10; i++) {
		while (rx(f))
			assert_int_equal(f->hdr.dst_port, n++);
		drv_turn(&f->d);
	}
	assert_int_equal(n, VSOCK_RSTS_MAX);
}

static void test_fair_without_buffers(void **state)
{
	struct fixture *f = *state;
	uint8_t big[3 * ROOM] = { 1 };
	uint32_t a_port, b_port, order[6];

	drv_start(&f->d);
	give_rx(f, 1);
	int a = open_conn(f, &a_port), b = open_conn(f, &b_port);
	/* Take the one buffer away: nothing can be sent. */
	assert_int_equal(write(a, "x", 1), 1);
	drv_turn(&f->d);
	uint16_t head = 0;
	uint32_t len;
	assert_true(drv_take(&f->d, VSOCK_RX, &head, &len));
	assert_int_equal(write(a, big, sizeof(big)), sizeof(big));
	assert_int_equal(write(b, big, sizeof(big)), sizeof(big));
	for (int i = 0; i < 3; i++)
		drv_turn(&f->d);
	assert_false(drv_take(&f->d, VSOCK_RX, &head, &len));
	for (int i = 0; i < 6; i++) {
		drv_put(&f->d, VSOCK_RX, &(struct drv_seg){ RX_AT, RX_SIZE, true }, 1);
		drv_kick(&f->d, VSOCK_RX);
		assert_true(drv_take(&f->d, VSOCK_RX, &head, &len));
		memcpy(&f->hdr, drv_ram(&f->d, RX_AT), HDR);
		order[i] = f->hdr.src_port;
		assert_int_equal(f->hdr.len, ROOM);
	}
	for (int i = 2; i < 6; i++)
		assert_int_equal(order[i], order[i - 2]);
	assert_int_not_equal(order[0], order[1]);
	close(a);
	close(b);
}

static void test_bulk_to_guest(void **state)
{
	struct fixture *f = *state;
	uint8_t big[40000];
	uint64_t got = 0;
	uint32_t port;
	int fd = open_conn(f, &port);

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = pattern(i);
	assert_int_equal(write(fd, big, sizeof(big)), sizeof(big));
	for (int turn = 0; turn < 20; turn++) {
		drv_turn(&f->d);
		while (rx(f))
			for (uint32_t i = 0; i < f->hdr.len; i++)
				assert_int_equal(f->data[i], pattern(got++));
	}
	assert_int_equal(got, sizeof(big));
	close(fd);
}

static void test_table_limit(void **state)
{
	struct fixture *f = *state;
	struct rlimit lim;
	int fds[2];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = MIN(lim.rlim_max, VSOCK_CONNS_MAX + 64);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	if (lim.rlim_cur < VSOCK_CONNS_MAX + 64)
		skip();
	pair(fds);
	for (int i = 0; i < VSOCK_CONNS_MAX; i++)
		assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, dup(fds[1])), 0);
	int fd = dup(fds[1]);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, fd), -EMFILE);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken all the same */
	close(fds[0]);
	close(fds[1]);
}

static void check_fails(struct fixture *f)
{
	assert_true(f->d.dev->failed);
	drv_reset(&f->d);
	drv_start(&f->d);
	give_rx(f, RX_N);
}

static void test_broken_driver(void **state)
{
	struct fixture *f = *state;
	struct virtio_vsock_hdr hdr = guest_hdr(f, 5, 6, VIRTIO_VSOCK_OP_RW);
	int fds[2];

	drv_put(&f->d, VSOCK_TX, &(struct drv_seg){ TX_AT, HDR - 1, false }, 1);
	drv_kick(&f->d, VSOCK_TX);
	check_fails(f);
	hdr.len = 1; /* longer than its chain */
	tx_raw(f, &hdr, NULL, HDR);
	check_fails(f);
	drv_put(&f->d, VSOCK_TX, &(struct drv_seg){ MIB(15) + 4096, MIB(1), false }, 1);
	drv_kick(&f->d, VSOCK_TX);
	check_fails(f);
	drv_reset(&f->d);
	drv_start(&f->d);
	drv_put(&f->d, VSOCK_RX, &(struct drv_seg){ RX_AT, HDR, true }, 1);
	pair(fds);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, fds[1]), 0);
	assert_int_equal(f->d.dev->vq[VSOCK_RX].in_flight, 0);
	check_fails(f);
	expect(f, VIRTIO_VSOCK_OP_REQUEST); /* it was never sent, so it still waits */
	close(fds[0]);
}

static void test_restore(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct buf saved = { 0 };
	struct virtio_vsock_event event = { 1 };
	uint32_t port, len = 0;
	uint16_t head = 0;
	int fds[2];

	close(open_conn(f, &port));
	assert_int_equal(f->d.dev->ops->save(f->d.dev, &saved), 0);
	drv_reset(&f->d);
	f->d.dev->ops->free(f->d.dev);
	new_device(f);
	drv_queues(&f->d, ~0ULL);
	give_events(f, EVENTS_N); /* a live driver that knows nothing yet */
	give_rx(f, RX_N);
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, saved.len - 1), -EBADMSG);
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, saved.len), 0);
	pair(fds);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, fds[1]), 0);
	for (uint32_t q = 0; q < VSOCK_QUEUES; q++)
		drv_kick(&f->d, q);
	assert_true(drv_take(&f->d, VSOCK_EVENT, &head, &len));
	assert_int_equal(len, sizeof(event));
	memcpy(&event, drv_ram(&f->d, drv_desc(&f->d, VSOCK_EVENT)[head].addr), sizeof(event));
	assert_int_equal(event.id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	expect_nothing(f); /* until the guest has dropped its connections */
	drv_kick(&f->d, VSOCK_EVENT);
	expect_nothing(f);
	give_events(f, 1);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_not_equal(f->hdr.src_port, port);
	assert_false(drv_take(&f->d, VSOCK_EVENT, &head, &len));
	close(fds[0]);
}

static void test_load_checks(void **state)
{
	struct fixture *f = *state;
	const uint32_t wrong[2] = { 2, 0 }, right[2] = { 1, 0xffffffff };

	assert_int_equal(f->d.dev->ops->load(f->d.dev, NULL, 0), -EBADMSG);
	assert_int_equal(f->d.dev->ops->load(f->d.dev, wrong, sizeof(wrong)), -EBADMSG);
	assert_int_equal(f->d.dev->ops->load(f->d.dev, right, sizeof(right)), 0);
	assert_false(f->vs->reset_wanted); /* no driver, nothing to reset */
	uint32_t a = vconn_pick_port(f->vs, 1), b = vconn_pick_port(f->vs, 1);
	assert_int_not_equal(a, b);
	assert_in_range(a, 0x40000000u, 0x7fffffffu);
	assert_in_range(b, 0x40000000u, 0x7fffffffu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IDLE(test_config),
		LIVE(test_connect_and_talk),
		LIVE(test_refused),
		IDLE(test_before_driver),
		LIVE(test_guest_credit),
		LIVE(test_slow_reader),
		LIVE(test_credit_exceeded),
		LIVE(test_guest_connects),
		LIVE(test_guest_gives_up),
		LIVE(test_guest_limit),
		LIVE(test_unknown),
		LIVE(test_wrong_answers),
		IDLE(test_resets_are_bounded),
		IDLE(test_fair_without_buffers),
		LIVE(test_bulk_to_guest),
		IDLE(test_table_limit),
		LIVE(test_broken_driver),
		LIVE(test_restore),
		IDLE(test_load_checks),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
