/* SPDX-License-Identifier: Apache-2.0 */
/* A program that uses libvial, for test_library.py: cases, each in a process of its own. */
#ifndef TESTS_INTEG_LIB_CLIENT_H
#define TESTS_INTEG_LIB_CLIENT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vial/vial.h>

/* CHECK() - end the process with a message unless @cond holds */
#define CHECK(cond)                                                                \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(1);                                                   \
		}                                                                  \
	} while (0)

/* OK() - the same for a call that takes &err: its message is shown */
#define OK(call)                                                                                    \
	do {                                                                                        \
		struct vial_err err = VIAL_ERR_INIT;                                                \
		if ((call) < 0) {                                                                   \
			fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call, err.msg, \
				vial_error_name(err.code));                                         \
			exit(1);                                                                    \
		}                                                                                   \
	} while (0)

/* FAILS() - the call must fail with @want, in its result as in err.code, and with a message of one line */
#define FAILS(want, call)                                                                                    \
	do {                                                                                                 \
		struct vial_err err = VIAL_ERR_INIT;                                                         \
		long got_ = (long)(call);                                                                    \
		if (got_ != (want) || err.code != (want) || !err.msg[0] || strchr(err.msg, '\n')) {          \
			fprintf(stderr, "%s:%d: %s: %ld (%s), wanted %s\n", __FILE__, __LINE__, #call, got_, \
				err.msg, vial_error_name(want));                                             \
			exit(1);                                                                             \
		}                                                                                            \
	} while (0)

#define LIMIT_MS 60000 /* longest wait for one event; a machine under load is slow */

struct test_case {
	const char *name;
	void (*fn)(void);
};

extern const struct test_case blocking_cases[], event_cases[]; /* closed by a NULL name */

/* A box and the handle it belongs to, in one. */
struct client {
	struct vial *vial;
	struct vial_box *box;
};

struct client client_open(void);
/* client_start() - the same with its box started */
struct client client_start(void);
void client_close(struct client *c);

/* start() - `sh -c @script` with @flags; run() - to its end, which must be a result; free both strings */
struct vial_exec *start(struct client *c, const char *script, uint32_t flags);
struct vial_output run(struct client *c, const char *script);
void output_done(struct vial_output *o);
/* expect() - run @script, which must write @out and end with @code */
void expect(struct client *c, const char *script, const char *out, int code);
/* next() - the next event; it must come. wait_event() - the next one of @type; output in between is dropped */
struct vial_event next(struct vial_exec *x);
struct vial_event wait_event(struct vial_exec *x, int type);
/* read_until() - collect stdout until it holds @marker */
void read_until(struct vial_exec *x, const char *marker);

#endif
