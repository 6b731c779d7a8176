/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes of one inode, in the form EROFS stores them inline. */
#ifndef IMAGE_XATTR_H
#define IMAGE_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vial/error.h"

/* struct xattr_one - borrowed strings of one attribute; @suffix lacks the prefix that @index stands for */
struct xattr_one {
	uint8_t index;
	const char *suffix;
	size_t suffix_len;
	const uint8_t *value;
	size_t value_len;
};

struct xattr_set {
	struct xattr_one *v;
	size_t n;
};

void xattr_set_done(struct xattr_set *s);

/**
 * xattr_set_add() - add or replace attribute @name
 * @name, @value: borrowed until xattr_set_encode()
 * Attributes EROFS has no name for and overlayfs's private ones (trusted.overlay.) are left out silently:
 * a container runtime shows neither.
 */
int xattr_set_add(struct xattr_set *s, const char *name, const void *value, size_t len, struct vial_err *err);

/**
 * xattr_set_encode() - entries sorted by index and name, each padded to 4 bytes, without the inode's 12-byte header
 * @ret:	malloc'ed, NULL when there are none
 */
int xattr_set_encode(struct xattr_set *s, uint8_t **ret, uint32_t *ret_len, struct vial_err *err);

/* xattr_body_valid() - whether @p is such a list of entries */
bool xattr_body_valid(const uint8_t *p, size_t n);

#endif
