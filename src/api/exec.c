// SPDX-License-Identifier: Apache-2.0
// vial_exec_*: the exported names.
#include "api/export.h"

#include "api/check.h"
#include "base/err.h"
#include "box/exec.h"

int vial_box_exec(struct vial_box *b, const struct vial_exec_opts *opts, struct vial_exec **ret,
		  struct vial_err *err)
{
	struct vial_exec_opts o;
	int r = check_options(opts, sizeof(o), &o, "vial_exec_opts", err);

	return r < 0 ? r : exec_start(b, &o, ret, err);
}

int vial_box_run(struct vial_box *b, const struct vial_exec_opts *opts, const void *input, size_t input_len,
		 size_t limit, struct vial_output *ret, struct vial_err *err)
{
	struct vial_exec_opts o;
	struct vial_output out;
	int r = check_options(opts, sizeof(o), &o, "vial_exec_opts", err);

	r = r ?: check_output(ret, sizeof(out), "vial_output", err);
	r = r ?: exec_run(b, &o, input, input_len, limit, &out, err);
	if (r == 0)
		give_output(ret, &out, sizeof(out));
	return r;
}

int vial_exec_next(struct vial_exec *x, int timeout_ms, struct vial_event *ret, struct vial_err *err)
{
	struct vial_event e;
	int r = check_output(ret, sizeof(e), "vial_event", err);

	r = r ?: exec_next(x, timeout_ms, &e, err);
	if (r == 1)
		give_output(ret, &e, sizeof(e));
	return r;
}

int vial_exec_fd(const struct vial_exec *x)
{
	return x->fd;
}

short vial_exec_poll_events(const struct vial_exec *x)
{
	return exec_poll_events(x);
}

int vial_exec_ack(struct vial_exec *x, int stream, size_t n, struct vial_err *err)
{
	return exec_ack(x, stream, n, err);
}

ssize_t vial_exec_write(struct vial_exec *x, const void *p, size_t n, struct vial_err *err)
{
	return exec_write(x, p, n, err);
}

int vial_exec_close_stdin(struct vial_exec *x, struct vial_err *err)
{
	return exec_close_stdin(x, err);
}

int vial_exec_signal(struct vial_exec *x, int sig, struct vial_err *err)
{
	if (sig < 1 || sig > 64)
		return err_set(err, VIAL_E_INVALID, "signal %d: not between 1 and 64", sig);
	return exec_send(x, &(struct mon_msg){ .type = MON_SIGNAL, .u32 = (uint32_t)sig }, err);
}

int vial_exec_resize(struct vial_exec *x, uint16_t rows, uint16_t cols, struct vial_err *err)
{
	struct mon_msg m = { .type = MON_RESIZE };

	m.resize.rows = rows;
	m.resize.cols = cols;
	return exec_send(x, &m, err);
}

void vial_exec_free(struct vial_exec *x)
{
	exec_free(x);
}
