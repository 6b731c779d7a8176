// SPDX-License-Identifier: Apache-2.0
// `vial doctor --selftest`: see selftest.h.
#include "cli/selftest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#define EXECS	      20
#define CHILDREN      2
#define CLOCK_SLACK_S 2	  /* wall clock: whole seconds of two machines */
#define UPTIME_SLACK  250 /* ms; time a command takes to start is in it */
#define PAUSE_MS      400
#define RUN_MS	      60000
#define OUTPUT_MAX    4096

DEFINE_CLEANUP(struct vial_spec, vial_spec_free)
DEFINE_CLEANUP(struct vial_box, vial_box_free)

/**
 * struct selftest - what the steps share
 * @box:	runs from the first step on
 * @found:	what the current step says
 */
struct selftest {
	struct vial *v;
	struct vial_box *box;
	char found[256];
};

static void _printf_(2, 3) found(struct selftest *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->found, sizeof(t->found), fmt, ap);
	va_end(ap);
}

static uint64_t now_ms(void)
{
	return clock_mono_ns() / NS_PER_MS;
}

static void wait_ms(uint64_t ms)
{
	const struct timespec ts = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

/* Runs @script by the box's shell, which must end with 0; its output without the last newline goes to @ret (OUTPUT_MAX). */
static int ask(struct vial_box *box, const char *script, char *ret, struct vial_err *err)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };
	const struct vial_exec_opts opts = { .size = sizeof(opts), .argv = argv, .timeout_ms = RUN_MS };
	struct vial_output out = { .size = sizeof(out) };
	int r = vial_box_run(box, &opts, NULL, 0, OUTPUT_MAX - 1, &out, err);

	ret[0] = '\0';
	if (r < 0)
		return r;
	if (out.code != 0)
		r = err_set(err, VIAL_E_ENGINE, "'%.100s' ended with %d: %.200s", script, out.code, out.err);
	else
		snprintf(ret, OUTPUT_MAX, "%s", out.out);
	ret[strcspn(ret, "\n")] = '\0';
	vial_free(out.out);
	vial_free(out.err);
	return r;
}

/* Starts a box with @cpus processors. */
static int start_box(struct selftest *t, const char *cpus, struct vial_box **ret, struct vial_err *err)
{
	_cleanup_(vial_spec_freep) struct vial_spec *spec = NULL;
	_cleanup_(vial_box_freep) struct vial_box *box = NULL;
	int r = vial_spec_new(&spec, err);

	r = r < 0 ? r : vial_spec_set(spec, "cpus", cpus, err);
	r = r < 0 ? r : vial_box_create(t->v, spec, &box, err);
	r = r < 0 ? r : vial_box_start(box, err);
	if (r == 0)
		*ret = take_ptr(box);
	return r;
}

static int step_start(struct selftest *t, struct vial_err *err)
{
	uint64_t start = now_ms();
	char out[OUTPUT_MAX];
	int r = start_box(t, "1", &t->box, err);

	r = r < 0 ? r : ask(t->box, "uname -r", out, err);
	if (r == 0)
		found(t, "Linux %.100s answers after %llu ms, its template's making included", out,
		      (unsigned long long)(now_ms() - start));
	return r;
}

static int step_restore(struct selftest *t, struct vial_err *err)
{
	_cleanup_(vial_box_freep) struct vial_box *box = NULL;
	uint64_t start = now_ms();
	char out[OUTPUT_MAX];
	int r = start_box(t, "1", &box, err);

	r = r < 0 ? r : ask(box, "echo up", out, err);
	if (r == 0)
		found(t, "a box from the template answers after %llu ms",
		      (unsigned long long)(now_ms() - start));
	return r;
}

static int step_exec(struct selftest *t, struct vial_err *err)
{
	uint64_t start = now_ms();
	char out[OUTPUT_MAX];
	int r = 0;

	for (int i = 0; r == 0 && i < EXECS; i++)
		r = ask(t->box, "true", out, err);
	if (r == 0)
		found(t, "%d commands, %llu ms each", EXECS, (unsigned long long)(now_ms() - start) / EXECS);
	return r;
}

/* The box's wall clock must be the host's. */
static int check_clock(struct vial_box *box, struct vial_err *err)
{
	char out[OUTPUT_MAX];
	int r = ask(box, "date +%s", out, err);
	long long off = r < 0 ? 0 : strtoll(out, NULL, 10) - (long long)time(NULL);

	if (r == 0 && llabs(off) > CLOCK_SLACK_S)
		r = err_set(err, VIAL_E_ENGINE, "the box's clock is %lld s off", off);
	return r;
}

static int uptime_ms(struct vial_box *box, uint64_t *ret, struct vial_err *err)
{
	char out[OUTPUT_MAX];
	int r = ask(box, "cat /proc/uptime", out, err);

	if (r == 0)
		*ret = (uint64_t)(strtod(out, NULL) * 1000);
	return r;
}

static int step_clock(struct selftest *t, struct vial_err *err)
{
	uint64_t first = 0, second = 0, start = now_ms();
	int r = check_clock(t->box, err);

	r = r < 0 ? r : uptime_ms(t->box, &first, err);
	wait_ms(PAUSE_MS);
	r = r < 0 ? r : uptime_ms(t->box, &second, err);
	if (r < 0)
		return r;
	uint64_t here = now_ms() - start, there = second - first;
	if (there + UPTIME_SLACK < PAUSE_MS || there > here + UPTIME_SLACK)
		return err_set(err, VIAL_E_ENGINE, "in %llu ms the box's clock went on by %llu ms",
			       (unsigned long long)here, (unsigned long long)there);
	found(t, "the box's clocks go right");
	return 0;
}

static int step_smp(struct selftest *t, struct vial_err *err)
{
	_cleanup_(vial_box_freep) struct vial_box *box = NULL;
	char out[OUTPUT_MAX];
	int r;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		found(t, "not tried: this host has one processor");
		return 0;
	}
	r = start_box(t, "2", &box, err);
	/* Each processor's timer must have run: a second one that is only listed would show here. */
	r = r < 0 ? r
		  : ask(box, "nproc && awk '/LOC:/ { exit !($2 > 0 && $3 > 0) }' /proc/interrupts", out, err);
	if (r == 0 && strcmp(out, "2") != 0)
		r = err_set(err, VIAL_E_ENGINE, "a box of two processors has %.20s", out);
	if (r == 0)
		found(t, "two processors run");
	return r;
}

static int step_pause(struct selftest *t, struct vial_err *err)
{
	int r = vial_box_pause(t->box, err);

	if (r < 0)
		return r;
	wait_ms(PAUSE_MS);
	r = vial_box_resume(t->box, err);
	r = r < 0 ? r : check_clock(t->box, err);
	if (r == 0)
		found(t, "paused and resumed, its clock is right");
	return r;
}

/* Each child has the state of its parent, and an identity of its own. */
static int check_children(struct vial_box *const *children, struct vial_err *err)
{
	char out[CHILDREN][OUTPUT_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && i < CHILDREN; i++)
		r = ask(children[i], "test \"$(cat /tmp/self)\" = state && cat /etc/machine-id", out[i], err);
	if (r == 0 && strcmp(out[0], out[1]) == 0)
		r = err_set(err, VIAL_E_ENGINE, "two children have one machine-id");
	return r;
}

static int step_fork(struct selftest *t, struct vial_err *err)
{
	struct vial_box *children[CHILDREN] = { 0 };
	uint64_t start = now_ms();
	char out[OUTPUT_MAX];
	int r = ask(t->box, "echo state >/tmp/self", out, err);

	r = r < 0 ? r : vial_box_fork(t->box, CHILDREN, children, err);
	if (r < 0)
		return r;
	r = check_children(children, err);
	for (size_t i = 0; i < CHILDREN; i++)
		vial_box_free(children[i]);
	if (r == 0)
		found(t, "%d children in %llu ms; the parent stood still for %u us", CHILDREN,
		      (unsigned long long)(now_ms() - start), vial_box_pause_us(t->box));
	return r;
}

static int from_snapshot(struct selftest *t, const char *path, struct vial_err *err)
{
	_cleanup_(vial_box_freep) struct vial_box *box = NULL;
	char out[OUTPUT_MAX];
	int r = ask(t->box, "echo state >/tmp/self", out, err);

	r = r < 0 ? r : vial_box_snapshot(t->box, path, err);
	r = r < 0 ? r : vial_box_create_from(t->v, path, NULL, 0, &box, err);
	r = r < 0 ? r : vial_box_start(box, err);
	return r < 0 ? r : ask(box, "test \"$(cat /tmp/self)\" = state", out, err);
}

static int step_snapshot(struct selftest *t, struct vial_err *err)
{
	const char *tmp = getenv("TMPDIR");
	char dir[512], path[600];
	uint64_t start = now_ms();

	snprintf(dir, sizeof(dir), "%.400s/vial-selftest-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return err_set(err, VIAL_E_IO, "make %s: %m", dir);
	snprintf(path, sizeof(path), "%s/snapshot", dir);
	int r = from_snapshot(t, path, err);
	(void)unlink(path);
	(void)rmdir(dir);
	if (r == 0)
		found(t, "saved and started again in %llu ms", (unsigned long long)(now_ms() - start));
	return r;
}

static const struct {
	const char *name;
	int (*fn)(struct selftest *t, struct vial_err *err);
} steps[] = {
	{ "self-start", step_start }, { "self-restore", step_restore },	  { "self-exec", step_exec },
	{ "self-clock", step_clock }, { "self-smp", step_smp },		  { "self-pause", step_pause },
	{ "self-fork", step_fork },   { "self-snapshot", step_snapshot },
};

int selftest(struct vial *v, void (*fn)(void *data, const struct vial_check *c), void *data)
{
	struct selftest t = { .v = v };
	int worst = VIAL_CHECK_OK;

	for (size_t i = 0; i < ARRAY_SIZE(steps) && (i == 0 || t.box); i++) {
		struct vial_err err = VIAL_ERR_INIT;
		struct vial_check c = { .size = sizeof(c), .name = steps[i].name };

		t.found[0] = '\0';
		int r = steps[i].fn(&t, &err);
		c.found = r < 0 ? err.msg : t.found;
		/* What an engine truly cannot do is told, not a fault of this host. */
		c.result = r == 0		     ? VIAL_CHECK_OK
			   : r == VIAL_E_UNSUPPORTED ? VIAL_CHECK_WARN
						     : VIAL_CHECK_FAIL;
		if (c.result == VIAL_CHECK_FAIL)
			c.remedy = "try again with --log-level debug; if this host is no exotic one, it is "
				   "vial's fault";
		fn(data, &c);
		worst = MAX(worst, c.result);
	}
	vial_box_free(t.box);
	return worst;
}
