/* SPDX-License-Identifier: Apache-2.0 */
/* What an image may ask for at most: each is told by name when it is reached. */
#ifndef IMAGE_LIMITS_H
#define IMAGE_LIMITS_H

#include "base/attr.h"

#define IMAGE_BLOCK	      4096u
#define IMAGE_ENTRIES_MAX     2000000u		 /* entries ever added to one tree */
#define IMAGE_META_BYTES_MAX  MIB(768)		 /* names, link targets and xattrs of one tree */
#define IMAGE_DATA_BYTES_MAX  (MIB(1024) * 1024) /* contents of one layer, holes included: 1 TiB */
#define IMAGE_FILE_BYTES_MAX  (MIB(1024) * 512)	 /* one file: 512 GiB */
#define IMAGE_NAME_MAX	      255u
#define IMAGE_PATH_MAX	      4096u
#define IMAGE_TARGET_MAX      4095u /* of a symlink */
#define IMAGE_DEPTH_MAX	      256u
#define IMAGE_SYMLINKS_MAX    40u /* followed for one path, as in the kernel */
#define IMAGE_XATTRS_MAX      128u
#define IMAGE_XATTR_VALUE_MAX 65535u
#define IMAGE_XATTR_BODY_MAX  KIB(128) /* all of one inode, as encoded */
#define IMAGE_TAIL_MAX	      2048u    /* longer tails get a block of their own in the layer's data */
#define IMAGE_REPORT_MAX      MIB(4)   /* what vial-unpack may say */
#define IMAGE_JSON_MAX	      MIB(4)   /* one JSON document */

#endif
