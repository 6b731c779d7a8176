// SPDX-License-Identifier: Apache-2.0
/*
 * The entropy device behind virtio-mmio. The host's source of randomness is the target's own: it always gives the same, sometimes little or
 * nothing, and looks at where it is told to write.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/virtio/rng.h"
#include "vmm_harness.h"

#define REQUESTS_MAX \
	512 /* that one operation can bring about: a kick and some turns of the loop, a few tens each */

static struct {
	const struct gmem *mem;
	uint8_t mood;
	size_t given; /* in this operation */
} source;

ssize_t getrandom(void *to, size_t n, unsigned int flags)
{
	uint8_t *p = to;

	FUZZ_CHECK(flags == 0 && n <= RNG_BYTES_MAX);
	FUZZ_CHECK(p >= source.mem->base && (size_t)(p - source.mem->base) <= source.mem->size - n);
	if (source.mood == 1) {
		errno = EINTR;
		return -1;
	}
	if (source.mood == 2 && n > 1)
		n = n / 2;
	memset(p, 0x5a, n);
	source.given += n;
	return (ssize_t)n;
}

static void make(struct harness *h, const struct virtio_env *env, struct virtio_dev **ret)
{
	source.mem = &h->mem;
	FUZZ_CHECK(rng_new(env, ret) == 0);
}

static void host(struct harness *h, uint8_t what, uint16_t arg)
{
	(void)h;
	(void)arg;
	source.mood = what;
}

static void check(struct harness *h)
{
	FUZZ_CHECK(h->dev->vq[0].in_flight == 0);
	FUZZ_CHECK(source.given <= REQUESTS_MAX * RNG_BYTES_MAX);
	source.given = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct harness_device device = { NULL, make, NULL, host, check };

	source.mood = 0;
	source.given = 0;
	harness_run(&device, data, size);
	return 0;
}
