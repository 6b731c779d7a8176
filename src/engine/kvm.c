// SPDX-License-Identifier: Apache-2.0
/*
 * The kvm engine: one jailed vial-vmm process, told what to run by a description and driven over its control
 * socket (wire/vmm.h).
 *
 * Theory of operation
 *
 * Purpose: a machine where KVM is usable.
 * Who is trusted: vial-vmm is not, once the guest runs. It starts with descriptors and can open nothing; what it says is
 * checked, an answer to what was not asked ends it, and nothing here waits for it.
 * States: starting -> running <-> paused -> gone; a snapshot or a template is saved from paused.
 * Requests are carried out in order, so a snapshot is PAUSE, SNAPSHOT, RESUME in one go, after AHEAD's answer if it is of what
 * changed.
 * Limits: requests that its socket does not take at once are queued, KVM_QUEUE_MAX of them. Files it was given cannot
 * grow past what their formats need, nor its address space past the guest's memory and MEMORY_EXTRA.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/engine.h"
#include "engine/proc.h"
#include "wire/agent_msg.h"
#include "wire/vmm.h"

#define KVM_QUEUE_MAX (LINK_CONNS_MAX + 16)
#define KVM_BATCH     32 /* messages a turn */

/* Address space: beside the guest's memory there are thread stacks and malloc's arenas (addresses, hardly any memory). */
#define MEMORY_EXTRA	  MIB(1024)
#define MEMORY_EXTRA_VCPU MIB(80)

/* struct pending - a request that waits for room in the socket; its descriptors are copies */
struct pending {
	struct pending *next;
	struct vmm_msg msg;
	int fds[3];
};

/**
 * struct engine - one vial-vmm
 * @saving, @pausing, @resuming: asked for by the owner, unanswered
 * @ahead: memory is being written ahead of a snapshot
 * @snapshotting: a snapshot's requests are under way: how many answers are to come
 * @snapshot_why: what went wrong with it first, empty if nothing did
 * @why:	why it ends; empty: cleanly
 */
struct engine {
	struct loop *loop;
	const struct launch *launch; /* borrowed */
	const struct engine_events *ev;
	void *data;
	struct proc proc;
	bool running, paused;
	bool saving, pausing, resuming, ahead;
	int snapshotting;
	uint64_t paused_at_ns;
	char snapshot_why[VMM_TEXT_MAX + 1];
	int control_fd, console_fd;
	struct loop_src *control_src;
	struct pending *first, *last;
	size_t n_pending;
	bool clean;
	char why[600];
};

/* ---- requests ---- */

static void pending_free(struct pending *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->fds); i++)
		fd_close(&p->fds[i]);
	free(p);
}

static int enqueue(struct engine *e, const struct vmm_msg *m, const int *fds)
{
	struct pending *p = e->n_pending < KVM_QUEUE_MAX ? malloc(sizeof(*p)) : NULL;

	if (!p)
		return -ENOBUFS;
	*p = (struct pending){ .msg = *m, .fds = { -1, -1, -1 } };
	for (size_t i = 0; i < vmm_msg_fds(m); i++) {
		p->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (p->fds[i] < 0) {
			int r = -errno;
			pending_free(p);
			return r;
		}
	}
	if (e->last)
		e->last->next = p;
	else
		e->first = p;
	e->last = p;
	e->n_pending++;
	return loop_src_set_events(e->control_src, EPOLLIN | EPOLLOUT);
}

/* Return: 0 or -errno; the descriptors stay the caller's. */
static int put(struct engine *e, const struct vmm_msg *m, const int *fds)
{
	int r = e->first ? -EAGAIN : vmm_msg_send(e->control_fd, m, fds);

	return r == -EAGAIN ? enqueue(e, m, fds) : r;
}

static int put_type(struct engine *e, uint16_t type)
{
	return put(e, &(struct vmm_msg){ .type = type }, NULL);
}

static void send_pending(struct engine *e)
{
	struct pending *p;

	while ((p = e->first)) {
		int r = vmm_msg_send(e->control_fd, &p->msg, p->fds);
		if (r == -EAGAIN)
			return;
		/* Other failures: it is gone, which its exit tells. */
		e->first = p->next;
		e->last = e->first ? e->last : NULL;
		e->n_pending--;
		pending_free(p);
	}
	loop_src_set_events(e->control_src, EPOLLIN);
}

/* ---- its end ---- */

/* The words of a process that its guest may have taken over, harmless for a terminal. */
static void copy_text(char out[VMM_TEXT_MAX + 1], struct slice text)
{
	snprintf(out, VMM_TEXT_MAX + 1, "%.*s", (int)text.n, (const char *)text.p);
	str_defuse(out);
}

static void set_why(struct engine *e, const char *what, struct slice text)
{
	char said[VMM_TEXT_MAX + 1];

	copy_text(said, text);
	if (!e->why[0])
		snprintf(e->why, sizeof(e->why), "%s%s%s", what, said[0] ? ": " : "", said);
}

static void say_exited(struct engine *e, int status)
{
	proc_drain(&e->proc);
	if (!e->why[0] && !e->clean) {
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			snprintf(e->why, sizeof(e->why),
				 "vial-vmm ended without a word (is the host out of memory?)");
		else if (WIFSIGNALED(status))
			snprintf(e->why, sizeof(e->why), "vial-vmm was ended by signal %d", WTERMSIG(status));
		else
			snprintf(e->why, sizeof(e->why), "vial-vmm exited with status %d",
				 WEXITSTATUS(status));
	}
	e->ev->exited(e->data, e->why[0] ? e->why : NULL);
}

static void kvm_kill(struct engine *e)
{
	proc_kill(&e->proc);
}

static void broken(struct engine *e, const char *what)
{
	set_why(e, "vial-vmm broke its protocol", slice_str(what));
	kvm_kill(e);
}

/* ---- what it says ---- */

static void on_exited(struct engine *e, const struct vmm_msg *m)
{
	switch (m->exited.reason) {
	case VMM_EXIT_POWEROFF:
	case VMM_EXIT_RESET: /* a box does not start again by itself */
	case VMM_EXIT_QUIT:
		e->clean = true;
		return;
	case VMM_EXIT_CRASH:
		set_why(e, "the guest crashed (triple fault)", m->exited.text);
		return;
	case VMM_EXIT_MEMORY:
		set_why(e, "the host gives no memory for this box", m->exited.text);
		return;
	default:
		set_why(e, "vial-vmm", m->exited.text);
		return;
	}
}

static void snapshot_answer(struct engine *e, const struct vmm_msg *m)
{
	bool failed;

	if (m->done.sys_errno && !e->snapshot_why[0]) {
		copy_text(e->snapshot_why, m->done.text);
		if (!e->snapshot_why[0])
			snprintf(e->snapshot_why, sizeof(e->snapshot_why), "vial-vmm: error %u",
				 m->done.sys_errno);
	}
	if (m->done.of == VMM_PAUSE)
		e->paused_at_ns = clock_mono_ns();
	if (--e->snapshotting > 0)
		return;
	failed = e->snapshot_why[0];
	e->ev->snapshotted(e->data, failed ? e->snapshot_why : NULL, !failed,
			   e->paused_at_ns ? clock_mono_ns() - e->paused_at_ns : 0);
}

static void saved_answer(struct engine *e, const struct vmm_msg *m)
{
	if (m->done.sys_errno)
		set_why(e, "the machine could not be saved", m->done.text);
	if (m->done.of != VMM_SNAPSHOT && !m->done.sys_errno)
		return;
	e->saving = false;
	e->ev->saved(e->data, m->done.sys_errno ? e->why : NULL);
}

static void on_done(struct engine *e, const struct vmm_msg *m)
{
	if (e->ahead && m->done.of == VMM_AHEAD) {
		e->ahead = false; /* if it failed, the snapshot takes longer */
		e->ev->written_ahead(e->data);
	} else if (e->snapshotting) {
		snapshot_answer(e, m);
	} else if (e->saving) {
		saved_answer(e, m);
	} else if (m->done.sys_errno) {
		set_why(e, "vial-vmm refused a request", m->done.text);
		kvm_kill(e);
	} else if (m->done.of == VMM_PAUSE && e->pausing) {
		e->pausing = false;
		e->paused = true;
		e->ev->paused(e->data);
	} else if (m->done.of == VMM_RESUME && e->resuming) {
		e->resuming = e->paused = false;
		e->ev->resumed(e->data);
	} else {
		broken(e, "an answer to what was not asked");
	}
}

/* The agent says that it listens by connecting to its own port of the host; no other is served. */
static void on_guest_connects(struct engine *e, const struct vmm_msg *m)
{
	(void)put(e, &(struct vmm_msg){ .type = VMM_REFUSE, .id = m->guest_connects.id }, NULL);
	if (m->guest_connects.port == AGENT_PORT)
		e->ev->agent_listens(e->data);
}

static void on_message(struct engine *e, const struct vmm_msg *m)
{
	switch (m->type) {
	case VMM_RUNNING:
		if (e->running) {
			broken(e, "started twice");
			return;
		}
		e->running = true;
		e->ev->running(e->data);
		return;
	case VMM_DONE:
		on_done(e, m);
		return;
	case VMM_GUEST_CONNECTS:
		on_guest_connects(e, m);
		return;
	case VMM_EXITED:
		on_exited(e, m);
		return;
	default:
		broken(e, "a message that it does not send");
		return;
	}
}

/* Return: whether there may be more. */
static bool read_message(struct engine *e)
{
	uint8_t buf[VMM_MSG_MAX];
	struct vmm_msg m;
	int fds[3];
	int r = vmm_msg_recv(e->control_fd, buf, &m, fds);

	if (r == 1) {
		for (size_t i = 0; i < vmm_msg_fds(&m); i++)
			close(fds[i]); /* none of its messages has any: on_message() refuses it */
		on_message(e, &m);
		return true;
	}
	if (r == -EAGAIN)
		return false;
	if (r < 0 && r != -ECONNRESET)
		broken(e, "a malformed message");
	/* It cannot be told anything any more. Its exit says why. */
	loop_src_free(e->control_src);
	e->control_src = NULL;
	kvm_kill(e);
	return false;
}

static void on_control(struct loop_src *src _unused_, uint32_t events, void *data)
{
	struct engine *e = data;

	if (events & EPOLLOUT)
		send_pending(e);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		for (int i = 0; i < KVM_BATCH && e->control_src && read_message(e); i++)
			;
}

static void on_process_end(void *data, int status)
{
	struct engine *e = data;

	/* Its last words may not have been read yet. */
	for (int i = 0; i < KVM_QUEUE_MAX && e->control_src && read_message(e); i++)
		;
	say_exited(e, status);
}

/* ---- start ---- */

static int make_pair(int type, int *ret_ours, int *ret_theirs)
{
	int sv[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		return -errno;
	*ret_ours = sv[0];
	*ret_theirs = sv[1];
	return 0;
}

/* struct start - vial-vmm's description and descriptor table being put together */
struct start {
	struct vmm_launch l;
	struct jail_fd fds[VMM_FDS_MAX + 4];
	size_t n_fds;
	int error;
};

static void give(struct start *s, uint32_t role, int fd)
{
	if (fd < 0 || s->l.n_roles == VMM_FDS_MAX) {
		s->error = s->error ?: fd < 0 ? -EBADF : -E2BIG;
		return;
	}
	s->fds[s->n_fds++] = (struct jail_fd){ fd, VMM_FD_FIRST + (int)s->l.n_roles };
	s->l.roles[s->l.n_roles++] = role;
}

/* All descriptors of @from go over as @to. */
static void pass(struct start *s, const struct launch *l, uint32_t from, uint32_t to)
{
	int fd;

	for (size_t i = 0; (fd = launch_fd(l, from, i)) >= 0; i++)
		give(s, to, fd);
}

static void pass_files(struct start *s, const struct launch *l)
{
	give(s, VMM_FD_KVM, launch_fd(l, LAUNCH_FD_KVM, 0));
	give(s, VMM_FD_UPPER, launch_fd(l, LAUNCH_FD_UPPER, 0));
	give(s, VMM_FD_UPPER_BASE, launch_fd(l, LAUNCH_FD_UPPER_BASE, 0));
	for (size_t i = 0; i < l->n_extents; i++)
		give(s, VMM_FD_EXTENT, launch_fd(l, LAUNCH_FD_EXTENT, i));
	pass(s, l, LAUNCH_FD_UPPER_MID, VMM_FD_UPPER_MID);
	pass(s, l, LAUNCH_FD_MEM, VMM_FD_MEM);
	pass(s, l, LAUNCH_FD_DELTA, VMM_FD_DELTA);
	pass(s, l, LAUNCH_FD_WARM, VMM_FD_WARM);
	pass(s, l, LAUNCH_FD_LOG, VMM_FD_LOG);
	if (launch_incoming(l)) {
		give(s, VMM_FD_STATE, launch_fd(l, LAUNCH_FD_STATE, 0));
	} else {
		give(s, VMM_FD_KERNEL, launch_fd(l, LAUNCH_FD_KERNEL, 0));
		pass(s, l, LAUNCH_FD_INITRD, VMM_FD_INITRD);
	}
}

static void fill(struct start *s, const struct launch *l)
{
	bool has_mem = launch_fd(l, LAUNCH_FD_MEM, 0) >= 0;

	s->l.mode = launch_incoming(l) ? VMM_RESTORE : VMM_COLD;
	s->l.mem_kind = !has_mem ? VMM_MEM_ANON : launch_incoming(l) ? VMM_MEM_PRIVATE : VMM_MEM_SHARED;
	s->l.vcpus = l->vcpus;
	s->l.memory = l->memory;
	s->l.cmdline = l->cmdline; /* borrowed */
	s->l.n_extents = l->n_extents;
	memcpy(s->l.extent_bytes, l->extent_bytes, sizeof(l->extent_bytes[0]) * l->n_extents);
	s->l.upper_bytes = l->upper_bytes;
	/* A machine template was saved with placeholders. */
	s->l.disks_differ = l->mode == LAUNCH_PREPARE;
	s->l.log_level = l->log_level;
	s->l.without = l->without;
	pass_files(s, l);
}

static int spawn(struct engine *e, const struct start *s, struct vial_err *err)
{
	static char *const argv[] = { (char *)"vial-vmm", NULL };
	/* Where it is not linked statically; it gives them up in main(). */
	static const struct jail_path paths[] = {
		{ "/usr/lib", JAIL_READ },	   { "/lib", JAIL_READ },
		{ "/lib64", JAIL_READ },	   { "/usr/lib64", JAIL_READ },
		{ "/etc/ld.so.cache", JAIL_READ },
	};
	const struct launch *l = e->launch;
	const struct jail_rlimit rlimits[] = {
		{ RLIMIT_AS, l->memory + MEMORY_EXTRA + l->vcpus * MEMORY_EXTRA_VCPU },
		{ RLIMIT_FSIZE,
		  MAX(l->upper_bytes + (l->upper_bytes >> PROC_QCOW2_TABLES_SHIFT) + PROC_FILE_EXTRA,
		      l->memory) },
	};
	const struct jail_opts o = {
		.path = l->program,
		.argv = argv,
		.fds = s->fds,
		.n_fds = s->n_fds,
		.paths = paths,
		.n_paths = ARRAY_SIZE(paths),
		.profile = JAIL_VMM,
		.rlimits = rlimits,
		.n_rlimits = ARRAY_SIZE(rlimits),
		.strict = l->strict,
		.without = l->without,
	};

	return proc_spawn(&e->proc, o, err);
}

/* The ends that go to the child are closed by the caller. */
static int open_channels(struct engine *e, struct start *s, int theirs[3])
{
	int r = make_pair(SOCK_SEQPACKET, &e->control_fd, &theirs[0]);
	int console = launch_fd(e->launch, LAUNCH_FD_CONSOLE, 0);

	if (r == 0 && console < 0)
		r = make_pair(SOCK_STREAM, &e->console_fd, &theirs[1]);
	r = r ?: proc_stderr(&e->proc, &theirs[2]);
	if (r < 0)
		return r;
	s->fds[s->n_fds++] = (struct jail_fd){ theirs[2], 2 };
	s->fds[s->n_fds++] = (struct jail_fd){ theirs[0], VMM_FD_CONTROL };
	give(s, VMM_FD_CONSOLE, console < 0 ? theirs[1] : console);
	return 0;
}

static int watch(struct engine *e)
{
	int r = proc_watch(&e->proc);

	return r ?: loop_add_fd(e->loop, e->control_fd, EPOLLIN, on_control, e, &e->control_src);
}

static int start_vmm(struct engine *e, struct start *s, int theirs[4], struct vial_err *err)
{
	_cleanup_buf_ struct buf blob = { 0 };
	int r = open_channels(e, s, theirs);

	if (r == 0)
		fill(s, e->launch);
	r = r ?: s->error;
	r = r ?: vmm_launch_encode(&s->l, &blob);
	if (r == 0)
		r = theirs[3] = fd_memfd("vial-vmm", blob.data, blob.len);
	if (r < 0)
		return err_sys(err, r, "start vial-vmm");
	s->fds[s->n_fds++] = (struct jail_fd){ theirs[3], VMM_FD_BLOB };
	r = spawn(e, s, err);
	if (r < 0)
		return r;
	r = watch(e);
	return r < 0 ? err_sys(err, r, "talk to vial-vmm") : 0;
}

static void kvm_free(struct engine *e)
{
	struct pending *next;

	if (!e)
		return;
	loop_src_free(e->control_src);
	proc_done(&e->proc);
	for (struct pending *p = e->first; p; p = next) {
		next = p->next;
		pending_free(p);
	}
	fd_close(&e->control_fd);
	fd_close(&e->console_fd);
	free(e);
}
DEFINE_CLEANUP(struct engine, kvm_free)

static int kvm_start(struct loop *loop, const struct launch *l, const struct engine_events *ev, void *data,
		     struct engine **ret, struct vial_err *err)
{
	_cleanup_(kvm_freep) struct engine *e = calloc(1, sizeof(*e));
	_cleanup_free_ struct start *s = calloc(1, sizeof(*s));
	int theirs[4] = { -1, -1, -1, -1 };

	if (!e || !s)
		return err_sys(err, -ENOMEM, "start vial-vmm");
	*e = (struct engine){
		.loop = loop, .launch = l, .ev = ev, .data = data, .control_fd = -1, .console_fd = -1
	};
	proc_init(&e->proc, loop, "vial-vmm", on_process_end, e);
	if (!l->program || (!l->cmdline && !launch_incoming(l)) || l->n_extents == 0 ||
	    l->n_extents > VMM_EXTENTS_MAX)
		return err_set(err, VIAL_E_INVALID,
			       "launch description lacks a program, a root disk or a command line");
	int r = start_vmm(e, s, theirs, err);
	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++)
		fd_close(&theirs[i]);
	if (r < 0)
		return r;
	*ret = take_ptr(e);
	return 0;
}

/* ---- operations ---- */

static int kvm_connect(struct engine *e, uint32_t port, int fd)
{
	return put(e, &(struct vmm_msg){ .type = VMM_CONNECT, .port = port }, &fd);
}

static int kvm_console_fd(struct engine *e)
{
	return e->console_fd;
}

/* A booted machine's memory is mapped shared: it stands in LAUNCH_FD_MEM already. A resumed one's is written. */
static int kvm_save_template(struct engine *e, struct vial_err *err)
{
	const int fds[] = { launch_fd(e->launch, LAUNCH_FD_STATE_OUT, 0),
			    launch_fd(e->launch, LAUNCH_FD_MEM_OUT, 0) };
	const struct vmm_msg msg = { .type = VMM_SNAPSHOT, .flags = fds[1] < 0 ? 0 : VMM_SNAP_MEMORY };
	int r = put_type(e, VMM_PAUSE);

	e->saving = true;
	r = r ?: put(e, &msg, fds);
	return r < 0 ? err_sys(err, r, "tell vial-vmm to save the template") : 0;
}

static int kvm_pause(struct engine *e, struct vial_err *err)
{
	int r = put_type(e, VMM_PAUSE);

	e->pausing = true;
	return r < 0 ? err_sys(err, r, "tell vial-vmm to pause") : 0;
}

static int kvm_resume(struct engine *e, struct vial_err *err)
{
	int r = put_type(e, VMM_RESUME);

	e->resuming = true;
	return r < 0 ? err_sys(err, r, "tell vial-vmm to go on") : 0;
}

static int kvm_write_ahead(struct engine *e, int mem_fd, struct vial_err *err)
{
	int r = mem_fd < 0 ? put_type(e, VMM_AHEAD_DROP)
			   : put(e, &(struct vmm_msg){ .type = VMM_AHEAD }, &mem_fd);

	e->ahead = mem_fd >= 0;
	return r < 0 ? err_sys(err, r, "tell vial-vmm to write memory ahead") : 0;
}

static int kvm_snapshot(struct engine *e, const struct engine_snapshot *to, struct vial_err *err)
{
	const uint32_t delta = to->delta ? VMM_SNAP_DELTA | VMM_SNAP_REMAP : 0;
	const struct vmm_msg msg = { .type = VMM_SNAPSHOT,
				     .flags = VMM_SNAP_MEMORY | VMM_SNAP_UPPER | delta };
	const int fds[] = { to->state_fd, to->mem_fd, to->upper_fd };
	int r = e->paused ? 0 : put_type(e, VMM_PAUSE);

	e->snapshotting = e->paused ? 1 : 3;
	e->paused_at_ns = 0;
	e->snapshot_why[0] = '\0';
	r = r ?: put(e, &msg, fds);
	if (r == 0 && !e->paused)
		r = put_type(e, VMM_RESUME);
	return r < 0 ? err_sys(err, r, "tell vial-vmm to save the machine") : 0;
}

const struct engine_ops engine_kvm = {
	.name = "kvm",
	.start = kvm_start,
	.connect = kvm_connect,
	.console_fd = kvm_console_fd,
	.save_template = kvm_save_template,
	.pause = kvm_pause,
	.resume = kvm_resume,
	.write_ahead = kvm_write_ahead,
	.snapshot = kvm_snapshot,
	.kill = kvm_kill,
	.free = kvm_free,
	.form = ENGINE_FORM_PAIR,
};
