// SPDX-License-Identifier: Apache-2.0
// The register window: a driver that does it right, and ones that do not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/virtio/mmio.h"

#define DESC_AT	 0x1000
#define AVAIL_AT 0x2000
#define USED_AT	 0x3000

static const uint16_t queue_max[] = { 64, 16 };

static struct {
	int activated, reset, notified[2], freed, quiesced;
	uint8_t config[8];
	int activate_result;
	uint32_t saved;
} dev_seen;

static struct {
	int irqs;
	uint32_t gsi;
	int event;
	uint64_t kick_at;
} host_seen;

static struct fixture {
	struct gmem mem;
	struct loop *loop;
	struct virtio_dev dev;
	struct mmio m;
} f;

static void config_read(struct virtio_dev *dev, uint32_t off, void *to, uint32_t n)
{
	(void)dev;
	memcpy(to, dev_seen.config + off, n);
}

static void config_write(struct virtio_dev *dev, uint32_t off, const void *from, uint32_t n)
{
	(void)dev;
	memcpy(dev_seen.config + off, from, n);
}

static int activate(struct virtio_dev *dev)
{
	(void)dev;
	dev_seen.activated++;
	return dev_seen.activate_result;
}

static void notify(struct virtio_dev *dev, uint32_t q)
{
	assert_true(dev->vq[q].num != 0);
	dev_seen.notified[q]++;
}

static void reset(struct virtio_dev *dev)
{
	assert_true(dev->vq[0].num != 0); /* queues are still there */
	dev_seen.reset++;
}

static int quiesce(struct virtio_dev *dev)
{
	(void)dev;
	dev_seen.quiesced++;
	return 0;
}

static int save(struct virtio_dev *dev, struct buf *out)
{
	(void)dev;
	buf_append(out, "state", 5);
	return 0;
}

static int load(struct virtio_dev *dev, const void *p, size_t n)
{
	(void)dev;
	return n == 5 && !memcmp(p, "state", 5) ? 0 : -EBADMSG;
}

static const struct virtio_ops ops = {
	.name = "test",
	.id = VIRTIO_ID_RNG,
	.n_queues = 2,
	.queue_max = queue_max,
	.config_size = 8,
	.config_read = config_read,
	.config_write = config_write,
	.activate = activate,
	.notify = notify,
	.reset = reset,
	.quiesce = quiesce,
	.save = save,
	.load = load,
};

static void irq(void *data, uint32_t gsi)
{
	(void)data;
	host_seen.irqs++;
	host_seen.gsi = gsi;
}

static void on_io(void *data, void (*fn)(void *), void *arg)
{
	(void)data;
	fn(arg);
}

static int kick_at(void *data, uint64_t at, int event)
{
	(void)data;
	host_seen.kick_at = at;
	host_seen.event = event;
	return 0;
}

static const struct mmio_host host = { NULL, irq, on_io, kick_at };

static void put(uint64_t reg, uint32_t v)
{
	mmio_access(&f.m, reg, &v, 4, true);
}

static uint32_t get(uint64_t reg)
{
	uint32_t v = 0;

	mmio_access(&f.m, reg, &v, 4, false);
	return v;
}

static int setup(void **state)
{
	struct virtio_env env = { .mem = &f.mem, .irq = mmio_irq };

	(void)state;
	memset(&dev_seen, 0, sizeof(dev_seen));
	memset(&host_seen, 0, sizeof(host_seen));
	memset(&f, 0, sizeof(f));
	if (gmem_new_anon(&f.mem, MIB(16)) < 0 || loop_new(&f.loop) < 0)
		return -1;
	env.loop = f.loop;
	virtio_init(&f.dev, &ops, &env);
	f.dev.features |= 1;
	return mmio_attach(&f.m, &f.dev, 2, &host);
}

static int teardown(void **state)
{
	(void)state;
	mmio_detach(&f.m);
	virtio_done(&f.dev);
	loop_free(f.loop);
	gmem_done(&f.mem);
	return 0;
}

static void negotiate(uint64_t features)
{
	put(VIRTIO_MMIO_STATUS, 0);
	put(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	put(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	put(VIRTIO_MMIO_STATUS,
	    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
}

static void set_queue(uint32_t q, uint32_t num, uint64_t desc)
{
	put(VIRTIO_MMIO_QUEUE_SEL, q);
	put(VIRTIO_MMIO_QUEUE_NUM, num);
	put(VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)desc);
	put(VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(desc >> 32));
	put(VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL_AT);
	put(VIRTIO_MMIO_QUEUE_USED_LOW, USED_AT);
	put(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void driver_ok(void)
{
	put(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void start(void)
{
	negotiate(1ULL << VIRTIO_F_VERSION_1 | 1);
	set_queue(0, 8, DESC_AT);
	driver_ok();
}

static void test_identity(void **state)
{
	(void)state;
	assert_int_equal(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(get(VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
	put(VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
	put(VIRTIO_MMIO_QUEUE_SEL, 2);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 1);
	put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	assert_int_equal(get(VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff);
	assert_int_equal(host_seen.kick_at, MMIO_BASE + 2 * MMIO_LEN + VIRTIO_MMIO_QUEUE_NOTIFY);
}

static void test_life(void **state)
{
	(void)state;
	start();
	assert_int_equal(dev_seen.activated, 1);
	assert_true(f.dev.active);
	assert_true(virtio_has(&f.dev, 0));
	assert_int_equal(f.dev.vq[0].num, 8);
	assert_int_equal(f.dev.vq[1].num, 0);
	assert_int_equal(dev_seen.notified[0], 1); /* chains may be there already */
	driver_ok();
	assert_int_equal(dev_seen.activated, 1);
	mmio_irq(&f.dev, VIRTIO_INT_QUEUE);
	assert_int_equal(host_seen.gsi, MMIO_GSI + 2);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
	put(VIRTIO_MMIO_INTERRUPT_ACK, 1);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	put(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(dev_seen.reset, 1);
	assert_false(f.dev.active);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 0);
	put(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(dev_seen.reset, 1); /* nothing to reset */
	start();
	assert_int_equal(dev_seen.activated, 2);
}

static void test_kick(void **state)
{
	struct vring_avail *avail = (void *)(f.mem.base + AVAIL_AT);

	(void)state;
	start();
	dev_seen.notified[0] = 0;
	put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(loop_turn(f.loop, 0), 0);
	assert_int_equal(dev_seen.notified[0], 0); /* nothing there */
	avail->idx = 1;
	put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	assert_int_equal(loop_turn(f.loop, 0), 0);
	assert_int_equal(dev_seen.notified[0], 1);
}

static void test_features(void **state)
{
	(void)state;
	negotiate(1); /* without VERSION_1 */
	assert_false(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK);
	negotiate(1ULL << VIRTIO_F_VERSION_1 | 2); /* never offered */
	assert_false(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK);
	driver_ok(); /* all the same */
	assert_int_equal(dev_seen.activated, 0);
	negotiate(1ULL << VIRTIO_F_VERSION_1);
	assert_true(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put(VIRTIO_MMIO_DRIVER_FEATURES, 1); /* too late */
	set_queue(0, 8, DESC_AT);
	driver_ok();
	assert_false(virtio_has(&f.dev, 0));
}

static void expect_failed(void)
{
	assert_false(f.dev.active);
	assert_true(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_true(get(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_INT_CONFIG);
	put(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 0);
}

static void test_bad_queues(void **state)
{
	static const struct {
		uint32_t num;
		uint64_t desc;
	} bad[] = { { 0, DESC_AT },	    { 7, DESC_AT }, { 128, DESC_AT },  { 0x10008, DESC_AT },
		    { 8, UINT64_MAX - 15 }, { 8, MIB(16) }, { 8, DESC_AT + 1 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		negotiate(1ULL << VIRTIO_F_VERSION_1);
		set_queue(0, bad[i].num, bad[i].desc);
		driver_ok();
		assert_int_equal(dev_seen.activated, 0);
		expect_failed();
	}
	dev_seen.activate_result = -ENOMEM;
	start();
	expect_failed();
}

static void test_changes_after_driver_ok(void **state)
{
	(void)state;
	start();
	set_queue(0, 4, UINT64_MAX);
	set_queue(1, 4, DESC_AT);
	assert_int_equal(f.dev.vq[0].num, 8);
	assert_int_equal(f.dev.vq[1].num, 0);
}

static void test_failing_device(void **state)
{
	(void)state;
	start();
	virtio_fail(&f.dev);
	assert_true(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(host_seen.irqs, 1);
	put(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(dev_seen.reset, 1);
	start();
	assert_false(f.dev.vq[0].broken);
}

static void test_config(void **state)
{
	uint64_t v = 0x1122334455667788ULL;

	(void)state;
	mmio_access(&f.m, VIRTIO_MMIO_CONFIG, &v, 8, true);
	v = 0;
	mmio_access(&f.m, VIRTIO_MMIO_CONFIG + 3, &v, 1, false);
	assert_int_equal(v, 0x55);
	v = 0;
	mmio_access(&f.m, VIRTIO_MMIO_CONFIG + 6, &v, 4, false); /* leaves it */
	assert_int_equal(v, 0);
	mmio_access(&f.m, VIRTIO_MMIO_CONFIG + 0xeff, &v, 1, true);
	uint32_t gen = get(VIRTIO_MMIO_CONFIG_GENERATION);
	virtio_irq_config(&f.dev);
	assert_int_equal(get(VIRTIO_MMIO_CONFIG_GENERATION), gen + 1);
	assert_int_equal(host_seen.irqs, 0); /* not active: nobody listens */
}

static void test_any_access(void **state)
{
	(void)state;
	srandom(1);
	for (int i = 0; i < 200000; i++) {
		uint64_t v = (uint64_t)random() << 32 ^ (uint64_t)random();
		uint32_t n = 1u << (random() % 4), off = (uint32_t)random() % 0x120;

		if (random() % 2)
			v &= 0xff;
		mmio_access(&f.m, off, &v, n, random() % 2);
	}
}

static void test_save_load(void **state)
{
	_cleanup_buf_ struct buf out = { 0 };
	struct virtio_env env = f.dev.env;

	(void)state;
	start();
	f.dev.vq[0].last_avail = 77;
	f.dev.vq[0].used_idx = 76;
	assert_int_equal(mmio_quiesce(&f.m), 0);
	assert_int_equal(dev_seen.quiesced, 1);
	put(VIRTIO_MMIO_QUEUE_SEL, 0);
	put(VIRTIO_MMIO_QUEUE_NUM, 99999); /* scribbled over */
	assert_int_equal(mmio_save(&f.m, &out), 0);
	mmio_detach(&f.m);
	virtio_done(&f.dev);
	virtio_init(&f.dev, &ops, &env);
	f.dev.features |= 1;
	assert_int_equal(mmio_attach(&f.m, &f.dev, 2, &host), 0);
	for (size_t n = 0; n < out.len; n++)
		assert_int_equal(mmio_load(&f.m, out.data, n), -EBADMSG);
	for (size_t i = 0; i < out.len - 5; i++) { /* hostile: anything but a crash */
		out.data[i] = (char)~out.data[i];
		(void)mmio_load(&f.m, out.data, out.len);
		out.data[i] = (char)~out.data[i];
	}
	assert_int_equal(mmio_load(&f.m, out.data, out.len), 0);
	assert_true(f.dev.active);
	assert_true(virtio_has(&f.dev, 0));
	assert_int_equal(f.dev.vq[0].num, 8);
	assert_int_equal(f.dev.vq[0].last_avail, 77);
	assert_int_equal(f.dev.vq[0].used_idx, 76);
	assert_true(get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_DRIVER_OK);
	/* A device that no longer offers what the driver relies on is refused. */
	f.dev.features &= ~1ULL;
	assert_int_equal(mmio_load(&f.m, out.data, out.len), -EBADMSG);
}

static void test_save_in_flight(void **state)
{
	_cleanup_buf_ struct buf out = { 0 };

	(void)state;
	start();
	f.dev.vq[0].in_flight = 1;
	assert_int_equal(mmio_save(&f.m, &out), -EBUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kick, setup, teardown),
		cmocka_unit_test_setup_teardown(test_features, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_queues, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_after_driver_ok, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failing_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		cmocka_unit_test_setup_teardown(test_any_access, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_in_flight, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
