/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a fixed byte string in a stream that arrives in pieces. */
#ifndef WIRE_MARKER_H
#define WIRE_MARKER_H

#include <stddef.h>
#include <stdint.h>

#define MARKER_SIZE 32

/**
 * struct marker - what is looked for and how far the stream's end agrees with it
 * @bytes:	the string; its first byte should be rare in the stream
 * @tail:	the longest end of the stream so far that @bytes starts with
 * @n_tail:	its length, 0..MARKER_SIZE-1
 */
struct marker {
	uint8_t bytes[MARKER_SIZE];
	uint8_t tail[MARKER_SIZE];
	size_t n_tail;
};

/* marker_set() - look for @head (16 bytes) followed by @rest (16 bytes) from here on */
void marker_set(struct marker *m, const uint8_t head[16], const uint8_t rest[16]);

/**
 * marker_find() - go on searching with the next @n bytes of the stream
 * @p:		the bytes; may be cut anywhere, in the marker too
 * @ret_start:	set on success: bytes of @p that stand before the marker, 0 if it started in an earlier piece
 *
 * Return: bytes of @p up to and with the marker's last, 1..n; 0 if it is not complete yet.
 */
size_t marker_find(struct marker *m, const uint8_t *p, size_t n, size_t *ret_start);

#endif
