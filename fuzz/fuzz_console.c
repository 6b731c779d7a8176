// SPDX-License-Identifier: Apache-2.0
// The console device behind virtio-mmio, with a user who types, reads, stops and leaves as the input says.
#include "base/fd.h"
#include "vmm/virtio/console.h"
#include "vmm_harness.h"
#include "vmm_pair.h"

struct world {
	int fds[2];
};

static void make(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret)
{
	struct world *w = h->data;

	if (w->fds[1] < 0)
		pair_new(SOCK_STREAM, w->fds);
	FUZZ_CHECK(console_new(env, w->fds[1], ret) == 0);
}

static void gone(struct harness *h)
{
	struct world *w = h->data;

	if (w->fds[0] >= 0)
		return;
	fd_close(&w->fds[1]); /* the next machine gets a new user */
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	struct world *w = h->data;

	switch (what % 6) {
	case 0:
		pair_write(w->fds[0], arg);
		break;
	case 1:
		pair_read(w->fds[0], SIZE_MAX);
		break;
	case 2:
		pair_read(w->fds[0], 1);
		break;
	case 3:
		(void)shutdown(w->fds[0], SHUT_WR);
		break;
	case 4:
		(void)shutdown(w->fds[0], SHUT_RD);
		break;
	default:
		fd_close(&w->fds[0]);
		break;
	}
}

/* Nothing is ever kept popped: a snapshot may come at any time. */
static void check(struct harness *h)
{
	FUZZ_CHECK(h->dev->vq[0].in_flight == 0 && h->dev->vq[1].in_flight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .fds = { -1, -1 } };
	const struct harness_device device = { &w, make, gone, host, check };

	harness_run(&device, data, size);
	fd_close(&w.fds[0]);
	fd_close(&w.fds[1]);
	return 0;
}
