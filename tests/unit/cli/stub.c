// SPDX-License-Identifier: Apache-2.0
/*
 * A libvial for tests of the command line: "boxes" are plain processes of this machine.
 *
 * It keeps the contract of vial.h where the command line depends on it: a window of unacknowledged output
 * for each stream, WRITABLE after a short write, EXITED as the last event. Environment:
 *   STUB_HANG=1	a command never starts
 *   STUB_FAIL=TEXT	vial_box_start() fails
 *   STUB_DOCTOR=fail	one check fails
 *   STUB_SPEC=FILE	the specification of a new box is written there
 *   STUB_PEAK=FILE	most unacknowledged bytes of one stream are written there
 */
#include "api/export.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "box/spec.h"

#define WINDOW (256 * 1024)
#define CHUNK  32768

struct vial {
	int unused;
};

struct vial_box {
	struct vial_spec *spec;
	int console;
};

enum { SRC_OUT = 1, SRC_ERR = 2, SRC_IN, SRC_PID, SRC_TIMER };

struct vial_exec {
	pid_t pid;
	int epoll, in, pidfd, timer;
	int out[3]; /* by stream; [0] unused */
	size_t unacked[3], peak;
	bool watched[3], eof[3];
	bool hang, started, exited, ended, in_closed, tell_closed, want_write, timed_out, own_ack;
	int failed, status;
	char data[CHUNK];
};

const char *vial_version(void)
{
	return VIAL_VERSION;
}

int vial_open(const struct vial_opts *opts, struct vial **ret, struct vial_err *err)
{
	if (opts->home && strcmp(opts->home, "/nonexistent") == 0)
		return err_set(err, VIAL_E_NOT_FOUND, "open state directory '/nonexistent'");
	*ret = calloc(1, sizeof(**ret));
	if (opts->progress)
		opts->progress(opts->progress_data, "building template");
	return 0;
}

void vial_close(struct vial *v)
{
	free(v);
}

void vial_free(void *p)
{
	free(p);
}

static void write_file(const char *var, const char *text)
{
	const char *path = getenv(var);

	if (path)
		(void)fd_write_file_at(AT_FDCWD, path, text, strlen(text), 0600);
}

int vial_box_create(struct vial *v, const struct vial_spec *spec, struct vial_box **ret, struct vial_err *err)
{
	_cleanup_free_ char *json = NULL;

	(void)v;
	if (spec_to_json(spec, &json, NULL) == 0)
		write_file("STUB_SPEC", json);
	int r = spec_check(spec, err);
	if (r < 0)
		return r;
	*ret = calloc(1, sizeof(**ret));
	(*ret)->console = -1;
	return spec_copy(spec, &(*ret)->spec, err);
}

int vial_box_create_from(struct vial *v, const char *path, const struct vial_spec *spec, uint32_t flags,
			 struct vial_box **ret, struct vial_err *err)
{
	_cleanup_(spec_freep) struct vial_spec *none = NULL;

	write_file("STUB_FROM", flags & VIAL_FROM_TRUST ? "trusted" : path);
	if (!spec && vial_spec_new(&none, err) < 0)
		return err->code;
	return vial_box_create(v, spec ? spec : none, ret, err);
}

int vial_box_start(struct vial_box *b, struct vial_err *err)
{
	const char *fail = getenv("STUB_FAIL");
	int pair[2];

	if (fail)
		return err_set(err, VIAL_E_ENGINE, "%s", fail);
	if (!b->spec->console)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, -errno, "socketpair");
	b->console = pair[0];
	if (fork() == 0) {
		dup2(pair[1], 0);
		dup2(pair[1], 1);
		execlp("sh", "sh", "-c", "echo login:; exec cat", (char *)NULL);
		_exit(1);
	}
	close(pair[1]);
	return 0;
}

int vial_box_console_fd(const struct vial_box *b)
{
	return b->console;
}

void vial_box_free(struct vial_box *b)
{
	if (!b)
		return;
	spec_free(b->spec);
	if (b->console >= 0)
		close(b->console);
	free(b);
}

/* Of doctor's self-test: scripts run here, copies are empty boxes, a snapshot is an empty file. */
int vial_box_run(struct vial_box *b, const struct vial_exec_opts *o, const void *input, size_t input_len,
		 size_t limit, struct vial_output *ret, struct vial_err *err)
{
	(void)b;
	(void)input;
	(void)input_len;
	FILE *f = popen(o->argv[2], "r");
	char *text = calloc(1, limit + 1);
	if (!f || !text)
		return err_set(err, VIAL_E_NO_MEMORY, "popen");
	ret->out_len = fread(text, 1, limit, f);
	ret->out = text;
	ret->err = calloc(1, 1);
	int status = pclose(f);
	ret->code = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
	return 0;
}

int vial_box_pause(struct vial_box *b, struct vial_err *err)
{
	(void)b;
	return err_set(err, VIAL_E_UNSUPPORTED, "no pause here");
}

int vial_box_resume(struct vial_box *b, struct vial_err *err)
{
	(void)b;
	return err_set(err, VIAL_E_STATE, "not paused");
}

int vial_box_fork(struct vial_box *b, size_t n, struct vial_box **ret, struct vial_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = vial_box_create(NULL, b->spec, &ret[i], err);
	return r;
}

uint32_t vial_box_pause_us(const struct vial_box *b)
{
	(void)b;
	return 7;
}

int vial_box_snapshot(struct vial_box *b, const char *path, struct vial_err *err)
{
	(void)b;
	int r = fd_write_file_at(AT_FDCWD, path, "", 0, 0600);
	return r < 0 ? err_sys(err, r, "%s", path) : 0;
}

static void watch(struct vial_exec *x, int fd, uint32_t events, uint32_t src)
{
	struct epoll_event e = { .events = events, .data.u32 = src };

	if (epoll_ctl(x->epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		abort();
}

static void watch_output(struct vial_exec *x, int stream)
{
	bool want = !x->eof[stream] && x->out[stream] >= 0 && x->unacked[stream] < WINDOW;

	if (want == x->watched[stream])
		return;
	x->watched[stream] = want;
	if (want)
		watch(x, x->out[stream], EPOLLIN, (uint32_t)stream);
	else
		epoll_ctl(x->epoll, EPOLL_CTL_DEL, x->out[stream], NULL);
}

static _noreturn_ void child(const struct vial_spec *s, int report)
{
	char *shell[] = { (char *)(uintptr_t) "sh", NULL };
	char **argv = s->command.n ? s->command.v : shell;

	for (size_t i = 0; i < s->env.n; i++)
		putenv(s->env.v[i]);
	if (s->workdir && chdir(s->workdir) < 0)
		errno = ESRCH;
	else
		execvp(argv[0], argv);
	int e = errno;
	ssize_t r = write(report, &e, sizeof(e));
	(void)r;
	_exit(127);
}

static void start_pipes(struct vial_exec *x, const struct vial_spec *s, uint32_t flags, int report)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		abort();
	x->pid = fork();
	if (x->pid == 0) {
		setsid();
		dup2(flags & VIAL_EXEC_STDIN ? in[0] : open("/dev/null", O_RDONLY), 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		child(s, report);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	fd_set_nonblock(in[1], true);
	x->in = in[1];
	x->out[1] = out[0];
	x->out[2] = err[0];
}

static void start_tty(struct vial_exec *x, const struct vial_spec *s, const struct vial_exec_opts *o,
		      int report)
{
	struct winsize w = { .ws_row = o->rows, .ws_col = o->cols };
	int master;

	x->pid = forkpty(&master, NULL, NULL, &w);
	if (x->pid == 0)
		child(s, report);
	fd_set_cloexec(master, true);
	x->out[1] = master;
	x->out[2] = -1;
	x->eof[2] = true;
	x->in = dup(master);
	fd_set_nonblock(x->in, true);
}

int vial_box_exec(struct vial_box *b, const struct vial_exec_opts *o, struct vial_exec **ret,
		  struct vial_err *err)
{
	struct vial_exec *x = calloc(1, sizeof(*x));
	int report[2];

	(void)err;
	x->epoll = epoll_create1(EPOLL_CLOEXEC);
	x->timer = -1;
	x->hang = getenv("STUB_HANG") != NULL;
	x->own_ack = !(o->flags & VIAL_EXEC_MANUAL_ACK);
	if (pipe2(report, O_CLOEXEC) < 0)
		abort();
	if (o->flags & VIAL_EXEC_TTY)
		start_tty(x, b->spec, o, report[1]);
	else
		start_pipes(x, b->spec, o->flags, report[1]);
	close(report[1]);
	if (read(report[0], &x->failed, sizeof(x->failed)) <= 0)
		x->failed = 0;
	close(report[0]);
	x->pidfd = (int)syscall(SYS_pidfd_open, x->pid, 0);
	if (x->hang) {
		*ret = x;
		return 0;
	}
	watch_output(x, 1);
	watch_output(x, 2);
	watch(x, x->pidfd, EPOLLIN, SRC_PID);
	if (b->spec->timeout_ms) {
		struct itimerspec t = { .it_value = { (time_t)(b->spec->timeout_ms / 1000),
						      (long)(b->spec->timeout_ms % 1000) * 1000000 } };
		x->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
		timerfd_settime(x->timer, 0, &t, NULL);
		watch(x, x->timer, EPOLLIN, SRC_TIMER);
	}
	*ret = x;
	return 0;
}

static int start_error(const struct vial_exec *x, struct vial_err *err)
{
	switch (x->failed) {
	case ENOENT:
		return err_set(err, VIAL_E_CMD_NOT_FOUND, "command not found");
	case ESRCH:
		return err_set(err, VIAL_E_CMD_BAD_CWD, "bad working directory");
	case E2BIG:
		return err_set(err, VIAL_E_CMD_TOO_LONG, "argument list too long");
	default:
		return err_set(err, VIAL_E_CMD_NOT_EXECUTABLE, "not executable");
	}
}

/* 1 with an event, 0 if the stream had none to give (it ended). */
static int take_output(struct vial_exec *x, int stream, struct vial_event *ret)
{
	size_t room = WINDOW - x->unacked[stream];
	ssize_t n = read(x->out[stream], x->data, room < CHUNK ? room : CHUNK);

	if (n <= 0) {
		x->eof[stream] = true;
		watch_output(x, stream);
		return 0;
	}
	if (!x->own_ack)
		x->unacked[stream] += (size_t)n;
	if (x->unacked[stream] > x->peak)
		x->peak = x->unacked[stream];
	watch_output(x, stream);
	ret->type = stream == 1 ? VIAL_EVENT_STDOUT : VIAL_EVENT_STDERR;
	ret->data = x->data;
	ret->len = (size_t)n;
	return 1;
}

static int take_exit(struct vial_exec *x, struct vial_event *ret)
{
	char peak[32];

	x->ended = true;
	ret->type = VIAL_EVENT_EXITED;
	ret->code = WIFEXITED(x->status) ? WEXITSTATUS(x->status) : 0;
	ret->signal = WIFSIGNALED(x->status) ? WTERMSIG(x->status) : 0;
	ret->flags = x->timed_out ? VIAL_EXITED_TIMED_OUT : 0;
	snprintf(peak, sizeof(peak), "%zu", x->peak);
	write_file("STUB_PEAK", peak);
	return 1;
}

static int on_source(struct vial_exec *x, uint32_t src, struct vial_event *ret)
{
	switch (src) {
	case SRC_OUT:
	case SRC_ERR:
		return take_output(x, (int)src, ret);
	case SRC_IN:
		epoll_ctl(x->epoll, EPOLL_CTL_DEL, x->in, NULL);
		x->want_write = false;
		ret->type = VIAL_EVENT_WRITABLE;
		return 1;
	case SRC_TIMER:
		epoll_ctl(x->epoll, EPOLL_CTL_DEL, x->timer, NULL);
		x->timed_out = true;
		kill(-x->pid, SIGKILL);
		return 0;
	default:
		epoll_ctl(x->epoll, EPOLL_CTL_DEL, x->pidfd, NULL);
		waitpid(x->pid, &x->status, 0);
		x->exited = true;
		return 0;
	}
}

int vial_exec_next(struct vial_exec *x, int timeout_ms, struct vial_event *ret, struct vial_err *err)
{
	struct epoll_event e;

	if (x->failed)
		return start_error(x, err);
	if (x->ended)
		return err_set(err, VIAL_E_STATE, "no more events");
	if (!x->started && !x->hang) {
		x->started = true;
		ret->type = VIAL_EVENT_STARTED;
		return 1;
	}
	if (x->tell_closed) {
		x->tell_closed = false;
		ret->type = VIAL_EVENT_STDIN_CLOSED;
		return 1;
	}
	if (x->exited && x->eof[1] && x->eof[2])
		return take_exit(x, ret);
	while (epoll_wait(x->epoll, &e, 1, timeout_ms) == 1)
		if (on_source(x, e.data.u32, ret))
			return 1;
	return x->exited && x->eof[1] && x->eof[2] ? take_exit(x, ret) : 0;
}

int vial_exec_fd(const struct vial_exec *x)
{
	return x->epoll;
}

short vial_exec_poll_events(const struct vial_exec *x)
{
	(void)x;
	return 0x001; /* POLLIN */
}

int vial_exec_ack(struct vial_exec *x, int stream, size_t n, struct vial_err *err)
{
	if (n > x->unacked[stream])
		return err_set(err, VIAL_E_INVALID, "more acknowledged than sent");
	x->unacked[stream] -= n;
	watch_output(x, stream);
	return 0;
}

ssize_t vial_exec_write(struct vial_exec *x, const void *p, size_t n, struct vial_err *err)
{
	if (x->in_closed)
		return err_set(err, VIAL_E_STATE, "stdin is closed");
	ssize_t r = write(x->in, p, n);
	if (r >= 0)
		return r;
	if (errno != EAGAIN) {
		x->in_closed = x->tell_closed = true;
		return err_set(err, VIAL_E_STATE, "stdin is closed");
	}
	if (!x->want_write)
		watch(x, x->in, EPOLLOUT, SRC_IN);
	x->want_write = true;
	return 0;
}

int vial_exec_close_stdin(struct vial_exec *x, struct vial_err *err)
{
	(void)err;
	if (x->in_closed)
		return 0;
	x->in_closed = true;
	close(x->in);
	return 0;
}

int vial_exec_signal(struct vial_exec *x, int sig, struct vial_err *err)
{
	(void)err;
	kill(-x->pid, sig);
	return 0;
}

int vial_exec_resize(struct vial_exec *x, uint16_t rows, uint16_t cols, struct vial_err *err)
{
	struct winsize w = { .ws_row = rows, .ws_col = cols };

	(void)err;
	ioctl(x->out[1], TIOCSWINSZ, &w);
	return 0;
}

void vial_exec_free(struct vial_exec *x)
{
	if (!x)
		return;
	if (!x->exited) {
		kill(-x->pid, SIGKILL);
		waitpid(x->pid, NULL, 0);
	}
	free(x);
}

int vial_prepare(struct vial *v, const struct vial_spec *spec, int force, struct vial_err *err)
{
	_cleanup_free_ char *json = NULL;

	(void)v;
	if (getenv("STUB_FAIL"))
		return err_set(err, VIAL_E_ENGINE, "%s", getenv("STUB_FAIL"));
	if (spec_to_json(spec, &json, NULL) == 0)
		write_file("STUB_SPEC", force ? "forced" : json);
	return 0;
}

int vial_info_json(struct vial *v, char **ret, struct vial_err *err)
{
	(void)v;
	*ret = strdup("{\"engine\": \"stub\", \"templates\": [\"a\", \"b\"], \"limits\": {\"cpus\": 64}, "
		      "\"kvm\": false}");
	return *ret ? 0 : err_set(err, VIAL_E_NO_MEMORY, "out of memory");
}

int vial_doctor(struct vial *v, void (*fn)(void *data, const struct vial_check *c), void *data,
		struct vial_err *err)
{
	struct vial_check checks[] = {
		{ sizeof(checks[0]), "qemu", VIAL_CHECK_OK, "7.2", NULL },
		{ sizeof(checks[0]), "kvm", VIAL_CHECK_WARN, "not usable", "join group kvm" },
		{ sizeof(checks[0]), "kernel", VIAL_CHECK_FAIL, "none", "run make kernel" },
	};
	size_t n = getenv("STUB_DOCTOR") ? 3 : 2;

	(void)v;
	(void)err;
	for (size_t i = 0; i < n; i++)
		fn(data, &checks[i]);
	return checks[n - 1].result;
}
