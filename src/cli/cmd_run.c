// SPDX-License-Identifier: Apache-2.0
/*
 * `vial run`: a box, one command, its exit code.
 *
 * Flags come from the library's table of fields, so a field of a later library is a flag at once. They are remembered
 * while the command line is read and set on top of the layers below, which the line itself names (--config).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/layers.h"
#include "cli/out.h"
#include "cli/relay.h"
#include "cli/sigs.h"
#include "cli/stdio_fd.h"
#include "cli/term.h"

#define FLAGS_MAX 128 /* rows of the option table */
#define FLAG_NAME 40

DEFINE_CLEANUP(struct vial, vial_close)
DEFINE_CLEANUP(struct vial_spec, vial_spec_free)
DEFINE_CLEANUP(struct vial_box, vial_box_free)
DEFINE_CLEANUP(struct vial_exec, vial_exec_free)

/* docker's letters */
static const struct {
	const char *field;
	char letter;
} letters[] = {
	{ "interactive", 'i' }, { "tty", 't' },	   { "env", 'e' },    { "workdir", 'w' }, { "user", 'u' },
	{ "memory", 'm' },	{ "detach", 'd' }, { "volume", 'v' }, { "publish", 'p' }, { "label", 'l' },
};

/* Fields that words of the command line or files give, not flags. */
static const char *const no_flags[] = { "image", "command", "default_image" };

static const struct opt own_opts[] = {
	{ "config", 0, "FILE", "project file (default: vial.json, else shuru.json, if there is one)", false },
	{ "trust", 0, NULL, "with --from: load a snapshot that was not made here", false },
	{ "help", 'h', NULL, "show this help", false },
};

static bool is_flag(const char *field)
{
	for (size_t i = 0; i < ARRAY_SIZE(no_flags); i++)
		if (strcmp(no_flags[i], field) == 0)
			return false;
	return true;
}

static char letter_of(const char *field)
{
	for (size_t i = 0; i < ARRAY_SIZE(letters); i++)
		if (strcmp(letters[i].field, field) == 0)
			return letters[i].letter;
	return 0;
}

/* "env_file" and "env-file": one way and back. */
static void swap_chars(char *dst, size_t size, const char *src, char from, char to)
{
	snprintf(dst, size, "%s", src);
	for (char *p = dst; *p; p++)
		if (*p == from)
			*p = to;
}

static size_t build_opts(struct opt *table, char (*names)[FLAG_NAME])
{
	size_t n, used = 0;
	const struct vial_field *f = vial_spec_fields(&n);

	for (size_t i = 0; i < n && used < FLAGS_MAX - ARRAY_SIZE(own_opts); i++) {
		if (!is_flag(f[i].name))
			continue;
		swap_chars(names[used], FLAG_NAME, f[i].name, '_', '-');
		table[used] = (struct opt){ names[used], letter_of(f[i].name), f[i].metavar, f[i].help,
					    !f[i].built };
		used++;
	}
	for (size_t i = 0; i < ARRAY_SIZE(own_opts); i++)
		table[used++] = own_opts[i];
	return used;
}

const struct opt *run_opts(size_t *ret_n)
{
	static struct opt table[FLAGS_MAX];
	static char names[FLAGS_MAX][FLAG_NAME];
	static size_t used;

	if (used == 0)
		used = build_opts(table, names);
	*ret_n = used;
	return table;
}

/**
 * struct request - a read command line
 * @set:	flags that are fields, in their order; room for one a word
 * @image:	NULL: not named
 * @command:	its words, closed by NULL; may be empty
 */
struct request {
	struct {
		const struct opt *opt;
		const char *value;
	} * set;
	size_t n_set;
	const char *config;
	const char *image;
	char **command;
	bool trust;
	bool help;
};

static void request_done(struct request *q)
{
	free(q->set);
}

/* Is there a flag that says what to run, so that no word does? */
static bool names_rootfs(const struct request *q)
{
	for (size_t i = 0; i < q->n_set; i++)
		if (strcmp(q->set[i].opt->name, "rootfs") == 0 || strcmp(q->set[i].opt->name, "from") == 0)
			return true;
	return false;
}

/* [IMAGE] [--] [CMD…]; no IMAGE after "--", nor with --rootfs or --from. */
static void read_words(struct request *q, const struct opts *o)
{
	char **words = o->argv + o->index;

	if (*words && !o->dashes && !names_rootfs(q)) {
		q->image = *words++;
		if (*words && strcmp(*words, "--") == 0)
			words++;
	}
	q->command = words;
}

static int read_line(struct request *q, int argc, char **argv, struct vial_err *err)
{
	struct opts o = { .argv = argv };
	const struct opt *opt;
	const char *value;
	int r;

	/* A cluster of letters holds at most as many options as it has characters. */
	size_t room = 1;
	for (int i = 0; i < argc; i++)
		room += strlen(argv[i]) + 1;
	q->set = calloc(room, sizeof(*q->set));
	if (!q->set)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	o.table = run_opts(&o.n);
	while ((r = opts_next(&o, &opt, &value, err)) > 0) {
		if (strcmp(opt->name, "help") == 0) {
			q->help = true;
			return 0;
		}
		if (strcmp(opt->name, "config") == 0) {
			q->config = value;
		} else if (strcmp(opt->name, "trust") == 0) {
			q->trust = true;
		} else {
			q->set[q->n_set].opt = opt;
			q->set[q->n_set++].value = value;
		}
	}
	if (r == 0)
		read_words(q, &o);
	return r;
}

/* The library names the field; people wrote a flag. */
static int name_flag(const char *field, const char *flag, struct vial_err *err)
{
	size_t n = strlen(field);
	const char *rest = err->msg;

	if (strncmp(rest, field, n) == 0 && strncmp(rest + n, ": ", 2) == 0)
		rest += n + 2;
	memmove(err->msg, rest, strlen(rest) + 1);
	return err_prefix(err, "--%s", flag);
}

static int type_of(const char *field)
{
	size_t n;
	const struct vial_field *f = vial_spec_fields(&n);

	for (size_t i = 0; i < n; i++)
		if (strcmp(f[i].name, field) == 0)
			return f[i].type;
	return 0;
}

/* A list given by flags replaces the layers' list: its first flag clears it. */
static bool is_first(const struct request *q, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (q->set[i].opt == q->set[at].opt)
			return false;
	return true;
}

static int set_flag(const struct request *q, size_t i, struct vial_spec *s, struct vial_err *err)
{
	char field[FLAG_NAME];
	int r = 0;

	swap_chars(field, sizeof(field), q->set[i].opt->name, '-', '_');
	if (type_of(field) == VIAL_FIELD_LIST && is_first(q, i))
		r = vial_spec_clear(s, field, err);
	if (r == 0)
		r = vial_spec_set(s, field, q->set[i].value, err);
	return r < 0 ? name_flag(field, q->set[i].opt->name, err) : 0;
}

/* Env files before variables: -e has the last word wherever it stands, as with docker. */
static int set_flags(const struct request *q, struct vial_spec *s, struct vial_err *err)
{
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < q->n_set; i++) {
			bool file = strcmp(q->set[i].opt->name, "env-file") == 0;
			int r = file == (pass == 0) ? set_flag(q, i, s, err) : 0;

			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int set_words(const struct request *q, struct vial_spec *s, struct vial_err *err)
{
	int r = 0;

	if (q->image) {
		r = vial_spec_clear(s, "rootfs", err);
		if (r == 0)
			r = vial_spec_set(s, "image", q->image, err);
	} else if (names_rootfs(q)) {
		r = vial_spec_clear(s, "image", err);
	}
	if (r == 0 && *q->command)
		r = vial_spec_clear(s, "command", err);
	for (char **w = q->command; r == 0 && *w; w++)
		r = vial_spec_set(s, "command", *w, err);
	return r;
}

static bool is_true(const struct vial_spec *s, const char *field)
{
	const char *v = vial_spec_get(s, field);

	return v && strcmp(v, "true") == 0;
}

/* A bare `vial run` by a person at a terminal means a shell to type in. */
static int settle_terminal(const struct layers_info *info, struct vial_spec *s, struct vial_err *err)
{
	bool asked = vial_spec_get(s, "interactive") || vial_spec_get(s, "tty") || is_true(s, "console");
	bool person = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	const char *term = getenv("TERM");
	char assignment[64];
	int r;

	if (!asked && person && !info->has_command) {
		r = vial_spec_set(s, "interactive", "true", err);
		if (r == 0)
			r = vial_spec_set(s, "tty", "true", err);
		if (r < 0)
			return r;
	}
	if (!is_true(s, "tty"))
		return 0;
	if (!isatty(STDIN_FILENO))
		return err_set(err, VIAL_E_INVALID,
			       "the input device is not a TTY (leave out -t, or run it in a terminal)");
	if (info->has_term || !term || !*term)
		return 0;
	if (snprintf(assignment, sizeof(assignment), "TERM=%s", term) >= (int)sizeof(assignment))
		return 0;
	return vial_spec_set(s, "env", assignment, err);
}

static int make_spec(const struct cli *cli, const struct request *q, struct vial_spec **ret,
		     struct vial_err *err)
{
	_cleanup_(vial_spec_freep) struct vial_spec *s = NULL;
	struct layers_info info;
	int r = layers_load(cli, q->config, &s, err);

	if (r == 0)
		r = set_flags(q, s, err);
	if (r == 0)
		r = set_words(q, s, err);
	if (r < 0)
		return r;
	if (is_true(s, "console") && *q->command)
		return err_set(err, VIAL_E_INVALID, "--console: runs no command, so '%.64s' has no place",
			       *q->command);
	layers_inspect(s, &info);
	r = settle_terminal(&info, s, err);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static int exit_code_of(int code)
{
	switch (code) {
	case VIAL_E_CMD_NOT_FOUND:
		return EXIT_NOT_FOUND;
	case VIAL_E_CMD_NOT_EXECUTABLE:
	case VIAL_E_CMD_TOO_LONG: /* as shells have it */
		return EXIT_NOT_EXECUTABLE;
	default:
		return EXIT_VIAL;
	}
}

/* Runs the command; *@ret: its exit code. */
static int serve_command(const struct cli *cli, struct vial_box *box, const struct vial_spec *s, int *ret,
			 struct vial_err *err)
{
	_cleanup_(vial_exec_freep) struct vial_exec *x = NULL;
	struct relay_opts how = { .interactive = is_true(s, "interactive"), .tty = is_true(s, "tty") };
	struct vial_exec_opts o = { .size = sizeof(o), .rows = 24, .cols = 80, .flags = VIAL_EXEC_MANUAL_ACK };
	struct relay_end end = { 0 };
	int r;

	o.flags |= how.tty ? VIAL_EXEC_TTY : 0U;
	o.flags |= how.interactive ? VIAL_EXEC_STDIN : 0U;
	if (how.tty)
		term_size(STDIN_FILENO, &o.rows, &o.cols);
	r = vial_box_exec(box, &o, &x, err);
	if (r == 0)
		r = relay_run(x, &how, &end, err);
	if (r < 0)
		return r;
	if (end.oom && !cli->quiet)
		out_line("the command was killed: its memory ran out (--memory gives it more)");
	*ret = end.exit_code;
	return 0;
}

static int serve_console(struct vial_box *box, int *ret, struct vial_err *err)
{
	int fd = vial_box_console_fd(box);

	if (fd < 0)
		return err_set(err, VIAL_E_UNSUPPORTED, "--console: this engine has no console");
	if (isatty(STDIN_FILENO))
		out_line("console; Ctrl-] leaves");
	*ret = EXIT_OK;
	return relay_console(fd, err);
}

static int create_box(struct vial *v, const struct request *q, const struct vial_spec *s,
		      struct vial_box **ret, struct vial_err *err)
{
	const char *from = vial_spec_get(s, "from");

	if (from)
		return vial_box_create_from(v, from, s, q->trust ? VIAL_FROM_TRUST : 0, ret, err);
	if (q->trust)
		return err_set(err, VIAL_E_INVALID, "--trust: is for --from");
	return vial_box_create(v, s, ret, err);
}

static int run_box(const struct cli *cli, const struct request *q, const struct vial_spec *s, int *ret,
		   struct vial_err *err)
{
	_cleanup_(vial_closep) struct vial *v = NULL;
	_cleanup_(vial_box_freep) struct vial_box *box = NULL;
	int r = cli_open(cli, &v, err);

	if (r == 0)
		r = create_box(v, q, s, &box, err);
	if (r == 0)
		r = vial_box_start(box, err);
	if (r < 0)
		return r;
	return is_true(s, "console") ? serve_console(box, ret, err) : serve_command(cli, box, s, ret, err);
}

int cmd_run(const struct cli *cli, int argc, char **argv)
{
	_cleanup_(request_done) struct request q = { 0 };
	_cleanup_(vial_spec_freep) struct vial_spec *s = NULL;
	struct vial_err err = VIAL_ERR_INIT;
	int code = EXIT_VIAL, r;

	r = read_line(&q, argc, argv, &err);
	if (r == 0 && q.help) {
		help_print(command_find("run"));
		return EXIT_OK;
	}
	sigs_ignore_pipe();
	if (r == 0)
		r = make_spec(cli, &q, &s, &err);
	if (r == 0)
		r = run_box(cli, &q, s, &code, &err);
	if (r == 0)
		return code;
	out_error(&err);
	return exit_code_of(r);
}
