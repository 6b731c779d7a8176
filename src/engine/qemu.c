// SPDX-License-Identifier: Apache-2.0
/*
 * The qemu engine: one jailed QEMU process, driven over QMP.
 *
 * Theory of operation
 *
 * Purpose: a machine where KVM is not usable (or where QEMU is asked for).
 * Who is trusted: QEMU is not, once the guest runs: it has no file of the host but the descriptors it was
 * given, and each open it makes is answered here: libraries and firmware while it starts,
 * nothing afterwards. The template's memory reaches it as a read-only descriptor under a made-up
 * name, although QEMU asks for it read-write: its private mapping works, writing to the file does not.
 * States: starting (libraries load) -> running <-> paused -> gone. A template is saved, or a snapshot taken, by a script
 * (qemu_script.h). QEMU answers commands in order: those sent outside of a script are counted, so that a script
 * sees its own answers only.
 * A snapshot's stream, and the state of one that came from elsewhere, may be the work of somebody who knows a hole in QEMU:
 * such a machine is locked in, its opens refused, before it reads the first byte of it.
 * Limits: QEMU's messages are kept, and logged, to PROC_STDERR_MAX bytes, and its first refusal of a command. Files it was
 * given cannot grow past what their formats need, nor its address space past the guest's memory and MEMORY_EXTRA.
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
#include "engine/engine.h"
#include "engine/frozen.h"
#include "engine/proc.h"
#include "engine/qemu_args.h"
#include "engine/qemu_script.h"
#include "engine/qmp.h"

/*
 * Bounds of a QEMU that its guest has taken over. Address space: beside the guest's memory there are libraries,
 * the translation buffer, and for each thread a stack and an arena of malloc (72 MiB of addresses, hardly any of memory).
 * Files: the writable disk with qcow2's tables, a template's state, a snapshot's stream.
 */
#define MEMORY_EXTRA	   (MIB(1024) * 4)
#define MEMORY_EXTRA_VCPU  MIB(128)
#define STREAM_HEADS_SHIFT 8 /* 8 bytes for each page */

/* Room for the agent channel: a chunk of the link layer and more, each way. */
#define CHANNEL_SNDBUF (256 * 1024)

struct engine {
	struct loop *loop;
	const struct launch *launch; /* borrowed */
	const struct engine_events *ev;
	void *data;
	struct proc proc;
	bool running;
	bool paused;
	bool pausing, resuming; /* asked for, the event is to come */
	bool snapshotting;	/* what the script is: this, or saving a template */
	struct script script;
	uint8_t args[32]; /* for the image that it freezes into */
	struct frozen frozen;
	bool thawing;		 /* it is woken, not started */
	bool freezing;		 /* it has been told to stop, then to freeze */
	unsigned int unanswered; /* commands outside of the script */
	unsigned int n_snapshots;
	char top[16]; /* node of the writable disk */
	int layers_set;
	uint64_t stopped_ns, resumed_ns;
	int qmp_fd, agent_fd, console_fd;
	struct qmp *qmp;
	struct loop_src *notify_src;
	char why[300];
};

/* What QEMU may read while it starts. */
static const char *const start_prefixes[] = { "/usr/lib",
					      "/lib",
					      "/lib64",
					      "/usr/lib64",
					      "/usr/share/qemu",
					      "/usr/share/seabios",
					      "/usr/share/ipxe",
					      "/etc/ld.so.cache",
					      NULL };

/* What vial-freeze.so reads of the process that it is in. */
static int open_own(struct engine *e, const char *name)
{
	char path[64];

	if (strcmp(name, "maps") != 0 && strcmp(name, "pagemap") != 0 && strcmp(name, "stat") != 0)
		return -EACCES;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)e->proc.child.pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_for_qemu(void *data, const char *path, int flags)
{
	struct engine *e = data;
	static const struct {
		const char *path;
		uint32_t role;
	} names[] = {
		{ QEMU_PATH_MEM, LAUNCH_FD_MEM },
		{ QEMU_PATH_KERNEL, LAUNCH_FD_KERNEL },
		{ QEMU_PATH_INITRD, LAUNCH_FD_INITRD },
		{ FROZEN_PATH_LIBRARY, LAUNCH_FD_FREEZER },
	};

	if (e->running)
		return -EACCES;
	if (e->launch->mode == LAUNCH_FREEZE && str_has_prefix(path, "/proc/self/"))
		return open_own(e, path + strlen("/proc/self/"));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(path, names[i].path) != 0)
			continue;
		int fd = launch_fd(e->launch, names[i].role, 0);
		int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return copy < 0 ? -ENOENT : copy;
	}
	if (strcmp(path, "/dev/kvm") == 0 && strcmp(e->launch->accel, "kvm") == 0) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	return jail_open_beneath(start_prefixes, path, flags);
}

static void on_notify(struct loop_src *src, uint32_t events, void *data)
{
	struct engine *e = data;
	int r = -EPIPE;

	if (events & EPOLLIN)
		r = jail_notify_serve(e->proc.child.notify_fd, open_for_qemu, e, NULL);
	if (r < 0 && r != -ENOENT) {
		loop_src_free(src);
		e->notify_src = NULL;
	}
}

/* The last line QEMU said, without its program name; NULL if it said nothing. */
static const char *last_message(struct buf *messages)
{
	while (messages->len && messages->data[messages->len - 1] == '\n')
		messages->len--;
	char *s = (char *)(uintptr_t)buf_cstr(messages);
	if (!s || !*s)
		return NULL;
	char *line = strrchr(s, '\n');
	line = line ? line + 1 : s;
	char *colon = strstr(line, ": ");
	return colon && memchr(line, ' ', (size_t)(colon - line)) == NULL ? colon + 2 : line;
}

static bool is_careful(const struct launch *l)
{
	return l->mode == LAUNCH_CONVERT || l->untrusted;
}

static void on_frozen(struct engine *e, int status, const char *said)
{
	int r = status == 0 ? frozen_finish(launch_fd(e->launch, LAUNCH_FD_FROZEN, 0), e->args) : -EIO;

	if (r < 0)
		snprintf(e->why, sizeof(e->why), "QEMU could not be frozen: %.200s",
			 said ? said : strerror(-r));
	e->ev->saved(e->data, r < 0 ? e->why : NULL);
	e->ev->exited(e->data, r < 0 ? e->why : NULL);
}

static void on_process_end(void *data, int status)
{
	struct engine *e = data;
	const char *said;

	proc_drain(&e->proc);
	said = last_message(&e->proc.messages);
	if (e->freezing) {
		on_frozen(e, status, said);
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && !e->why[0]) {
		e->ev->exited(e->data, NULL);
		return;
	}
	if (!e->why[0] && said)
		snprintf(e->why, sizeof(e->why), "QEMU: %.250s", said);
	else if (!e->why[0] && WIFSIGNALED(status))
		snprintf(e->why, sizeof(e->why), "QEMU was ended by signal %d", WTERMSIG(status));
	else if (!e->why[0])
		snprintf(e->why, sizeof(e->why), "QEMU exited with status %d", WEXITSTATUS(status));
	e->ev->exited(e->data, e->why);
}

static int send_plain(struct engine *e, const char *command)
{
	e->unanswered++;
	return qmp_send(e->qmp, command, -1);
}

/* @through: what a script_*() function returned. */
static void script_step(struct engine *e, int through)
{
	const char *why = e->script.failed ? e->script.why : NULL;
	char text[sizeof(e->script.why) + 40];

	if (through == 0)
		return;
	if (through < 0 || why) {
		snprintf(text, sizeof(text), "QEMU could not save the machine: %s",
			 why ? why : strerror(-through));
		log_error("%s", text);
		why = text;
	}
	bool switched = e->script.switched;
	script_done(&e->script);
	if (!e->snapshotting) {
		e->ev->saved(e->data, why);
		return;
	}
	e->snapshotting = false;
	if (switched)
		snprintf(e->top, sizeof(e->top), "upper%u", e->n_snapshots);
	e->ev->snapshotted(e->data, why, switched,
			   e->resumed_ns > e->stopped_ns ? e->resumed_ns - e->stopped_ns : 0);
}

static void qmp_error(void *data, const char *desc)
{
	struct engine *e = data;

	if (e->unanswered == 0 && e->script.active) {
		log_debug("qmp refusal: %s", desc);
		script_step(e, script_refused(&e->script, e->qmp, desc));
		return;
	}
	e->unanswered -= e->unanswered > 0;
	if (!e->why[0]) {
		snprintf(e->why, sizeof(e->why), "QEMU refused a command: %.200s", desc);
		log_error("%s", e->why);
	}
}

static int send_start(struct engine *e);

static void freeze(struct engine *e)
{
	int r = proc_signal(&e->proc, FROZEN_SIGNAL);

	if (r < 0)
		log_error("tell QEMU to freeze: %s", strerror(-r));
}

static void qmp_returned(void *data)
{
	struct engine *e = data;

	if (e->unanswered > 0) {
		e->unanswered--;
		if (e->freezing && e->unanswered == 0) /* what was asked last: to stop */
			freeze(e);
		if (!e->running && is_careful(e->launch)) {
			e->running = true; /* nothing is opened any more */
			e->ev->running(e->data);
			(void)send_start(e);
		}
	} else if (e->script.active) {
		script_step(e, script_returned(&e->script, e->qmp));
	}
}

static int save_template(struct engine *e);

static void on_migrated(struct engine *e)
{
	int r;

	if (e->script.active) {
		script_step(e, script_migrated(&e->script, e->qmp, NULL));
		return;
	}
	if (e->launch->mode == LAUNCH_CONVERT)
		r = save_template(e);
	else /* the state was saved from a stopped machine, so it is loaded as one */
		r = send_plain(e, "{\"execute\":\"cont\"}");
	if (r < 0)
		log_error("tell QEMU to go on: %s", strerror(-r));
}

static void on_migration_failed(struct engine *e)
{
	if (e->script.active) {
		script_step(e, script_migrated(&e->script, e->qmp, "its state could not be written"));
		return;
	}
	snprintf(e->why, sizeof(e->why), "QEMU could not restore the machine state");
}

static void on_stopped(struct engine *e)
{
	e->stopped_ns = clock_mono_ns();
	if (!e->pausing)
		return;
	e->pausing = false;
	e->paused = true;
	e->ev->paused(e->data);
}

static void on_resumed(struct engine *e)
{
	e->resumed_ns = clock_mono_ns();
	if (!e->running) {
		e->running = true;
		e->ev->running(e->data);
	} else if (e->resuming) {
		e->resuming = e->paused = false;
		e->ev->resumed(e->data);
	}
}

static void qmp_event(void *data, const char *name, const char *status)
{
	struct engine *e = data;

	if (strcmp(name, "RESUME") == 0)
		on_resumed(e);
	else if (strcmp(name, "STOP") == 0)
		on_stopped(e);
	else if (strcmp(name, "MIGRATION") == 0 && status && strcmp(status, "failed") == 0)
		on_migration_failed(e);
	else if (strcmp(name, "MIGRATION") == 0 && status && strcmp(status, "completed") == 0)
		on_migrated(e);
}

static void qmp_closed(void *data)
{
	/* The exit of the process, which follows, tells more. */
	struct engine *e = data;

	log_debug("qmp closed, qemu %d", (int)e->proc.child.pid);
}

static const struct qmp_events qmp_callbacks = { qmp_error, qmp_event, qmp_closed, qmp_returned };

static int make_channel(int *ret_ours, int *ret_theirs)
{
	int sv[2], size = CHANNEL_SNDBUF;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	/* Best effort: the defaults work too. */
	(void)setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fd_set_nonblock(sv[0], true);
	*ret_ours = sv[0];
	*ret_theirs = sv[1];
	return 0;
}

static int spawn_qemu(struct engine *e, const struct qemu_cmd *cmd, const struct jail_fd *fds, size_t n_fds,
		      struct vial_err *err)
{
	/* The program and its loader are always among them. */
	static const struct jail_path paths[] = {
		{ "/usr/lib", JAIL_READ },	   { "/lib", JAIL_READ },
		{ "/lib64", JAIL_READ },	   { "/usr/lib64", JAIL_READ },
		{ "/usr/share/qemu", JAIL_READ },  { "/usr/share/seabios", JAIL_READ },
		{ "/etc/ld.so.cache", JAIL_READ },
	};
	const struct launch *l = e->launch;
	const struct jail_rlimit rlimits[] = {
		{ RLIMIT_AS, l->memory + MEMORY_EXTRA + l->vcpus * MEMORY_EXTRA_VCPU },
		{ RLIMIT_FSIZE, MAX(l->upper_bytes + (l->upper_bytes >> PROC_QCOW2_TABLES_SHIFT),
				    l->memory + (l->memory >> STREAM_HEADS_SHIFT)) +
					PROC_FILE_EXTRA },
	};
	static char *const with_library[] = { (char *)"LD_PRELOAD=" FROZEN_PATH_LIBRARY, NULL };
	const struct jail_opts o = {
		.path = e->thawing ? l->thaw : l->program,
		.argv = cmd->argv.v,
		.envp = l->mode == LAUNCH_FREEZE ? with_library : NULL,
		.fds = fds,
		.n_fds = n_fds,
		.paths = paths,
		.n_paths = ARRAY_SIZE(paths),
		.profile = JAIL_QEMU,
		.rlimits = rlimits,
		.n_rlimits = ARRAY_SIZE(rlimits),
		.notify = true,
		.strict = e->launch->strict,
		.without = e->launch->without,
	};
	int r = proc_spawn(&e->proc, o, err);

	if (r < 0)
		return r;
	if (e->proc.child.missing & JAIL_NO_NOTIFY)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "QEMU cannot be supervised here (seccomp user notification needs Linux 5.9)");
	return 0;
}

/* The child's descriptor table: channels, state, then block devices as qemu_args() numbered them. */
static size_t fill_fds(struct engine *e, const struct qemu_cmd *cmd, const int *theirs, int err_w,
		       struct jail_fd *fds)
{
	size_t n = 0;
	int state = launch_fd(e->launch, LAUNCH_FD_STATE, 0);

	fds[n++] = (struct jail_fd){ err_w, 2 };
	fds[n++] = (struct jail_fd){ theirs[0], QEMU_FD_QMP };
	fds[n++] = (struct jail_fd){ theirs[1], QEMU_FD_AGENT };
	fds[n++] = (struct jail_fd){ theirs[2], QEMU_FD_CONSOLE };
	if (e->thawing) {
		for (size_t i = 0; i < e->frozen.n_fds; i++)
			fds[n++] = (struct jail_fd){ e->frozen.fds[i], FROZEN_FD_FILE + (int)i };
		return frozen_refs(e->launch, cmd, fds, n);
	}
	if (e->launch->mode == LAUNCH_FREEZE)
		n = frozen_refs(e->launch, cmd, fds, n);
	if (state >= 0)
		fds[n++] = (struct jail_fd){ state, QEMU_FD_STATE };
	for (size_t i = 0; i < cmd->n_fds; i++)
		fds[n++] = (struct jail_fd){ cmd->fds[i], QEMU_FD_FIRST + (int)i };
	return n;
}

static int open_channels(struct engine *e, int theirs[3], int *ret_err_w)
{
	int console = launch_fd(e->launch, LAUNCH_FD_CONSOLE, 0);

	int r = make_channel(&e->qmp_fd, &theirs[0]);

	r = r ?: make_channel(&e->agent_fd, &theirs[1]);
	if (r == 0 && console < 0)
		r = make_channel(&e->console_fd, &theirs[2]);
	else if (r == 0 && (theirs[2] = fcntl(console, F_DUPFD_CLOEXEC, 0)) < 0)
		r = -errno;
	return r ?: proc_stderr(&e->proc, ret_err_w);
}

/* Sent in one go: QEMU answers in order. A restored machine goes on when it is loaded: on_migrated(). */
static int send_start(struct engine *e)
{
	bool stream = e->launch->mode == LAUNCH_CONVERT;
	char line[100];
	int r;

	if (!launch_incoming(e->launch) || e->thawing)
		return send_plain(e, "{\"execute\":\"cont\"}");
	r = send_plain(e, stream ? QEMU_SET_CAPABILITIES("false") : QEMU_SET_CAPABILITIES("true"));
	snprintf(line, sizeof(line), "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:%d\"}}",
		 QEMU_FD_STATE);
	return r ?: send_plain(e, line);
}

static int watch(struct engine *e, struct vial_err *err)
{
	int r = proc_watch(&e->proc);

	r = r ?: loop_add_fd(e->loop, e->proc.child.notify_fd, EPOLLIN, on_notify, e, &e->notify_src);
	r = r ?: qmp_new(e->loop, e->qmp_fd, !e->thawing, &qmp_callbacks, e, &e->qmp);
	e->unanswered = !e->thawing; /* the negotiation */
	if (!is_careful(e->launch))
		r = r ?: send_start(e);
	return r < 0 ? err_sys(err, r, "talk to QEMU") : 0;
}

static void qemu_free(struct engine *e)
{
	if (!e)
		return;
	qmp_free(e->qmp);
	loop_src_free(e->notify_src);
	proc_done(&e->proc);
	fd_close(&e->qmp_fd);
	fd_close(&e->agent_fd);
	fd_close(&e->console_fd);
	script_done(&e->script);
	frozen_done(&e->frozen);
	free(e);
}
DEFINE_CLEANUP(struct engine, qemu_free)

/* Started anew, or woken? */
static int choose_way(struct engine *e, const struct qemu_cmd *cmd, struct vial_err *err)
{
	const char *prefixes[ARRAY_SIZE(start_prefixes) + 1] = { e->launch->program };
	int image = launch_fd(e->launch, LAUNCH_FD_FROZEN, 0), r;

	if (image >= 0 && e->launch->mode == LAUNCH_FREEZE)
		frozen_args(cmd, e->args); /* noted when it is frozen */
	if (image < 0 || e->launch->mode == LAUNCH_FREEZE)
		return 0;
	memcpy(prefixes + 1, start_prefixes, sizeof(start_prefixes));
	r = frozen_args_match(image, cmd) ? frozen_check(image, prefixes, &e->frozen) : -ESTALE;
	if (r < 0)
		return err_sys(err, r, "wake the template's QEMU ('vial init --force' makes it anew)");
	e->thawing = true;
	return 0;
}

static int qemu_start(struct loop *loop, const struct launch *l, const struct engine_events *ev, void *data,
		      struct engine **ret, struct vial_err *err)
{
	_cleanup_(qemu_freep) struct engine *e = calloc(1, sizeof(*e));
	_cleanup_(qemu_cmd_done) struct qemu_cmd cmd = { .vmdk_fd = -1 };
	_cleanup_fd_ int err_w = -1, t0 = -1, t1 = -1, t2 = -1;
	struct jail_fd fds[LAUNCH_EXTENTS_MAX + LAUNCH_UPPERS_MAX + 16 + FROZEN_REFS_MAX];
	int theirs[3] = { -1, -1, -1 };
	int r;

	if (!e)
		return err_sys(err, -ENOMEM, "start QEMU");
	*e = (struct engine){ .loop = loop,
			      .launch = l,
			      .ev = ev,
			      .data = data,
			      .qmp_fd = -1,
			      .agent_fd = -1,
			      .console_fd = -1,
			      .top = "upper" };
	proc_init(&e->proc, loop, "qemu", on_process_end, e);
	r = qemu_args(l, &cmd, err);
	if (r < 0)
		return r;
	e->layers_set = cmd.layers_set;
	r = choose_way(e, &cmd, err);
	if (r < 0)
		return r;
	r = open_channels(e, theirs, &err_w);
	t0 = theirs[0];
	t1 = theirs[1];
	t2 = theirs[2];
	if (r < 0)
		return err_sys(err, r, "start QEMU: make its channels");
	r = spawn_qemu(e, &cmd, fds, fill_fds(e, &cmd, theirs, err_w, fds), err);
	if (r < 0)
		return r;
	r = watch(e, err);
	if (r < 0)
		return r;
	*ret = take_ptr(e);
	return 0;
}

static int qemu_agent_fd(struct engine *e)
{
	return e->agent_fd;
}

static int qemu_console_fd(struct engine *e)
{
	return e->console_fd;
}

static uint64_t root_bytes(const struct launch *l)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < l->n_extents; i++)
		bytes += l->extent_bytes[i];
	return bytes;
}

/* The machine ends here, so its root disk, which keeps QEMU from saving, is not brought back. */
static int save_template(struct engine *e)
{
	struct script *s = &e->script;

	script_add(s, -1, "{\"execute\":\"stop\"}");
	if (e->launch->n_extents > 1)
		script_drop_layers(s, root_bytes(e->launch));
	script_add(s, -1, QEMU_SET_CAPABILITIES("true"));
	script_add(s, launch_fd(e->launch, LAUNCH_FD_STATE_OUT, 0),
		   "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}}");
	script_add(s, -1, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:state\"}}");
	s->restore = s->n;
	return script_start(s, e->qmp);
}

static int qemu_save_template(struct engine *e, struct vial_err *err)
{
	int r;

	e->freezing = e->launch->mode == LAUNCH_FREEZE;
	r = e->freezing ? send_plain(e, "{\"execute\":\"stop\"}") : save_template(e);

	return r < 0 ? err_sys(err, r, "tell QEMU to save the template") : 0;
}

static int qemu_pause(struct engine *e, struct vial_err *err)
{
	e->pausing = true;
	int r = send_plain(e, "{\"execute\":\"stop\"}");

	return r < 0 ? err_sys(err, r, "tell QEMU to pause") : 0;
}

static int qemu_resume(struct engine *e, struct vial_err *err)
{
	e->resuming = true;
	int r = send_plain(e, "{\"execute\":\"cont\"}");

	return r < 0 ? err_sys(err, r, "tell QEMU to go on") : 0;
}

static int qemu_snapshot(struct engine *e, const struct engine_snapshot *to, struct vial_err *err)
{
	char next_top[16];
	const struct snapshot_plan plan = {
		.number = ++e->n_snapshots,
		.top = e->top,
		.next_top = next_top,
		.layers_set = e->launch->n_extents > 1 ? e->layers_set : 0,
		.root_bytes = root_bytes(e->launch),
		.resume = !e->paused,
		.to = to,
	};

	snprintf(next_top, sizeof(next_top), "upper%u", plan.number);
	script_snapshot(&e->script, &plan);
	e->snapshotting = true;
	int r = script_start(&e->script, e->qmp);
	return r < 0 ? err_sys(err, r, "tell QEMU to save the machine") : 0;
}

static void qemu_kill(struct engine *e)
{
	proc_kill(&e->proc);
}

const struct engine_ops engine_qemu = {
	.name = "qemu",
	.start = qemu_start,
	.agent_fd = qemu_agent_fd,
	.console_fd = qemu_console_fd,
	.save_template = qemu_save_template,
	.pause = qemu_pause,
	.resume = qemu_resume,
	.snapshot = qemu_snapshot,
	.kill = qemu_kill,
	.free = qemu_free,
	.form = ENGINE_FORM_STREAM,
};
