// SPDX-License-Identifier: Apache-2.0
// virtio-mmio registers. Theory of operation: mmio.h.
#include "vmm/virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"

#define MAGIC	  0x74726976u /* "virt" */
#define VERSION	  2u
#define VENDOR	  0x6c616976u /* "vial" */
#define NO_REGION 0xffffffffu /* shared memory region that does not exist */

/* What the driver may set; DEVICE_NEEDS_RESET is ours. */
#define DRIVER_STATUS                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

void mmio_irq(struct virtio_dev *dev, uint32_t why)
{
	struct mmio *m = dev->transport;

	__atomic_fetch_or(&m->int_status, why, __ATOMIC_SEQ_CST);
	m->host->irq(m->host->data, m->gsi);
}

void mmio_poke(struct mmio *m)
{
	struct virtio_dev *dev = m->dev;

	for (uint32_t q = 0; dev->active && q < dev->ops->n_queues; q++)
		if (dev->vq[q].num)
			dev->ops->notify(dev, q);
}

static void on_kick(struct loop_src *src, uint32_t events, void *data)
{
	struct mmio *m = data;
	struct virtio_dev *dev = m->dev;
	uint64_t n;

	(void)src;
	(void)events;
	(void)!read(m->kick, &n, sizeof(n));
	/* One eventfd for all queues: those with something new are the ones that were kicked. */
	for (uint32_t q = 0; dev->active && q < dev->ops->n_queues; q++)
		if (!vq_empty(&dev->vq[q]))
			dev->ops->notify(dev, q);
}

/* reset_device() - I/O thread */
static void reset_device(void *data)
{
	struct mmio *m = data;
	struct virtio_dev *dev = m->dev;

	if (dev->active)
		dev->ops->reset(dev);
	dev->active = false;
	dev->acked = 0;
	for (uint32_t q = 0; q < VIRTIO_QUEUES_MAX; q++)
		vq_disable(&dev->vq[q]);
	__atomic_store_n(&dev->failed, false, __ATOMIC_RELEASE);
	pthread_mutex_lock(&dev->lock);
	m->status = 0;
	m->driver_features = 0;
	m->device_features_sel = m->driver_features_sel = m->queue_sel = 0;
	memset(m->queues, 0, sizeof(m->queues));
	pthread_mutex_unlock(&dev->lock);
	__atomic_store_n(&m->int_status, 0, __ATOMIC_SEQ_CST);
}

static int enable_queues(struct mmio *m, const struct mmio_queue *queues)
{
	struct virtio_dev *dev = m->dev;

	for (uint32_t i = 0; i < dev->ops->n_queues; i++) {
		const struct mmio_queue *q = &queues[i];
		struct vq_layout l = { (uint16_t)q->num, gpa(q->desc), gpa(q->avail), gpa(q->used) };

		if (!q->ready)
			continue;
		if (q->num > VQ_NUM_MAX)
			return -EINVAL;
		int r = vq_enable(&dev->vq[i], dev->env.mem, &l, dev->ops->queue_max[i], dev->acked);
		if (r < 0)
			return r;
	}
	return 0;
}

/* activate_device() - I/O thread; the driver set DRIVER_OK */
static void activate_device(void *data)
{
	struct mmio *m = data;
	struct virtio_dev *dev = m->dev;
	struct mmio_queue queues[VIRTIO_QUEUES_MAX];

	pthread_mutex_lock(&dev->lock);
	bool wanted = (m->status & VIRTIO_CONFIG_S_DRIVER_OK) && !dev->active && !dev->failed;
	memcpy(queues, m->queues, sizeof(queues));
	dev->acked = m->driver_features & dev->features;
	pthread_mutex_unlock(&dev->lock);
	if (!wanted)
		return; /* another vCPU reset it, or was first */
	int r = enable_queues(m, queues);
	if (r == 0)
		r = dev->ops->activate(dev);
	dev->active = r == 0;
	if (r < 0) {
		virtio_fail(dev);
		mmio_irq(dev, VIRTIO_INT_CONFIG);
		return;
	}
	mmio_poke(m);
}

/* set_status() - under the lock; which job the I/O thread then has, or NULL */
static void (*set_status(struct mmio *m, uint32_t v))(void *)
{
	uint32_t old = m->status, now = v & DRIVER_STATUS;

	if (v == 0)
		return reset_device;
	/* Bits are only ever added [virtio-1.2 2.1.1]; what is gone without a reset stays. */
	now |= old;
	if (!(old & VIRTIO_CONFIG_S_FEATURES_OK) && (now & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    ((m->driver_features & ~m->dev->features) || !(m->driver_features >> VIRTIO_F_VERSION_1 & 1)))
		now &= ~(uint32_t)VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(now & VIRTIO_CONFIG_S_FEATURES_OK))
		now &= ~(uint32_t)VIRTIO_CONFIG_S_DRIVER_OK;
	m->status = now;
	return (now & ~old) & VIRTIO_CONFIG_S_DRIVER_OK ? activate_device : NULL;
}

static struct mmio_queue *selected(struct mmio *m)
{
	return m->queue_sel < m->dev->ops->n_queues ? &m->queues[m->queue_sel] : NULL;
}

static uint32_t read_reg(struct mmio *m, uint64_t off)
{
	struct virtio_dev *dev = m->dev;
	struct mmio_queue *q = selected(m);

	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return m->device_features_sel > 1
			       ? 0
			       : (uint32_t)(dev->features >> (32 * m->device_features_sel));
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? dev->ops->queue_max[m->queue_sel] : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q && q->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return __atomic_load_n(&m->int_status, __ATOMIC_SEQ_CST);
	case VIRTIO_MMIO_STATUS:
		return m->status |
		       (__atomic_load_n(&dev->failed, __ATOMIC_ACQUIRE) ? VIRTIO_CONFIG_S_NEEDS_RESET : 0);
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return dev->config_gen;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return NO_REGION;
	default:
		return 0;
	}
}

static void set_half(uint64_t *v, uint32_t half, bool high)
{
	*v = high ? (*v & 0xffffffffULL) | (uint64_t)half << 32 : (*v & ~0xffffffffULL) | half;
}

static void write_queue_reg(struct mmio *m, uint64_t off, uint32_t v)
{
	struct mmio_queue *q = selected(m);

	if (!q)
		return;
	switch (off) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->num = v;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		q->ready = v & 1;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&q->desc, v, off == VIRTIO_MMIO_QUEUE_DESC_HIGH);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&q->avail, v, off == VIRTIO_MMIO_QUEUE_AVAIL_HIGH);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&q->used, v, off == VIRTIO_MMIO_QUEUE_USED_HIGH);
		break;
	default:
		break;
	}
}

static void kick(struct mmio *m)
{
	uint64_t one = 1;

	(void)!write(m->kick, &one, sizeof(one));
}

/* write_reg() - under the lock; the job it leaves for the I/O thread, or NULL */
static void (*write_reg(struct mmio *m, uint64_t off, uint32_t v))(void *)
{
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->device_features_sel = v;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->driver_features_sel = v;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if (m->driver_features_sel < 2 && !(m->status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&m->driver_features, v, m->driver_features_sel == 1);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->queue_sel = v;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		kick(m); /* only if KVM did not take it */
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		__atomic_fetch_and(&m->int_status, ~v, __ATOMIC_SEQ_CST);
		break;
	case VIRTIO_MMIO_STATUS:
		return set_status(m, v);
	default:
		write_queue_reg(m, off, v);
		break;
	}
	return NULL;
}

static void config_access(struct mmio *m, uint64_t off, void *p, uint32_t n, bool write)
{
	const struct virtio_ops *ops = m->dev->ops;

	if (off >= ops->config_size || n > ops->config_size - off)
		return;
	if (!write)
		ops->config_read(m->dev, (uint32_t)off, p, n);
	else if (ops->config_write)
		ops->config_write(m->dev, (uint32_t)off, p, n);
}

void mmio_access(void *mmio, uint64_t off, void *p, uint32_t n, bool write)
{
	struct mmio *m = mmio;
	void (*job)(void *) = NULL;
	uint32_t v = 0;

	if (off < VIRTIO_MMIO_CONFIG && (n != 4 || off % 4))
		return; /* registers are 32 bits wide [virtio-1.2 4.2.2.2] */
	pthread_mutex_lock(&m->dev->lock);
	if (off >= VIRTIO_MMIO_CONFIG) {
		config_access(m, off - VIRTIO_MMIO_CONFIG, p, n, write);
	} else if (write) {
		memcpy(&v, p, 4);
		job = write_reg(m, off, v);
	} else {
		v = read_reg(m, off);
		memcpy(p, &v, 4);
	}
	pthread_mutex_unlock(&m->dev->lock);
	if (job)
		m->host->on_io(m->host->data, job, m);
}

int mmio_attach(struct mmio *m, struct virtio_dev *dev, uint32_t n, const struct mmio_host *host)
{
	*m = (struct mmio){ .dev = dev, .host = host, .base = MMIO_BASE + n * MMIO_LEN, .gsi = MMIO_GSI + n };
	dev->transport = m;
	m->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->kick < 0)
		return -errno;
	int r = loop_add_fd(dev->env.loop, m->kick, EPOLLIN, on_kick, m, &m->kick_src);
	if (r < 0)
		return r;
	return host->kick_at(host->data, m->base + VIRTIO_MMIO_QUEUE_NOTIFY, m->kick);
}

void mmio_detach(struct mmio *m)
{
	if (!m->dev)
		return;
	if (m->dev->active)
		m->dev->ops->reset(m->dev);
	m->dev->active = false;
	loop_src_free(m->kick_src);
	fd_close(&m->kick);
	m->dev = NULL;
}
