/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device: random bytes of the host's kernel. [virtio-1.2 5.4] */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

#include "vmm/virtio/virtio.h"

#define RNG_BYTES_MAX 4096 /* given for one request, however much room it has */

/* rng_new() - a device; ops->free() ends it; 0 or -ENOMEM */
int rng_new(const struct virtio_env *env, struct virtio_dev **ret);

#endif
