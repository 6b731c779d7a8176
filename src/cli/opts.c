// SPDX-License-Identifier: Apache-2.0
// Command-line options: --name VALUE, --name=VALUE, -n VALUE, -nVALUE, -n=VALUE, clusters of letters.
#include "cli/opts.h"

#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/suggest.h"

#define HELP_COLUMN 34 /* where the explanations start */
#define HELP_WIDTH  78

static int unknown_flag(const struct opts *o, const char *word, size_t len, struct vial_err *err)
{
	char name[SUGGEST_WORD_MAX + 2];
	struct suggest near = { .word = name };

	snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), word);
	for (size_t i = 0; i < o->n; i++)
		if (!o->table[i].planned)
			suggest_offer(&near, o->table[i].name);
	if (near.best)
		return err_set(err, VIAL_E_INVALID, "unknown flag '--%s' (did you mean '--%s'?)", name,
			       near.best);
	return err_set(err, VIAL_E_INVALID, "unknown flag '--%s' (see --help)", name);
}

/* @inline_value: given in the same word, or NULL */
static int take_value(struct opts *o, const struct opt *opt, const char *inline_value, const char **ret,
		      struct vial_err *err)
{
	if (opt->planned)
		return err_set(err, VIAL_E_UNSUPPORTED, "--%s: not built yet", opt->name);
	if (inline_value) {
		*ret = inline_value;
	} else if (!opt->metavar) {
		*ret = "true";
	} else if (o->argv[o->index]) {
		*ret = o->argv[o->index++];
	} else {
		return err_set(err, VIAL_E_INVALID, "--%s: needs a value (%s)", opt->name, opt->metavar);
	}
	return 1;
}

static int next_long(struct opts *o, const char *word, const struct opt **ret, const char **ret_value,
		     struct vial_err *err)
{
	size_t len = strcspn(word, "=");

	for (size_t i = 0; i < o->n; i++) {
		const struct opt *opt = &o->table[i];

		if (strlen(opt->name) != len || strncmp(opt->name, word, len) != 0)
			continue;
		*ret = opt;
		return take_value(o, opt, word[len] ? word + len + 1 : NULL, ret_value, err);
	}
	return unknown_flag(o, word, len, err);
}

static int next_letter(struct opts *o, const struct opt **ret, const char **ret_value, struct vial_err *err)
{
	const char *at = o->cluster, *rest = at + 1;

	o->cluster = NULL;
	for (size_t i = 0; i < o->n; i++) {
		const struct opt *opt = &o->table[i];

		if (!opt->letter || opt->letter != *at)
			continue;
		*ret = opt;
		if (*rest == '=')
			return take_value(o, opt, rest + 1, ret_value, err);
		if (opt->metavar)
			return take_value(o, opt, *rest ? rest : NULL, ret_value, err);
		if (*rest)
			o->cluster = rest;
		return take_value(o, opt, NULL, ret_value, err);
	}
	return err_set(err, VIAL_E_INVALID, "unknown flag '-%c' (see --help)", *at);
}

int opts_next(struct opts *o, const struct opt **ret, const char **ret_value, struct vial_err *err)
{
	if (o->cluster)
		return next_letter(o, ret, ret_value, err);
	const char *word = o->argv[o->index];
	/* "-" alone is a word: by custom it names stdin or stdout. */
	if (!word || word[0] != '-' || !word[1])
		return 0;
	o->index++;
	if (strcmp(word, "--") == 0) {
		o->dashes = true;
		return 0;
	}
	if (word[1] == '-')
		return next_long(o, word + 2, ret, ret_value, err);
	o->cluster = word + 1;
	return next_letter(o, ret, ret_value, err);
}

static void print_planned(const struct opt *table, size_t n)
{
	size_t column = 0;

	for (size_t i = 0; i < n; i++) {
		if (!table[i].planned)
			continue;
		if (column == 0)
			printf("\nNot built yet (using one is an error):\n ");
		if (column + strlen(table[i].name) + 3 > HELP_WIDTH) {
			printf("\n ");
			column = 0;
		}
		column += (size_t)printf(" --%s", table[i].name);
	}
	if (column)
		printf("\n");
}

void opts_print(const struct opt *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct opt *o = &table[i];
		int used;

		if (o->planned)
			continue;
		used = o->letter ? printf("  -%c, --%s", o->letter, o->name) : printf("      --%s", o->name);
		if (o->metavar)
			used += printf(" %s", o->metavar);
		if (used >= HELP_COLUMN)
			used = printf("\n") - 1;
		printf("%*s%s\n", HELP_COLUMN - used, "", o->help);
	}
	print_planned(table, n);
}
