// SPDX-License-Identifier: Apache-2.0
/*
 * lib-driver: boxes by lines of stdin, for tests that are easier told in Python. Each line is "VERB [BOX] [REST]" and is
 * answered by one line, "ok [TEXT]" or "error NAME TEXT"; run's is "ok CODE BYTES" and so many bytes. Boxes are numbers from 0.
 *
 *	create [FIELD=VALUE …]	from PATH [trust] [FIELD=VALUE …]	start BOX	run BOX SCRIPT	bg BOX SCRIPT
 *	fork BOX N		snapshot BOX PATH			pause BOX	resume BOX
 *	update BOX CPUS MIB	pause_us BOX				stop BOX	free BOX
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vial/vial.h>

#define BOXES_MAX 1024
#define WORDS_MAX 16
#define RUN_MS	  120000

static struct vial *home;
static struct vial_box *boxes[BOXES_MAX];
static struct vial_exec *commands[BOXES_MAX];
static size_t n_boxes, n_commands;

struct line {
	char *words[WORDS_MAX];
	int n;
	struct vial_box *box; /* the one words[1] names */
	const char *rest;     /* what follows it */
};

static int new_spec(const struct line *l, int first, struct vial_spec **ret, struct vial_err *err)
{
	int r = vial_spec_new(ret, err);

	for (int i = first; r == 0 && i < l->n; i++) {
		char *eq = strchr(l->words[i], '=');
		if (!eq)
			continue;
		*eq = '\0';
		r = vial_spec_set(*ret, l->words[i], eq + 1, err);
	}
	return r;
}

static int add_box(struct vial_box *b)
{
	if (n_boxes == BOXES_MAX)
		abort();
	boxes[n_boxes] = b;
	printf("ok %zu\n", n_boxes++);
	return 0;
}

static int do_create(struct line *l, struct vial_err *err)
{
	struct vial_spec *spec = NULL;
	struct vial_box *b = NULL;
	int r = new_spec(l, 1, &spec, err);

	r = r < 0 ? r : vial_box_create(home, spec, &b, err);
	vial_spec_free(spec);
	return r < 0 ? r : add_box(b);
}

static int do_from(struct line *l, struct vial_err *err)
{
	struct vial_spec *spec = NULL;
	struct vial_box *b = NULL;
	bool trust = l->n > 2 && strcmp(l->words[2], "trust") == 0;
	int r = new_spec(l, 2, &spec, err);

	r = r < 0 ? r : vial_box_create_from(home, l->words[1], spec, trust ? VIAL_FROM_TRUST : 0, &b, err);
	vial_spec_free(spec);
	return r < 0 ? r : add_box(b);
}

static int do_snapshot(struct line *l, struct vial_err *err)
{
	int r = vial_box_snapshot(l->box, l->rest, err);

	return r < 0 ? r : (puts("ok"), 0);
}

static int do_start(struct line *l, struct vial_err *err)
{
	int r = vial_box_start(l->box, err);

	return r < 0 ? r : (puts("ok"), 0);
}

static int do_run(struct line *l, struct vial_err *err)
{
	const char *const argv[] = { "/bin/sh", "-c", l->rest, NULL };
	const struct vial_exec_opts o = { .size = sizeof(o), .argv = argv, .timeout_ms = RUN_MS };
	struct vial_output out = { .size = sizeof(out) };
	int r = vial_box_run(l->box, &o, NULL, 0, 1 << 20, &out, err);

	if (r < 0)
		return r;
	printf("ok %d %zu\n", out.code, out.out_len + out.err_len);
	fwrite(out.out, 1, out.out_len, stdout);
	fwrite(out.err, 1, out.err_len, stdout);
	vial_free(out.out);
	vial_free(out.err);
	return 0;
}

/* Starts a command and waits until it runs. */
static int do_bg(struct line *l, struct vial_err *err)
{
	const char *const argv[] = { "/bin/sh", "-c", l->rest, NULL };
	const struct vial_exec_opts o = { .size = sizeof(o), .argv = argv, .flags = VIAL_EXEC_STDIN };
	struct vial_exec *x = NULL;
	struct vial_event e = { .size = sizeof(e) };
	int r = vial_box_exec(l->box, &o, &x, err);

	if (r < 0)
		return r;
	r = vial_exec_next(x, RUN_MS, &e, err);
	if (n_commands == BOXES_MAX)
		abort();
	commands[n_commands++] = x;
	return r < 0 ? r : (printf("ok %d\n", e.type), 0);
}

static int do_fork(struct line *l, struct vial_err *err)
{
	struct vial_box *made[BOXES_MAX];
	size_t n = strtoul(l->rest, NULL, 10);
	int r = vial_box_fork(l->box, n, made, err);

	if (r < 0)
		return r;
	if (n > BOXES_MAX - n_boxes)
		abort();
	printf("ok %zu\n", n_boxes);
	for (size_t i = 0; i < n; i++)
		boxes[n_boxes++] = made[i];
	return 0;
}

static int do_pause(struct line *l, struct vial_err *err)
{
	int r = vial_box_pause(l->box, err);

	return r < 0 ? r : (puts("ok"), 0);
}

static int do_resume(struct line *l, struct vial_err *err)
{
	int r = vial_box_resume(l->box, err);

	return r < 0 ? r : (puts("ok"), 0);
}

static int do_update(struct line *l, struct vial_err *err)
{
	struct vial_limits limits = { .size = sizeof(limits) };

	limits.cpus = l->n > 2 ? (uint32_t)strtoul(l->words[2], NULL, 10) : 0;
	limits.memory_bytes = l->n > 3 ? strtoull(l->words[3], NULL, 10) << 20 : 0;
	int r = vial_box_update(l->box, &limits, err);
	return r < 0 ? r : (puts("ok"), 0);
}

static int do_pause_us(struct line *l, struct vial_err *err)
{
	(void)err;
	printf("ok %u\n", vial_box_pause_us(l->box));
	return 0;
}

static int do_stop(struct line *l, struct vial_err *err)
{
	int r = vial_box_stop(l->box, 10000, err);

	return r < 0 ? r : (puts("ok"), 0);
}

static int do_free(struct line *l, struct vial_err *err)
{
	(void)err;
	for (size_t i = 0; i < n_boxes; i++)
		if (boxes[i] == l->box)
			boxes[i] = NULL;
	vial_box_free(l->box);
	puts("ok");
	return 0;
}

static const struct verb {
	const char *name;
	int (*fn)(struct line *l, struct vial_err *err);
	bool has_box;
} verbs[] = {
	{ "create", do_create, false }, { "start", do_start, true },	   { "run", do_run, true },
	{ "bg", do_bg, true },		{ "fork", do_fork, true },	   { "pause", do_pause, true },
	{ "resume", do_resume, true },	{ "update", do_update, true },	   { "pause_us", do_pause_us, true },
	{ "from", do_from, false },	{ "snapshot", do_snapshot, true }, { "stop", do_stop, true },
	{ "free", do_free, true },
};

static int do_line(struct line *l, struct vial_err *err)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].name, l->words[0]) != 0)
			continue;
		if (verbs[i].has_box && !l->box)
			abort();
		return verbs[i].fn(l, err);
	}
	fprintf(stderr, "lib-driver: no verb %s\n", l->words[0]);
	exit(2);
}

/* Words for the verbs that take words, and the text behind the second for those that take a script. */
static void split(char *text, struct line *ret)
{
	static char copy[65536];
	char *save = NULL;
	size_t box;

	*ret = (struct line){ .rest = "" };
	snprintf(copy, sizeof(copy), "%s", text);
	char *first = strchr(copy, ' ');
	char *second = first ? strchr(first + 1, ' ') : NULL;
	if (second)
		ret->rest = second + 1;
	for (char *w = strtok_r(text, " ", &save); w && ret->n < WORDS_MAX; w = strtok_r(NULL, " ", &save))
		ret->words[ret->n++] = w;
	if (ret->n > 1 && sscanf(ret->words[1], "%zu", &box) == 1 && box < n_boxes)
		ret->box = boxes[box];
}

int main(void)
{
	const struct vial_opts opts = { .size = sizeof(opts), .log_fd = getenv("DRIVER_LOG") ? 2 : -1 };
	struct vial_err open_err = VIAL_ERR_INIT;
	static char text[65536];
	struct line l;

	if (vial_open(&opts, &home, &open_err) < 0) {
		fprintf(stderr, "lib-driver: %s\n", open_err.msg);
		return 1;
	}
	while (fgets(text, sizeof(text), stdin)) {
		struct vial_err err = VIAL_ERR_INIT;
		text[strcspn(text, "\n")] = '\0';
		split(text, &l);
		if (l.n > 0 && do_line(&l, &err) < 0)
			printf("error %s %s\n", vial_error_name(err.code), err.msg);
		fflush(stdout);
	}
	for (size_t i = 0; i < n_commands; i++)
		vial_exec_free(commands[i]);
	for (size_t i = 0; i < n_boxes; i++)
		vial_box_free(boxes[i]);
	vial_close(home);
	return 0;
}
