// SPDX-License-Identifier: Apache-2.0
// `vial doctor`: each check, what was found, what to do.
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/selftest.h"

#define NAME_WIDTH 14

DEFINE_CLEANUP(struct vial, vial_close)

static const struct opt table[] = {
	{ "fix", 0, NULL, "do what can be done about failures", true },
	{ "selftest", 0, NULL, "start, restore and fork boxes to see that they work", false },
	{ "help", 'h', NULL, "show this help", false },
};

const struct opt *doctor_opts(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(table);
	return table;
}

static const struct {
	const char *word, *json, *colour;
} results[] = {
	[VIAL_CHECK_OK] = { "ok", "ok", "\033[32m" },
	[VIAL_CHECK_WARN] = { "WARN", "warn", "\033[33m" },
	[VIAL_CHECK_FAIL] = { "FAIL", "fail", "\033[31m" },
};

/**
 * struct report - checks as they come
 * @list:	NULL: print them as a table
 */
struct report {
	json_t *list;
	bool colour;
};

static void add_row(const struct report *rep, const struct vial_check *c, int result)
{
	printf("%s%-4s%s  %-*s  %s\n", rep->colour ? results[result].colour : "", results[result].word,
	       rep->colour ? "\033[0m" : "", NAME_WIDTH, c->name, c->found ? c->found : "");
	if (c->remedy)
		printf("%*s-> %s\n", 4 + 2 + NAME_WIDTH + 2, "", c->remedy);
}

static void add(void *data, const struct vial_check *c)
{
	struct report *rep = data;
	int result = c->result >= VIAL_CHECK_OK && c->result <= VIAL_CHECK_FAIL ? c->result : VIAL_CHECK_FAIL;

	if (!rep->list) {
		add_row(rep, c, result);
		return;
	}
	json_array_append_new(rep->list,
			      json_pack("{s:s, s:s, s:s?, s:s?}", "name", c->name, "result",
					results[result].json, "found", c->found, "remedy", c->remedy));
}

/* Not even the state directory opens: that is a finding too, so the report stays whole. */
static int examine(const struct cli *cli, bool with_selftest, struct report *rep, struct vial_err *err)
{
	_cleanup_(vial_closep) struct vial *v = NULL;
	struct vial_err closed = VIAL_ERR_INIT;

	if (cli_open(cli, &v, &closed) < 0) {
		struct vial_check c = { sizeof(c), "home", VIAL_CHECK_FAIL, closed.msg,
					"choose another state directory with --home or VIAL_HOME" };
		if (closed.code == VIAL_E_INVALID) {
			*err = closed;
			return closed.code;
		}
		add(rep, &c);
		return VIAL_CHECK_FAIL;
	}
	int worst = vial_doctor(v, add, rep, err);
	if (worst < 0 || !with_selftest)
		return worst;
	int tested = selftest(v, add, rep);
	return MAX(worst, tested);
}

/* struct line - what the command line asks for */
struct line {
	bool help;
	bool selftest;
};

static int read_line(int argc, char **argv, struct line *ret, struct vial_err *err)
{
	struct opts o = { .table = table, .n = ARRAY_SIZE(table), .argv = argv };
	const struct opt *opt;
	const char *value;
	int r;

	while ((r = opts_next(&o, &opt, &value, err)) > 0) {
		ret->help |= strcmp(opt->name, "help") == 0;
		ret->selftest |= strcmp(opt->name, "selftest") == 0 && strcmp(value, "true") == 0;
	}
	if (r == 0 && o.index < argc)
		return err_set(err, VIAL_E_INVALID, "doctor: takes no '%.64s'", argv[o.index]);
	return r;
}

int cmd_doctor(const struct cli *cli, int argc, char **argv)
{
	struct report rep = { .colour = isatty(STDOUT_FILENO) };
	struct vial_err err = VIAL_ERR_INIT;
	struct line line = { 0 };
	int worst;

	if (read_line(argc, argv, &line, &err) < 0) {
		out_error(&err);
		return EXIT_USAGE;
	}
	if (line.help) {
		help_print(command_find("doctor"));
		return EXIT_OK;
	}
	rep.list = cli->json ? json_array() : NULL;
	worst = examine(cli, line.selftest, &rep, &err);
	if (worst >= 0 && rep.list) {
		json_dumpf(rep.list, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(rep.list);
	if (worst < 0)
		out_error(&err);
	return worst < 0 || worst == VIAL_CHECK_FAIL ? EXIT_FAIL : EXIT_OK;
}
