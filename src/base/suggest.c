// SPDX-License-Identifier: Apache-2.0
// "Did you mean …?": optimal string alignment distance (a swap of neighbours is one mistake).
#include "base/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/attr.h"

/* At least this many letters before "the beginning of a name" says anything. */
#define PREFIX_MIN 2

static bool same(char a, char b)
{
	if (a == '_')
		a = '-';
	if (b == '_')
		b = '-';
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
	size_t rows[3][SUGGEST_WORD_MAX + 1];
	size_t *two_ago = rows[0], *ago = rows[1], *now = rows[2];

	for (size_t j = 0; j <= nb; j++)
		ago[j] = j;
	for (size_t i = 1; i <= na; i++) {
		now[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t change = ago[j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1);
			now[j] = MIN(MIN(ago[j], now[j - 1]) + 1, change);
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
				now[j] = MIN(now[j], two_ago[j - 2] + 1);
		}
		size_t *free_row = two_ago;
		two_ago = ago;
		ago = now;
		now = free_row;
	}
	return ago[nb];
}

static bool begins(const char *name, const char *word, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!same(name[i], word[i]))
			return false;
	return true;
}

void suggest_offer(struct suggest *s, const char *name)
{
	size_t nw = strlen(s->word), nn = strlen(name), cost;

	if (nw == 0 || nw > SUGGEST_WORD_MAX || nn > SUGGEST_WORD_MAX)
		return;
	if (nw >= PREFIX_MIN && nw < nn && begins(name, s->word, nw))
		cost = 1;
	else
		cost = distance(s->word, nw, name, nn) * 2;
	/* One mistake in up to five letters, two in up to eight, then three. */
	size_t most = 2 * (nw <= 2 ? 0 : nw <= 5 ? 1 : nw <= 8 ? 2 : 3);
	if (nw >= PREFIX_MIN && most == 0)
		most = 1;
	if (cost > most || (s->best && cost >= s->best_cost))
		return;
	s->best = name;
	s->best_cost = cost;
}
