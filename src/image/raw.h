/* SPDX-License-Identifier: Apache-2.0 */
/* Disk images as they are. */
#ifndef IMAGE_RAW_H
#define IMAGE_RAW_H

#include "image/image.h"

/**
 * raw_open() - take @path as a disk image if it is one
 * @fd:		open on it; duplicated if used
 * Return: 1 taken, 0 no disk image, or an error that names what was found.
 */
int raw_open(int fd, const char *path, struct image *ret, struct vial_err *err);

#endif
