// SPDX-License-Identifier: Apache-2.0
// What all virtio devices have in common, whatever the transport.
#include "vmm/virtio/virtio.h"

#define COMMON_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC)

void virtio_init(struct virtio_dev *dev, const struct virtio_ops *ops, const struct virtio_env *env)
{
	*dev = (struct virtio_dev){ .ops = ops, .env = *env, .features = COMMON_FEATURES };
	pthread_mutex_init(&dev->lock, NULL);
}

void virtio_done(struct virtio_dev *dev)
{
	pthread_mutex_destroy(&dev->lock);
}

void virtio_irq_queue(struct virtio_dev *dev, uint32_t q)
{
	if (vq_notify_needed(&dev->vq[q]))
		dev->env.irq(dev, VIRTIO_INT_QUEUE);
}

void virtio_irq_config(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	dev->config_gen++;
	pthread_mutex_unlock(&dev->lock);
	if (dev->active)
		dev->env.irq(dev, VIRTIO_INT_CONFIG);
}

void virtio_fail(struct virtio_dev *dev)
{
	for (uint32_t q = 0; q < dev->ops->n_queues; q++)
		dev->vq[q].broken = true;
	__atomic_store_n(&dev->failed, true, __ATOMIC_RELEASE);
	if (dev->active)
		dev->env.irq(dev, VIRTIO_INT_CONFIG);
}
