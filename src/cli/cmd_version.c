// SPDX-License-Identifier: Apache-2.0
// `vial version`
#include <stdio.h>

#include "cli/cli.h"
#include "cli/plain.h"

int cmd_version(const struct cli *cli, int argc, char **argv)
{
	const char *word;
	int code;

	if (!plain_begin("version", argc, argv, 0, &word, &code))
		return code;
	printf(cli->json ? "{\"version\": \"%s\"}\n" : "vial %s\n", vial_version());
	return EXIT_OK;
}
