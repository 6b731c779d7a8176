// SPDX-License-Identifier: Apache-2.0
// `vial init`: build now what the first start would build.
#include <string.h>

#include "base/attr.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/layers.h"
#include "cli/out.h"

DEFINE_CLEANUP(struct vial, vial_close)
DEFINE_CLEANUP(struct vial_spec, vial_spec_free)

static const struct opt table[] = {
	{ "force", 'f', NULL, "build again what is there already", false },
	{ "kernel-package", 0, "FILE|URL", "take the guest kernel from this package", true },
	{ "help", 'h', NULL, "show this help", false },
};

const struct opt *init_opts(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(table);
	return table;
}

static int prepare(const struct cli *cli, bool force, struct vial_err *err)
{
	_cleanup_(vial_closep) struct vial *v = NULL;
	_cleanup_(vial_spec_freep) struct vial_spec *s = NULL;
	int r = layers_load(cli, NULL, &s, err);

	if (r == 0)
		r = cli_open(cli, &v, err);
	return r < 0 ? r : vial_prepare(v, s, force, err);
}

int cmd_init(const struct cli *cli, int argc, char **argv)
{
	struct opts o = { .table = table, .n = ARRAY_SIZE(table), .argv = argv };
	struct vial_err err = VIAL_ERR_INIT;
	const struct opt *opt;
	const char *value;
	bool force = false;
	int r;

	while ((r = opts_next(&o, &opt, &value, &err)) > 0) {
		if (opt == &table[0])
			force = strcmp(value, "false") != 0;
		if (strcmp(opt->name, "help") == 0) {
			help_print(command_find("init"));
			return EXIT_OK;
		}
	}
	if (r == 0 && o.index < argc)
		r = err_set(&err, VIAL_E_INVALID, "init: takes no '%.64s'", argv[o.index]);
	if (r < 0) {
		out_error(&err);
		return EXIT_USAGE;
	}
	if (prepare(cli, force, &err) < 0) {
		out_error(&err);
		return EXIT_FAIL;
	}
	if (!cli->quiet)
		out_line("ready");
	return EXIT_OK;
}
