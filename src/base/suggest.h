/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean …?" for mistyped names. */
#ifndef BASE_SUGGEST_H
#define BASE_SUGGEST_H

#include <stddef.h>

/* SUGGEST_WORD_MAX - longer words get no suggestion (bounds the work on hostile input) */
#define SUGGEST_WORD_MAX 64

/**
 * struct suggest - search for the known name nearest to a mistyped one
 * @best:	nearest so far, borrowed from suggest_offer()'s caller; NULL: none is near enough
 *
 * Fill in @word, call suggest_offer() with every known name, read @best.
 */
struct suggest {
	const char *word;
	const char *best;
	size_t best_cost;
};

/**
 * suggest_offer() - consider one known name
 * @name:	must outlive @s; at most SUGGEST_WORD_MAX bytes are compared
 *
 * A name that @s->word is the beginning of wins over one with a few letters wrong. '-' and '_'
 * count as the same letter.
 */
void suggest_offer(struct suggest *s, const char *name);

#endif
