// SPDX-License-Identifier: Apache-2.0
// The balloon device behind virtio-mmio: pages it gives back, targets that come and go, configuration that is not the guest's to write.
#include <linux/virtio_balloon.h>

#include "vmm/virtio/balloon.h"
#include "vmm_harness.h"

struct world {
	bool shared;
};

static void make(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret)
{
	h->mem.shared = ((struct world *)h->data)->shared;
	FUZZ_CHECK(balloon_new(env, true, ret) == 0);
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	balloon_target(h->dev, what & 1 ? UINT64_MAX : arg * 16ULL);
}

static void check(struct harness *h)
{
	struct virtio_balloon_config c;
	uint64_t in, free;

	h->dev->ops->config_read(h->dev, 0, &c, sizeof(c));
	FUZZ_CHECK(c.num_pages <= HARNESS_MEM / BALLOON_PAGE);
	FUZZ_CHECK(c.free_page_hint_cmd_id == 0 && c.poison_val == 0);
	balloon_counts(h->dev, &in, &free);
	FUZZ_CHECK(in <= HARNESS_MEM);
	FUZZ_CHECK(!h->mem.shared || free == 0);
	for (uint32_t q = 0; q < h->dev->ops->n_queues; q++)
		FUZZ_CHECK(h->dev->vq[q].in_flight == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .shared = size > 0 && (data[0] & 1) };
	const struct harness_device device = { &w, make, NULL, host, check };

	if (size > 1)
		harness_run(&device, data + 1, size - 1);
	return 0;
}
