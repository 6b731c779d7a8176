// SPDX-License-Identifier: Apache-2.0
// `vial help` and every --help.
#include <stdio.h>

#include "cli/cli.h"
#include "cli/out.h"
#include "cli/plain.h"

static void print_overview(void)
{
	const struct opt *g;
	const struct command *c;
	size_t n;

	printf("usage: vial [OPTIONS] COMMAND …\n\n"
	       "Runs programs you do not trust, each in its own virtual machine that starts at once.\n"
	       "\n  vial run -- uname -a                       one command in a fresh box\n"
	       "  vial run                                   a shell in a fresh box\n"
	       "  vial run --rootfs debian.tar -- python3    your own root file system\n"
	       "  vial run -i -- sha256sum < file            with input\n"
	       "\nCommands:\n");
	c = commands(&n);
	for (size_t i = 0; i < n; i++)
		printf("  %-12s %s\n", c[i].name, c[i].summary);
	printf("\nOptions:\n");
	g = global_opts(&n);
	opts_print(g, n);
	printf("\n\"vial COMMAND --help\" tells about one command.\n");
}

void help_print(const struct command *c)
{
	const struct opt *table;
	size_t n;

	if (!c) {
		print_overview();
		return;
	}
	printf("usage: vial %s%s%s\n\n%s.\n", c->name, *c->usage ? " " : "", c->usage, c->summary);
	if (c->about)
		printf("\n%s", c->about);
	printf("\nOptions:\n");
	table = c->opts(&n);
	opts_print(table, n);
}

int cmd_help(const struct cli *cli, int argc, char **argv)
{
	const char *word;
	int code;

	(void)cli;
	if (!plain_begin("help", argc, argv, 1, &word, &code))
		return code;
	if (word && !command_find(word)) {
		out_line(command_is_planned(word) ? "'%.64s' is not built yet" : "unknown command '%.64s'",
			 word);
		return EXIT_USAGE;
	}
	help_print(word ? command_find(word) : NULL);
	return EXIT_OK;
}
