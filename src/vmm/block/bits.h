/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps of 64-bit words. */
#ifndef VMM_BLOCK_BITS_H
#define VMM_BLOCK_BITS_H

#include <stdbool.h>
#include <stdint.h>

#define BITS_WORDS(n) (((n) + 63) / 64)

static inline bool bits_get(const uint64_t *w, uint64_t i)
{
	return w[i / 64] >> (i % 64) & 1;
}

static inline void bits_set(uint64_t *w, uint64_t i)
{
	w[i / 64] |= 1ULL << (i % 64);
}

static inline void bits_clear(uint64_t *w, uint64_t i)
{
	w[i / 64] &= ~(1ULL << (i % 64));
}

/* bits_next() - the first bit in @i..@n-1 that is @value, or @n */
static inline uint64_t bits_next(const uint64_t *w, uint64_t i, uint64_t n, bool value)
{
	while (i < n) {
		uint64_t word = (value ? w[i / 64] : ~w[i / 64]) >> (i % 64);

		if (word) {
			i += (uint64_t)__builtin_ctzll(word);
			return i < n ? i : n;
		}
		i = (i / 64 + 1) * 64;
	}
	return n;
}

#endif
