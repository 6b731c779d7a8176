// SPDX-License-Identifier: Apache-2.0
/*
 * The network device behind virtio-mmio. The first bytes of the input are changes to the peer's hello (offset, value); then its peer
 * sends, takes, and leaves as the input says. Frames that the device sends keep to the limits.
 */
#include <string.h>

#include "base/attr.h"
#include "base/fd.h"
#include "vmm/virtio/net.h"
#include "vmm_harness.h"
#include "vmm_pair.h"

#define HDR 12

struct world {
	int fds[2];
	bool hdr;
	struct net_hello hello;
};

static void make(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret)
{
	struct world *w = h->data;
	struct net_hello answer;

	fd_close(&w->fds[0]);
	fd_close(&w->fds[1]);
	pair_new(SOCK_SEQPACKET, w->fds);
	FUZZ_CHECK(write(w->fds[0], &w->hello, sizeof(w->hello)) == sizeof(w->hello));
	FUZZ_CHECK(net_new(env, w->fds[1], ret) == 0);
	FUZZ_CHECK(read(w->fds[0], &answer, sizeof(answer)) == sizeof(answer));
	w->hdr = answer.flags & NET_HELLO_HDR;
}

static void take_frames(struct world *w, int most)
{
	static uint8_t frame[HDR + 65550 + 1];
	ssize_t n;

	while (most-- > 0 && (n = recv(w->fds[0], frame, sizeof(frame), 0)) > 0) {
		FUZZ_CHECK(n >= 14 + (w->hdr ? HDR : 0));
		FUZZ_CHECK(n <= 65550 + (w->hdr ? HDR : 0));
	}
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	struct world *w = h->data;

	switch (what % 4) {
	case 0:
		pair_write(w->fds[0], arg);
		break;
	case 1:
		take_frames(w, 1000);
		break;
	case 2:
		take_frames(w, 1);
		break;
	default:
		fd_close(&w->fds[0]);
		break;
	}
}

static void check(struct harness *h)
{
	uint8_t mac[6];

	FUZZ_CHECK(h->dev->vq[0].in_flight == 0 && h->dev->vq[1].in_flight == 0);
	h->dev->ops->config_read(h->dev, 0, mac, sizeof(mac));
	FUZZ_CHECK((mac[0] & 1) == 0);
}

/* A hello that may be none; whether it is one */
static bool try_hello(const struct net_hello *hello, size_t n)
{
	struct gmem mem = { 0 };
	struct loop *loop;
	struct virtio_env env = { .mem = &mem };
	struct virtio_dev *dev;
	int fds[2];

	FUZZ_CHECK(loop_new(&loop) == 0);
	env.loop = loop;
	pair_new(SOCK_SEQPACKET, fds);
	FUZZ_CHECK(write(fds[0], hello, n) == (ssize_t)n);
	int r = net_new(&env, fds[1], &dev);
	if (r == 0)
		dev->ops->free(dev);
	loop_free(loop);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .fds = { -1, -1 },
			   .hello = { .magic = NET_HELLO_MAGIC,
				      .version = NET_HELLO_VERSION,
				      .mtu = 1500,
				      .mac = { 2, 0, 0, 0, 0, 1 } } };
	const struct harness_device device = { &w, make, NULL, host, check };

	if (size < 4)
		return 0;
	w.hello.flags = data[0] & 1;
	if (data[1] < sizeof(w.hello)) {
		struct net_hello h = w.hello;
		((uint8_t *)&h)[data[1]] = data[2];
		if (try_hello(&h, data[3] < 2 ? sizeof(h) - data[3] : sizeof(h)))
			w.hello = h;
	}
	harness_run(&device, data + 4, size - 4);
	fd_close(&w.fds[0]);
	fd_close(&w.fds[1]);
	return 0;
}
