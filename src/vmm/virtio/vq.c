// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues, device side.
 *
 * Theory of operation
 *
 * Memory: desc, avail and used lie in guest RAM, checked as whole spans in vq_enable(); what a chain points to is checked
 * in vq_pop(). The guest may rewrite any of it at any time, so each field is loaded once (load16(), read_desc()) and
 * only the copy is judged and used: a check and a use never see different values.
 * Bounds: a walk takes at most VQ_CHAIN_MAX steps whatever links it meets, so loops end; indexes are compared with
 * the table they go into; spans never leave RAM (gmem_span() is overflow-safe).
 * Barriers: named where they stand, with the driver's barrier they pair with.
 */
#include "vmm/virtio/vq.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian, and used as they lie");

#define DESC_SIZE  sizeof(struct vring_desc)
#define AVAIL_IDX  2 /* offset of avail.idx and used.idx */
#define RING_START 4 /* offset of the ring in both */

static uint16_t load16(const void *p, int order)
{
	return __atomic_load_n((const uint16_t *)p, order);
}

static void store16(void *p, uint16_t v, int order)
{
	__atomic_store_n((uint16_t *)p, v, order);
}

/* used_event sits behind the avail ring, avail_event behind the used ring */
static uint8_t *used_event(const struct vq *vq)
{
	return vq->avail + RING_START + 2 * (size_t)vq->num;
}

static uint8_t *avail_event(const struct vq *vq)
{
	return vq->used + RING_START + sizeof(struct vring_used_elem) * (size_t)vq->num;
}

static bool num_ok(uint16_t num, uint16_t max)
{
	return num != 0 && num <= max && num <= VQ_NUM_MAX && (num & (num - 1)) == 0;
}

int vq_enable(struct vq *vq, struct gmem *mem, const struct vq_layout *l, uint16_t max, uint64_t features)
{
	if (!num_ok(l->num, max) || l->desc.v % 16 || l->avail.v % 2 || l->used.v % 4)
		return -EINVAL;
	struct vq q = {
		.mem = mem,
		.num = l->num,
		.event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1,
		.indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1,
		.layout = *l,
	};
	/* Each ring has two bytes behind it (the event field), used without EVENT_IDX or not. */
	q.desc = gmem_span(mem, l->desc, DESC_SIZE * l->num);
	q.avail = gmem_span(mem, l->avail, RING_START + 2ULL * l->num + 2);
	q.used = gmem_span(mem, l->used, RING_START + sizeof(struct vring_used_elem) * (uint64_t)l->num + 2);
	if (!q.desc || !q.avail || !q.used)
		return -EFAULT;
	*vq = q;
	return 0;
}

void vq_disable(struct vq *vq)
{
	*vq = (struct vq){ 0 };
}

bool vq_empty(const struct vq *vq)
{
	return vq->num == 0 || vq->broken ||
	       load16(vq->avail + AVAIL_IDX, __ATOMIC_RELAXED) == vq->last_avail;
}

/* read_desc() - one copy of a descriptor that no later read of the guest's bytes can replace */
static struct vring_desc read_desc(const uint8_t *table, size_t i)
{
	struct vring_desc d;

	memcpy(&d, table + i * DESC_SIZE, sizeof(d));
	__asm__ volatile("" : "+m"(d)); /* the compiler may not go back to the source */
	return d;
}

/**
 * struct walk - a chain being followed
 * @table, @num:	descriptors that indexes are for: the queue's, or an indirect table's
 * @nested:	it is an indirect table's
 * @steps:	descriptors seen so far
 */
struct walk {
	struct vq *vq;
	struct iovec *iov;
	size_t n;
	const uint8_t *table;
	uint32_t num;
	bool nested;
	uint32_t steps;
	struct vq_chain c;
};

static int add_span(struct walk *w, const struct vring_desc *d)
{
	size_t used = (size_t)w->c.n_out + w->c.n_in;
	bool in = d->flags & VRING_DESC_F_WRITE;

	if (!in && w->c.n_in > 0)
		return -EBADMSG;
	if (d->len == 0)
		return 0;
	if (used >= w->n)
		return -E2BIG;
	void *p = gmem_span(w->vq->mem, gpa(d->addr), d->len);
	if (!p)
		return -EFAULT;
	w->iov[used] = (struct iovec){ .iov_base = p, .iov_len = d->len };
	if (!in) {
		w->c.n_out++;
		w->c.out_bytes += d->len;
		return 0;
	}
	gmem_dirty_mark(w->vq->mem, p, d->len);
	w->c.n_in++;
	w->c.in_bytes += d->len;
	return 0;
}

static int enter_table(struct walk *w, const struct vring_desc *d)
{
	if (w->nested || !w->vq->indirect || (d->flags & VRING_DESC_F_NEXT))
		return -EBADMSG;
	if (d->len == 0 || d->len % DESC_SIZE || d->len / DESC_SIZE > VQ_CHAIN_MAX)
		return -EBADMSG;
	w->table = gmem_span(w->vq->mem, gpa(d->addr), d->len);
	w->num = d->len / DESC_SIZE;
	w->nested = true;
	return w->table ? 0 : -EFAULT;
}

static int walk_chain(struct walk *w, uint32_t i)
{
	for (;;) {
		if (i >= w->num)
			return -EBADMSG;
		if (++w->steps > VQ_CHAIN_MAX)
			return -E2BIG;
		struct vring_desc d = read_desc(w->table, i);
		int r = d.flags & VRING_DESC_F_INDIRECT ? enter_table(w, &d) : add_span(w, &d);
		if (r < 0)
			return r;
		if (d.flags & VRING_DESC_F_INDIRECT)
			i = 0;
		else if (d.flags & VRING_DESC_F_NEXT)
			i = d.next;
		else
			return 0;
	}
}

/* next_index() - avail.idx, after asking for a kick if nothing is there */
static uint16_t next_index(struct vq *vq)
{
	/* Acquire: pairs with the driver's write barrier between the ring entry and avail.idx. */
	uint16_t idx = load16(vq->avail + AVAIL_IDX, __ATOMIC_ACQUIRE);

	if (idx != vq->last_avail || !vq->event_idx)
		return idx;
	store16(avail_event(vq), vq->last_avail, __ATOMIC_RELAXED);
	gmem_dirty_mark(vq->mem, avail_event(vq), 2);
	/*
	 * Full barrier: the request for a kick must be visible before we look again. Pairs with the driver's full
	 * barrier between writing avail.idx and reading avail_event.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(vq->avail + AVAIL_IDX, __ATOMIC_ACQUIRE);
}

static int pop(struct vq *vq, struct iovec *iov, size_t n, struct vq_chain *ret)
{
	uint16_t idx = next_index(vq);
	struct walk w = { .vq = vq, .iov = iov, .n = n, .table = vq->desc, .num = vq->num };

	if (idx == vq->last_avail)
		return 0;
	if ((uint16_t)(idx - vq->last_avail) > vq->num || vq->in_flight >= vq->num)
		return -EBADMSG;
	size_t slot = vq->last_avail & (vq->num - 1U);
	w.c.head = load16(vq->avail + RING_START + 2 * slot, __ATOMIC_RELAXED);
	int r = walk_chain(&w, w.c.head);
	if (r < 0)
		return r;
	vq->last_avail++;
	vq->in_flight++;
	*ret = w.c;
	return 1;
}

int vq_pop(struct vq *vq, struct iovec *iov, size_t n, struct vq_chain *ret)
{
	if (vq->num == 0 || vq->broken)
		return 0;
	int r = pop(vq, iov, n, ret);
	if (r < 0)
		vq->broken = true;
	return r;
}

void vq_unpop(struct vq *vq)
{
	if (vq->num == 0 || vq->in_flight == 0)
		return;
	vq->last_avail--;
	vq->in_flight--;
}

void vq_push(struct vq *vq, uint16_t head, uint32_t written)
{
	if (vq->num == 0 || vq->in_flight == 0)
		return;
	struct vring_used_elem e = { .id = head, .len = written };
	uint8_t *at = vq->used + RING_START + sizeof(e) * (vq->used_idx & (vq->num - 1U));
	memcpy(at, &e, sizeof(e));
	gmem_dirty_mark(vq->mem, at, sizeof(e));
	vq->used_idx++;
	vq->in_flight--;
	/* Release: the entry and the data come before the index. Pairs with the driver's read barrier after it. */
	store16(vq->used + AVAIL_IDX, vq->used_idx, __ATOMIC_RELEASE);
	gmem_dirty_mark(vq->mem, vq->used, RING_START);
}

bool vq_notify_needed(struct vq *vq)
{
	if (vq->num == 0 || vq->used_idx == vq->notified)
		return false;
	/*
	 * Full barrier: used.idx must be visible before we read what the driver wants. Pairs with the driver's full
	 * barrier between asking for an interrupt (used_event, flags) and looking at used.idx again.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	uint16_t before = vq->notified;
	vq->notified = vq->used_idx;
	if (!vq->event_idx)
		return !(load16(vq->avail, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
	uint16_t event = load16(used_event(vq), __ATOMIC_RELAXED);
	return vring_need_event(event, vq->used_idx, before);
}

/* copy() - out of @iov into @to, or from @from into @iov: the other one is NULL */
static size_t copy(const struct iovec *iov, size_t n_iov, uint64_t skip, uint8_t *to, const uint8_t *from,
		   size_t n)
{
	size_t done = 0;

	for (size_t i = 0; i < n_iov && done < n; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		uint8_t *guest = (uint8_t *)iov[i].iov_base + skip;
		size_t part = MIN(iov[i].iov_len - skip, n - done);
		if (to)
			memcpy(to + done, guest, part);
		else
			memcpy(guest, from + done, part);
		done += part;
		skip = 0;
	}
	return done;
}

size_t iov_copy_out(const struct iovec *iov, size_t n_iov, uint64_t skip, void *to, size_t n)
{
	return copy(iov, n_iov, skip, to, NULL, n);
}

size_t iov_copy_in(const struct iovec *iov, size_t n_iov, uint64_t skip, const void *from, size_t n)
{
	return copy(iov, n_iov, skip, NULL, from, n);
}
