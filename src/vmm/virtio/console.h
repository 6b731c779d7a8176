/* SPDX-License-Identifier: Apache-2.0 */
/* The console device: one port, hvc0 in a Linux guest, its bytes on a stream socket. [virtio-1.2 5.3] */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include "vmm/virtio/virtio.h"

#define CONSOLE_PATIENCE_MS 1000 /* how long output waits for a reader that takes none */

/**
 * console_new() - a device; ops->free() ends it
 * @fd:		stream socket, stays the caller's and must outlive the device; -1: output is dropped
 * Return: 0 or -errno.
 */
int console_new(const struct virtio_env *env, int fd, struct virtio_dev **ret);

#endif
