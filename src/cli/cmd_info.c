// SPDX-License-Identifier: Apache-2.0
// `vial info`: the library's JSON, indented for people.
#include <jansson.h>
#include <stdio.h>

#include "base/attr.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/plain.h"

#define INDENT_STEP 2
#define LABEL_WIDTH 22
#define DEPTH_MAX   8

DEFINE_CLEANUP(struct vial, vial_close)

static void print_value(const json_t *v)
{
	if (json_is_string(v))
		printf("%s\n", json_string_value(v));
	else if (json_is_integer(v))
		printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(v));
	else if (json_is_real(v))
		printf("%g\n", json_real_value(v));
	else if (json_is_boolean(v))
		printf("%s\n", json_is_true(v) ? "yes" : "no");
	else
		printf("-\n");
}

static void print_tree(json_t *v, int indent);

static void print_member(const char *label, json_t *v, int indent)
{
	bool nested = (json_is_object(v) && json_object_size(v)) || (json_is_array(v) && json_array_size(v));

	if (nested) {
		printf("%*s%s:\n", indent, "", label);
		print_tree(v, indent + INDENT_STEP);
	} else {
		int used = printf("%*s%s:", indent, "", label);
		printf("%*s", used < LABEL_WIDTH ? LABEL_WIDTH - used : 1, "");
		print_value(v);
	}
}

/* NOLINTNEXTLINE(misc-no-recursion): bounded by DEPTH_MAX */
static void print_tree(json_t *v, int indent)
{
	const char *key;
	json_t *member;
	size_t i;

	if (indent > DEPTH_MAX * INDENT_STEP)
		return;
	json_object_foreach(v, key, member) print_member(key, member, indent);
	json_array_foreach(v, i, member) print_member("-", member, indent);
}

static void show(const struct cli *cli, const char *text)
{
	json_t *o = cli->json ? NULL : json_loads(text, 0, NULL);

	if (o)
		print_tree(o, 0);
	else
		printf("%s\n", text);
	json_decref(o);
}

int cmd_info(const struct cli *cli, int argc, char **argv)
{
	_cleanup_(vial_closep) struct vial *v = NULL;
	struct vial_err err = VIAL_ERR_INIT;
	const char *word;
	char *text = NULL;
	int code;

	if (!plain_begin("info", argc, argv, 0, &word, &code))
		return code;
	if (cli_open(cli, &v, &err) < 0 || vial_info_json(v, &text, &err) < 0) {
		out_error(&err);
		return EXIT_FAIL;
	}
	show(cli, text);
	vial_free(text);
	return EXIT_OK;
}
