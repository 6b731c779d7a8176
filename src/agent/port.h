/* SPDX-License-Identifier: Apache-2.0 */
/* Transports: how the host's connections reach the agent. */
#ifndef AGENT_PORT_H
#define AGENT_PORT_H

#include "agent/chan.h"
#include "base/loop.h"
#include "vial/error.h"

struct port;

/* struct transport - a transport in use; port.c and vsock.c embed it */
struct transport {
	/* @idle: nothing queued that the host has not been handed */
	bool (*idle)(struct transport *t);
	/* @flush: write until idle or @deadline_ns (clock_mono_ns()), blocking; for power-off */
	void (*flush)(struct transport *t, uint64_t deadline_ns);
	bool settles_long; /* the kvm engine's: each page that a start writes is a VM exit or two there */
};

/**
 * transport_open() - find the host: virtio-serial port AGENT_PORT_NAME, or vsock
 * @events, @owner:	borrowed for good
 * Waits for the device to appear, TRANSPORT_WAIT_MS at most.
 * Return: 0 or a VIAL_E_* in @err.
 */
int transport_open(struct loop *l, const struct chan_events *events, void *owner, struct transport **ret,
		   struct vial_err *err);

/* port_open() - link layer over the virtio-serial port at @path (or any such byte pipe); 0 or -errno */
int port_open(struct loop *l, const char *path, const struct chan_events *events, void *owner,
	      struct transport **ret);
/**
 * vsock_open() - listen on AF_VSOCK port AGENT_PORT and tell the host so
 * Return: 0, -ENODEV without a vsock device, or -errno.
 */
int vsock_open(struct loop *l, const struct chan_events *events, void *owner, struct transport **ret);
/* vsock_serve() - the same on any listening stream socket @fd, which it takes when it succeeds; 0 or -errno */
int vsock_serve(struct loop *l, int fd, const struct chan_events *events, void *owner,
		struct transport **ret);
/* vsock_free() - of vsock_serve(); silently, its loop goes on. An agent lives as long as its machine: for tests */
void vsock_free(struct transport *t);

#endif
