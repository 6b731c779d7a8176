// SPDX-License-Identifier: Apache-2.0
// Commands without options of their own.
#include "cli/plain.h"

#include "base/attr.h"
#include "base/err.h"
#include "cli/out.h"

static const struct opt table[] = {
	{ "help", 'h', NULL, "show this help", false },
};

const struct opt *plain_opts(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(table);
	return table;
}

bool plain_begin(const char *name, int argc, char **argv, int words, const char **ret_word, int *ret_code)
{
	const struct command *c = command_find(name);
	struct vial_err err = VIAL_ERR_INIT;
	struct opts o = { .argv = argv };
	const struct opt *opt;
	const char *value;
	int r;

	o.table = c->opts(&o.n);
	r = opts_next(&o, &opt, &value, &err);
	if (r > 0) { /* the only one there is */
		help_print(c);
		*ret_code = EXIT_OK;
		return false;
	}
	if (r == 0 && argc - o.index > words)
		r = err_set(&err, VIAL_E_INVALID, "%s: takes no '%.64s'", name, argv[o.index + words]);
	if (r < 0) {
		out_error(&err);
		*ret_code = EXIT_USAGE;
		return false;
	}
	*ret_word = argv[o.index];
	return true;
}
