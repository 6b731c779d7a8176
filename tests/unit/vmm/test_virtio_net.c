// SPDX-License-Identifier: Apache-2.0
// The network device with a peer that echoes: frames both ways, the handshake, headers, full and empty ends, snapshots.
#include "driver.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/virtio/net.h"

#define RX    0u
#define TX    1u
#define HDR   sizeof(struct virtio_net_hdr_v1)
#define RX_AT DRV_DATA_AT
#define TX_AT (DRV_DATA_AT + MIB(1))
#define BUF   2048u

struct fixture {
	struct drv d;
	int peer, fd;
	struct net_hello hello;
};

static const struct net_hello good = { .magic = NET_HELLO_MAGIC,
				       .version = NET_HELLO_VERSION,
				       .flags = NET_HELLO_HDR | 0x80,
				       .mtu = 1400,
				       .mac = { 2, 1, 2, 3, 4, 5 } };

static int make(struct fixture *f, const struct net_hello *hello, size_t n)
{
	const struct virtio_env env = drv_env(&f->d);
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	f->peer = fds[0];
	f->fd = fds[1];
	assert_int_equal(write(f->peer, hello, n), n);
	return net_new(&env, f->fd, &f->d.dev);
}

static void start(struct fixture *f, uint16_t flags)
{
	struct net_hello h = good;

	h.flags = flags;
	assert_int_equal(make(f, &h, sizeof(h)), 0);
	assert_int_equal(read(f->peer, &f->hello, sizeof(f->hello)), sizeof(f->hello));
	drv_start(&f->d);
}

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){ .peer = -1, .fd = -1 };
	drv_open(&f.d);
	*state = &f;
	return 0;
}

static void drop_device(struct fixture *f)
{
	if (f->d.dev && f->d.dev->active)
		drv_reset(&f->d);
	if (f->d.dev)
		f->d.dev->ops->free(f->d.dev);
	f->d.dev = NULL;
	fd_close(&f->peer);
	fd_close(&f->fd);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	drop_device(f);
	drv_close(&f->d);
	return 0;
}

static void give_rx(struct fixture *f, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		drv_put(&f->d, RX,
			&(struct drv_seg){ RX_AT + f->d.q[RX].next_desc % DRV_NUM * BUF, BUF, true }, 1);
	drv_kick(&f->d, RX);
}

/* Puts a frame of @n bytes with first byte @tag; @gso: in its header. Without a kick */
static void put_frame(struct fixture *f, uint8_t tag, uint32_t n, uint8_t gso)
{
	struct virtio_net_hdr_v1 h = { .gso_type = gso };
	uint64_t at = TX_AT + f->d.q[TX].next_desc % DRV_NUM * KIB(64);
	const struct drv_seg segs[2] = { { at, 20, false }, { at + 20, (uint32_t)(HDR + n - 20), false } };

	memcpy(drv_ram(&f->d, at), &h, HDR);
	memset(drv_ram(&f->d, at + HDR), tag, n);
	drv_put(&f->d, TX, segs, 2);
}

static bool used(struct fixture *f, uint32_t q, const uint8_t **ret, uint32_t *len)
{
	uint16_t head;

	if (!drv_take(&f->d, q, &head, len))
		return false;
	*ret = drv_ram(&f->d, drv_desc(&f->d, q)[head].addr);
	return true;
}

static void test_echo(void **state)
{
	struct fixture *f = *state;
	char buf[BUF];
	const uint8_t *p = NULL;
	uint32_t len = 0;

	start(f, 0);
	assert_int_equal(f->hello.flags, 0);
	give_rx(f, 4);
	for (uint8_t i = 1; i <= 3; i++) {
		put_frame(f, i, 60 + i, VIRTIO_NET_HDR_GSO_NONE);
		drv_kick(&f->d, TX);
		assert_true(used(f, TX, &p, &len));
		assert_int_equal(read(f->peer, buf, sizeof(buf)), 60 + i);
		assert_int_equal(buf[0], i);
		assert_int_equal(write(f->peer, buf, 60 + i), 60 + i);
	}
	drv_turn(&f->d);
	for (uint8_t i = 1; i <= 3; i++) {
		assert_true(used(f, RX, &p, &len));
		assert_int_equal(len, HDR + 60 + i);
		const struct virtio_net_hdr_v1 h = { .num_buffers = 1 };
		assert_memory_equal(p, &h, HDR);
		assert_int_equal(p[HDR + 59 + i], i);
	}
	struct net_counts n;
	net_counts(f->d.dev, &n);
	assert_int_equal(n.to_guest, 3);
	assert_int_equal(n.from_guest, 3);
	assert_int_equal(n.dropped, 0);
}

static void test_headers_pass(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[BUF];
	const uint8_t *p = NULL;
	uint32_t len = 0;

	start(f, NET_HELLO_HDR | 0x80);
	assert_int_equal(f->hello.flags, NET_HELLO_HDR); /* what it does not know is not agreed */
	assert_true(f->d.dev->features >> VIRTIO_NET_F_HOST_TSO4 & 1);
	put_frame(f, 9, 100, VIRTIO_NET_HDR_GSO_TCPV4);
	drv_kick(&f->d, TX);
	assert_int_equal(read(f->peer, buf, sizeof(buf)), HDR + 100);
	assert_int_equal(((struct virtio_net_hdr_v1 *)(void *)buf)->gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	buf[10] = 77; /* number of buffers: ours to say */
	assert_int_equal(write(f->peer, buf, HDR + 100), HDR + 100);
	give_rx(f, 1);
	drv_turn(&f->d);
	assert_true(used(f, RX, &p, &len));
	assert_int_equal(len, HDR + 100);
	buf[10] = 1;
	assert_memory_equal(p, buf, HDR + 100);
}

static void test_drops(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[4 * BUF] = { 0 };
	struct net_counts n;
	const uint8_t *p = NULL;
	uint32_t len = 0;

	start(f, 0);
	assert_false(f->d.dev->features >> VIRTIO_NET_F_CSUM & 1);
	put_frame(f, 1, 100, VIRTIO_NET_HDR_GSO_TCPV4); /* not agreed */
	put_frame(f, 2, 13, VIRTIO_NET_HDR_GSO_NONE);	/* no frame */
	drv_kick(&f->d, TX);
	drv_put(&f->d, TX, &(struct drv_seg){ TX_AT, KIB(70), false }, 1);
	drv_put(&f->d, TX, &(struct drv_seg){ TX_AT, HDR - 1, false }, 1);
	drv_kick(&f->d, TX);
	for (int i = 0; i < 4; i++)
		assert_true(used(f, TX, &p, &len));
	assert_int_equal(read(f->peer, buf, sizeof(buf)), -1);
	/* Too long for the guest's buffer, too short for anybody */
	assert_int_equal(write(f->peer, buf, BUF), BUF);
	assert_int_equal(write(f->peer, buf, 13), 13);
	assert_int_equal(write(f->peer, buf, BUF - HDR), BUF - HDR);
	give_rx(f, 3);
	drv_turn(&f->d);
	assert_true(used(f, RX, &p, &len));
	assert_int_equal(len, BUF);
	assert_false(used(f, RX, &p, &len));
	net_counts(f->d.dev, &n);
	assert_int_equal(n.dropped, 6);
	assert_false(f->d.dev->failed);
}

static void test_full_socket(void **state)
{
	struct fixture *f = *state;
	static uint8_t buf[KIB(64)];
	unsigned int sent = 0, got = 0;
	const uint8_t *p = NULL;
	uint32_t len = 0;

	start(f, 0);
	do {
		put_frame(f, (uint8_t)sent, 20000, VIRTIO_NET_HDR_GSO_NONE);
		drv_kick(&f->d, TX);
		sent++;
	} while (used(f, TX, &p, &len) && sent < 30);
	assert_true(sent < 30);
	assert_int_equal(f->d.dev->vq[TX].in_flight, 0);
	while (read(f->peer, buf, sizeof(buf)) > 0) {
		assert_int_equal(buf[0], got);
		got++;
		drv_turn(&f->d);
	}
	assert_int_equal(got, sent);
	assert_true(used(f, TX, &p, &len));
}

static void test_peer_gone(void **state)
{
	struct fixture *f = *state;
	uint16_t status = 0;
	const uint8_t *p = NULL;
	uint32_t len = 0;

	start(f, 0);
	f->d.dev->ops->config_read(f->d.dev, 6, &status, 2);
	assert_int_equal(status, VIRTIO_NET_S_LINK_UP);
	fd_close(&f->peer);
	drv_turn(&f->d);
	f->d.dev->ops->config_read(f->d.dev, 6, &status, 2);
	assert_int_equal(status, 0);
	assert_int_equal(f->d.config_irqs, 1);
	put_frame(f, 1, 60, VIRTIO_NET_HDR_GSO_NONE);
	drv_kick(&f->d, TX);
	assert_true(used(f, TX, &p, &len));
	give_rx(f, 1);
	drv_reset(&f->d);
	drv_start(&f->d);
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	uint8_t mac[6];
	uint16_t mtu;

	start(f, 0);
	f->d.dev->ops->config_read(f->d.dev, 0, mac, 6);
	assert_memory_equal(mac, good.mac, 6);
	f->d.dev->ops->config_read(f->d.dev, 10, &mtu, 2);
	assert_int_equal(mtu, 1400);
}

static void refuse(struct fixture *f, const struct net_hello *h, size_t n, int r)
{
	assert_int_equal(make(f, h, n), r);
	f->d.dev = NULL;
	drop_device(f);
}

static void test_bad_hellos(void **state)
{
	struct fixture *f = *state;
	struct net_hello h = good;
	uint8_t long_one[sizeof(h) + 1] = { 0 };

	memcpy(long_one, &h, sizeof(h));
	refuse(f, (const struct net_hello *)(const void *)long_one, sizeof(long_one), -EPROTO);
	refuse(f, &h, sizeof(h) - 1, -EPROTO);
	h.magic++;
	refuse(f, &h, sizeof(h), -EPROTO);
	h = good;
	h.version = 2;
	refuse(f, &h, sizeof(h), -EPROTO);
	h = good;
	h.mtu = NET_MTU_MIN - 1;
	refuse(f, &h, sizeof(h), -EPROTO);
	h.mtu = NET_MTU_MAX + 1;
	refuse(f, &h, sizeof(h), -EPROTO);
	h = good;
	h.mac[0] = 1; /* a group's address */
	refuse(f, &h, sizeof(h), -EPROTO);
	h = good;
	h.pad = 1;
	refuse(f, &h, sizeof(h), -EPROTO);
}

static void test_snapshot(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct buf saved = { 0 };
	struct net_hello other = good;
	uint8_t mac[6];

	start(f, 0);
	assert_int_equal(f->d.dev->ops->save(f->d.dev, &saved), 0);
	drop_device(f);
	other.flags = 0;
	other.mac[5] = 99;
	assert_int_equal(make(f, &other, sizeof(other)), 0);
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, saved.len), 0);
	f->d.dev->ops->config_read(f->d.dev, 0, mac, 6);
	assert_memory_equal(mac, good.mac, 6); /* the one that the guest knows */
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, saved.len - 1), -EBADMSG);
	drop_device(f);
	other.mtu = 1500;
	assert_int_equal(make(f, &other, sizeof(other)), 0);
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, saved.len), -EBADMSG);
}

static void test_broken(void **state)
{
	struct fixture *f = *state;

	start(f, 0);
	drv_put(&f->d, TX, &(struct drv_seg){ GMEM_HIGH_START, 80, false }, 1);
	drv_kick(&f->d, TX);
	assert_true(f->d.dev->failed);
	drv_reset(&f->d);
	drv_start(&f->d);
	drv_put(&f->d, RX, &(struct drv_seg){ RX_AT, HDR, true }, 1);
	drv_kick(&f->d, RX);
	assert_true(f->d.dev->failed);
	assert_int_equal(f->d.dev->vq[RX].in_flight, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_echo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_pass, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_hellos, setup, teardown),
		cmocka_unit_test_setup_teardown(test_snapshot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
