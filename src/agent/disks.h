/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk disks. The box that is made of a template has other disks of other sizes behind the same devices, so
 * the template's must be placeholders. One of DISKS_HUGE bytes or more keeps its driver: the driver then
 * believes in a disk that is larger than any real one, which does no harm, since file systems know
 * their own size, and binding again costs 60 ms a disk under emulation. A smaller one loses its driver
 * at quiesce and gets it back, with the real size, at setup.
 */
#ifndef AGENT_DISKS_H
#define AGENT_DISKS_H

#include <stddef.h>

#define DISKS_MAX  16
#define DISKS_HUGE (1ULL << 40)

/* struct disks - devices that were unbound; zero-initialise */
struct disks {
	char unbound[DISKS_MAX][16];
	size_t n;
};

/* disks_unbind() - take the driver from every virtio-blk device of less than DISKS_HUGE; 0 or -errno */
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
