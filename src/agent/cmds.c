// SPDX-License-Identifier: Apache-2.0
/*
 * Commands while they live, and their end.
 *
 * Theory of operation
 *
 * States of a command: cloned (status pipe open) -> started, or failed -> exited (its main process
 * was reaped) -> over, when its outputs have been read empty too. Nothing but Started or Failed is sent before
 * it is known whether the program runs; Exited is the last message.
 *
 * A command loses its session in two ways. Dropped (the host closed the connection): it is killed with all its
 * processes. Detached (the host began a new epoch after a restore): it runs on, its output is thrown away, and its stdin stays
 * open and silent; one of which nobody had heard yet that it started is dropped. Either way it is freed when its
 * main process has been reaped.
 *
 * Reentrance: callbacks of streams run inside stream code, so nothing is freed there; they arm the
 * tick, a timer that fires at the end of the same turn of the loop, and that ends what is over.
 *
 * Tidying: what nobody waits for is done TIDY_MS after the end of a command: freeing it, which removes its control group, and making
 * the next zygote (zygote.c). Where there is another vCPU it is done while the next command executes, so that those that come fast, one
 * after the other, find a zygote, too. A box that runs one command and ends never pays for it; one that lasts LONG_MS is not waited for.
 *
 * Reaping: PID 1 inherits every orphan. One turn reaps REAP_BATCH of them at most, so that a fork bomb
 * cannot keep the host's messages waiting.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/cmd.h"
#include "agent/pty.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define REAP_BATCH 256
#define SIGNAL_MAX 64
#define TIDY_MS	   10
#define LONG_MS	   1000
#define OVER_MAX   8 /* commands that wait to be tidied up when there is never a pause */

static void arm_tick(struct cmds *cs)
{
	loop_timer_set(cs->tick, clock_mono_ns()); /* from the tick itself: next turn, not this */
}

static void send_msg(struct cmd *c, const struct agent_guest_msg *m)
{
	if (c->ev)
		(void)c->ev->send(c->user, m);
}

static bool out_room(void *user)
{
	struct cmd *c = user;

	return c->ev && c->started && !c->cmds->held && c->ev->room(c->user);
}

static bool out_send(void *user, uint32_t number, const uint8_t *p, size_t n)
{
	struct cmd *c = user;
	struct agent_guest_msg m = { .type = AGENT_GUEST_OUTPUT, .data = { number, { p, n } } };

	return c->ev && c->ev->send(c->user, &m);
}

static void out_ended(void *user)
{
	struct cmd *c = user;

	arm_tick(c->cmds);
}

static void in_taken(void *user, size_t n)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_CREDIT, .credit = { AGENT_STDIN, (uint32_t)n } };

	send_msg(user, &m);
}

static void in_reader_gone(void *user)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_STDIN_CLOSED };

	send_msg(user, &m);
}

static void on_timeout(struct loop_src *src _unused_, void *data)
{
	struct cmd *c = data;

	if (c->exited)
		return;
	c->timed_out = true;
	(void)cgroup_kill(&c->cgroup);
}

struct cmd *cmd_new(struct cmds *cs)
{
	struct cmd *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->cmds = cs;
	c->cgroup.fd = c->status_fd = -1;
	for (uint32_t i = 0; i < 2; i++)
		c->out[i] = (struct out_stream){ .loop = cs->loop,
						 .fd = -1,
						 .number = AGENT_STDOUT + i,
						 .room = out_room,
						 .send = out_send,
						 .ended = out_ended,
						 .user = c };
	c->in = (struct in_stream){ .loop = cs->loop,
				    .fd = -1,
				    .window = AGENT_WINDOW,
				    .last = '\n',
				    .taken = in_taken,
				    .reader_gone = in_reader_gone,
				    .user = c };
	if (loop_add_timer(cs->loop, on_timeout, c, &c->timeout) < 0) {
		free(c);
		return NULL;
	}
	c->next = cs->list;
	cs->list = c;
	cs->n++;
	return c;
}

static void close_streams(struct cmd *c)
{
	in_done(&c->in);
	for (int i = 0; i < 2; i++)
		out_done(&c->out[i]);
}

static void unlink_cmd(struct cmd *c)
{
	for (struct cmd **at = &c->cmds->list; *at; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			c->cmds->n--;
			return;
		}
	}
}

void cmd_free(struct cmd *c)
{
	unlink_cmd(c);
	close_streams(c);
	loop_src_free(c->timeout);
	loop_src_free(c->status_src);
	fd_close(&c->status_fd);
	cgroup_close(c->cmds->cgroups, &c->cgroup);
	free(c);
}

static void send_started(struct cmd *c)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_STARTED,
				     .started = { (uint32_t)c->pid, (uint32_t)c->in.window } };

	c->started = true;
	send_msg(c, &m);
	in_watch(&c->in);
	for (int i = 0; i < 2; i++)
		out_pump(&c->out[i]);
}

static void send_failed(struct cmd *c, struct child_failure *f)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_FAILED };

	f->message[sizeof(f->message) - 1] = '\0';
	m.failed = (struct agent_failed){ f->kind, (uint32_t)f->sys_errno, slice_str(f->message) };
	c->failed = true;
	send_msg(c, &m);
}

/* What the status pipe says; @gone: its writer is dead, so nothing more can come. */
static void read_status(struct cmd *c, bool gone)
{
	struct child_failure f;
	ssize_t n;

	if (c->status_fd < 0)
		return;
	do
		n = read(c->status_fd, &f, sizeof(f));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN && !gone)
		return;
	loop_src_free(c->status_src);
	c->status_src = NULL;
	fd_close(&c->status_fd);
	if (n == (ssize_t)sizeof(f))
		send_failed(c, &f);
	else
		send_started(c);
	arm_tick(c->cmds);
}

static void on_status(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	read_status(data, false);
}

int cmd_watch(struct cmd *c)
{
	return loop_add_fd(c->cmds->loop, c->status_fd, EPOLLIN, on_status, c, &c->status_src);
}

static void send_exited(struct cmd *c)
{
	int st = c->wait_status;
	struct agent_guest_msg m = { .type = AGENT_GUEST_EXITED };

	m.exited.code = WIFEXITED(st) ? (uint32_t)WEXITSTATUS(st) : 0;
	m.exited.signal = WIFSIGNALED(st) ? (uint32_t)WTERMSIG(st) : 0;
	m.exited.timed_out = c->timed_out;
	/* Reading it is dear, and who has succeeded missed nothing. */
	m.exited.oom = st != 0 && cgroup_oom_kills(&c->cgroup) > 0;
	send_msg(c, &m);
}

static bool is_over(const struct cmd *c)
{
	if (!c->exited || c->over || c->status_fd >= 0)
		return false;
	return !c->ev || c->failed || (c->out[0].fd < 0 && c->out[1].fd < 0);
}

static void tidy_soon(struct cmds *cs)
{
	loop_timer_set(cs->idle, clock_mono_ns() + TIDY_MS * NS_PER_MS);
}

/* Asked each time: CPUs come and go while a box lives. */
static bool alone_on_cpu(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1;
}

static size_t count_over(const struct cmds *cs)
{
	size_t n = 0;

	for (const struct cmd *c = cs->list; c; c = c->next)
		n += c->over;
	return n;
}

void cmds_tidy_meanwhile(struct cmds *cs)
{
	bool now = cs->busy && (!alone_on_cpu() || count_over(cs) >= OVER_MAX);

	loop_timer_set(cs->idle, clock_mono_ns() + (now ? 0 : LONG_MS * NS_PER_MS));
}

static void end_over(struct cmds *cs)
{
	for (struct cmd *c = cs->list; c; c = c->next) {
		const struct cmd_events *ev = c->ev;
		void *user = c->user;
		if (!is_over(c))
			continue;
		if (!c->failed)
			send_exited(c);
		c->over = true;
		c->ev = NULL;
		loop_timer_set(c->timeout, 0);
		tidy_soon(cs);
		cs->busy = true;
		if (ev)
			ev->ended(user);
	}
}

void cmds_tidy(struct cmds *cs)
{
	struct cmd *next;

	loop_timer_set(cs->idle, 0);
	for (struct cmd *c = cs->list; c; c = next) {
		next = c->next;
		if (c->over)
			cmd_free(c);
	}
	if (cs->keep_zygote && cs->zygote.pid == 0 && zygote_make(cs->cgroups, &cs->spawner, &cs->zygote) < 0)
		cs->zygote = ZYGOTE_NONE; /* without it the next command starts more slowly */
	cgroups_make_spare(cs->cgroups);
}

static void on_idle(struct loop_src *src _unused_, void *data)
{
	cmds_tidy(data);
}

bool cmds_settled(struct cmds *cs)
{
	return zygote_is_ready(&cs->zygote);
}

bool cmds_alive(const struct cmds *cs)
{
	for (struct cmd *c = cs->list; c; c = c->next)
		if (!c->over)
			return true;
	return cgroups_left_over(cs->cgroups);
}

void cmds_root_ready(struct cmds *cs)
{
	cs->keep_zygote = true;
	tidy_soon(cs);
}

void cmds_stop_waiting(struct cmds *cs)
{
	cs->keep_zygote = false;
	zygote_drop(cs->cgroups, &cs->zygote);
}

static void on_exit_status(struct cmds *cs, pid_t pid, int status)
{
	struct cmd *c = cs->list;

	if (pid == cs->zygote.pid) {
		zygote_gone(cs->cgroups, &cs->zygote);
		tidy_soon(cs);
		return;
	}
	if (pid == cs->spawner.pid)
		spawner_gone(&cs->spawner);
	while (c && (c->pid != pid || c->exited))
		c = c->next;
	if (!c)
		return;
	c->exited = true;
	c->wait_status = status;
	read_status(c, true);
	in_done(&c->in);
	c->in.closed = true;
	for (int i = 0; i < 2; i++)
		out_drain(&c->out[i]);
	arm_tick(cs);
}

/* As waitpid() has it. */
static int wait_status(const siginfo_t *si)
{
	return si->si_code == CLD_EXITED ? W_EXITCODE(si->si_status, 0) : W_EXITCODE(0, si->si_status);
}

/* Who waits for a command is told before the kernel clears its process away, which takes longer than all of the telling. */
static void reap(struct cmds *cs)
{
	for (int i = 0; i < REAP_BATCH; i++) {
		siginfo_t si = { .si_pid = 0 };
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return;
		on_exit_status(cs, si.si_pid, wait_status(&si));
		end_over(cs);
		(void)waitpid(si.si_pid, NULL, WNOHANG);
	}
	arm_tick(cs); /* more may be waiting and no signal comes for them */
}

static void on_tick(struct loop_src *src _unused_, void *data)
{
	reap(data);
	end_over(data);
}

static void on_sigchld(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct cmds *cs = data;
	struct signalfd_siginfo si;

	while (read(cs->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		;
	reap(cs);
}

int cmds_new(struct loop *l, struct cgroups *cgs, struct cmds **ret)
{
	_cleanup_free_ struct cmds *cs = calloc(1, sizeof(*cs));
	sigset_t mask;
	int r;

	if (!cs)
		return -ENOMEM;
	*cs = (struct cmds){
		.loop = l, .cgroups = cgs, .signal_fd = -1, .zygote = ZYGOTE_NONE, .spawner = SPAWNER_NONE
	};
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	cs->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (cs->signal_fd < 0)
		return -errno;
	r = loop_add_fd(l, cs->signal_fd, EPOLLIN, on_sigchld, cs, &cs->signal_src);
	if (r == 0)
		r = loop_add_timer(l, on_tick, cs, &cs->tick);
	if (r == 0)
		r = loop_add_timer(l, on_idle, cs, &cs->idle);
	if (r < 0)
		return r;
	*ret = take_ptr(cs);
	return 0;
}

void cmds_pump(struct cmds *cs)
{
	for (struct cmd *c = cs->list; c; c = c->next)
		for (int i = 0; i < 2; i++)
			if (!c->out[i].src)
				out_pump(&c->out[i]);
}

void cmds_hold(struct cmds *cs, bool on)
{
	cs->held = on;
	cs->busy = cs->busy && !on; /* what is saved now begins anew as a box */
	if (!on)
		cmds_pump(cs);
}

int cmd_stdin(struct cmd *c, const struct agent_data *d)
{
	if (d->stream != AGENT_STDIN || !c->started)
		return -EPROTO;
	return in_push(&c->in, d->data.p, d->data.n);
}

void cmd_stdin_end(struct cmd *c)
{
	in_end(&c->in);
}

int cmd_credit(struct cmd *c, const struct agent_credit *credit)
{
	if (credit->stream != AGENT_STDOUT && credit->stream != AGENT_STDERR)
		return -EPROTO;
	struct out_stream *o = &c->out[credit->stream - AGENT_STDOUT];
	int r = out_grant(o, credit->bytes);
	if (r == 0 && !o->src)
		out_pump(o);
	return r;
}

int cmd_signal(struct cmd *c, uint32_t number)
{
	if (number == 0 || number > SIGNAL_MAX)
		return -EPROTO;
	if (c->exited)
		return 0;
	return cgroup_signal(&c->cgroup, (int)number, c->init ? c->pid : 0);
}

int cmd_resize(struct cmd *c, uint32_t rows, uint32_t cols)
{
	if (!c->tty)
		return -EPROTO;
	if (c->out[0].fd >= 0)
		(void)pty_resize(c->out[0].fd, rows, cols);
	return 0;
}

static void forget_session(struct cmd *c)
{
	c->ev = NULL;
	c->user = NULL;
	arm_tick(c->cmds);
}

void cmd_detach(struct cmd *c)
{
	if (!c->started) {
		cmd_drop(c);
		return;
	}
	forget_session(c);
	c->in.window = 0;
	for (int i = 0; i < 2; i++)
		out_discard(&c->out[i]);
}

void cmd_drop(struct cmd *c)
{
	(void)cgroup_kill(&c->cgroup);
	close_streams(c);
	forget_session(c);
}
