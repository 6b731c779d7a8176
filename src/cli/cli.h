/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of `vial` and what they share. Only the public headers and base are used: vial is the library's first user. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/opts.h"
#include "vial/vial.h"

/* Exit codes. `run` passes on the command's own, so its failures have numbers of their own, docker's. */
enum {
	EXIT_OK = 0,
	EXIT_FAIL = 1,
	EXIT_USAGE = 2,
	EXIT_TIMED_OUT = 124,
	EXIT_VIAL = 125,
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL = 128, /* + its number */
	EXIT_PIPE = 141,   /* as if ended by SIGPIPE: whoever read our output is gone */
};

/**
 * struct cli - what comes before the command; strings are NULL when not given
 * @json:	machine-readable output where the command has some
 * @quiet:	no progress, no notes
 */
struct cli {
	const char *home;
	const char *engine;
	const char *log_level;
	bool json;
	bool quiet;
};

/**
 * struct command - one command
 * @usage:	what follows "vial NAME" in help
 * @summary:	one line
 * @about:	further lines for its own help, or NULL
 * @usage_exit:	exit code of a usage error
 * @opts:	its options; "help" is among them
 * @run:	@argv after the command's name, closed by NULL; returns the exit code
 */
struct command {
	const char *name;
	const char *usage;
	const char *summary;
	const char *about;
	int usage_exit;
	const struct opt *(*opts)(size_t *ret_n);
	int (*run)(const struct cli *cli, int argc, char **argv);
};

/* commands() - all that are built, in the order of help */
const struct command *commands(size_t *ret_n);
const struct command *command_find(const char *name);
/* command_is_planned() - a command that will exist but is not built yet */
bool command_is_planned(const char *name);
/* global_opts() - options before the command */
const struct opt *global_opts(size_t *ret_n);
/* help_print() - the overview, or @c's own help if it is not NULL, to stdout */
void help_print(const struct command *c);

/* cli_open() - the library handle with what came before the command; errors as vial_open() */
int cli_open(const struct cli *cli, struct vial **ret, struct vial_err *err);

/* The `run` functions and options of the commands, each in cmd_<name>.c. */
int cmd_run(const struct cli *cli, int argc, char **argv);
int cmd_init(const struct cli *cli, int argc, char **argv);
int cmd_info(const struct cli *cli, int argc, char **argv);
int cmd_doctor(const struct cli *cli, int argc, char **argv);
int cmd_version(const struct cli *cli, int argc, char **argv);
int cmd_completion(const struct cli *cli, int argc, char **argv);
int cmd_help(const struct cli *cli, int argc, char **argv);
const struct opt *run_opts(size_t *ret_n);
const struct opt *init_opts(size_t *ret_n);
const struct opt *doctor_opts(size_t *ret_n);

#endif
