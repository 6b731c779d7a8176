/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public headers with their functions exported: everything else of ours is hidden. To be included
 * first by the files of this folder, before any header that includes vial/vial.h itself.
 */
#ifndef API_EXPORT_H
#define API_EXPORT_H

#pragma GCC visibility push(default)
#include "vial/vial.h"
#pragma GCC visibility pop

#endif
