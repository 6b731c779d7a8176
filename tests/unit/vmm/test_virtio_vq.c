// SPDX-License-Identifier: Apache-2.0
// The device side of a split queue, driven by a small well-behaved or evil driver.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vmm/virtio/vq.h"

#define NUM	  8
#define DESC_AT	  0x1000
#define AVAIL_AT  0x2000
#define USED_AT	  0x3000
#define TABLE_AT  0x4000
#define DATA_AT	  0x10000
#define ALL_FEATS (1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC)

struct fixture {
	struct gmem m;
	struct vq q;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t *used_event, *avail_event;
	struct iovec iov[16];
	struct vq_chain c;
};

static const struct vq_layout layout = { NUM, { DESC_AT }, { AVAIL_AT }, { USED_AT } };

static int enable(struct fixture *f, uint64_t features)
{
	memset(f->m.base, 0, DATA_AT);
	return vq_enable(&f->q, &f->m, &layout, 256, features);
}

static int setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	if (gmem_new_anon(&f.m, MIB(16)) < 0)
		return -1;
	f.desc = (void *)(f.m.base + DESC_AT);
	f.avail = (void *)(f.m.base + AVAIL_AT);
	f.used = (void *)(f.m.base + USED_AT);
	f.used_event = (void *)(f.m.base + AVAIL_AT + 4 + 2 * NUM);
	f.avail_event = (void *)(f.m.base + USED_AT + 4 + 8 * NUM);
	*state = &f;
	return enable(&f, ALL_FEATS);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	gmem_done(&f->m);
	return 0;
}

static void set(struct vring_desc *d, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	*d = (struct vring_desc){ addr, len, flags, next };
}

static void offer(struct fixture *f, uint16_t head)
{
	f->avail->ring[f->avail->idx % NUM] = head;
	f->avail->idx++;
}

static int pop(struct fixture *f)
{
	return vq_pop(&f->q, f->iov, ARRAY_SIZE(f->iov), &f->c);
}

static void test_enable_checks(void **state)
{
	struct fixture *f = *state;
	struct vq_layout l = layout;

	l.num = 7;
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EINVAL);
	l.num = 0;
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EINVAL);
	l.num = 512;
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EINVAL);
	l = layout;
	l.desc.v += 8;
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EINVAL);
	l = layout;
	l.avail.v++;
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EINVAL);
	l = layout;
	l.used.v += 2;
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EINVAL);
	l = layout;
	l.used.v = MIB(16) - 64; /* the last entries would be outside */
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EFAULT);
	l = layout;
	l.desc.v = 0xfffffffffffffff0ULL;
	assert_int_equal(vq_enable(&f->q, &f->m, &l, 256, 0), -EFAULT);
}

static void test_chain(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(pop(f), 0);
	set(&f->desc[2], DATA_AT, 16, VRING_DESC_F_NEXT, 5);
	set(&f->desc[5], DATA_AT + 64, 0, VRING_DESC_F_NEXT, 1); /* empty: left out */
	set(&f->desc[1], DATA_AT + 4096, 512, VRING_DESC_F_WRITE, 0);
	offer(f, 2);
	assert_false(vq_empty(&f->q));
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.head, 2);
	assert_int_equal(f->c.n_out, 1);
	assert_int_equal(f->c.n_in, 1);
	assert_int_equal(f->c.out_bytes, 16);
	assert_int_equal(f->c.in_bytes, 512);
	assert_ptr_equal(f->iov[0].iov_base, f->m.base + DATA_AT);
	assert_ptr_equal(f->iov[1].iov_base, f->m.base + DATA_AT + 4096);
	vq_push(&f->q, 2, 512);
	assert_int_equal(f->used->idx, 1);
	assert_int_equal(f->used->ring[0].id, 2);
	assert_int_equal(f->used->ring[0].len, 512);
	assert_true(vq_empty(&f->q));
}

static void test_unpop(void **state)
{
	struct fixture *f = *state;

	set(&f->desc[0], DATA_AT, 1, 0, 0);
	offer(f, 0);
	assert_int_equal(pop(f), 1);
	vq_unpop(&f->q);
	assert_int_equal(f->q.in_flight, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.head, 0);
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *t = (void *)(f->m.base + TABLE_AT);

	set(&f->desc[0], DATA_AT, 1, VRING_DESC_F_NEXT, 3);
	set(&f->desc[3], TABLE_AT, 32, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
	set(&t[0], DATA_AT + 1, 2, VRING_DESC_F_NEXT, 1);
	set(&t[1], DATA_AT + 3, 4, VRING_DESC_F_WRITE, 0);
	offer(f, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->c.n_out, 2);
	assert_int_equal(f->c.out_bytes, 3);
	assert_int_equal(f->c.in_bytes, 4);
}

/* Each evil chain starts at descriptor 0; the queue is broken afterwards. */
static void expect_evil(struct fixture *f, int err)
{
	offer(f, 0);
	assert_int_equal(pop(f), err);
	assert_true(f->q.broken);
	assert_int_equal(pop(f), 0);
	assert_true(vq_empty(&f->q));
	assert_int_equal(enable(f, ALL_FEATS), 0);
}

static void test_evil_chains(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *t = (void *)(f->m.base + TABLE_AT);

	set(&f->desc[0], DATA_AT, 0, VRING_DESC_F_NEXT, 0); /* a loop of nothing */
	expect_evil(f, -E2BIG);
	set(&f->desc[0], DATA_AT, 1, VRING_DESC_F_NEXT, 0); /* a loop of something */
	expect_evil(f, -E2BIG);
	set(&f->desc[0], DATA_AT, 1, VRING_DESC_F_NEXT, NUM); /* beyond the table */
	expect_evil(f, -EBADMSG);
	set(&f->desc[0], MIB(16) - 1, 2, 0, 0);
	expect_evil(f, -EFAULT);
	set(&f->desc[0], UINT64_MAX, 0xffffffff, 0, 0);
	expect_evil(f, -EFAULT);
	set(&f->desc[0], DATA_AT, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	set(&f->desc[1], DATA_AT, 1, 0, 0); /* readable after writable */
	expect_evil(f, -EBADMSG);
	set(&f->desc[0], TABLE_AT, 0, VRING_DESC_F_INDIRECT, 0);
	expect_evil(f, -EBADMSG);
	set(&f->desc[0], TABLE_AT, 24, VRING_DESC_F_INDIRECT, 0);
	expect_evil(f, -EBADMSG);
	set(&f->desc[0], TABLE_AT, 16 * (VQ_CHAIN_MAX + 1), VRING_DESC_F_INDIRECT, 0);
	expect_evil(f, -EBADMSG);
	set(&f->desc[0], MIB(16) - 16, 32, VRING_DESC_F_INDIRECT, 0);
	expect_evil(f, -EFAULT);
	set(&f->desc[0], TABLE_AT, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	expect_evil(f, -EBADMSG);
	set(&f->desc[0], TABLE_AT, 16, VRING_DESC_F_INDIRECT, 0);
	set(&t[0], TABLE_AT, 16, VRING_DESC_F_INDIRECT, 0); /* nested */
	expect_evil(f, -EBADMSG);
	set(&f->desc[0], TABLE_AT, 16, VRING_DESC_F_INDIRECT, 0);
	set(&t[0], DATA_AT, 16, VRING_DESC_F_NEXT, 1); /* leaves its table, though not the queue's */
	expect_evil(f, -EBADMSG);
	assert_int_equal(enable(f, 0), 0);
	set(&f->desc[0], TABLE_AT, 16, VRING_DESC_F_INDIRECT, 0); /* not negotiated */
	offer(f, 0);
	assert_int_equal(pop(f), -EBADMSG);
}

static void test_evil_indexes(void **state)
{
	struct fixture *f = *state;

	f->avail->idx = NUM + 1; /* more than fit */
	assert_int_equal(pop(f), -EBADMSG);
	enable(f, ALL_FEATS);
	offer(f, NUM); /* no such head */
	assert_int_equal(pop(f), -EBADMSG);
	enable(f, ALL_FEATS);
	set(&f->desc[0], DATA_AT, 1, 0, 0);
	for (int i = 0; i < NUM; i++) { /* one head again and again */
		offer(f, 0);
		assert_int_equal(pop(f), 1);
	}
	offer(f, 0);
	assert_int_equal(pop(f), -EBADMSG);
}

static void test_capacity(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *t = (void *)(f->m.base + TABLE_AT);

	for (uint16_t i = 0; i < 17; i++)
		set(&t[i], DATA_AT, 1, i < 16 ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1));
	set(&f->desc[0], TABLE_AT, 17 * 16, VRING_DESC_F_INDIRECT, 0);
	offer(f, 0);
	assert_int_equal(pop(f), -E2BIG);
}

static void test_event_idx(void **state)
{
	struct fixture *f = *state;

	set(&f->desc[0], DATA_AT, 1, 0, 0);
	for (int i = 0; i < 3; i++)
		offer(f, 0);
	*f->avail_event = 77;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pop(f), 1);
	assert_int_equal(*f->avail_event, 77); /* busy: no kicks wanted */
	assert_int_equal(pop(f), 0);
	assert_int_equal(*f->avail_event, 3); /* idle: kick for the fourth */
	*f->used_event = 1;		      /* wake me for the second */
	assert_false(vq_notify_needed(&f->q));
	vq_push(&f->q, 0, 0);
	assert_false(vq_notify_needed(&f->q));
	vq_push(&f->q, 0, 0);
	assert_true(vq_notify_needed(&f->q));
	assert_false(vq_notify_needed(&f->q));
	vq_push(&f->q, 0, 0);
	assert_false(vq_notify_needed(&f->q));
}

static void test_no_event_idx(void **state)
{
	struct fixture *f = *state;

	enable(f, 0);
	set(&f->desc[0], DATA_AT, 1, 0, 0);
	for (int i = 0; i < 2; i++) {
		offer(f, 0);
		assert_int_equal(pop(f), 1);
	}
	f->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	vq_push(&f->q, 0, 0);
	assert_false(vq_notify_needed(&f->q));
	f->avail->flags = 0;
	vq_push(&f->q, 0, 0);
	assert_true(vq_notify_needed(&f->q));
}

static void test_wraps(void **state)
{
	struct fixture *f = *state;

	set(&f->desc[0], DATA_AT, 1, 0, 0);
	for (uint32_t i = 0; i < 70000; i++) {
		offer(f, 0);
		assert_int_equal(pop(f), 1);
		vq_push(&f->q, 0, 0);
		*f->used_event = (uint16_t)i;
		assert_true(vq_notify_needed(&f->q));
	}
	assert_int_equal(f->used->idx, (uint16_t)70000);
}

static void test_marks_dirty(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(gmem_dirty_start(&f->m), 0);
	set(&f->desc[0], DATA_AT, 1, VRING_DESC_F_NEXT, 1);
	set(&f->desc[1], DATA_AT + 0x1fff, 2, VRING_DESC_F_WRITE, 0);
	offer(f, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->m.dirty[0], 3ULL << (DATA_AT / 4096 + 1));
	vq_push(&f->q, 0, 2);
	assert_true(f->m.dirty[0] & 1ULL << (USED_AT / 4096));
}

static void test_push_without_pop(void **state)
{
	struct fixture *f = *state;

	vq_push(&f->q, 0, 0);
	assert_int_equal(f->used->idx, 0);
	vq_disable(&f->q);
	vq_push(&f->q, 0, 0);
	vq_unpop(&f->q);
	assert_int_equal(pop(f), 0);
	assert_false(vq_notify_needed(&f->q));
}

static void test_iov_copies(void **state)
{
	char a[] = "abc", b[] = "defg", out[8] = { 0 };
	struct iovec iov[] = { { a, 3 }, { b, 4 } };

	(void)state;
	assert_int_equal(iov_copy_out(iov, 2, 0, out, 8), 7);
	assert_string_equal(out, "abcdefg");
	memset(out, 0, sizeof(out));
	assert_int_equal(iov_copy_out(iov, 2, 2, out, 3), 3);
	assert_string_equal(out, "cde");
	assert_int_equal(iov_copy_out(iov, 2, 7, out, 3), 0);
	assert_int_equal(iov_copy_in(iov, 2, 1, "XYZ", 3), 3);
	assert_string_equal(a, "aXY");
	assert_string_equal(b, "Zefg");
	assert_int_equal(iov_copy_in(iov, 2, 6, "123", 3), 1);
	assert_string_equal(b, "Zef1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_enable_checks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unpop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_indirect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evil_chains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evil_indexes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_capacity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_event_idx, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_event_idx, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wraps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_marks_dirty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_push_without_pop, setup, teardown),
		cmocka_unit_test(test_iov_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
