/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tag-length-value lists: {le16 tag, le16 reserved 0, le32 length, value}, unpadded. What the processes of one
 * box on the host tell each other: exec parameters, launch descriptions. Unknown tags are skipped.
 */
#ifndef WIRE_TLV_H
#define WIRE_TLV_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define TLV_HEADER 8

void tlv_put(struct buf *b, uint16_t tag, const void *p, size_t n);
void tlv_put_str(struct buf *b, uint16_t tag, const char *s); /* without NUL; NULL puts nothing */
void tlv_put_u32(struct buf *b, uint16_t tag, uint32_t v);
void tlv_put_u64(struct buf *b, uint16_t tag, uint64_t v);

/**
 * struct tlv_in - reading position in a list; the writer may be hostile
 * Initialise with { p, n }.
 */
struct tlv_in {
	const uint8_t *p;
	size_t n;
};

struct tlv {
	uint16_t tag;
	const uint8_t *p; /* borrowed from the list */
	size_t n;
};

/* tlv_next() - 1 with an entry, 0 at the end, -EBADMSG if an entry leaves the list or reserved is not 0 */
int tlv_next(struct tlv_in *in, struct tlv *ret);

/**
 * tlv_each() - take a list apart that begins with an entry of its version
 * @first:	tag of that entry
 * @take:	called with @to for each entry; a result below 0 ends it
 * Return: 0, -EBADMSG (nothing, another entry first, a damaged one), or what @take returned.
 */
int tlv_each(const void *p, size_t n, uint16_t first, int (*take)(void *to, const struct tlv *t), void *to);

/* Typed values; 0, or -EBADMSG if the length is wrong (or a string holds NUL). */
int tlv_u32(const struct tlv *t, uint32_t *ret);
int tlv_u64(const struct tlv *t, uint64_t *ret);
int tlv_str(const struct tlv *t, size_t max, char **ret); /* malloc'ed; also -ENOMEM, -E2BIG */

#endif
