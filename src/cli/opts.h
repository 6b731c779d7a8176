/* SPDX-License-Identifier: Apache-2.0 */
/* Command-line options, driven by tables. */
#ifndef CLI_OPTS_H
#define CLI_OPTS_H

#include <stdbool.h>
#include <stddef.h>

#include "vial/error.h"

/**
 * struct opt - one option
 * @name:	long name without "--"
 * @letter:	short name, 0: none
 * @metavar:	what its value is called; NULL: it takes none ("--x=false" is still understood)
 * @help:	one line
 * @planned:	known, but what it asks for is not built yet
 */
struct opt {
	const char *name;
	char letter;
	const char *metavar;
	const char *help;
	bool planned;
};

/**
 * struct opts - a walk over a command line
 * @argv:	words, closed by NULL; nothing is moved or changed
 * @index:	next word; after opts_next() returned 0, the first one that is no option
 * @dashes:	the options were ended by "--", which @index is past
 * @cluster:	rest of "-it" after its first letter; NULL between words
 *
 * Options end at the first word that is none: what follows belongs to the command in the box.
 */
struct opts {
	const struct opt *table;
	size_t n;
	char **argv;
	int index;
	bool dashes;
	const char *cluster;
};

/**
 * opts_next() - the next option
 * @ret_value:	"true" for an option without a value; borrowed from @o->argv
 *
 * Return: 1 with an option, 0 at the end; VIAL_E_INVALID (unknown, value missing or not wanted),
 *	   VIAL_E_UNSUPPORTED (planned).
 */
int opts_next(struct opts *o, const struct opt **ret, const char **ret_value, struct vial_err *err);

/* opts_print() - help text of a table to stdout; planned ones in one closing line */
void opts_print(const struct opt *table, size_t n);

#endif
