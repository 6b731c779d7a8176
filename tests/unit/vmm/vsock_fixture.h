/* SPDX-License-Identifier: Apache-2.0 */
/* The vsock device between a driver in the test and socket pairs. */
#ifndef TEST_VMM_VSOCK_FIXTURE_H
#define TEST_VMM_VSOCK_FIXTURE_H

#include "driver.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/virtio/vsock_conn.h"

#define RX_SIZE	   4096u
#define RX_N	   16u
#define RX_AT	   DRV_DATA_AT
#define TX_AT	   (DRV_DATA_AT + MIB(1))
#define EVENT_AT   (DRV_DATA_AT + MIB(2))
#define EVENTS_N   4u
#define GUEST_BUF  65536u
#define AGENT_PORT 1024u
#define HDR	   sizeof(struct virtio_vsock_hdr)
#define ROOM	   (RX_SIZE - HDR)

/* struct fixture - @hdr, @data: the packet that rx() took last; @fwd: what the guest tells as its fwd_cnt */
struct fixture {
	struct drv d;
	struct vsock *vs;
	struct virtio_vsock_hdr hdr;
	uint8_t data[RX_SIZE];
	uint32_t guest_buf, fwd;
	uint32_t asked_id, asked_port;
	unsigned int asked;
};

static inline void on_guest_connects(void *data, uint32_t id, uint32_t port)
{
	struct fixture *f = data;

	f->asked++;
	f->asked_id = id;
	f->asked_port = port;
}

static inline void new_device(struct fixture *f)
{
	const struct virtio_env env = drv_env(&f->d);
	const struct vsock_host host = { f, on_guest_connects };

	assert_int_equal(vsock_new(&env, &host, &f->d.dev), 0);
	f->vs = vsock_of(f->d.dev);
}

static inline int setup_idle(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	f.guest_buf = GUEST_BUF;
	drv_open(&f.d);
	new_device(&f);
	*state = &f;
	return 0;
}

static inline void give_rx(struct fixture *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = RX_AT + f->d.q[VSOCK_RX].next_desc % DRV_NUM * RX_SIZE;
		drv_put(&f->d, VSOCK_RX, &(struct drv_seg){ at, RX_SIZE, true }, 1);
	}
	drv_kick(&f->d, VSOCK_RX);
}

static inline void give_events(struct fixture *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		drv_put(&f->d, VSOCK_EVENT, &(struct drv_seg){ EVENT_AT + i * 8, 4, true }, 1);
	drv_kick(&f->d, VSOCK_EVENT);
}

static inline int setup(void **state)
{
	setup_idle(state);
	struct fixture *f = *state;
	drv_start(&f->d);
	give_events(f, EVENTS_N);
	give_rx(f, RX_N);
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	drv_close(&f->d);
	return 0;
}

/* The next packet to the guest, into f->hdr and f->data; its buffer is given again. */
static inline bool rx(struct fixture *f)
{
	uint16_t head = 0;
	uint32_t len;

	if (!drv_take(&f->d, VSOCK_RX, &head, &len))
		return false;
	const uint8_t *p = drv_ram(&f->d, drv_desc(&f->d, VSOCK_RX)[head].addr);
	memcpy(&f->hdr, p, HDR);
	assert_int_equal(len, HDR + f->hdr.len);
	memcpy(f->data, p + HDR, f->hdr.len);
	assert_int_equal(f->hdr.dst_cid, VSOCK_GUEST_CID);
	give_rx(f, 1);
	return true;
}

static inline void expect(struct fixture *f, uint16_t op)
{
	assert_true(rx(f));
	assert_int_equal(f->hdr.op, op);
}

static inline void expect_nothing(struct fixture *f)
{
	drv_turn(&f->d);
	assert_false(rx(f));
}

/* A packet from the guest to connection @c's peer ports, in @n descriptors if it has payload */
static inline void tx_raw(struct fixture *f, const struct virtio_vsock_hdr *hdr, const void *p, uint32_t cut)
{
	uint32_t total = (uint32_t)HDR + (p ? hdr->len : 0);
	const struct drv_seg segs[2] = { { TX_AT, cut, false }, { TX_AT + cut, total - cut, false } };
	uint16_t head = 0;
	uint32_t len;

	memcpy(drv_ram(&f->d, TX_AT), hdr, HDR);
	if (p)
		memcpy(drv_ram(&f->d, TX_AT + HDR), p, hdr->len);
	drv_put(&f->d, VSOCK_TX, segs, cut < total ? 2 : 1);
	drv_kick(&f->d, VSOCK_TX);
	assert_true(drv_take(&f->d, VSOCK_TX, &head, &len));
	assert_int_equal(len, 0);
}

static inline struct virtio_vsock_hdr guest_hdr(struct fixture *f, uint32_t guest_port, uint32_t host_port,
						uint16_t op)
{
	return (struct virtio_vsock_hdr){ .src_cid = VSOCK_GUEST_CID,
					  .dst_cid = VSOCK_HOST_CID,
					  .src_port = guest_port,
					  .dst_port = host_port,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = op,
					  .buf_alloc = f->guest_buf,
					  .fwd_cnt = f->fwd };
}

static inline void tx(struct fixture *f, uint32_t host_port, uint16_t op, uint32_t flags)
{
	struct virtio_vsock_hdr hdr = guest_hdr(f, AGENT_PORT, host_port, op);

	hdr.flags = flags;
	tx_raw(f, &hdr, NULL, (uint32_t)HDR);
}

static inline void tx_data(struct fixture *f, uint32_t host_port, const void *p, uint32_t n)
{
	struct virtio_vsock_hdr hdr = guest_hdr(f, AGENT_PORT, host_port, VIRTIO_VSOCK_OP_RW);

	hdr.len = n;
	tx_raw(f, &hdr, p, (uint32_t)HDR);
}

static inline void pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
}

/* Opens a connection to the agent; the host's end. @ret_port: the device's port */
static inline int open_conn(struct fixture *f, uint32_t *ret_port)
{
	int fds[2];

	pair(fds);
	assert_int_equal(vsock_connect(f->d.dev, AGENT_PORT, fds[1]), 0);
	expect(f, VIRTIO_VSOCK_OP_REQUEST);
	*ret_port = f->hdr.src_port;
	tx(f, *ret_port, VIRTIO_VSOCK_OP_RESPONSE, 0);
	return fds[0];
}

static inline void expect_eof(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), 0);
}

static inline void expect_open(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

/* The host is done with both directions; it may have told of one of them before. */
static inline void expect_shut_both(struct fixture *f)
{
	drv_turn(&f->d);
	do
		expect(f, VIRTIO_VSOCK_OP_SHUTDOWN);
	while (f->hdr.flags != SHUT_BOTH);
}

static inline unsigned int n_used(struct fixture *f)
{
	unsigned int n = 0;

	for (size_t i = 0; i < VSOCK_CONNS_MAX; i++)
		n += f->vs->conns[i].state != VCONN_FREE;
	return n;
}

static inline uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 7 + i / 253);
}

/* The guest sends @n bytes of the pattern, beginning with byte @from of it */
static inline void tx_pattern(struct fixture *f, uint32_t port, uint64_t from, uint32_t n)
{
	uint8_t buf[RX_SIZE];

	for (uint32_t i = 0; i < n; i++)
		buf[i] = pattern(from + i);
	tx_data(f, port, buf, n);
}

static inline uint64_t read_pattern(int fd, uint64_t from)
{
	uint8_t buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(from++));
	return from;
}

/* Sends until the guest's credit is used up, for as long as nobody reads; bytes sent in all */
static inline uint64_t fill_up(struct fixture *f, uint32_t port, uint64_t sent, uint64_t *forwarded)
{
	for (;;) {
		while (rx(f))
			*forwarded += (uint32_t)(f->hdr.fwd_cnt - (uint32_t)*forwarded);
		uint32_t n = (uint32_t)MIN(4000u, VSOCK_BUF - (sent - *forwarded));
		if (n == 0)
			return sent;
		tx_pattern(f, port, sent, n);
		sent += n;
	}
}

#define LIVE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define IDLE(fn) cmocka_unit_test_setup_teardown(fn, setup_idle, teardown)

#endif
