/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvial: run untrusted programs, each in its own micro-VM.
 *
 *	struct vial_err err = VIAL_ERR_INIT;
 *	vial_open() -> vial_spec_new() -> vial_box_create() -> vial_box_start()
 *	-> vial_box_exec() -> vial_exec_next()… -> vial_box_free()
 *
 * Every handle is opaque and belongs to the caller, who ends it with its _free or _close (NULL is
 * accepted). A handle may be used from any thread, by one at a time. Strings are NUL-terminated bytes;
 * nothing but text for people is required to be UTF-8. Functions that take @err return 0, or a count where documented,
 * or a negative enum vial_error_code; @err may be NULL and must otherwise be empty (VIAL_ERR_INIT).
 * Outputs are untouched on failure. The library prints nothing, never exits, and installs no signal handler.
 *
 * Options structs: set @size to sizeof the struct; zero the rest, then fill in. A struct larger than the library knows is
 * accepted if the part it does not know is zero. Output structs (vial_event, vial_output): set @size likewise before each
 * call, nothing else; no more than @size bytes are written, and what the library does not know of them becomes zero.
 */
#ifndef VIAL_VIAL_H
#define VIAL_VIAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vial/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VIAL_VERSION "0.1.0"

struct vial;	  /* one state directory and its settings */
struct vial_spec; /* what a box shall be */
struct vial_box;  /* a box of this process */
struct vial_exec; /* a command in a box */

/* vial_version() - version of the library in use, such as "0.1.0"; static */
const char *vial_version(void);

/**
 * struct vial_opts - settings of vial_open()
 * @size:	sizeof(struct vial_opts)
 * @home:	state directory; NULL: $VIAL_HOME, else $XDG_DATA_HOME/vial, else ~/.local/share/vial
 * @engine:	"auto", "kvm" or "qemu"; NULL: $VIAL_ENGINE, else "auto"
 * @kernel:	guest kernel; NULL: $VIAL_KERNEL, $SHURU_KERNEL, else the installed one
 * @initrd:	the agent is appended to it; NULL: $VIAL_INITRD, $SHURU_INITRD, else the built-in one
 * @libexec:	directory of vial-monitor and the other helpers; NULL: where they were installed or built
 * @log_fd:	where the box's helpers write diagnostics; 0 or -1: nowhere
 * @log_level:	"error" … "trace"; NULL: $VIAL_LOG, else "warn"
 * @progress:	told in one line when something slow starts (such as "building template …"); may be NULL
 * @progress_data: handed to @progress
 */
struct vial_opts {
	size_t size;
	const char *home;
	const char *engine;
	const char *kernel;
	const char *initrd;
	const char *libexec;
	int log_fd;
	const char *log_level;
	void (*progress)(void *data, const char *line);
	void *progress_data;
};

/**
 * vial_open() - open (and make if missing) a state directory
 * @opts:	NULL for all defaults
 *
 * Return: 0; VIAL_E_DENIED, VIAL_E_NO_SPACE, VIAL_E_UNSUPPORTED (state directory on a network file system),
 *	   VIAL_E_INVALID (unknown engine or log level).
 */
int vial_open(const struct vial_opts *opts, struct vial **ret, struct vial_err *err);
void vial_close(struct vial *v);

/* vial_free() - free a string the library returned as char ** */
void vial_free(void *p);

/* ---- specifications ---- */

/* enum vial_field_type - how a field's text form is read */
enum vial_field_type {
	VIAL_FIELD_BOOL = 1,	 /* "true" or "false"; JSON true, false */
	VIAL_FIELD_UINT = 2,	 /* decimal; JSON number */
	VIAL_FIELD_SIZE = 3,	 /* number with K, M, G; bare: MiB; JSON number or string */
	VIAL_FIELD_DURATION = 4, /* seconds or 10ms, 5m, 2h; JSON number or string */
	VIAL_FIELD_STRING = 5,
	VIAL_FIELD_LIST = 6, /* repeated strings; JSON array of strings */
	VIAL_FIELD_MAP = 7,  /* repeated K=V; JSON object of strings or array of "K=V" */
};

/**
 * struct vial_field - one field of a specification
 * @name:	with underscores, as in vial.json; the flag is the same with hyphens
 * @type:	enum vial_field_type
 * @built:	1 if this library can do it; setting one that is 0 is VIAL_E_UNSUPPORTED
 * @metavar:	what the value is called in help ("SIZE"), NULL for a boolean
 * @help:	one line
 */
struct vial_field {
	const char *name;
	int type;
	int built;
	const char *metavar;
	const char *help;
};

/* vial_spec_fields() - all fields, in the order of help; static; @ret_n entries */
const struct vial_field *vial_spec_fields(size_t *ret_n);

/* vial_spec_new() - a specification of all defaults */
int vial_spec_new(struct vial_spec **ret, struct vial_err *err);
void vial_spec_free(struct vial_spec *s);

/**
 * vial_spec_set() - set a field from its text form
 * @field:	name as in struct vial_field
 * @value:	lists and maps: one more entry (a map's key is replaced)
 *
 * Return: 0; VIAL_E_INVALID with a message that names the field, the problem and the remedy; VIAL_E_UNSUPPORTED.
 */
int vial_spec_set(struct vial_spec *s, const char *field, const char *value, struct vial_err *err);

/* vial_spec_clear() - a field back to its default (empties a list) */
int vial_spec_clear(struct vial_spec *s, const char *field, struct vial_err *err);

/**
 * vial_spec_get() - text form of a single-valued field
 * Return: borrowed until the field changes; NULL if unknown, unset, or a list or map.
 */
const char *vial_spec_get(const struct vial_spec *s, const char *field);

/**
 * vial_spec_load_json() - set fields from a JSON object
 * @text:	@n bytes; unknown or ill-typed fields are errors that name @origin, line and field
 * @origin:	name used in messages, such as the file's
 * A list in the object replaces what the specification held before; a map is merged by key.
 */
int vial_spec_load_json(struct vial_spec *s, const char *text, size_t n, const char *origin,
			struct vial_err *err);
/* vial_spec_load_file() - the same from a file, at most 1 MiB */
int vial_spec_load_file(struct vial_spec *s, const char *path, struct vial_err *err);
/* vial_spec_to_json() - all set fields as one JSON object with "version"; vial_free() it */
int vial_spec_to_json(const struct vial_spec *s, char **ret, struct vial_err *err);

/* ---- boxes ---- */

/**
 * vial_box_create() - make a box of @spec (which is copied); nothing runs yet
 * Resolves and imports the image if its root disk is not cached.
 */
int vial_box_create(struct vial *v, const struct vial_spec *spec, struct vial_box **ret,
		    struct vial_err *err);

/**
 * vial_box_start() - start its machine
 * Builds the template first if there is none. Returns when the machine is being started; the
 * first command waits for it. The box dies with this process, however that ends.
 */
int vial_box_start(struct vial_box *b, struct vial_err *err);

/**
 * vial_box_stop() - end all commands, sync, unmount, power off
 * @timeout_ms:	then the machine is killed; 0: at once
 * The box has ended in any case.
 * Return: 0 after a power-off, or if none was asked for; VIAL_E_TIMEOUT or VIAL_E_STATE (the box was just being saved) if it was
 *	   killed instead; VIAL_E_ENGINE if it broke down; VIAL_E_STATE if it did not run.
 */
int vial_box_stop(struct vial_box *b, uint32_t timeout_ms, struct vial_err *err);

/* vial_box_free() - ends the box at once if it runs, removes what it left on disk */
void vial_box_free(struct vial_box *b);

/* vial_box_id() - 32 hex digits; borrowed */
const char *vial_box_id(const struct vial_box *b);

/* vial_box_pid() - process id of the box's monitor, 0 if not started */
pid_t vial_box_pid(const struct vial_box *b);

/**
 * vial_box_console_fd() - byte stream of the serial console
 * Return: a stream socket that stays the box's, or -1 if the specification did not ask for "console".
 */
int vial_box_console_fd(const struct vial_box *b);

/* ---- boxes that run: pause, limits, snapshots, forks ---- */

/**
 * vial_box_pause() - stop its processors; memory is kept
 * Commands are frozen and do not see the time that passes but by the clock. Commands that are started meanwhile wait.
 * Return: 0; VIAL_E_STATE (not running, or paused already), VIAL_E_ENGINE.
 */
int vial_box_pause(struct vial_box *b, struct vial_err *err);
/* vial_box_resume() - let a paused box go on, its clock set right; VIAL_E_STATE if it is not paused */
int vial_box_resume(struct vial_box *b, struct vial_err *err);

/**
 * struct vial_limits - what a box may use
 * @size:	sizeof(struct vial_limits)
 * @cpus:	1 up to the specification's max_cpus; 0: unchanged
 * @memory_bytes: 64 MiB up to the specification's max_memory; 0: unchanged
 */
struct vial_limits {
	size_t size;
	uint32_t cpus;
	uint64_t memory_bytes;
};

/**
 * vial_box_update() - change the limits of a running box
 * Processors are taken offline or online in the guest, memory is limited for all commands together: less than they use
 * ends some of them. Of a paused box it takes effect when it is resumed.
 * Return: 0; VIAL_E_INVALID (more than the box was made for), VIAL_E_STATE, VIAL_E_ENGINE (the guest refused: nothing changed).
 */
int vial_box_update(struct vial_box *b, const struct vial_limits *limits, struct vial_err *err);

/**
 * vial_box_fork() - make copies of a running box that run, too
 * @n:		1..256
 * @ret:	room for @n; boxes of the caller's own, started, each with its own id, host name, machine-id, random numbers and
 *		disk; memory and disk are shared until somebody writes
 *
 * The box stands still while it is saved (vial_box_pause_us()). In the copies its commands run on; nobody is
 * connected to them: what they write is thrown away, their standard input stays open and silent. A command that had not
 * yet started (VIAL_EVENT_STARTED) is not in the copies. All copies or none are made. A box that was paused stays paused, its
 * copies are not. Each fork and snapshot adds a layer to the box's disk, at most 16.
 * Return: 0; VIAL_E_STATE, VIAL_E_LIMIT (layers), VIAL_E_NO_SPACE, VIAL_E_ENGINE.
 */
int vial_box_fork(struct vial_box *b, size_t n, struct vial_box **ret, struct vial_err *err);

/**
 * vial_box_snapshot() - save a running box, memory and disk, in a file; the box goes on
 * @path:	replaced when the snapshot is whole; mode 0600: it holds all the box's memory does
 * vial_box_snapshot_fd() - the same into an empty file that is open for reading and writing
 *
 * The image's root disk is not in the file: who starts from it needs the same image. Only files that this state directory wrote are
 * loaded without further ado; see vial_box_create_from(). Also as for vial_box_fork().
 */
int vial_box_snapshot(struct vial_box *b, const char *path, struct vial_err *err);
int vial_box_snapshot_fd(struct vial_box *b, int fd, struct vial_err *err);

enum {
	VIAL_FROM_TRUST = 1 << 0, /* load a snapshot that came from elsewhere, in a full jail or not at all */
};

/**
 * vial_box_create_from() - a box from a snapshot, not started yet
 * @spec:	what shall be other than when it was saved: command, environment, user, hostname, share of processors and memory,
 *		and where its image is. NULL: nothing
 * @flags:	VIAL_FROM_*
 *
 * Every byte of the file is checked before it is used. The specification's field "from" does the same with @flags 0.
 * Return: 0; VIAL_E_NOT_FOUND, VIAL_E_INVALID (not a snapshot; a field that cannot be changed), VIAL_E_CORRUPT (cut short, altered,
 *	   or the image is another than it was), VIAL_E_UNSUPPORTED (another version, processor, engine …), VIAL_E_DENIED
 *	   (from elsewhere), VIAL_E_NO_SPACE.
 */
int vial_box_create_from(struct vial *v, const char *path, const struct vial_spec *spec, uint32_t flags,
			 struct vial_box **ret, struct vial_err *err);

/* vial_box_pause_us() - for how long no processor of the box ran during its last fork or snapshot, in microseconds */
uint32_t vial_box_pause_us(const struct vial_box *b);

/* ---- commands ---- */

enum {
	VIAL_EXEC_TTY = 1 << 0,	       /* a pseudo-terminal; stderr goes to stdout */
	VIAL_EXEC_STDIN = 1 << 1,      /* the caller will write stdin; otherwise it is /dev/null */
	VIAL_EXEC_MANUAL_ACK = 1 << 2, /* output is held back until vial_exec_ack() */
};

/**
 * struct vial_exec_opts - what to run
 * @size:	sizeof(struct vial_exec_opts)
 * @argv:	NULL-terminated; NULL: the specification's command, else the image's entrypoint and cmd
 * @env:	"K=V", NULL-terminated, added to the image's and the specification's; may be NULL
 * @cwd:	NULL: the specification's, the image's, or "/"
 * @user:	NULL: the specification's, the image's, or root
 * @rows:	with VIAL_EXEC_TTY
 * @cols:	with VIAL_EXEC_TTY
 * @flags:	VIAL_EXEC_*
 * @timeout_ms:	0: the specification's
 */
struct vial_exec_opts {
	size_t size;
	const char *const *argv;
	const char *const *env;
	const char *cwd;
	const char *user;
	uint16_t rows;
	uint16_t cols;
	uint32_t flags;
	uint64_t timeout_ms;
};

/* vial_box_exec() - start a command; never waits for the machine: events tell how it went */
int vial_box_exec(struct vial_box *b, const struct vial_exec_opts *opts, struct vial_exec **ret,
		  struct vial_err *err);

enum vial_event_type {
	VIAL_EVENT_STARTED = 1,	     /* @pid */
	VIAL_EVENT_STDOUT = 2,	     /* @data, @len */
	VIAL_EVENT_STDERR = 3,	     /* @data, @len */
	VIAL_EVENT_STDIN_CLOSED = 4, /* the command reads stdin no more */
	VIAL_EVENT_WRITABLE = 5,     /* vial_exec_write() will take bytes again */
	VIAL_EVENT_EXITED = 6,	     /* @code, @signal, @flags; the last event */
};

enum { VIAL_EXITED_TIMED_OUT = 1, VIAL_EXITED_OOM = 2 };

/**
 * struct vial_event - something happened to a command
 * @size:	sizeof(struct vial_event); the caller's
 * @type:	enum vial_event_type
 * @pid:	in the guest
 * @data:	borrowed until the next vial_exec_next() of the same command
 * @len:	1..32768
 * @code:	exit status when @signal is 0
 * @signal:	that ended the command, or 0
 * @flags:	VIAL_EXITED_*
 */
struct vial_event {
	size_t size;
	int type;
	uint32_t pid;
	const void *data;
	size_t len;
	int code;
	int signal;
	uint32_t flags;
};

/**
 * vial_exec_next() - next event of a command
 * @timeout_ms:	0: do not wait; -1: no limit
 *
 * Return: 1 with an event; 0 if none came in time; an error if the command could not be started
 *	   (VIAL_E_CMD_*), the box died (VIAL_E_ENGINE), or VIAL_E_STATE after the last event.
 */
int vial_exec_next(struct vial_exec *x, int timeout_ms, struct vial_event *ret, struct vial_err *err);

/* vial_exec_fd() - descriptor to poll for vial_exec_poll_events(), then call vial_exec_next(x, 0, …) until 0 */
int vial_exec_fd(const struct vial_exec *x);
short vial_exec_poll_events(const struct vial_exec *x);

/* vial_exec_ack() - with VIAL_EXEC_MANUAL_ACK: @n bytes of stdout (1) or stderr (2) were dealt with */
int vial_exec_ack(struct vial_exec *x, int stream, size_t n, struct vial_err *err);

/**
 * vial_exec_write() - give bytes to the command's stdin; does not wait
 * Return: bytes taken (0..@n; 0: wait for VIAL_EVENT_WRITABLE), VIAL_E_STATE if stdin is closed.
 */
ssize_t vial_exec_write(struct vial_exec *x, const void *p, size_t n, struct vial_err *err);
/* vial_exec_close_stdin() - end of file, after what was written */
int vial_exec_close_stdin(struct vial_exec *x, struct vial_err *err);
/* vial_exec_signal() - to every process of the command; @sig: 1..64, Linux numbers */
int vial_exec_signal(struct vial_exec *x, int sig, struct vial_err *err);
int vial_exec_resize(struct vial_exec *x, uint16_t rows, uint16_t cols, struct vial_err *err);
/* vial_exec_free() - let go; a command still running is killed */
void vial_exec_free(struct vial_exec *x);

/**
 * struct vial_output - collected result of a command
 * @size:	sizeof(struct vial_output); the caller's
 * @code:	shell-style: exit status, 128+N for signal N, 124 after a timeout
 * @out:	stdout, @out_len bytes and a NUL; vial_free() it
 * @err:	stderr likewise
 */
struct vial_output {
	size_t size;
	int code;
	char *out;
	size_t out_len;
	char *err;
	size_t err_len;
};

/**
 * vial_box_run() - run a command to its end and collect its output
 * @input:	@input_len bytes for stdin; NULL: /dev/null
 * @limit:	most bytes of stdout and of stderr, each; more is VIAL_E_LIMIT
 */
int vial_box_run(struct vial_box *b, const struct vial_exec_opts *opts, const void *input, size_t input_len,
		 size_t limit, struct vial_output *ret, struct vial_err *err);

/* ---- the installation ---- */

/* vial_prepare() - build now what the first start of @spec (NULL: defaults) would build; @force: again */
int vial_prepare(struct vial *v, const struct vial_spec *spec, int force, struct vial_err *err);

/* vial_info_json() - engine, accelerator, kernel, templates, limits, as one JSON object; vial_free() it */
int vial_info_json(struct vial *v, char **ret, struct vial_err *err);

enum vial_check_result { VIAL_CHECK_OK = 0, VIAL_CHECK_WARN = 1, VIAL_CHECK_FAIL = 2 };

/**
 * struct vial_check - one finding of vial_doctor()
 * @name:	short, stable ("kvm", "qemu", "kernel", …)
 * @result:	enum vial_check_result
 * @found:	what was found, one line
 * @remedy:	what to do about it; NULL if nothing
 */
struct vial_check {
	size_t size;
	const char *name;
	int result;
	const char *found;
	const char *remedy;
};

/**
 * vial_doctor() - check everything a box needs on this host
 * @fn:		called once for each check; the struct is borrowed for the call
 * Return: the worst result (enum vial_check_result), or an error.
 */
int vial_doctor(struct vial *v, void (*fn)(void *data, const struct vial_check *c), void *data,
		struct vial_err *err);

#ifdef __cplusplus
}
#endif
#endif
