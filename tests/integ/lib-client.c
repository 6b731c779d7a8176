// SPDX-License-Identifier: Apache-2.0
/*
 * lib-client list | CASE | live MODE: one case of the library's tests. Silent and 0, or a message and 1.
 *
 * live: a box is started by a thread that ends, a command is run in it, a child is forked that lives on with all descriptors;
 * then "PID-of-child PID-of-monitor" is written and the program ends by itself (MODE exit) or waits to be killed (MODE wait).
 */
#include "lib-client.h"

#include <pthread.h>
#include <unistd.h>

static int spec_of(struct vial_spec **ret)
{
	OK(vial_spec_new(ret, &err));
	OK(vial_spec_set(*ret, "memory", "256M", &err));
	OK(vial_spec_set(*ret, "cpus", "1", &err));
	return 0;
}

struct client client_open(void)
{
	struct client c = { 0 };
	struct vial_spec *spec = NULL;

	spec_of(&spec);
	OK(vial_open(NULL, &c.vial, &err));
	OK(vial_box_create(c.vial, spec, &c.box, &err));
	vial_spec_free(spec); /* it was copied */
	return c;
}

struct client client_start(void)
{
	struct client c = client_open();

	OK(vial_box_start(c.box, &err));
	return c;
}

void client_close(struct client *c)
{
	vial_box_free(c->box);
	vial_close(c->vial);
}

struct vial_exec *start(struct client *c, const char *script, uint32_t flags)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	const struct vial_exec_opts o = {
		.size = sizeof(o), .argv = argv, .flags = flags, .rows = 24, .cols = 80
	};
	struct vial_exec *x = NULL;

	OK(vial_box_exec(c->box, &o, &x, &err));
	return x;
}

struct vial_output run(struct client *c, const char *script)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	const struct vial_exec_opts o = { .size = sizeof(o), .argv = argv, .timeout_ms = LIMIT_MS };
	struct vial_output out = { .size = sizeof(out) };

	OK(vial_box_run(c->box, &o, NULL, 0, 1 << 20, &out, &err));
	return out;
}

void output_done(struct vial_output *o)
{
	vial_free(o->out);
	vial_free(o->err);
}

void expect(struct client *c, const char *script, const char *out, int code)
{
	struct vial_output o = run(c, script);

	if (o.code != code || strcmp(o.out, out) != 0) {
		fprintf(stderr, "%s: code %d, out '%s', err '%s'\n", script, o.code, o.out, o.err);
		exit(1);
	}
	output_done(&o);
}

struct vial_event next(struct vial_exec *x)
{
	struct vial_event e = { .size = sizeof(e) };
	struct vial_err err = VIAL_ERR_INIT;
	int r = vial_exec_next(x, LIMIT_MS, &e, &err);

	if (r != 1) {
		fprintf(stderr, "no event: %d %s\n", r, err.msg);
		exit(1);
	}
	return e;
}

struct vial_event wait_event(struct vial_exec *x, int type)
{
	struct vial_event e = { .size = sizeof(e) };

	do {
		e = next(x);
		CHECK(e.type == type || e.type != VIAL_EVENT_EXITED);
	} while (e.type != type);
	return e;
}

void read_until(struct vial_exec *x, const char *marker)
{
	char got[4096] = { 0 };
	size_t n = 0;

	while (!strstr(got, marker)) {
		struct vial_event e = wait_event(x, VIAL_EVENT_STDOUT);
		CHECK(n + e.len < sizeof(got));
		memcpy(got + n, e.data, e.len);
		n += e.len;
	}
}

static void *starter(void *data)
{
	*(struct client *)data = client_start();
	return NULL;
}

static int live(const char *mode)
{
	struct client c;
	pthread_t thread;
	pid_t child;

	CHECK(pthread_create(&thread, NULL, starter, &c) == 0 && pthread_join(thread, NULL) == 0);
	expect(&c, "echo up", "up\n", 0);
	expect(&c, "echo still up", "still up\n", 0);
	child = fork();
	if (child == 0) {
		close(STDOUT_FILENO); /* the test reads it to its end */
		for (;;)
			pause();
	}
	printf("%d %d\n", (int)child, (int)vial_box_pid(c.box));
	fflush(stdout);
	if (strcmp(mode, "exit") == 0)
		return 0; /* without ending the box */
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const struct test_case *const tables[] = { blocking_cases, event_cases };

	if (argc == 3 && strcmp(argv[1], "live") == 0)
		return live(argv[2]);
	for (size_t t = 0; argc == 2 && t < 2; t++)
		for (const struct test_case *c = tables[t]; c->name; c++) {
			if (strcmp(argv[1], "list") == 0)
				puts(c->name);
			else if (strcmp(argv[1], c->name) == 0)
				return c->fn(), 0;
		}
	return argc == 2 && strcmp(argv[1], "list") == 0 ? 0 : 2;
}
