// SPDX-License-Identifier: Apache-2.0
// The entropy device: requests are filled, bounded, in turns.
#include "driver.h"

#include "vmm/virtio/rng.h"

static int setup(void **state)
{
	static struct drv d;

	drv_open(&d);
	const struct virtio_env env = drv_env(&d);
	assert_int_equal(rng_new(&env, &d.dev), 0);
	drv_start(&d);
	*state = &d;
	return 0;
}

static int teardown(void **state)
{
	drv_close(*state);
	return 0;
}

static unsigned int zeros(const uint8_t *p, size_t n)
{
	unsigned int z = 0;

	for (size_t i = 0; i < n; i++)
		z += p[i] == 0;
	return z;
}

static void test_fills(void **state)
{
	struct drv *d = *state;
	const struct drv_seg segs[2] = { { DRV_DATA_AT, 100, true }, { DRV_DATA_AT + 4096, 60, true } };
	uint16_t head;
	uint32_t len;

	drv_put(d, 0, segs, 2);
	drv_kick(d, 0);
	assert_true(drv_take(d, 0, &head, &len));
	assert_int_equal(len, 160);
	assert_true(zeros(drv_ram(d, DRV_DATA_AT), 100) < 20);
	assert_true(zeros(drv_ram(d, DRV_DATA_AT + 4096), 60) < 20);
	assert_int_equal(zeros(drv_ram(d, DRV_DATA_AT + 100), 100), 100);
	assert_int_equal(d->irqs, 1);
}

static void test_bounded(void **state)
{
	struct drv *d = *state;
	uint16_t head;
	uint32_t len;

	drv_put(d, 0, &(struct drv_seg){ DRV_DATA_AT, MIB(1), true }, 1);
	drv_put(d, 0, &(struct drv_seg){ DRV_DATA_AT, 16, false }, 1); /* nothing to write into */
	drv_kick(d, 0);
	assert_true(drv_take(d, 0, &head, &len));
	assert_int_equal(len, RNG_BYTES_MAX);
	assert_int_equal(zeros(drv_ram(d, DRV_DATA_AT + RNG_BYTES_MAX), 4096), 4096);
	assert_true(drv_take(d, 0, &head, &len));
	assert_int_equal(len, 0);
}

static void test_turns(void **state)
{
	struct drv *d = *state;
	unsigned int n = 0, first;
	uint16_t head;
	uint32_t len;

	for (int i = 0; i < 60; i++)
		drv_put(d, 0, &(struct drv_seg){ DRV_DATA_AT, 8, true }, 1);
	drv_kick(d, 0);
	while (drv_take(d, 0, &head, &len))
		n++;
	first = n;
	assert_in_range(first, 1, 59); /* the loop has its turn between */
	for (int i = 0; i < 10; i++)
		drv_turn(d);
	while (drv_take(d, 0, &head, &len))
		n++;
	assert_int_equal(n, 60);
}

static void test_broken(void **state)
{
	struct drv *d = *state;

	drv_put(d, 0, &(struct drv_seg){ GMEM_HIGH_START, 8, true }, 1);
	drv_kick(d, 0);
	assert_true(d->dev->failed);
	assert_int_equal(d->config_irqs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fills, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
