/* SPDX-License-Identifier: Apache-2.0 */
/* Laying one layer's tree over what the lower ones made [OCI image spec, layer.md]. */
#ifndef IMAGE_MERGE_H
#define IMAGE_MERGE_H

#include "image/tree.h"

/**
 * merge_layer() - change @base as @layer says
 * Whiteouts and opaque marks take lower files away, a directory over a directory gives it its attributes, anything else
 * replaces. Hard links to files of lower layers are resolved last. @base never holds a whiteout or an open link.
 */
int merge_layer(struct tree *base, struct tree *layer, struct vial_err *err);

#endif
