// SPDX-License-Identifier: Apache-2.0
// Cases of the library that wait: run, errors by code, stop, options structs, several boxes.
#include "lib-client.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

static struct vial_exec_opts opts_of(const char *const *argv)
{
	return (struct vial_exec_opts){ .size = sizeof(struct vial_exec_opts), .argv = argv };
}

static void run_collects(void)
{
	static const char *const argv[] = { "sh", "-c", "cat; echo $A $(pwd) $(id -u) >&2; exit 7", NULL };
	static const char *const env[] = { "A=b c", NULL };
	static const char input[] = "one\0two\377\n";
	struct client c = client_start();
	struct vial_exec_opts o = opts_of(argv);
	struct vial_output out = { .size = sizeof(out) };

	o.env = env;
	o.cwd = "/tmp";
	o.user = "1234";
	OK(vial_box_run(c.box, &o, input, sizeof(input) - 1, 4096, &out, &err));
	CHECK(out.code == 7);
	CHECK(out.out_len == sizeof(input) - 1 && memcmp(out.out, input, sizeof(input)) == 0);
	CHECK(strcmp(out.err, "b c /tmp 1234\n") == 0 && out.err_len == strlen(out.err));
	output_done(&out);
	expect(&c, "wc -c", "0\n", 0); /* no input: /dev/null */
	expect(&c, "kill -TERM $$", "", 128 + 15);
	client_close(&c);
}

static void run_moves_megabytes(void)
{
	static const char *const argv[] = { "cat", NULL };
	enum { N = 3 << 20 };
	struct client c = client_start();
	const struct vial_exec_opts o = opts_of(argv);
	struct vial_output out = { .size = sizeof(out) };
	unsigned char *data = malloc(N);

	CHECK(data);
	for (size_t i = 0; i < N; i++)
		data[i] = (unsigned char)(i * 7 + i / 251);
	OK(vial_box_run(c.box, &o, data, N, N, &out, &err));
	CHECK(out.code == 0 && out.out_len == N && memcmp(out.out, data, N) == 0);
	output_done(&out);
	free(data);
	client_close(&c);
}

static void run_limit(void)
{
	static const char *const argv[] = { "sh", "-c", "echo 12345678", NULL };
	struct client c = client_start();
	const struct vial_exec_opts o = opts_of(argv);
	struct vial_output out = { .size = sizeof(out) };

	FAILS(VIAL_E_LIMIT, vial_box_run(c.box, &o, NULL, 0, 8, &out, &err));
	CHECK(!out.out && !out.err); /* untouched */
	OK(vial_box_run(c.box, &o, NULL, 0, 9, &out, &err));
	CHECK(strcmp(out.out, "12345678\n") == 0);
	output_done(&out);
	client_close(&c);
}

static void run_timeout(void)
{
	static const char *const argv[] = { "sh", "-c", "echo begun; sleep 1000", NULL };
	struct client c = client_start();
	struct vial_exec_opts o = opts_of(argv);
	struct vial_output out = { .size = sizeof(out) };

	o.timeout_ms = 1000;
	OK(vial_box_run(c.box, &o, NULL, 0, 100, &out, &err));
	CHECK(out.code == 124 && strcmp(out.out, "begun\n") == 0);
	output_done(&out);
	client_close(&c);
}

/* Why a command could not be started; the box goes on. */
static void command_errors(void)
{
	static const char *const gone[] = { "no-such-command", NULL }, *const dir[] = { "/etc", NULL },
				 *const fine[] = { "true", NULL };
	static const char *const bad_env[] = { "NOEQUALS", NULL };
	static char word[200000]; /* over the kernel's limit of 128 KiB for one argument */
	const char *const huge[] = { "true", word, NULL };
	struct client c = client_start();
	struct vial_output out = { .size = sizeof(out) };
	struct vial_exec_opts o = opts_of(gone);

	FAILS(VIAL_E_CMD_NOT_FOUND, vial_box_run(c.box, &o, NULL, 0, 100, &out, &err));
	CHECK(vial_box_run(c.box, &o, NULL, 0, 100, &out, NULL) ==
	      VIAL_E_CMD_NOT_FOUND); /* err may be NULL */
	o = opts_of(dir);
	FAILS(VIAL_E_CMD_NOT_EXECUTABLE, vial_box_run(c.box, &o, NULL, 0, 100, &out, &err));
	memset(word, 'x', sizeof(word) - 1);
	o = opts_of(huge);
	FAILS(VIAL_E_CMD_TOO_LONG, vial_box_run(c.box, &o, NULL, 0, 100, &out, &err));
	o = opts_of(fine);
	o.cwd = "/no/such/directory";
	FAILS(VIAL_E_CMD_BAD_CWD, vial_box_run(c.box, &o, NULL, 0, 100, &out, &err));
	o = opts_of(fine);
	o.user = "nobody-of-this-name";
	FAILS(VIAL_E_CMD_BAD_USER, vial_box_run(c.box, &o, NULL, 0, 100, &out, &err));
	o = opts_of(fine);
	o.env = bad_env;
	FAILS(VIAL_E_INVALID, vial_box_run(c.box, &o, NULL, 0, 100, &out, &err));
	expect(&c, "echo fine", "fine\n", 0);
	client_close(&c);
}

static void spec_errors(void)
{
	const struct vial_opts no_engine = { .size = sizeof(no_engine), .engine = "steam" };
	struct client c = client_open();
	struct vial_spec *s = NULL;
	struct vial_box *box = NULL;
	struct vial *v = NULL;

	FAILS(VIAL_E_INVALID, vial_open(&no_engine, &v, &err));
	OK(vial_spec_new(&s, &err));
	FAILS(VIAL_E_INVALID, vial_spec_set(s, "no_such_field", "1", &err));
	FAILS(VIAL_E_INVALID, vial_spec_set(s, "memory", "much", &err));
	FAILS(VIAL_E_INVALID, vial_spec_load_json(s, "{", 1, "here", &err));
	OK(vial_spec_set(s, "rootfs", "/no/such/root.tar", &err));
	FAILS(VIAL_E_NOT_FOUND, vial_box_create(c.vial, s, &box, &err));
	OK(vial_spec_clear(s, "rootfs", &err));
	OK(vial_spec_set(s, "kernel", "/no/such/kernel", &err));
	OK(vial_box_create(c.vial, s, &box, &err));
	FAILS(VIAL_E_NOT_FOUND, vial_box_start(box, &err));
	CHECK(vial_box_pid(box) == 0);
	vial_box_free(box);
	vial_spec_free(s);
	client_close(&c);
}

/* Each call in a state that does not allow it. */
static void state_errors(void)
{
	static const char *const argv[] = { "true", NULL };
	const struct vial_exec_opts o = opts_of(argv);
	struct client c = client_open();
	struct vial_exec *x = NULL;

	FAILS(VIAL_E_STATE, vial_box_exec(c.box, &o, &x, &err));
	FAILS(VIAL_E_STATE, vial_box_stop(c.box, 1000, &err));
	OK(vial_box_start(c.box, &err));
	FAILS(VIAL_E_STATE, vial_box_start(c.box, &err));
	expect(&c, "exit 3", "", 3);
	OK(vial_box_stop(c.box, LIMIT_MS, &err));
	FAILS(VIAL_E_STATE, vial_box_exec(c.box, &o, &x, &err));
	FAILS(VIAL_E_STATE, vial_box_stop(c.box, 1000, &err));
	CHECK(!x);
	client_close(&c);
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/*
 * A stop lets the guest end itself. That it did, rather than was killed, shows in the time: a command that ignores
 * SIGTERM is waited for, and the machine is off long before the limit at which it is killed.
 */
static void stop_powers_off(void)
{
	enum { GRACE_MS = 200 };
	struct client c = client_start();
	struct vial_exec *x = start(&c, "trap '' TERM; echo up; while :; do sleep 1; done", 0);
	pid_t monitor = vial_box_pid(c.box);
	struct vial_event e = { .size = sizeof(e) };
	long begin, took;
	int r;

	CHECK(monitor > 0);
	read_until(x, "up\n");
	begin = now_ms();
	OK(vial_box_stop(c.box, LIMIT_MS, &err));
	took = now_ms() - begin;
	CHECK(took >= GRACE_MS && took < LIMIT_MS);
	CHECK(vial_box_pid(c.box) == 0 && kill(monitor, 0) < 0 && errno == ESRCH);
	while ((r = vial_exec_next(x, LIMIT_MS, &e, NULL)) == 1 && e.type != VIAL_EVENT_EXITED)
		;
	CHECK(r == 1 || r == VIAL_E_STATE || r == VIAL_E_ENGINE); /* its end, or why there is none */
	vial_exec_free(x);
	client_close(&c);
}

static void stop_with_no_time_kills(void)
{
	struct client c = client_start();

	expect(&c, "true", "", 0);
	OK(vial_box_stop(c.box, 0, &err));
	CHECK(vial_box_pid(c.box) == 0);
	client_close(&c);
}

/* An older caller's struct is shorter, a newer one's longer. */
static void options_sizes(void)
{
	static const char *const argv[] = { "echo", "fine", NULL };
	const struct {
		struct vial_exec_opts o;
		char later[64];
	} newer = { .o = { .size = sizeof(newer), .argv = argv } };
	struct {
		struct vial_exec_opts o;
		char later[64];
	} newest = { .o = { .size = sizeof(newest), .argv = argv }, .later = { [63] = 1 } };
	struct vial_exec_opts older;
	struct vial_opts no_size = { 0 };
	struct client c = client_start();
	struct vial_output out = { .size = sizeof(out) };
	struct vial *v = NULL;

	memset(&older, 0xee, sizeof(older)); /* what lies behind the older struct is not looked at */
	older.size = offsetof(struct vial_exec_opts, env);
	older.argv = argv;
	OK(vial_box_run(c.box, &older, NULL, 0, 100, &out, &err));
	CHECK(strcmp(out.out, "fine\n") == 0);
	output_done(&out);
	OK(vial_box_run(c.box, &newer.o, NULL, 0, 100, &out, &err));
	CHECK(strcmp(out.out, "fine\n") == 0);
	output_done(&out);
	FAILS(VIAL_E_INVALID, vial_box_run(c.box, &newest.o, NULL, 0, 100, &out, &err));
	newest.o.size = 0;
	FAILS(VIAL_E_INVALID, vial_box_run(c.box, &newest.o, NULL, 0, 100, &out, &err));
	FAILS(VIAL_E_INVALID, vial_open(&no_size, &v, &err));
	/* What comes back: no further than the caller's struct reaches, and zero where it reaches further than the library's. */
	struct {
		struct vial_output o;
		char later[16], guard[16];
	} wide;
	memset(&wide, 0xee, sizeof(wide));
	wide.o.size = offsetof(__typeof__(wide), guard);
	OK(vial_box_run(c.box, &newer.o, NULL, 0, 100, &wide.o, &err));
	CHECK(wide.o.size == offsetof(__typeof__(wide), guard) && strcmp(wide.o.out, "fine\n") == 0);
	CHECK(wide.later[0] == 0 && wide.later[15] == 0 && wide.guard[0] == (char)0xee);
	output_done(&wide.o);
	wide.o.size = sizeof(size_t);
	FAILS(VIAL_E_INVALID, vial_box_run(c.box, &newer.o, NULL, 0, 100, &wide.o, &err));
	client_close(&c);
}

static void two_boxes(void)
{
	struct client one = client_start(), two = client_start();

	CHECK(strlen(vial_box_id(one.box)) == 32 && strcmp(vial_box_id(one.box), vial_box_id(two.box)) != 0);
	expect(&one, "echo one >/only; echo ok", "ok\n", 0);
	expect(&two, "cat /only 2>/dev/null; echo two", "two\n", 0);
	vial_box_free(one.box);
	one.box = NULL;
	expect(&two, "echo alive", "alive\n", 0);
	client_close(&one);
	client_close(&two);
}

static void count_check(void *data, const struct vial_check *check)
{
	int *worst = data;

	CHECK(check->size == sizeof(*check) && check->name && check->found);
	CHECK(check->result == VIAL_CHECK_OK || check->remedy);
	if (check->result > *worst)
		*worst = check->result;
}

static void installation(void)
{
	struct client c = client_open();
	char *json = NULL;
	int worst = -1, r;

	OK(vial_prepare(c.vial, NULL, 0, &err));
	OK(vial_info_json(c.vial, &json, &err));
	CHECK(json[0] == '{' && strstr(json, "\"engine\""));
	vial_free(json);
	OK(r = vial_doctor(c.vial, count_check, &worst, &err));
	CHECK(worst >= 0 && r == worst);
	client_close(&c);
}

const struct test_case blocking_cases[] = {
	{ "run-collects", run_collects },
	{ "run-moves-megabytes", run_moves_megabytes },
	{ "run-limit", run_limit },
	{ "run-timeout", run_timeout },
	{ "command-errors", command_errors },
	{ "spec-errors", spec_errors },
	{ "state-errors", state_errors },
	{ "stop-powers-off", stop_powers_off },
	{ "stop-with-no-time-kills", stop_with_no_time_kills },
	{ "options-sizes", options_sizes },
	{ "two-boxes", two_boxes },
	{ "installation", installation },
	{ NULL, NULL },
};
