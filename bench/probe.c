// SPDX-License-Identifier: Apache-2.0
/*
 * What bench/run measures from inside a client of the library: one box, its times in nanoseconds on stdout.
 *
 *	bench-probe rtt N	N times "true" to its end, one after the other, one line each
 *	bench-probe apart N	the same, with PAUSE_MS between them
 *	bench-probe pipe MIB	MIB MiB through "cat", there and back; one line: the time
 *	bench-probe yardstick N	N times a loop of arithmetic, without a box, one line each
 *	bench-probe hold	run "true", write the monitor's process id, keep the box until stdin ends
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vial/vial.h>

#define CHUNK	     (64 << 10)
#define N_MAX	     1000000
#define PAUSE_MS     50
#define YARD_TURNS   10000000
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int fail(struct vial_err *err, const char *msg)
{
	snprintf(err->msg, sizeof(err->msg), "%s", msg);
	return err->code = VIAL_E_IO;
}

static int run_true(struct vial_box *box, struct vial_err *err)
{
	static const char *const argv[] = { "true", NULL };
	const struct vial_exec_opts opts = { .size = sizeof(opts), .argv = argv };
	struct vial_output out = { .size = sizeof(out) };
	int r = vial_box_run(box, &opts, NULL, 0, 4096, &out, err);

	if (r < 0)
		return r;
	vial_free(out.out);
	vial_free(out.err);
	return out.code == 0 ? 0 : fail(err, "true did not end with 0");
}

static int round_trips(struct vial_box *box, size_t n, unsigned int pause_ms, struct vial_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		usleep(pause_ms * 1000);
		uint64_t start = now_ns();
		r = run_true(box, err);
		printf("%" PRIu64 "\n", now_ns() - start);
	}
	return r;
}

static int rtt(struct vial_box *box, size_t n, struct vial_err *err)
{
	return round_trips(box, n, 0, err);
}

static int apart(struct vial_box *box, size_t n, struct vial_err *err)
{
	return round_trips(box, n, PAUSE_MS, err);
}

/* Bytes still to be written and read of one transfer. */
struct transfer {
	size_t to_write;
	size_t to_read;
	uint64_t start;
	int done;
};

static int feed(struct vial_exec *x, struct transfer *t, struct vial_err *err)
{
	static const char zeros[CHUNK];
	ssize_t n = 1;

	while (t->to_write > 0 && n > 0) {
		n = vial_exec_write(x, zeros, t->to_write < CHUNK ? t->to_write : CHUNK, err);
		if (n < 0)
			return (int)n;
		t->to_write -= (size_t)n;
	}
	return t->to_write == 0 ? vial_exec_close_stdin(x, err) : 0;
}

static int on_event(struct vial_exec *x, struct transfer *t, const struct vial_event *e, struct vial_err *err)
{
	switch (e->type) {
	case VIAL_EVENT_STARTED:
		t->start = now_ns();
		return feed(x, t, err);
	case VIAL_EVENT_WRITABLE:
		return feed(x, t, err);
	case VIAL_EVENT_STDOUT:
		if (e->len > t->to_read)
			return fail(err, "cat wrote more than it read");
		t->to_read -= e->len;
		return 0;
	case VIAL_EVENT_EXITED:
		t->done = 1;
		return t->to_read == 0 && e->code == 0 ? 0 : fail(err, "cat ended early");
	default:
		return 0;
	}
}

static int pipe_through(struct vial_box *box, size_t mib, struct vial_err *err)
{
	static const char *const argv[] = { "cat", NULL };
	const struct vial_exec_opts opts = { .size = sizeof(opts), .argv = argv, .flags = VIAL_EXEC_STDIN };
	struct transfer t = { .to_write = mib << 20, .to_read = mib << 20 };
	struct vial_exec *x = NULL;
	struct vial_event e = { .size = sizeof(e) };
	int r = vial_box_exec(box, &opts, &x, err);

	while (r == 0 && !t.done) {
		r = vial_exec_next(x, -1, &e, err);
		r = r < 0 ? r : on_event(x, &t, &e, err);
	}
	if (r == 0)
		printf("%" PRIu64 "\n", now_ns() - t.start);
	vial_exec_free(x);
	return r;
}

static int hold(struct vial_box *box, size_t n, struct vial_err *err)
{
	char c;

	(void)n;
	(void)err;
	printf("%d\n", (int)vial_box_pid(box));
	fflush(stdout);
	return read(STDIN_FILENO, &c, 1) < 0 ? fail(err, "read stdin") : 0;
}

typedef int (*job_fn)(struct vial_box *box, size_t n, struct vial_err *err);

static const struct {
	const char *name;
	job_fn fn;
	int argc;
} jobs[] = { { "rtt", rtt, 3 }, { "apart", apart, 3 }, { "pipe", pipe_through, 3 }, { "hold", hold, 2 } };

static int in_a_box(job_fn fn, size_t n, struct vial_err *err)
{
	struct vial *vial = NULL;
	struct vial_spec *spec = NULL;
	struct vial_box *box = NULL;
	int r = vial_open(NULL, &vial, err);

	if (r == 0)
		r = vial_spec_new(&spec, err);
	if (r == 0)
		r = vial_box_create(vial, spec, &box, err);
	if (r == 0)
		r = vial_box_start(box, err);
	if (r == 0)
		r = run_true(box, err); /* the machine is up from here on */
	if (r == 0)
		r = fn(box, n, err);
	vial_box_free(box);
	vial_spec_free(spec);
	vial_close(vial);
	return r;
}

/* Nothing but the processor: what it takes longer now than before, everything does. */
static void yardstick(long n)
{
	for (long i = 0; i < n; i++) {
		volatile uint64_t x = 1;
		uint64_t start = now_ns();
		for (int k = 0; k < YARD_TURNS; k++)
			x = x * 3 + 1;
		printf("%" PRIu64 "\n", now_ns() - start);
	}
}

int main(int argc, char **argv)
{
	struct vial_err err = VIAL_ERR_INIT;
	long n = argc > 2 ? strtol(argv[2], NULL, 10) : 1;

	if (argc == 3 && strcmp(argv[1], "yardstick") == 0 && n >= 1 && n <= N_MAX) {
		yardstick(n);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
		if (argc != jobs[i].argc || strcmp(argv[1], jobs[i].name) != 0 || n < 1 || n > N_MAX)
			continue;
		if (in_a_box(jobs[i].fn, (size_t)n, &err) == 0)
			return 0;
		fprintf(stderr, "bench-probe: %s\n", err.msg);
		return 1;
	}
	fprintf(stderr, "usage: bench-probe rtt N | apart N | pipe MIB | hold | yardstick N\n");
	return 2;
}
