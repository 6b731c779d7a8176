/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon device: memory that the guest gives back, when asked or when it is free. [virtio-1.2 5.5] */
#ifndef VMM_VIRTIO_BALLOON_H
#define VMM_VIRTIO_BALLOON_H

#include <stdint.h>

#include "vmm/virtio/virtio.h"

#define BALLOON_PAGE	 4096u
#define BALLOON_PFNS_MAX 4096u /* page numbers in one chain; Linux sends 256 */

/* balloon_new() - a device with target 0; @reporting: free page reporting is offered; ops->free() ends it; 0 or -ENOMEM */
int balloon_new(const struct virtio_env *env, bool reporting, struct virtio_dev **ret);

/**
 * balloon_target() - ask the guest to give back this much, or to take back what is above it; I/O thread
 * @bytes:	rounded down to pages, at most the memory there is. The guest does it in its own time, or never
 */
void balloon_target(struct virtio_dev *dev, uint64_t bytes);

/**
 * balloon_counts() - any thread
 * @ret_balloon: bytes in the balloon, as the guest says
 * @ret_free:	bytes given back to the host by free page reporting so far
 */
void balloon_counts(struct virtio_dev *dev, uint64_t *ret_balloon, uint64_t *ret_free);

#endif
