// SPDX-License-Identifier: Apache-2.0
// Run a command to its end and collect its output.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "box/exec.h"

struct collect {
	struct buf out;
	struct buf err;
	size_t limit;
	const char *input;
	size_t input_len;
	int code;
};

static void collect_done(struct collect *c)
{
	buf_done(&c->out);
	buf_done(&c->err);
}

static int feed(struct vial_exec *x, struct collect *c, struct vial_err *err)
{
	if (!c->input)
		return 0;
	ssize_t n = exec_write(x, c->input, c->input_len, err);
	if (n < 0)
		return (int)n;
	c->input += n;
	c->input_len -= (size_t)n;
	if (c->input_len > 0)
		return 0;
	c->input = NULL;
	return exec_close_stdin(x, err);
}

static int shell_code(const struct vial_event *e)
{
	if (e->flags & VIAL_EXITED_TIMED_OUT)
		return 124;
	return e->signal ? 128 + e->signal : e->code;
}

static int take_output(struct buf *b, const struct vial_event *e, size_t limit, struct vial_err *err)
{
	if (b->len + e->len > limit)
		return err_set(err, VIAL_E_LIMIT, "the command's output is longer than %zu bytes", limit);
	buf_append(b, e->data, e->len);
	return buf_ok(b) ? 0 : err_sys(err, -ENOMEM, "collect the command's output");
}

/* 1 when the command has ended, 0 to go on, or an error. */
static int on_event(struct vial_exec *x, struct collect *c, const struct vial_event *e, struct vial_err *err)
{
	switch (e->type) {
	case VIAL_EVENT_STARTED:
	case VIAL_EVENT_WRITABLE:
		return feed(x, c, err);
	case VIAL_EVENT_STDIN_CLOSED:
		c->input = NULL;
		return 0;
	case VIAL_EVENT_STDOUT:
		return take_output(&c->out, e, c->limit, err);
	case VIAL_EVENT_STDERR:
		return take_output(&c->err, e, c->limit, err);
	case VIAL_EVENT_EXITED:
		c->code = shell_code(e);
		return 1;
	default:
		return 0;
	}
}

int exec_run(struct vial_box *b, const struct vial_exec_opts *opts, const void *input, size_t input_len,
	     size_t limit, struct vial_output *ret, struct vial_err *err)
{
	_cleanup_(exec_freep) struct vial_exec *x = NULL;
	_cleanup_(collect_done) struct collect c = { .limit = limit, .input = input, .input_len = input_len };
	struct vial_exec_opts o = *opts;
	struct vial_event e;
	int r;

	o.flags = (o.flags & ~(uint32_t)(VIAL_EXEC_MANUAL_ACK | VIAL_EXEC_STDIN)) |
		  (input ? VIAL_EXEC_STDIN : 0U);
	c.out.limit = c.err.limit = limit < SIZE_MAX ? limit + 1 : limit; /* and a NUL */
	r = exec_start(b, &o, &x, err);
	while (r == 0) {
		r = exec_next(x, -1, &e, err);
		r = r < 0 ? r : on_event(x, &c, &e, err);
	}
	if (r < 0)
		return r;
	if (!buf_cstr(&c.out) || !buf_cstr(&c.err))
		return err_sys(err, -ENOMEM, "collect the command's output");
	*ret = (struct vial_output){ .size = sizeof(*ret),
				     .code = c.code,
				     .out = c.out.data,
				     .out_len = c.out.len,
				     .err = c.err.data,
				     .err_len = c.err.len };
	c.out = c.err = (struct buf){ 0 };
	return 0;
}
