// SPDX-License-Identifier: Apache-2.0
// How vsock connections end: closing and half-closing from either side, with data under way.
#include "vsock_fixture.h"

#include <signal.h>

#include "base/clock.h"

static void test_host_half_close(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	char buf[8];
	int fd = open_conn(f, &port);

	assert_int_equal(write(fd, "bye", 3), 3);
	shutdown(fd, SHUT_WR);
	drv_turn(&f->d);
	expect(f, VIRTIO_VSOCK_OP_RW);
	drv_turn(&f->d);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->hdr.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	tx_data(f, port, "more", 4);
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	expect_open(fd);
	expect_nothing(f);
	/* The guest closes, too. */
	tx(f, port, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_BOTH);
	expect(f, VIRTIO_VSOCK_OP_RST);
	expect_eof(fd);
	assert_int_equal(n_used(f), 0);
	close(fd);
}

static void test_guest_half_close(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	char buf[8];
	int fd = open_conn(f, &port);

	tx_data(f, port, "last", 4);
	tx(f, port, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	expect_eof(fd);
	assert_int_equal(write(fd, "still", 5), 5);
	drv_turn(&f->d);
	expect(f, VIRTIO_VSOCK_OP_RW);
	/* Now the other direction: nothing is left, so all of it ends. */
	shutdown(fd, SHUT_WR);
	expect_shut_both(f);
	tx(f, port, VIRTIO_VSOCK_OP_RST, 0);
	assert_int_equal(n_used(f), 0);
	close(fd);
}

static void test_data_after_shutdown(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = open_conn(f, &port);

	tx(f, port, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	tx_data(f, port, "x", 1);
	expect(f, VIRTIO_VSOCK_OP_RST);
	expect_eof(fd);
	close(fd);
}

static void test_guest_stops_reading(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	char buf[8];
	int fd = open_conn(f, &port);

	tx(f, port, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	tx_data(f, port, "on", 2);
	assert_int_equal(read(fd, buf, sizeof(buf)), 2);
	expect_nothing(f);
	close(fd);
	expect_shut_both(f);
}

static void test_host_stops_reading(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = open_conn(f, &port);

	shutdown(fd, SHUT_RD);
	tx_data(f, port, "x", 1);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->hdr.flags, VIRTIO_VSOCK_SHUTDOWN_RCV);
	/* What it sends regardless counts as taken, so that it is not stuck. */
	for (uint32_t i = 0; i < 40; i++)
		tx_pattern(f, port, 0, 4000);
	expect(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(write(fd, "y", 1), 1);
	drv_turn(&f->d);
	while (rx(f) && f->hdr.op != VIRTIO_VSOCK_OP_RW)
		continue;
	assert_int_equal(f->hdr.op, VIRTIO_VSOCK_OP_RW);
	close(fd);
}

static void test_host_close(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = open_conn(f, &port);

	assert_int_equal(write(fd, "end", 3), 3);
	close(fd);
	drv_turn(&f->d);
	while (rx(f) && f->hdr.op != VIRTIO_VSOCK_OP_RW)
		continue;
	assert_memory_equal(f->data, "end", 3);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->hdr.flags, SHUT_BOTH);
	tx(f, port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	expect_nothing(f);
	/* A guest that does not answer is reset, in the end. */
	struct vconn *c = vconn_find(f->vs, AGENT_PORT, port);
	assert_int_equal(c->state, VCONN_CLOSING);
	vconn_expire(f->vs);
	assert_int_equal(c->state, VCONN_CLOSING);
	assert_true(c->deadline_ns > clock_mono_ns() + NS_PER_S);
	c->deadline_ns = 1;
	vconn_expire(f->vs);
	vsock_serve(f->vs);
	expect(f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(n_used(f), 0);
}

static void test_closing_answers(void **state)
{
	struct fixture *f = *state;

	for (int how = 0; how < 3; how++) {
		uint32_t port;
		close(open_conn(f, &port));
		expect_shut_both(f);
		if (how == 0)
			tx(f, port, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_BOTH);
		else if (how == 1)
			tx_data(f, port, "too late", 8);
		else
			tx(f, port, VIRTIO_VSOCK_OP_REQUEST, 0);
		expect(f, VIRTIO_VSOCK_OP_RST);
		assert_int_equal(n_used(f), 0);
	}
}

static void test_drains_after_rst(void **state)
{
	struct fixture *f = *state;
	uint64_t forwarded = 0, got = 0;
	uint32_t port;
	int fd = open_conn(f, &port);
	uint64_t sent = fill_up(f, port, 0, &forwarded);

	tx(f, port, VIRTIO_VSOCK_OP_SHUTDOWN, SHUT_BOTH);
	expect_nothing(f); /* not before the host has all of it */
	tx(f, port, VIRTIO_VSOCK_OP_RST, 0);
	assert_int_equal(n_used(f), 1);
	assert_null(vconn_find(f->vs, AGENT_PORT, port));
	while (got < sent) {
		got = read_pattern(fd, got);
		drv_turn(&f->d);
	}
	drv_turn(&f->d);
	expect_eof(fd);
	assert_int_equal(n_used(f), 0);
	expect_nothing(f);
	close(fd);
}

static void test_abort(void **state)
{
	struct fixture *f = *state;
	uint64_t forwarded = 0;
	uint32_t port;
	int fd = open_conn(f, &port);

	fill_up(f, port, 0, &forwarded);
	tx(f, port, VIRTIO_VSOCK_OP_RST, 0);
	assert_int_equal(n_used(f), 0);
	close(fd);
	/* A slow reader that closes gives its ring's bytes back to the guest as read. */
	fd = open_conn(f, &port);
	forwarded = 0;
	uint64_t sent = fill_up(f, port, 0, &forwarded);
	close(fd);
	drv_turn(&f->d);
	while (rx(f) && f->hdr.op != VIRTIO_VSOCK_OP_SHUTDOWN)
		continue;
	assert_int_equal(f->hdr.fwd_cnt, sent);
}

static void test_hang_up_without_credit(void **state)
{
	struct fixture *f = *state;
	uint32_t port;

	f->guest_buf = 3;
	int fd = open_conn(f, &port);
	assert_int_equal(write(fd, "123456", 6), 6);
	close(fd);
	drv_turn(&f->d);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN); /* nobody reads what the guest sends */
	assert_int_equal(f->hdr.flags, VIRTIO_VSOCK_SHUTDOWN_RCV);
	expect(f, VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(f->data, "123", 3);
	expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	expect_nothing(f);
	assert_null(
		vconn_find(f->vs, AGENT_PORT, port)->src); /* or its hang-up would wake the loop forever */
	f->guest_buf = 100;
	tx(f, port, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	expect(f, VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(f->data, "456", 3);
	expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->hdr.flags, SHUT_BOTH);
	tx(f, port, VIRTIO_VSOCK_OP_RST, 0);
	assert_int_equal(n_used(f), 0);
}

static void test_abandoned(void **state)
{
	struct fixture *f = *state;
	int fds[2];

	pair(fds);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, fds[1]), 0);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	close(fds[0]);
	drv_turn(&f->d);
	expect(f, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(n_used(f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LIVE(test_abandoned),
		LIVE(test_hang_up_without_credit),
		LIVE(test_host_half_close),
		LIVE(test_guest_half_close),
		LIVE(test_data_after_shutdown),
		LIVE(test_guest_stops_reading),
		LIVE(test_host_stops_reading),
		LIVE(test_host_close),
		LIVE(test_closing_answers),
		LIVE(test_drains_after_rst),
		LIVE(test_abort),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
