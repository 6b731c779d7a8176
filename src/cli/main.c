// SPDX-License-Identifier: Apache-2.0
// `vial`: global options, then the command.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/log.h"
#include "base/suggest.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/stdio_fd.h"

static int check_value(const char *flag, const char *value, const char *const *allowed, size_t n,
		       struct vial_err *err)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(allowed[i], value) == 0)
			return 0;
	return err_set(err, VIAL_E_INVALID, "--%s: unknown value '%.64s' (see --help)", flag, value);
}

static int set_json(struct cli *cli, const char *flag, const char *value, struct vial_err *err)
{
	static const char *const formats[] = { "json", "text", "true", "false" };
	int r = check_value(flag, value, formats, ARRAY_SIZE(formats), err);

	cli->json = strcmp(value, "json") == 0 || strcmp(value, "true") == 0;
	return r;
}

static int set_engine(struct cli *cli, const char *value, struct vial_err *err)
{
	static const char *const engines[] = { "auto", "kvm", "qemu" };

	cli->engine = value;
	return check_value("engine", value, engines, ARRAY_SIZE(engines), err);
}

static int set_level(struct cli *cli, const char *value, struct vial_err *err)
{
	enum log_level level;

	cli->log_level = value;
	if (log_level_parse(value, &level) < 0)
		return err_set(err, VIAL_E_INVALID,
			       "--log-level: '%.64s' is none of error, warn, info, debug, trace", value);
	return 0;
}

static int set_global(struct cli *cli, const struct opt *o, const char *value, struct vial_err *err)
{
	if (strcmp(o->name, "home") == 0) {
		cli->home = value;
		return *value ? 0 : err_set(err, VIAL_E_INVALID, "--home: must not be empty");
	}
	if (strcmp(o->name, "engine") == 0)
		return set_engine(cli, value, err);
	if (strcmp(o->name, "log-level") == 0)
		return set_level(cli, value, err);
	if (strcmp(o->name, "quiet") == 0) {
		cli->quiet = strcmp(value, "false") != 0;
		return 0;
	}
	return set_json(cli, o->name, value, err);
}

static int no_such_command(const char *word)
{
	struct suggest near = { .word = word };
	const struct command *c;
	size_t n;

	if (command_is_planned(word)) {
		out_line("'%s' is not built yet", word);
		return EXIT_USAGE;
	}
	c = commands(&n);
	for (size_t i = 0; i < n; i++)
		suggest_offer(&near, c[i].name);
	if (near.best)
		out_line("unknown command '%.64s' (did you mean '%s'?)", word, near.best);
	else
		out_line("unknown command '%.64s' (see 'vial help')", word);
	return EXIT_USAGE;
}

static int dispatch(const struct cli *cli, int argc, char **argv)
{
	const struct command *c;

	if (argc == 0) {
		out_line("no command given (see 'vial help')");
		return EXIT_USAGE;
	}
	c = command_find(argv[0]);
	if (!c)
		return no_such_command(argv[0]);
	return c->run(cli, argc - 1, argv + 1);
}

static int serve(int argc, char **argv)
{
	struct opts o = { .argv = argv, .index = 1 };
	struct vial_err err = VIAL_ERR_INIT;
	struct cli cli = { 0 };
	const struct opt *opt;
	const char *value;
	int r;

	o.table = global_opts(&o.n);
	while ((r = opts_next(&o, &opt, &value, &err)) > 0) {
		if (strcmp(opt->name, "help") == 0) {
			help_print(NULL);
			return EXIT_OK;
		}
		if (strcmp(opt->name, "version") == 0)
			return cmd_version(&cli, 0, argv + argc);
		r = set_global(&cli, opt, value, &err);
		if (r < 0)
			break;
	}
	if (r < 0) {
		out_error(&err);
		return EXIT_USAGE;
	}
	return dispatch(&cli, argc - o.index, argv + o.index);
}

int main(int argc, char **argv)
{
	int code;

	stdio_fd_sanitize();
	if (argc < 1)
		return EXIT_USAGE;
	code = serve(argc, argv);
	if (fflush(stdout) == EOF && code == EXIT_OK) {
		out_line("write to stdout failed");
		code = EXIT_FAIL;
	}
	return code;
}
