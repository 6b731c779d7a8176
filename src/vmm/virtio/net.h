/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device: Ethernet frames between a guest and a peer process, one frame a message. [virtio-1.2 5.1]
 *
 * The peer speaks first, with a struct net_hello; the device answers with the same, its flags reduced to what both can do.
 * From then on each message, either way, is one frame, led by a struct virtio_net_hdr_v1 if NET_HELLO_HDR was agreed.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include <stdint.h>

#include "vmm/virtio/virtio.h"

#define NET_HELLO_MAGIC	  0x6e6c6976u /* "viln" */
#define NET_HELLO_VERSION 1u
#define NET_HELLO_MS	  5000
#define NET_MTU_MIN	  68u	 /* IPv4's least */
#define NET_MTU_MAX	  65521u /* with an Ethernet header, a frame of at most 65535 bytes */

/* NET_HELLO_HDR: the peer takes and gives virtio_net_hdr: checksum and segmentation offload is its work */
enum { NET_HELLO_HDR = 1 };

/* struct net_hello - the handshake, little-endian; @pad is zero */
struct net_hello {
	uint32_t magic;
	uint16_t version;
	uint16_t flags;
	uint16_t mtu;
	uint8_t mac[6];
	uint32_t pad;
};

/**
 * net_new() - a device whose peer is at the other end of @fd; waits up to NET_HELLO_MS for its hello
 * @fd:		SOCK_SEQPACKET, stays the caller's and must outlive the device
 * Return: 0; -ETIMEDOUT, -EPROTO if the hello is none, other -errno.
 */
int net_new(const struct virtio_env *env, int fd, struct virtio_dev **ret);

/* struct net_counts - frames so far; I/O thread */
struct net_counts {
	uint64_t to_guest, from_guest;
	uint64_t dropped; /* too long, too short, or the peer is gone */
};
void net_counts(struct virtio_dev *dev, struct net_counts *ret);

#endif
