/* SPDX-License-Identifier: Apache-2.0 */
/* struct image_config as a TLV list: from vial-unpack, and kept in the store. */
#ifndef IMAGE_CONFIG_H
#define IMAGE_CONFIG_H

#include "image/image.h"

#define CONFIG_STRINGS_MAX 4096	    /* of one kind */
#define CONFIG_STRING_MAX  KIB(128) /* bytes, as execve() takes at most */

void config_encode(const struct image_config *c, struct buf *out);
/* config_decode() - @ret is zeroed first; 0, -EBADMSG, -E2BIG or -ENOMEM; call config_done() in any case */
int config_decode(const void *p, size_t n, struct image_config *ret);
void config_done(struct image_config *c);

#endif
