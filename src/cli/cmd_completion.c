// SPDX-License-Identifier: Apache-2.0
// `vial completion`: scripts made from the same tables that the parser reads.
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/suggest.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/plain.h"

/* ---- bash ---- */

static void bash_words(const struct opt *t, size_t n, bool with_value)
{
	const char *sep = "";

	for (size_t i = 0; i < n; i++) {
		if (t[i].planned || (with_value && !t[i].metavar))
			continue;
		printf("%s--%s", sep, t[i].name);
		if (with_value && t[i].letter)
			printf("%s-%c", with_value ? "|" : " ", t[i].letter);
		sep = with_value ? "|" : " ";
	}
}

static void bash_command(const struct command *c)
{
	const struct opt *t;
	size_t n;

	t = c->opts(&n);
	printf("	%s) words='", c->name);
	if (strcmp(c->name, "completion") == 0)
		printf("bash zsh fish ");
	bash_words(t, n, false);
	printf("' ;;\n");
}

static void print_bash(void)
{
	const struct opt *g;
	const struct command *c;
	size_t n_g, n_c;

	g = global_opts(&n_g);
	c = commands(&n_c);
	printf("# bash completion for vial\n"
	       "_vial() {\n"
	       "	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= words i\n"
	       "	COMPREPLY=()\n"
	       "	for ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "		case ${COMP_WORDS[i]} in\n		");
	bash_words(g, n_g, true);
	printf(") ((i++)) ;;\n"
	       "		-*) ;;\n"
	       "		*) cmd=${COMP_WORDS[i]}; break ;;\n"
	       "		esac\n"
	       "	done\n"
	       "	case $prev in\n"
	       "	--engine) words='auto kvm qemu' ;;\n"
	       "	--log-level) words='error warn info debug trace' ;;\n"
	       "	--format) words='json text' ;;\n"
	       "	*)\n"
	       "	case $cmd in\n	'') words='");
	for (size_t i = 0; i < n_c; i++)
		printf("%s ", c[i].name);
	bash_words(g, n_g, false);
	printf("' ;;\n");
	for (size_t i = 0; i < n_c; i++)
		bash_command(&c[i]);
	printf("	esac\n"
	       "	[[ $cmd != run || $cur == -* ]] || return 0\n"
	       "	;;\n"
	       "	esac\n"
	       "	COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	       "}\n"
	       "complete -o default -F _vial vial\n");
}

/* ---- zsh ---- */

/* Inside '…[explanation]': quotes and brackets end things there. */
static void zsh_text(const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			printf("'\\''");
		else if (strchr("[]:", *s))
			printf("\\%c", *s);
		else
			putchar(*s);
	}
}

static void zsh_opts(const struct opt *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (t[i].planned)
			continue;
		printf("		'*--%s[", t[i].name);
		zsh_text(t[i].help);
		printf("]");
		if (t[i].metavar) {
			bool path = strstr(t[i].metavar, "FILE") || strstr(t[i].metavar, "PATH");
			printf(":");
			zsh_text(t[i].metavar);
			printf(":%s", path ? "_files" : " ");
		}
		printf("' \\\n");
	}
}

static void print_zsh(void)
{
	const struct command *c;
	const struct opt *t;
	size_t n_c, n;

	printf("#compdef vial\n"
	       "_vial() {\n"
	       "	local context state state_descr line\n"
	       "	typeset -A opt_args\n"
	       "	_arguments -C \\\n");
	t = global_opts(&n);
	zsh_opts(t, n);
	printf("		'1:command:((");
	c = commands(&n_c);
	for (size_t i = 0; i < n_c; i++) {
		printf("%s%s\\:\"", i ? " " : "", c[i].name);
		zsh_text(c[i].summary);
		printf("\"");
	}
	printf("))' \\\n"
	       "		'*::argument:->rest'\n"
	       "	[[ $state == rest ]] || return\n"
	       "	case $line[1] in\n");
	for (size_t i = 0; i < n_c; i++) {
		bool shells = strcmp(c[i].name, "completion") == 0;

		t = c[i].opts(&n);
		printf("	%s) _arguments \\\n", c[i].name);
		zsh_opts(t, n);
		printf("		%s ;;\n",
		       shells ? "'1:shell:(bash zsh fish)'" : "'*::command:_normal'");
	}
	printf("	esac\n"
	       "}\n"
	       "_vial \"$@\"\n");
}

/* ---- fish ---- */

static void fish_text(const char *s)
{
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
}

static void fish_opts(const char *condition, const struct opt *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (t[i].planned)
			continue;
		printf("complete -c vial -n '%s' -l %s", condition, t[i].name);
		if (t[i].letter)
			printf(" -s %c", t[i].letter);
		if (t[i].metavar)
			printf(" -r");
		printf(" -d '");
		fish_text(t[i].help);
		printf("'\n");
	}
}

static void print_fish(void)
{
	const struct command *c;
	const struct opt *t;
	char condition[96];
	size_t n_c, n;

	t = global_opts(&n);
	printf("# fish completion for vial\n");
	fish_opts("__fish_use_subcommand", t, n);
	c = commands(&n_c);
	for (size_t i = 0; i < n_c; i++) {
		printf("complete -c vial -f -n __fish_use_subcommand -a %s -d '", c[i].name);
		fish_text(c[i].summary);
		printf("'\n");
		snprintf(condition, sizeof(condition), "__fish_seen_subcommand_from %s", c[i].name);
		t = c[i].opts(&n);
		fish_opts(condition, t, n);
	}
	printf("complete -c vial -f -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n");
}

static const struct {
	const char *name;
	void (*print)(void);
} shells[] = {
	{ "bash", print_bash },
	{ "zsh", print_zsh },
	{ "fish", print_fish },
};

int cmd_completion(const struct cli *cli, int argc, char **argv)
{
	const char *word;
	int code;

	(void)cli;
	if (!plain_begin("completion", argc, argv, 1, &word, &code))
		return code;
	for (size_t i = 0; word && i < ARRAY_SIZE(shells); i++) {
		if (strcmp(shells[i].name, word) == 0) {
			shells[i].print();
			return EXIT_OK;
		}
	}
	out_line(word ? "completion: no script for '%.64s' (bash, zsh or fish)"
		      : "completion: for which shell? (bash, zsh or fish)",
		 word);
	return EXIT_USAGE;
}
