// SPDX-License-Identifier: Apache-2.0
// The list of what a start touches.
#include "wire/warm.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* As it stands in the file. */
struct run_le {
	uint64_t page;
	uint32_t n;
	uint32_t kind;
};
_Static_assert(sizeof(struct run_le) == WARM_RUN, "no padding");

int warm_encode(const struct warm_run *runs, size_t n, struct buf *out)
{
	const uint32_t head[] = { htole32(WARM_VERSION), htole32((uint32_t)n) };

	buf_append(out, WARM_MAGIC, sizeof(WARM_MAGIC) - 1);
	buf_append(out, head, sizeof(head));
	for (size_t i = 0; i < n; i++) {
		const struct run_le r = { htole64(runs[i].page), htole32(runs[i].n), htole32(runs[i].kind) };

		buf_append(out, &r, sizeof(r));
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

static bool run_ok(const struct warm_run *r, uint64_t from, uint64_t pages)
{
	if (r->page < from || r->page >= pages || r->n == 0 || r->n > pages - r->page)
		return false;
	return r->kind == WARM_WRITTEN ||
	       (r->kind == WARM_DENSE && r->page % WARM_HUGE == 0 && r->n % WARM_HUGE == 0);
}

int warm_decode(const void *p, size_t len, uint64_t pages, struct warm_run *ret)
{
	const uint8_t *at = p;
	uint32_t head[2];
	uint64_t from = 0;

	if (len < WARM_HEAD || memcmp(at, WARM_MAGIC, sizeof(WARM_MAGIC) - 1) != 0)
		return -EBADMSG;
	memcpy(head, at + sizeof(WARM_MAGIC) - 1, sizeof(head));
	if (le32toh(head[0]) != WARM_VERSION)
		return -EPROTONOSUPPORT;
	uint32_t n = le32toh(head[1]);
	if (n > WARM_RUNS_MAX || len != WARM_HEAD + n * (size_t)WARM_RUN)
		return -EBADMSG;
	for (uint32_t i = 0; i < n; i++) {
		struct run_le r;

		memcpy(&r, at + WARM_HEAD + i * (size_t)WARM_RUN, sizeof(r));
		ret[i] = (struct warm_run){ le64toh(r.page), le32toh(r.n), le32toh(r.kind) };
		if (!run_ok(&ret[i], from, pages))
			return -EBADMSG;
		from = ret[i].page + ret[i].n;
	}
	return (int)n;
}
