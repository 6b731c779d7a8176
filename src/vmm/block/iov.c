// SPDX-License-Identifier: Apache-2.0
// Walking through scattered memory.
#include "vmm/block/iov.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/attr.h"

int iov_bytes(const struct iovec *v, size_t n, size_t *ret)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		if (v[i].iov_len > SSIZE_MAX - sum)
			return -EOVERFLOW;
		sum += v[i].iov_len;
	}
	*ret = sum;
	return 0;
}

size_t iov_peek(const struct iov_cur *c, size_t max, struct iovec *out, size_t room, size_t *ret_bytes)
{
	size_t skip = c->skip, bytes = 0, k = 0;

	for (size_t i = 0; i < c->n && k < room && bytes < max; i++, skip = 0) {
		size_t take = MIN(c->v[i].iov_len - skip, max - bytes);

		if (take == 0)
			continue;
		out[k].iov_base = (char *)c->v[i].iov_base + skip;
		out[k++].iov_len = take;
		bytes += take;
	}
	*ret_bytes = bytes;
	return k;
}

void iov_advance(struct iov_cur *c, size_t bytes)
{
	while (c->n > 0 && bytes >= c->v->iov_len - c->skip) {
		bytes -= c->v->iov_len - c->skip;
		c->v++;
		c->n--;
		c->skip = 0;
	}
	if (c->n > 0)
		c->skip += bytes;
}

void iov_zero(struct iov_cur *c, size_t bytes)
{
	while (bytes > 0) {
		struct iovec one;
		size_t got;

		if (iov_peek(c, bytes, &one, 1, &got) == 0)
			return;
		memset(one.iov_base, 0, got);
		iov_advance(c, got);
		bytes -= got;
	}
}
