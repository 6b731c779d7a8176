/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: stream connections between guest and host, each joined to a stream socket of ours [virtio-1.2 5.10].
 *
 * Theory of operation: vsock_conn.h has states and flow control.
 */
#ifndef VMM_VIRTIO_VSOCK_H
#define VMM_VIRTIO_VSOCK_H

#include <stdint.h>

#include "vmm/virtio/virtio.h"

#define VSOCK_GUEST_CID 3
#define VSOCK_HOST_CID	2

/**
 * struct vsock_host - who decides on connections that the guest opens
 * @guest_connects: the guest wants @port of the host; answer once with vsock_accept() or vsock_refuse(), from within
 *		or later. At most VSOCK_ASKED_MAX are unanswered at any time. NULL: all are refused
 */
struct vsock_host {
	void *data;
	void (*guest_connects)(void *data, uint32_t id, uint32_t port);
};

/* vsock_new() - a device for the guest VSOCK_GUEST_CID; ops->free() ends it; 0 or -errno */
int vsock_new(const struct virtio_env *env, const struct vsock_host *host, struct virtio_dev **ret);

/**
 * vsock_connect() - open a connection to @port of the guest and join @fd to it; I/O thread
 * @fd:		stream socket; the device's from now on, whatever happens
 * Waits for the driver, and after a restore until the guest has dropped its old connections. Closing the other end
 * before the guest has accepted abandons it. A refusal is the closing of @fd.
 * Return: 0, -EMFILE if VSOCK_CONNS_MAX are open, other -errno.
 */
int vsock_connect(struct virtio_dev *dev, uint32_t port, int fd);

/**
 * vsock_accept() - answer guest_connects() @id: join @fd to the connection; I/O thread
 * @fd:		stream socket; the device's from now on, whatever happens
 * Return: 0, -ENOENT if @id does not wait (any more; the guest may have given up), other -errno.
 */
int vsock_accept(struct virtio_dev *dev, uint32_t id, int fd);
/* vsock_refuse() - the guest gets a reset; 0 or -ENOENT */
int vsock_refuse(struct virtio_dev *dev, uint32_t id);

/* vsock_counts() - payload bytes moved so far; I/O thread */
void vsock_counts(const struct virtio_dev *dev, uint64_t *ret_to_guest, uint64_t *ret_from_guest);

#endif
