// SPDX-License-Identifier: Apache-2.0
// Finding a fixed byte string in a stream that arrives in pieces.
#include "wire/marker.h"

#include <string.h>

#include "base/attr.h"

void marker_set(struct marker *m, const uint8_t head[16], const uint8_t rest[16])
{
	memcpy(m->bytes, head, 16);
	memcpy(m->bytes + 16, rest, 16);
	m->n_tail = 0;
}

/* Length of the longest end of @p that @m starts with, at most MARKER_SIZE - 1. */
static size_t match_end(const struct marker *m, const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;
	const uint8_t *at = n < MARKER_SIZE ? p : end - (MARKER_SIZE - 1);

	while (at < end && (at = memchr(at, m->bytes[0], (size_t)(end - at)))) {
		if (memcmp(at, m->bytes, (size_t)(end - at)) == 0)
			return (size_t)(end - at);
		at++;
	}
	return 0;
}

/* Searches for a marker that began in an earlier piece; as marker_find(). */
static size_t find_across(struct marker *m, const uint8_t *p, size_t n)
{
	uint8_t both[2 * MARKER_SIZE];
	size_t some = MIN(n, (size_t)MARKER_SIZE);

	memcpy(both, m->tail, m->n_tail);
	memcpy(both + m->n_tail, p, some);
	const uint8_t *hit = memmem(both, m->n_tail + some, m->bytes, MARKER_SIZE);
	if (!hit || hit >= both + m->n_tail)
		return 0;
	return (size_t)(hit - both) + MARKER_SIZE - m->n_tail;
}

/* Remembers the end of the stream, which is the old tail and then @p. */
static void keep_tail(struct marker *m, const uint8_t *p, size_t n)
{
	uint8_t both[2 * MARKER_SIZE];
	size_t len = 0;

	if (n < MARKER_SIZE && m->n_tail) {
		memcpy(both, m->tail, m->n_tail);
		memcpy(both + m->n_tail, p, n);
		len = m->n_tail + n;
		p = both;
		n = len;
	}
	m->n_tail = match_end(m, p, n);
	memcpy(m->tail, m->bytes, m->n_tail);
}

size_t marker_find(struct marker *m, const uint8_t *p, size_t n, size_t *ret_start)
{
	if (n == 0)
		return 0;
	if (m->n_tail) {
		size_t end = find_across(m, p, n);
		if (end) {
			m->n_tail = 0;
			*ret_start = 0;
			return end;
		}
	}
	const uint8_t *hit = memmem(p, n, m->bytes, MARKER_SIZE);
	if (hit) {
		m->n_tail = 0;
		*ret_start = (size_t)(hit - p);
		return *ret_start + MARKER_SIZE;
	}
	keep_tail(m, p, n);
	return 0;
}
