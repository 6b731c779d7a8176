/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of the host into layers: the receiving side of image/walk.h, in vial-unpack. */
#ifndef IMAGE_DIRSTREAM_H
#define IMAGE_DIRSTREAM_H

#include "base/sha256.h"
#include "image/layer.h"

/* dirstream_read() - a whole stream from @fd; @ret_digest: of all its bytes */
int dirstream_read(int fd, struct layer *l, uint8_t ret_digest[SHA256_SIZE], struct vial_err *err);

#endif
