// SPDX-License-Identifier: Apache-2.0
#include "agent/disks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sysfile.h"
#include "base/attr.h"

#define DRIVER_DIR  "/sys/bus/virtio/drivers/virtio_blk"
#define SECTOR_SIZE 512
#define SERIAL_MAX  20 /* [virtio-1.2 5.2.6: VIRTIO_BLK_T_GET_ID] */

static void dir_closep(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Whether the disk of the driver's device @dev keeps its driver. */
static bool is_huge(const char *dev)
{
	char path[300], text[32];
	bool huge = false;
	int n = snprintf(path, sizeof(path), DRIVER_DIR "/%s/block", dev);
	_cleanup_(dir_closep) DIR *dir = n > 0 && (size_t)n < sizeof(path) ? opendir(path) : NULL;

	if (!dir)
		return false;
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		n = snprintf(path, sizeof(path), "/sys/block/%.32s/size", e->d_name);
		if (n > 0 && sysfile_read(AT_FDCWD, path, text, sizeof(text)) == 0)
			huge = strtoull(text, NULL, 10) >= DISKS_HUGE / SECTOR_SIZE;
	}
	return huge;
}

int disks_unbind(struct disks *d)
{
	_cleanup_(dir_closep) DIR *dir = opendir(DRIVER_DIR);

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	for (struct dirent *e; (e = readdir(dir)) && d->n < DISKS_MAX;) {
		size_t len = strlen(e->d_name);
		if (strncmp(e->d_name, "virtio", 6) != 0 || len >= sizeof(d->unbound[0]))
			continue;
		if (is_huge(e->d_name))
			continue;
		int r = sysfile_write(AT_FDCWD, DRIVER_DIR "/unbind", e->d_name);
		if (r < 0)
			return r;
		memcpy(d->unbound[d->n++], e->d_name, len + 1);
	}
	return 0;
}

/* The host orders requests, and knows its disks: here it would only be work. */
static void no_scheduler(void)
{
	char path[64];

	for (int c = 'a'; c <= 'z'; c++) {
		snprintf(path, sizeof(path), "/sys/block/vd%c/queue/scheduler", c);
		if (sysfile_write(AT_FDCWD, path, "none") < 0)
			continue;
		snprintf(path, sizeof(path), "/sys/block/vd%c/queue/wbt_lat_usec", c);
		(void)sysfile_write(AT_FDCWD, path, "0");
	}
}

int disks_bind(struct disks *d)
{
	while (d->n > 0) {
		int r = sysfile_write(AT_FDCWD, DRIVER_DIR "/bind", d->unbound[d->n - 1]);
		if (r < 0)
			return r;
		d->n--;
	}
	no_scheduler();
	return 0;
}

int disks_find(const char *serial, size_t serial_len, char *path, size_t size)
{
	char file[64], name[8], got[SERIAL_MAX + 2];

	if (serial_len == 0 || serial_len > SERIAL_MAX)
		return -ENOENT;
	for (int c = 'a'; c <= 'z'; c++) {
		snprintf(name, sizeof(name), "vd%c", c);
		snprintf(file, sizeof(file), "/sys/block/%s/serial", name);
		int r = sysfile_read(AT_FDCWD, file, got, sizeof(got));
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (strlen(got) == serial_len && memcmp(got, serial, serial_len) == 0) {
			int n = snprintf(path, size, "/dev/%s", name);
			return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
		}
	}
	return -ENOENT;
}
