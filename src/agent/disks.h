/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk disks. A template is snapshot with its disks' driver unbound: the box that is made of it has other
 * disks of other sizes behind the same devices, and a driver that binds again reads them anew.
 */
#ifndef AGENT_DISKS_H
#define AGENT_DISKS_H

#include <stddef.h>

#define DISKS_MAX 16

/* struct disks - devices that were unbound; zero-initialise */
struct disks {
	char unbound[DISKS_MAX][16];
	size_t n;
};

/* disks_unbind() - take the driver from every virtio-blk device; 0 or -errno */
int disks_unbind(struct disks *d);
/* disks_bind() - give it back to those; 0 or -errno */
int disks_bind(struct disks *d);

/**
 * disks_find() - device node of the disk whose serial is @serial
 * @path:	"/dev/vda"
 * Return: 0, -ENOENT or -errno.
 */
int disks_find(const char *serial, size_t serial_len, char *path, size_t size);

#endif
