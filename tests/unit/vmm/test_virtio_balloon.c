// SPDX-License-Identifier: Apache-2.0
// The balloon device: pages given back are really gone, targets, reports, nothing beyond memory.
#include "driver.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/virtio/balloon.h"

enum { INFLATE, DEFLATE, REPORTING };

#define PFNS_AT DRV_DATA_AT
#define PAGE_AT (DRV_DATA_AT + MIB(2))
#define PFN	((uint32_t)(PAGE_AT / BALLOON_PAGE))

static int setup(void **state)
{
	static struct drv d;

	drv_open(&d);
	const struct virtio_env env = drv_env(&d);
	assert_int_equal(balloon_new(&env, true, &d.dev), 0);
	drv_start(&d);
	memset(drv_ram(&d, PAGE_AT), 0xaa, 16 * BALLOON_PAGE);
	*state = &d;
	return 0;
}

static int teardown(void **state)
{
	drv_close(*state);
	return 0;
}

static bool used(struct drv *d, uint32_t q)
{
	uint16_t head;
	uint32_t len = 1;

	return drv_take(d, q, &head, &len) && len == 0;
}

/* Which of the sixteen pages at PAGE_AT have lost their bytes, a bit each */
static uint32_t gone(struct drv *d)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < 16; i++) {
		const uint8_t *p = drv_ram(d, PAGE_AT + i * BALLOON_PAGE);
		bits |= (p[0] == 0 && p[BALLOON_PAGE - 1] == 0) << i;
	}
	return bits;
}

static void inflate(struct drv *d, const uint32_t *pfns, uint32_t n)
{
	memcpy(drv_ram(d, PFNS_AT), pfns, n * 4);
	drv_put(d, INFLATE, &(struct drv_seg){ PFNS_AT, n * 4, false }, 1);
	drv_kick(d, INFLATE);
	assert_true(used(d, INFLATE));
}

static void test_inflate(void **state)
{
	struct drv *d = *state;

	inflate(d, (uint32_t[]){ PFN + 1 }, 1);
	assert_int_equal(gone(d), 0x0002);
	inflate(d, (uint32_t[]){ PFN + 4, PFN + 5, PFN + 6 }, 3); /* upwards */
	assert_int_equal(gone(d), 0x0072);
	inflate(d, (uint32_t[]){ PFN + 11, PFN + 10, PFN + 13 }, 3); /* downwards, and another */
	assert_int_equal(gone(d), 0x2c72);
	inflate(d, (uint32_t[]){ 0xffffffff, 0, 0xffffffff, 4096 /* the first beyond */, PFN }, 5);
	assert_int_equal(gone(d), 0x2c73);
	assert_false(d->dev->failed);
	drv_put(d, DEFLATE, &(struct drv_seg){ PFNS_AT, 4, false }, 1);
	drv_kick(d, DEFLATE);
	assert_true(used(d, DEFLATE));
	assert_int_equal(gone(d), 0x2c73);
}

static void test_many_numbers(void **state)
{
	struct drv *d = *state;
	static uint32_t pfns[BALLOON_PFNS_MAX];

	for (uint32_t i = 0; i < BALLOON_PFNS_MAX; i++)
		pfns[i] = 0xffffff00;
	pfns[BALLOON_PFNS_MAX - 1] = PFN + 15;
	inflate(d, pfns, BALLOON_PFNS_MAX);
	assert_int_equal(gone(d), 0x8000);
	drv_put(d, INFLATE, &(struct drv_seg){ PFNS_AT, 4 * BALLOON_PFNS_MAX + 4, false }, 1);
	drv_kick(d, INFLATE);
	assert_true(d->dev->failed);
}

/* A guest that boots is not offered it. */
static void test_no_reporting(void **state)
{
	const struct virtio_env env = drv_env(*state);
	struct virtio_dev *dev;

	assert_int_equal(balloon_new(&env, false, &dev), 0);
	assert_int_equal(dev->features >> VIRTIO_BALLOON_F_REPORTING & 1, 0);
	dev->ops->free(dev);
}

static void test_reporting(void **state)
{
	struct drv *d = *state;
	const struct drv_seg segs[2] = { { PAGE_AT + BALLOON_PAGE, 2 * BALLOON_PAGE, true },
					 { PAGE_AT + 8 * BALLOON_PAGE, BALLOON_PAGE, true } };
	uint64_t in, free;

	drv_put(d, REPORTING, segs, 2);
	drv_kick(d, REPORTING);
	assert_true(used(d, REPORTING));
	assert_int_equal(gone(d), 0x0106);
	balloon_counts(d->dev, &in, &free);
	assert_int_equal(free, 3 * BALLOON_PAGE);
	assert_int_equal(in, 0);
	/* What the driver did not negotiate it cannot use. */
	drv_reset(d);
	drv_queues(d, ~(1ULL << VIRTIO_BALLOON_F_REPORTING));
	drv_put(d, REPORTING, &(struct drv_seg){ PAGE_AT, BALLOON_PAGE, true }, 1);
	drv_kick(d, REPORTING);
	assert_int_equal(gone(d), 0x0106);
}

static void test_target(void **state)
{
	struct drv *d = *state;
	uint32_t pages = 7, actual = 5, wrong = 9;
	uint64_t in, free;

	balloon_target(d->dev, MIB(3) + 100);
	assert_int_equal(d->config_irqs, 1);
	assert_int_equal(d->dev->config_gen, 1);
	d->dev->ops->config_read(d->dev, 0, &pages, 4);
	assert_int_equal(pages, MIB(3) / BALLOON_PAGE);
	balloon_target(d->dev, UINT64_MAX);
	d->dev->ops->config_read(d->dev, 0, &pages, 4);
	assert_int_equal(pages, MIB(16) / BALLOON_PAGE);
	d->dev->ops->config_write(d->dev, 4, &actual, 4);
	d->dev->ops->config_write(d->dev, 0, &wrong, 4); /* not the guest's */
	d->dev->ops->config_write(d->dev, 6, &wrong, 4);
	d->dev->ops->config_read(d->dev, 0, &pages, 4);
	assert_int_equal(pages, MIB(16) / BALLOON_PAGE);
	balloon_counts(d->dev, &in, &free);
	assert_int_equal(in, 5 * BALLOON_PAGE);
	actual = 0xffffffff;
	d->dev->ops->config_write(d->dev, 4, &actual, 4);
	balloon_counts(d->dev, &in, &free);
	assert_int_equal(in, MIB(16));
	drv_reset(d);
	balloon_counts(d->dev, &in, &free);
	assert_int_equal(in, 0);
}

static void test_shared_memory_keeps_its_bytes(void **state)
{
	struct drv *d = *state;
	_cleanup_fd_ int fd = fd_memfd("memory", "", 0);
	struct gmem mem;

	assert_true(fd >= 0 && ftruncate(fd, MIB(16)) == 0);
	assert_int_equal(gmem_new_file(&mem, MIB(16), fd, true), 0);
	drv_reset(d);
	d->dev->ops->free(d->dev);
	gmem_done(&d->mem);
	d->mem = mem;
	const struct virtio_env env = drv_env(d);
	assert_int_equal(balloon_new(&env, true, &d->dev), 0);
	drv_start(d);
	memset(drv_ram(d, PAGE_AT), 0xaa, 16 * BALLOON_PAGE);
	inflate(d, (uint32_t[]){ PFN }, 1);
	drv_put(d, REPORTING, &(struct drv_seg){ PAGE_AT, BALLOON_PAGE, true }, 1);
	drv_kick(d, REPORTING);
	assert_true(used(d, REPORTING));
	assert_int_equal(gone(d), 0);
	uint64_t in, free;
	balloon_counts(d->dev, &in, &free);
	assert_int_equal(free, 0);
}

static void test_snapshot(void **state)
{
	struct drv *d = *state;
	_cleanup_buf_ struct buf saved = { 0 };
	uint32_t actual = 5, words[2];

	balloon_target(d->dev, MIB(1));
	d->dev->ops->config_write(d->dev, 4, &actual, 4);
	assert_int_equal(d->dev->ops->save(d->dev, &saved), 0);
	balloon_target(d->dev, 0);
	drv_reset(d);
	assert_int_equal(d->dev->ops->load(d->dev, saved.data, saved.len - 1), -EBADMSG);
	assert_int_equal(d->dev->ops->load(d->dev, saved.data, saved.len), 0);
	d->dev->ops->config_read(d->dev, 0, words, 8);
	assert_int_equal(words[0], MIB(1) / BALLOON_PAGE);
	assert_int_equal(words[1], 5);
	saved.data[7] = 1; /* more pages than there are */
	assert_int_equal(d->dev->ops->load(d->dev, saved.data, saved.len), -EBADMSG);
}

static void test_turns(void **state)
{
	struct drv *d = *state;
	unsigned int n = 0;

	for (int i = 0; i < 50; i++)
		drv_put(d, DEFLATE, &(struct drv_seg){ PFNS_AT, 4, false }, 1);
	drv_kick(d, DEFLATE);
	while (used(d, DEFLATE))
		n++;
	assert_in_range(n, 1, 49);
	for (int i = 0; i < 10; i++)
		drv_turn(d);
	while (used(d, DEFLATE))
		n++;
	assert_int_equal(n, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_inflate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_numbers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reporting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_reporting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_target, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_memory_keeps_its_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_snapshot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
