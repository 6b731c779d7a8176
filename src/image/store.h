/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the image store, $VIAL_HOME/images.
 *
 * Theory of operation
 *
 * layers/KEY.data, layers/KEY.tree and roots/KEY.meta never change once they are there: they are made in tmp/ under a name of
 * their own, fsynced, renamed. sources/DEV-INO remembers which root a source file or directory became. All are
 * found by opening them: no index that could disagree.
 * Locks: OFD byte-range locks in the file "lock", one byte for each source and each layer, so several processes do
 * the same work once and the kernel drops the lock of one that dies. A temporary name belongs to the lock's holder: what a
 * killed one left is overwritten. Order: source, then layer.
 * Trust: the store is the user's own; still a file of the wrong length is taken as missing.
 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include "base/sha256.h"
#include "image/image.h"

#define STORE_NAME_MAX 160

/* struct store_temp - a file being made */
struct store_temp {
	int store_fd;
	int fd; /* -1: none */
	char name[STORE_NAME_MAX];
};

int store_prepare(int store_fd, struct vial_err *err);

/* store_lock() - wait for the lock called @name; @ret: descriptor that holds it until closed */
int store_lock(int store_fd, bool is_layer, const char *name, int *ret, struct vial_err *err);
void store_unlock(int *fd);
#define _cleanup_lock_ _cleanup_(store_unlock)

/* store_temp_make() - empty tmp/@name; the lock that @name stands for is held */
int store_temp_make(int store_fd, const char *name, struct store_temp *ret, struct vial_err *err);
/* store_temp_done() - remove it unless it was published */
void store_temp_done(struct store_temp *t);
/* store_temp_publish() - make it durable and give it its final @path (below the store) */
int store_temp_publish(struct store_temp *t, const char *path, struct vial_err *err);

/**
 * store_open() - open a file of the store read-only
 * @bytes:	what its length must be; UINT64_MAX: any multiple of 4096
 * Return: descriptor, -ENOENT also for a wrong length, or -errno.
 */
int store_open(int store_fd, const char *path, uint64_t bytes, uint64_t *ret_bytes);

#endif
