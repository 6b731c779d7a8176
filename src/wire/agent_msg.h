/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agent protocol messages as plain structs. The protocol is wire/agent.proto; nanopb stays
 * behind this header. Decoded byte strings point into the frame they came from.
 */
#ifndef WIRE_AGENT_MSG_H
#define WIRE_AGENT_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define AGENT_MAGIC	  "vial-agent"
#define AGENT_VERSION_MIN 1
#define AGENT_VERSION_MAX 1
#define AGENT_PORT	  1024		 /* vsock */
#define AGENT_PORT_NAME	  "vial.agent.0" /* virtio-serial */

#define AGENT_WINDOW	  (256 * 1024) /* credit granted at the start, each stream */
#define AGENT_DATA_MAX	  (32 * 1024)  /* most bytes in one Data message */
#define AGENT_ARGS_MAX	  65536	       /* argv and env entries each */
#define AGENT_RLIMITS_MAX 16
#define AGENT_TEXT_MAX	  400  /* Failed.message */
#define AGENT_PATH_MAX	  4096 /* cwd, console_shell */
#define AGENT_USER_MAX	  512  /* Exec.user */
#define AGENT_ENTROPY_MAX 256
#define AGENT_NAME_MAX	  64 /* hello.magic, hostname, machine_id, disk serials, file system type */

enum agent_stream { AGENT_STDIN = 0, AGENT_STDOUT = 1, AGENT_STDERR = 2 };

/* enum agent_fail - why a request failed; numbers are part of the protocol */
enum agent_fail {
	AGENT_FAIL_OTHER = 0,
	AGENT_FAIL_NOT_FOUND = 1,      /* no such program */
	AGENT_FAIL_NOT_EXECUTABLE = 2, /* directory, no x bit, bad format, bad interpreter */
	AGENT_FAIL_BAD_CWD = 3,
	AGENT_FAIL_BAD_USER = 4,
	AGENT_FAIL_TOO_LONG = 5, /* E2BIG */
	AGENT_FAIL_NO_MEMORY = 6,
	AGENT_FAIL_BAD_REQUEST = 7, /* malformed or not allowed now */
	AGENT_FAIL_LIMIT = 8,	    /* too many commands, processes or descriptors */
	AGENT_FAIL_ROOT = 9,	    /* root file system cannot be mounted */
};

/* struct slice - borrowed bytes, may hold NUL */
struct slice {
	const uint8_t *p;
	size_t n;
};

struct agent_hello {
	struct slice magic;
	uint32_t version_min, version_max;
	uint64_t capabilities;
};

struct agent_refresh {
	uint64_t generation;
	struct slice entropy;
	uint64_t wall_ns;
	struct slice hostname;
	struct slice machine_id;
	uint64_t memory_max;
	uint32_t cpus;
};

struct agent_setup {
	struct slice root_serial;
	struct slice root_fstype;
	bool root_rw;
	struct slice upper_serial;
	uint64_t upper_size;
	struct slice console_shell;
};

struct agent_rlimit {
	uint32_t resource;
	uint64_t soft, hard;
};

/* struct agent_exec - @argv and @env own their strings: agent_host_msg_done() frees them */
struct agent_exec {
	struct strv argv;
	struct strv env;
	struct slice cwd;
	struct slice user;
	bool tty;
	uint32_t rows, cols;
	struct agent_rlimit rlimits[AGENT_RLIMITS_MAX];
	size_t n_rlimits;
	uint64_t timeout_ms;
	bool want_stdin;
	uint32_t window;
	bool init;
};

struct agent_data {
	uint32_t stream;
	struct slice data;
};

struct agent_credit {
	uint32_t stream;
	uint32_t bytes;
};

struct agent_failed {
	uint32_t kind; /* enum agent_fail */
	uint32_t sys_errno;
	struct slice message;
};

struct agent_exited {
	uint32_t code;
	uint32_t signal;
	bool timed_out;
	bool oom;
};

/* The numbers are the field numbers of HostMsg and GuestMsg. */
enum agent_host_type {
	AGENT_HOST_NONE = 0, /* unknown to this version: to be ignored */
	AGENT_HOST_HELLO = 1,
	AGENT_HOST_REFRESH = 2,
	AGENT_HOST_SETUP = 3,
	AGENT_HOST_EXEC = 4,
	AGENT_HOST_STDIN = 5,
	AGENT_HOST_STDIN_END = 6,
	AGENT_HOST_CREDIT = 7,
	AGENT_HOST_SIGNAL = 8,
	AGENT_HOST_RESIZE = 9,
	AGENT_HOST_QUIESCE = 10,
	AGENT_HOST_THAW = 11,
	AGENT_HOST_POWER_OFF = 12,
	AGENT_HOST_PING = 13,
	AGENT_HOST_SYNC = 14,
};

enum agent_guest_type {
	AGENT_GUEST_NONE = 0,
	AGENT_GUEST_HELLO = 1,
	AGENT_GUEST_DONE = 2,
	AGENT_GUEST_FAILED = 3,
	AGENT_GUEST_STARTED = 4,
	AGENT_GUEST_OUTPUT = 5,
	AGENT_GUEST_CREDIT = 6,
	AGENT_GUEST_EXITED = 7,
	AGENT_GUEST_STDIN_CLOSED = 8,
};

struct agent_host_msg {
	enum agent_host_type type;
	union {
		struct agent_hello hello;
		struct agent_refresh refresh;
		struct agent_setup setup;
		struct agent_exec exec;
		struct agent_data data; /* STDIN */
		struct agent_credit credit;
		uint32_t signal;
		struct {
			uint32_t rows, cols;
		} resize;
		struct {
			bool for_template;
		} quiesce;
	};
};

struct agent_guest_msg {
	enum agent_guest_type type;
	union {
		struct agent_hello hello;
		struct agent_failed failed;
		struct {
			uint32_t pid, window;
		} started;
		struct agent_data data; /* OUTPUT */
		struct agent_credit credit;
		struct agent_exited exited;
	};
};

/**
 * agent_host_msg_decode() - payload of one frame to a message; guest side
 * @ret:	zeroed first; ended with agent_host_msg_done() on success
 * Slices borrow from @p. Counts, lengths and stream numbers are within the limits above; argv and
 * env strings with an embedded NUL are refused.
 * Return: 0, -EBADMSG if malformed, -E2BIG past a limit, -ENOMEM.
 */
int agent_host_msg_decode(const uint8_t *p, size_t n, struct agent_host_msg *ret);
void agent_host_msg_done(struct agent_host_msg *m);
/* agent_guest_msg_decode() - the same for the host side; nothing to free */
int agent_guest_msg_decode(const uint8_t *p, size_t n, struct agent_guest_msg *ret);

/* Append one whole frame (header and payload) to @out; 0, -ENOMEM, -E2BIG or -EFBIG. */
int agent_host_msg_put(struct buf *out, const struct agent_host_msg *m);
int agent_guest_msg_put(struct buf *out, const struct agent_guest_msg *m);

static inline struct slice slice_str(const char *s)
{
	return (struct slice){ (const uint8_t *)s, __builtin_strlen(s) };
}

#endif
