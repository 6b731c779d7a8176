// SPDX-License-Identifier: Apache-2.0
// Cases of the library that are driven by descriptors and events.
#include "lib-client.h"

#include <poll.h>
#include <signal.h>

#define WINDOW (256 << 10) /* output a command may write before it is acknowledged, each stream */

/* One of several commands that one thread serves. */
struct job {
	struct vial_exec *x;
	char out[64];
	size_t n;
	int started, code;
};

static void job_event(struct job *j, const struct vial_event *e, int number)
{
	char line[8];
	int len = snprintf(line, sizeof(line), "%d\n", number);

	CHECK((e->type == VIAL_EVENT_STARTED) == !j->started); /* the first event, and only it */
	switch (e->type) {
	case VIAL_EVENT_STARTED:
		CHECK(e->pid > 0);
		j->started = 1;
		CHECK(vial_exec_write(j->x, line, (size_t)len, NULL) == len);
		OK(vial_exec_close_stdin(j->x, &err));
		break;
	case VIAL_EVENT_STDOUT:
		CHECK(e->len >= 1 && j->n + e->len < sizeof(j->out));
		memcpy(j->out + j->n, e->data, e->len);
		j->n += e->len;
		break;
	case VIAL_EVENT_EXITED:
		CHECK(e->signal == 0);
		j->code = e->code;
		break;
	default:
		break;
	}
}

/* poll() says that the descriptor is ready: take events until there are none. */
static int job_serve(struct job *j, int number)
{
	struct vial_event e = { .size = sizeof(e) };
	int r = 0;

	while (j->code < 0 && (r = vial_exec_next(j->x, 0, &e, NULL)) == 1)
		job_event(j, &e, number);
	CHECK(r >= 0);
	return j->code >= 0;
}

static void poll_many(void)
{
	enum { N = 5 };
	struct client c = client_start();
	struct job jobs[N] = { 0 };
	struct pollfd fds[N];
	char want[16];
	int left = N;

	for (int i = 0; i < N; i++) {
		jobs[i].x = start(&c, "read n; echo $((n * n)); exit $n", VIAL_EXEC_STDIN);
		jobs[i].code = -1;
	}
	while (left > 0) {
		for (int i = 0; i < N; i++) {
			fds[i].fd = jobs[i].code < 0 ? vial_exec_fd(jobs[i].x) : -1;
			fds[i].events = vial_exec_poll_events(jobs[i].x);
		}
		CHECK(poll(fds, N, LIMIT_MS) > 0);
		for (int i = 0; i < N; i++)
			if (fds[i].fd >= 0 && fds[i].revents)
				left -= job_serve(&jobs[i], i + 1);
	}
	for (int i = 0; i < N; i++) {
		struct vial_event e = { .size = sizeof(e) };
		snprintf(want, sizeof(want), "%d\n", (i + 1) * (i + 1));
		CHECK(jobs[i].code == i + 1 && strcmp(jobs[i].out, want) == 0);
		FAILS(VIAL_E_STATE, vial_exec_next(jobs[i].x, 0, &e, &err)); /* after the last event */
		vial_exec_free(jobs[i].x);
	}
	client_close(&c);
}

/* Nobody reads one command's output: another's does not wait for that. */
static void slow_reader(void)
{
	enum { N = 2 << 20 };
	struct client c = client_start();
	struct vial_exec *x = start(&c, "head -c 2097152 /dev/zero", 0);
	struct vial_event e = { .size = sizeof(e) };
	size_t got = 0;

	expect(&c, "echo not held up", "not held up\n", 0);
	while ((e = next(x)).type != VIAL_EVENT_EXITED)
		if (e.type == VIAL_EVENT_STDOUT)
			got += e.len;
	CHECK(got == N && e.code == 0);
	vial_exec_free(x);
	client_close(&c);
}

/* Output comes up to the window and no further until it is acknowledged; the two streams have one each. */
static void manual_ack(void)
{
	enum { N = 1 << 20, QUIET_MS = 500 };
	struct client c = client_start();
	struct vial_exec *x = start(&c, "head -c 1048576 /dev/zero & head -c 1048576 /dev/zero >&2; wait",
				    VIAL_EXEC_MANUAL_ACK);
	struct vial_event e = { .size = sizeof(e) };
	size_t got[3] = { 0 };

	FAILS(VIAL_E_INVALID, vial_exec_ack(x, 3, 1, &err));
	while (got[1] < WINDOW || got[2] < WINDOW) {
		e = next(x);
		if (e.type == VIAL_EVENT_STDOUT || e.type == VIAL_EVENT_STDERR)
			got[e.type == VIAL_EVENT_STDOUT ? 1 : 2] += e.len;
	}
	CHECK(vial_exec_next(x, QUIET_MS, &e, NULL) == 0);
	CHECK(got[1] == WINDOW && got[2] == WINDOW);
	OK(vial_exec_ack(x, 1, got[1], &err));
	OK(vial_exec_ack(x, 2, got[2], &err));
	while ((e = next(x)).type != VIAL_EVENT_EXITED) {
		int stream = e.type == VIAL_EVENT_STDOUT ? 1 : 2;
		got[stream] += e.len;
		OK(vial_exec_ack(x, stream, e.len, &err));
	}
	CHECK(got[1] == N && got[2] == N && e.code == 0);
	vial_exec_free(x);
	client_close(&c);
}

/* Writes what is taken of @n bytes; returns how many. */
static size_t write_some(struct vial_exec *x, size_t n)
{
	static const char zeros[64 << 10];
	size_t done = 0;
	ssize_t r = 1;

	while (done < n && r > 0) {
		r = vial_exec_write(x, zeros, n - done < sizeof(zeros) ? n - done : sizeof(zeros), NULL);
		CHECK(r >= 0);
		done += (size_t)r;
	}
	return done;
}

/* A command that does not read its stdin stops the writer after a bounded amount; then all arrives. */
static void stdin_backpressure(void)
{
	enum { N = 4 << 20, BOUND = 1 << 20, QUIET_MS = 500 };
	struct client c = client_start();
	struct vial_exec *x =
		start(&c, "while [ ! -e /tmp/go ]; do sleep 0.05; done; wc -c", VIAL_EXEC_STDIN);
	struct vial_event e = { .size = sizeof(e) };
	size_t done = write_some(x, N); /* before it runs: nothing is taken, or kept */
	int r;

	CHECK(done < N);
	wait_event(x, VIAL_EVENT_STARTED);
	do { /* what the guest's pipe takes is granted anew */
		done += write_some(x, N - done);
		r = vial_exec_next(x, QUIET_MS, &e, NULL);
		CHECK(r == 0 || e.type == VIAL_EVENT_WRITABLE);
	} while (r == 1);
	CHECK(done > 0 && done < BOUND && write_some(x, N - done) == 0);
	expect(&c, "touch /tmp/go", "", 0);
	while (done < N) {
		e = wait_event(x, VIAL_EVENT_WRITABLE);
		done += write_some(x, N - done);
	}
	OK(vial_exec_close_stdin(x, &err));
	FAILS(VIAL_E_STATE, vial_exec_write(x, "x", 1, &err));
	read_until(x, "4194304\n");
	CHECK(wait_event(x, VIAL_EVENT_EXITED).code == 0);
	vial_exec_free(x);
	client_close(&c);
}

static void stdin_closed_by_command(void)
{
	struct client c = client_start();
	struct vial_exec *x = start(&c, "exec sleep 1000 <&-", VIAL_EXEC_STDIN);
	struct vial_event e = { .size = sizeof(e) };

	wait_event(x, VIAL_EVENT_STARTED);
	do { /* it is seen by writing */
		(void)vial_exec_write(x, "x", 1, NULL);
		e = next(x);
	} while (e.type == VIAL_EVENT_WRITABLE);
	CHECK(e.type == VIAL_EVENT_STDIN_CLOSED);
	FAILS(VIAL_E_STATE, vial_exec_write(x, "x", 1, &err));
	vial_exec_free(x);
	client_close(&c);
}

static void signals(void)
{
	struct client c = client_start();
	struct vial_exec *x =
		start(&c, "trap 'echo caught; exit 9' USR1; echo up; while :; do sleep 0.05; done", 0);
	struct vial_event e = { .size = sizeof(e) };

	FAILS(VIAL_E_INVALID, vial_exec_signal(x, 0, &err));
	FAILS(VIAL_E_INVALID, vial_exec_signal(x, 65, &err));
	read_until(x, "up\n");
	OK(vial_exec_signal(x, SIGUSR1, &err));
	read_until(x, "caught\n");
	e = wait_event(x, VIAL_EVENT_EXITED);
	CHECK(e.code == 9 && e.signal == 0);
	FAILS(VIAL_E_STATE, vial_exec_signal(x, SIGUSR1, &err));
	vial_exec_free(x);

	x = start(&c, "echo up; setsid sleep 1000 & wait", 0); /* a session of its own is no way out */
	read_until(x, "up\n");
	OK(vial_exec_signal(x, SIGKILL, &err));
	e = wait_event(x, VIAL_EVENT_EXITED);
	CHECK(e.signal == SIGKILL);
	vial_exec_free(x);
	expect(&c,
	       "n=0; while pidof sleep >/dev/null && [ $n -lt 200 ]; do usleep 50000; n=$((n + 1)); done; "
	       "pidof sleep",
	       "", 1);
	client_close(&c);
}

static void timeout_flag(void)
{
	static const char *const argv[] = { "sleep", "1000", NULL };
	const struct vial_exec_opts o = { .size = sizeof(o), .argv = argv, .timeout_ms = 500 };
	struct client c = client_start();
	struct vial_exec *x = NULL;

	OK(vial_box_exec(c.box, &o, &x, &err));
	CHECK(wait_event(x, VIAL_EVENT_EXITED).flags & VIAL_EXITED_TIMED_OUT);
	vial_exec_free(x);
	client_close(&c);
}

static void terminal(void)
{
	struct client c = client_start();
	struct vial_exec *x =
		start(&c,
		      "stty size; trap 'stty size; exit 3' WINCH; echo up >&2; while :; do sleep 0.05; done",
		      VIAL_EXEC_TTY | VIAL_EXEC_STDIN);

	read_until(x, "24 80\r\nup\r\n"); /* stderr comes the same way */
	OK(vial_exec_resize(x, 40, 100, &err));
	read_until(x, "40 100\r\n");
	CHECK(wait_event(x, VIAL_EVENT_EXITED).code == 3);
	vial_exec_free(x);
	client_close(&c);
}

/* Letting go of a command kills it, in the guest. */
static void free_kills(void)
{
	struct client c = client_start();
	struct vial_exec *x = start(&c, "echo up; exec sleep 1000", 0);

	read_until(x, "up\n");
	expect(&c, "pidof sleep >/dev/null", "", 0);
	vial_exec_free(x);
	expect(&c,
	       "n=0; while pidof sleep >/dev/null && [ $n -lt 200 ]; do usleep 50000; n=$((n + 1)); done; "
	       "pidof sleep",
	       "", 1);
	client_close(&c);
}

/* The machine dies under a command. */
static void monitor_killed(void)
{
	struct client c = client_start();
	struct vial_exec *x = start(&c, "echo up; sleep 1000", 0);
	struct vial_event e = { .size = sizeof(e) };
	struct vial_err why = VIAL_ERR_INIT;
	int r;

	read_until(x, "up\n");
	CHECK(kill(vial_box_pid(c.box), SIGKILL) == 0);
	while ((r = vial_exec_next(x, LIMIT_MS, &e, &why)) == 1)
		CHECK(e.type != VIAL_EVENT_EXITED);
	CHECK(r == VIAL_E_ENGINE && why.code == r && why.msg[0]);
	vial_exec_free(x);
	x = NULL;
	why = (struct vial_err)VIAL_ERR_INIT;
	/* The kernel may close what the dead monitor listened on after its connections: then the next event tells. */
	r = vial_box_exec(c.box, &(struct vial_exec_opts){ .size = sizeof(struct vial_exec_opts) }, &x, &why);
	CHECK((r < 0) == !x);
	if (x)
		r = vial_exec_next(x, LIMIT_MS, &e, &why);
	CHECK(r == VIAL_E_ENGINE);
	vial_exec_free(x);
	client_close(&c);
}

const struct test_case event_cases[] = {
	{ "poll-many", poll_many },
	{ "slow-reader", slow_reader },
	{ "manual-ack", manual_ack },
	{ "stdin-backpressure", stdin_backpressure },
	{ "stdin-closed-by-command", stdin_closed_by_command },
	{ "signals", signals },
	{ "timeout-flag", timeout_flag },
	{ "terminal", terminal },
	{ "free-kills", free_kills },
	{ "monitor-killed-under-command", monitor_killed },
	{ NULL, NULL },
};
