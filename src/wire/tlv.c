// SPDX-License-Identifier: Apache-2.0
// Tag-length-value lists.
#include "wire/tlv.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void tlv_put(struct buf *b, uint16_t tag, const void *p, size_t n)
{
	struct {
		uint16_t tag_le, reserved;
		uint32_t len_le;
	} header = { htole16(tag), 0, htole32((uint32_t)n) };

	_Static_assert(sizeof(header) == TLV_HEADER, "no padding");
	if (n > UINT32_MAX) {
		b->failed = true;
		return;
	}
	if (buf_reserve(b, TLV_HEADER + n) < 0)
		return;
	buf_append(b, &header, sizeof(header));
	buf_append(b, p, n);
}

void tlv_put_str(struct buf *b, uint16_t tag, const char *s)
{
	if (s)
		tlv_put(b, tag, s, strlen(s));
}

void tlv_put_u32(struct buf *b, uint16_t tag, uint32_t v)
{
	uint32_t le = htole32(v);

	tlv_put(b, tag, &le, sizeof(le));
}

void tlv_put_u64(struct buf *b, uint16_t tag, uint64_t v)
{
	uint64_t le = htole64(v);

	tlv_put(b, tag, &le, sizeof(le));
}

int tlv_next(struct tlv_in *in, struct tlv *ret)
{
	uint16_t tag_le, reserved;
	uint32_t len_le;

	if (in->n == 0)
		return 0;
	if (in->n < TLV_HEADER)
		return -EBADMSG;
	memcpy(&tag_le, in->p, sizeof(tag_le));
	memcpy(&reserved, in->p + 2, sizeof(reserved));
	memcpy(&len_le, in->p + 4, sizeof(len_le));
	size_t len = le32toh(len_le);
	if (reserved != 0 || len > in->n - TLV_HEADER)
		return -EBADMSG;
	*ret = (struct tlv){ .tag = le16toh(tag_le), .p = in->p + TLV_HEADER, .n = len };
	in->p += TLV_HEADER + len;
	in->n -= TLV_HEADER + len;
	return 1;
}

int tlv_each(const void *p, size_t n, uint16_t first, int (*take)(void *to, const struct tlv *t), void *to)
{
	struct tlv_in in = { p, n };
	struct tlv t;
	int r = tlv_next(&in, &t);

	/* The version first: what follows is another's if it is another. */
	if (r == 0 || (r > 0 && t.tag != first))
		return -EBADMSG;
	for (; r > 0; r = tlv_next(&in, &t)) {
		r = take(to, &t);
		if (r < 0)
			return r;
	}
	return r;
}

int tlv_u32(const struct tlv *t, uint32_t *ret)
{
	uint32_t le;

	if (t->n != sizeof(le))
		return -EBADMSG;
	memcpy(&le, t->p, sizeof(le));
	*ret = le32toh(le);
	return 0;
}

int tlv_u64(const struct tlv *t, uint64_t *ret)
{
	uint64_t le;

	if (t->n != sizeof(le))
		return -EBADMSG;
	memcpy(&le, t->p, sizeof(le));
	*ret = le64toh(le);
	return 0;
}

int tlv_str(const struct tlv *t, size_t max, char **ret)
{
	if (t->n > max)
		return -E2BIG;
	if (memchr(t->p, 0, t->n))
		return -EBADMSG;
	char *s = malloc(t->n + 1);
	if (!s)
		return -ENOMEM;
	memcpy(s, t->p, t->n);
	s[t->n] = '\0';
	*ret = s;
	return 0;
}
