// SPDX-License-Identifier: Apache-2.0
// The library handle as the global options ask for it.
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/out.h"

static void show_progress(void *data, const char *line)
{
	(void)data;
	out_line("%s", line);
}

int cli_open(const struct cli *cli, struct vial **ret, struct vial_err *err)
{
	struct vial_opts o = {
		.size = sizeof(o),
		.home = cli->home,
		.engine = cli->engine,
		.log_level = cli->log_level,
		.log_fd = STDERR_FILENO,
	};

	if (cli->quiet && !cli->log_level)
		o.log_level = "error";
	/* For people only: a program that reads our stderr gets its command's, and errors. */
	if (!cli->quiet && isatty(STDERR_FILENO))
		o.progress = show_progress;
	return vial_open(&o, ret, err);
}
