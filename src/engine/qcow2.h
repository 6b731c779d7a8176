/* SPDX-License-Identifier: Apache-2.0 */
/* Writing an empty qcow2 image: the upper layer of a box's disk. [QEMU docs/interop/qcow2] */
#ifndef ENGINE_QCOW2_H
#define ENGINE_QCOW2_H

#include <stdint.h>

/**
 * qcow2_init() - make @fd an empty version 3 image of @bytes virtual size, 64 KiB clusters
 * Names no backing file: which one it has is told to the engine, so that a file cannot name another of the host.
 * @fd:		empty, read-write
 * @bytes:	multiple of 512, up to 2^44
 * Return: 0, -EINVAL, -errno.
 */
int qcow2_init(int fd, uint64_t bytes);

/**
 * qcow2_check() - is @fd an image as qcow2_init() and QEMU writing to it leave one?
 * Version 3, 64 KiB clusters, of @bytes virtual size, no encryption, snapshots, incompatible features or name of another
 * file, its tables within the file. What the tables say is not looked at.
 * @fd:		hostile
 * Return: 0, -EBADMSG, -errno.
 */
int qcow2_check(int fd, uint64_t bytes);

#endif
