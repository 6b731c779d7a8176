/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives into layers. */
#ifndef IMAGE_TAR_H
#define IMAGE_TAR_H

#include "image/layer.h"
#include "image/stream.h"

/**
 * tar_read() - all entries of @in, to its end, into @l
 * @whiteouts:	".wh." names are a layer's whiteouts, not files
 * Errors name the entry they concern.
 */
int tar_read(struct stream *in, struct layer *l, bool whiteouts, struct vial_err *err);

#endif
