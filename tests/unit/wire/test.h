/* SPDX-License-Identifier: Apache-2.0 */
/* What every test of this folder includes; cmocka wants these headers in this order. */
#ifndef TEST_WIRE_H
#define TEST_WIRE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "wire/tlv.h"

/* A copy of exactly @n bytes, so that ASan and valgrind see a read past the end. */
static inline uint8_t *exact_copy(const void *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	assert_non_null(copy);
	if (n)
		memcpy(copy, p, n);
	return copy;
}

/* decode_fn - decodes a description and drops it; its result */
typedef int decode_fn(const void *p, size_t n);

/*
 * Cuts a description anywhere: at an entry's end it is a shorter one, elsewhere it is refused; never read past. How many
 * were accepted.
 */
static inline size_t try_truncations(const struct buf *b, decode_fn *decode)
{
	size_t accepted = 0;

	for (size_t n = 0; n < b->len; n++) {
		_cleanup_free_ uint8_t *cut = exact_copy(b->data, n);
		struct tlv_in in = { cut, n };
		struct tlv t;
		int whole, r = decode(cut, n);

		while ((whole = tlv_next(&in, &t)) > 0)
			;
		assert_int_equal(r, n == 0 ? -EBADMSG : whole);
		accepted += r == 0;
	}
	return accepted;
}

/* decode_and_drop() - and the buffer, too */
static inline int decode_and_drop(struct buf *b, decode_fn *decode)
{
	int r = decode(b->data, b->len);

	buf_done(b);
	return r;
}

/* decode_many() - a description of @version that has @n entries of @tag with @bytes each */
static inline int decode_many(decode_fn *decode, uint32_t version, uint16_t tag, size_t bytes, size_t n)
{
	const uint64_t one = 1;
	struct buf b = { 0 };

	tlv_put_u32(&b, 1, version);
	for (size_t i = 0; i < n; i++)
		tlv_put(&b, tag, &one, bytes);
	return decode_and_drop(&b, decode);
}

#endif
