// SPDX-License-Identifier: Apache-2.0
/*
 * Agent protocol messages, with nanopb.
 *
 * Theory of operation
 *
 * Purpose: one frame payload to one plain struct and back. Both directions are alike: the outer
 * message is a oneof of submessages only, so its single tag is read by hand and the submessage is given to
 * nanopb with callbacks for everything that is not a number.
 *
 * Who is trusted: nobody. The guest decodes what a host says, the host what a guest says. nanopb
 * bounds each read by the frame. Three things are ours to check: limits of counts and lengths; that
 * a byte string really lies in the frame (for a field whose wire type is a number, nanopb calls the
 * callback with a copy on its stack, which must not be borrowed); and that a frame holds
 * one message only, so that nothing decoded earlier is leaked or merged.
 */
#include "wire/agent_msg.h"

#include <errno.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <string.h>

#include "agent.pb.h"
#include "wire/frame.h"

/* ---- decoding: callbacks ---- */

/**
 * struct decoder - one payload being decoded
 * @lo, @hi:	bounds of the payload
 * @error:	why a callback said no; 0 leaves it to -EBADMSG
 */
struct decoder {
	const uint8_t *lo, *hi;
	int error;
};

/* Where a callback puts its field; lives as long as the pb_decode() call it is for. */
struct slice_sink {
	struct decoder *d;
	struct slice *out;
	size_t max;
};

struct strv_sink {
	struct decoder *d;
	struct strv *out;
};

struct rlimits_sink {
	struct decoder *d;
	struct agent_exec *out;
};

static bool refuse(struct decoder *d, int error)
{
	d->error = error;
	return false;
}

/* Takes the rest of @s as borrowed bytes; false if they are not part of the payload. */
static bool borrow(struct decoder *d, pb_istream_t *s, struct slice *ret)
{
	const uint8_t *p = s->state;
	size_t n = s->bytes_left;

	if ((uintptr_t)p < (uintptr_t)d->lo || (uintptr_t)p > (uintptr_t)d->hi || n > (size_t)(d->hi - p))
		return refuse(d, -EBADMSG);
	*ret = (struct slice){ p, n };
	return pb_read(s, NULL, n);
}

static bool take_slice(pb_istream_t *s, const pb_field_t *field, void **arg)
{
	struct slice_sink *sink = *arg;

	(void)field;
	if (s->bytes_left > sink->max)
		return refuse(sink->d, -E2BIG);
	return borrow(sink->d, s, sink->out);
}

static bool take_string(pb_istream_t *s, const pb_field_t *field, void **arg)
{
	struct strv_sink *sink = *arg;
	struct slice str;

	(void)field;
	if (sink->out->n >= AGENT_ARGS_MAX)
		return refuse(sink->d, -E2BIG);
	if (!borrow(sink->d, s, &str))
		return false;
	if (memchr(str.p, 0, str.n))
		return refuse(sink->d, -EBADMSG);
	if (strv_addn(sink->out, (const char *)str.p, str.n) < 0)
		return refuse(sink->d, -ENOMEM);
	return true;
}

static bool take_rlimit(pb_istream_t *s, const pb_field_t *field, void **arg)
{
	struct rlimits_sink *sink = *arg;
	vial_agent_v1_Rlimit pb = vial_agent_v1_Rlimit_init_zero;

	(void)field;
	if (sink->out->n_rlimits >= AGENT_RLIMITS_MAX)
		return refuse(sink->d, -E2BIG);
	if (!pb_decode(s, vial_agent_v1_Rlimit_fields, &pb))
		return false;
	sink->out->rlimits[sink->out->n_rlimits++] = (struct agent_rlimit){
		.resource = pb.resource,
		.soft = pb.soft,
		.hard = pb.hard,
	};
	return true;
}

static pb_callback_t into(bool (*fn)(pb_istream_t *, const pb_field_t *, void **), void *sink)
{
	return (pb_callback_t){ .funcs.decode = fn, .arg = sink };
}

/* Declares a sink for @out_ and gives the callback that fills it. */
#define INTO_SLICE(d_, out_, max_) into(take_slice, &(struct slice_sink){ (d_), (out_), (max_) })

static int decode(struct decoder *d, pb_istream_t *s, const pb_msgdesc_t *fields, void *pb)
{
	if (pb_decode(s, fields, pb))
		return 0;
	return d->error ? d->error : -EBADMSG;
}

/* ---- decoding: messages ---- */

static int decode_hello(struct decoder *d, pb_istream_t *s, struct agent_hello *ret)
{
	vial_agent_v1_Hello pb = { .magic = INTO_SLICE(d, &ret->magic, AGENT_NAME_MAX) };
	int r = decode(d, s, vial_agent_v1_Hello_fields, &pb);

	if (r < 0)
		return r;
	ret->version_min = pb.version_min;
	ret->version_max = pb.version_max;
	ret->capabilities = pb.capabilities;
	return 0;
}

static int decode_refresh(struct decoder *d, pb_istream_t *s, struct agent_refresh *ret)
{
	vial_agent_v1_Refresh pb = {
		.entropy = INTO_SLICE(d, &ret->entropy, AGENT_ENTROPY_MAX),
		.hostname = INTO_SLICE(d, &ret->hostname, AGENT_NAME_MAX),
		.machine_id = INTO_SLICE(d, &ret->machine_id, AGENT_NAME_MAX),
	};
	int r = decode(d, s, vial_agent_v1_Refresh_fields, &pb);

	if (r < 0)
		return r;
	ret->generation = pb.generation;
	ret->wall_ns = pb.wall_ns;
	ret->memory_max = pb.memory_max;
	ret->cpus = pb.cpus;
	return 0;
}

static int decode_setup(struct decoder *d, pb_istream_t *s, struct agent_setup *ret)
{
	vial_agent_v1_Setup pb = {
		.root_serial = INTO_SLICE(d, &ret->root_serial, AGENT_NAME_MAX),
		.root_fstype = INTO_SLICE(d, &ret->root_fstype, AGENT_NAME_MAX),
		.upper_serial = INTO_SLICE(d, &ret->upper_serial, AGENT_NAME_MAX),
		.console_shell = INTO_SLICE(d, &ret->console_shell, AGENT_PATH_MAX),
	};
	int r = decode(d, s, vial_agent_v1_Setup_fields, &pb);

	if (r < 0)
		return r;
	ret->root_rw = pb.root_rw;
	ret->upper_size = pb.upper_size;
	return 0;
}

/* On failure what was decoded so far stays in @ret, for the caller to free. */
static int decode_exec(struct decoder *d, pb_istream_t *s, struct agent_exec *ret)
{
	vial_agent_v1_Exec pb = {
		.argv = into(take_string, &(struct strv_sink){ d, &ret->argv }),
		.env = into(take_string, &(struct strv_sink){ d, &ret->env }),
		.cwd = INTO_SLICE(d, &ret->cwd, AGENT_PATH_MAX),
		.user = INTO_SLICE(d, &ret->user, AGENT_USER_MAX),
		.rlimits = into(take_rlimit, &(struct rlimits_sink){ d, ret }),
	};
	int r = decode(d, s, vial_agent_v1_Exec_fields, &pb);

	if (r < 0)
		return r;
	if (ret->argv.n == 0)
		return -EBADMSG;
	ret->tty = pb.tty;
	ret->rows = pb.rows;
	ret->cols = pb.cols;
	ret->timeout_ms = pb.timeout_ms;
	ret->want_stdin = pb.stdin;
	ret->window = pb.window;
	ret->init = pb.init;
	return 0;
}

static int decode_data(struct decoder *d, pb_istream_t *s, uint32_t lo, uint32_t hi, struct agent_data *ret)
{
	vial_agent_v1_Data pb = { .data = INTO_SLICE(d, &ret->data, AGENT_DATA_MAX) };
	int r = decode(d, s, vial_agent_v1_Data_fields, &pb);

	if (r < 0)
		return r;
	if (pb.stream < lo || pb.stream > hi || ret->data.n == 0)
		return -EBADMSG;
	ret->stream = pb.stream;
	return 0;
}

static int decode_credit(struct decoder *d, pb_istream_t *s, uint32_t lo, uint32_t hi,
			 struct agent_credit *ret)
{
	vial_agent_v1_Credit pb = vial_agent_v1_Credit_init_zero;
	int r = decode(d, s, vial_agent_v1_Credit_fields, &pb);

	if (r < 0)
		return r;
	if (pb.stream < lo || pb.stream > hi)
		return -EBADMSG;
	ret->stream = pb.stream;
	ret->bytes = pb.bytes;
	return 0;
}

static int decode_signal(struct decoder *d, pb_istream_t *s, struct agent_host_msg *ret)
{
	vial_agent_v1_Signal pb = vial_agent_v1_Signal_init_zero;
	int r = decode(d, s, vial_agent_v1_Signal_fields, &pb);

	if (r < 0)
		return r;
	ret->signal = pb.number;
	return 0;
}

static int decode_resize(struct decoder *d, pb_istream_t *s, struct agent_host_msg *ret)
{
	vial_agent_v1_Resize pb = vial_agent_v1_Resize_init_zero;
	int r = decode(d, s, vial_agent_v1_Resize_fields, &pb);

	if (r < 0)
		return r;
	ret->resize.rows = pb.rows;
	ret->resize.cols = pb.cols;
	return 0;
}

static int decode_quiesce(struct decoder *d, pb_istream_t *s, struct agent_host_msg *ret)
{
	vial_agent_v1_Quiesce pb = vial_agent_v1_Quiesce_init_zero;
	int r = decode(d, s, vial_agent_v1_Quiesce_fields, &pb);

	if (r == 0)
		ret->quiesce.for_template = pb.template;
	return r;
}

static int decode_failed(struct decoder *d, pb_istream_t *s, struct agent_failed *ret)
{
	vial_agent_v1_Failed pb = { .message = INTO_SLICE(d, &ret->message, AGENT_TEXT_MAX) };
	int r = decode(d, s, vial_agent_v1_Failed_fields, &pb);

	if (r < 0)
		return r;
	ret->kind = pb.kind;
	ret->sys_errno = pb.sys_errno;
	return 0;
}

static int decode_started(struct decoder *d, pb_istream_t *s, struct agent_guest_msg *ret)
{
	vial_agent_v1_Started pb = vial_agent_v1_Started_init_zero;
	int r = decode(d, s, vial_agent_v1_Started_fields, &pb);

	if (r < 0)
		return r;
	ret->started.pid = pb.pid;
	ret->started.window = pb.window;
	return 0;
}

static int decode_exited(struct decoder *d, pb_istream_t *s, struct agent_exited *ret)
{
	vial_agent_v1_Exited pb = vial_agent_v1_Exited_init_zero;
	int r = decode(d, s, vial_agent_v1_Exited_fields, &pb);

	if (r < 0)
		return r;
	*ret = (struct agent_exited){
		.code = pb.code,
		.signal = pb.signal,
		.timed_out = pb.timed_out,
		.oom = pb.oom,
	};
	return 0;
}

/* Messages without fields are all alike: later versions' fields are skipped. */
static int decode_empty(struct decoder *d, pb_istream_t *s)
{
	vial_agent_v1_Ping pb = vial_agent_v1_Ping_init_zero;

	return decode(d, s, vial_agent_v1_Ping_fields, &pb);
}

/* ---- decoding: the outer messages ---- */

static int decode_host(struct decoder *d, uint32_t tag, pb_istream_t *s, void *ret)
{
	struct agent_host_msg *m = ret;

	m->type = (enum agent_host_type)tag;
	switch (m->type) {
	case AGENT_HOST_HELLO:
		return decode_hello(d, s, &m->hello);
	case AGENT_HOST_REFRESH:
		return decode_refresh(d, s, &m->refresh);
	case AGENT_HOST_SETUP:
		return decode_setup(d, s, &m->setup);
	case AGENT_HOST_EXEC:
		return decode_exec(d, s, &m->exec);
	case AGENT_HOST_STDIN:
		return decode_data(d, s, AGENT_STDIN, AGENT_STDIN, &m->data);
	case AGENT_HOST_CREDIT:
		return decode_credit(d, s, AGENT_STDOUT, AGENT_STDERR, &m->credit);
	case AGENT_HOST_SIGNAL:
		return decode_signal(d, s, m);
	case AGENT_HOST_RESIZE:
		return decode_resize(d, s, m);
	case AGENT_HOST_QUIESCE:
		return decode_quiesce(d, s, m);
	default:
		return decode_empty(d, s);
	}
}

static int decode_guest(struct decoder *d, uint32_t tag, pb_istream_t *s, void *ret)
{
	struct agent_guest_msg *m = ret;

	m->type = (enum agent_guest_type)tag;
	switch (m->type) {
	case AGENT_GUEST_HELLO:
		return decode_hello(d, s, &m->hello);
	case AGENT_GUEST_FAILED:
		return decode_failed(d, s, &m->failed);
	case AGENT_GUEST_STARTED:
		return decode_started(d, s, m);
	case AGENT_GUEST_OUTPUT:
		return decode_data(d, s, AGENT_STDOUT, AGENT_STDERR, &m->data);
	case AGENT_GUEST_CREDIT:
		return decode_credit(d, s, AGENT_STDIN, AGENT_STDIN, &m->credit);
	case AGENT_GUEST_EXITED:
		return decode_exited(d, s, &m->exited);
	default:
		return decode_empty(d, s);
	}
}

/* Finds the one known submessage, 1..@tag_max, and has it decoded by @fn; unknown fields are skipped. */
static int decode_outer(const uint8_t *p, size_t n, uint32_t tag_max,
			int (*fn)(struct decoder *, uint32_t, pb_istream_t *, void *), void *ret)
{
	struct decoder d = { .lo = p, .hi = p + n };
	pb_istream_t in = pb_istream_from_buffer(p, n), sub;
	bool found = false;

	while (in.bytes_left > 0) {
		pb_wire_type_t wire;
		uint32_t tag;
		bool eof;

		if (!pb_decode_tag(&in, &wire, &tag, &eof) || tag == 0)
			return -EBADMSG;
		if (tag > tag_max) {
			if (!pb_skip_field(&in, wire))
				return -EBADMSG;
			continue;
		}
		if (found || wire != PB_WT_STRING || !pb_make_string_substream(&in, &sub))
			return -EBADMSG;
		found = true;
		int r = fn(&d, tag, &sub, ret);
		if (r < 0)
			return r;
		if (!pb_close_string_substream(&in, &sub))
			return -EBADMSG;
	}
	return 0;
}

int agent_host_msg_decode(const uint8_t *p, size_t n, struct agent_host_msg *ret)
{
	struct agent_host_msg m = { .type = AGENT_HOST_NONE };
	int r = decode_outer(p, n, AGENT_HOST_SYNC, decode_host, &m);

	if (r < 0)
		agent_host_msg_done(&m);
	*ret = m;
	return r;
}

void agent_host_msg_done(struct agent_host_msg *m)
{
	if (m->type == AGENT_HOST_EXEC) {
		strv_done(&m->exec.argv);
		strv_done(&m->exec.env);
	}
	*m = (struct agent_host_msg){ .type = AGENT_HOST_NONE };
}

int agent_guest_msg_decode(const uint8_t *p, size_t n, struct agent_guest_msg *ret)
{
	struct agent_guest_msg m = { .type = AGENT_GUEST_NONE };
	int r = decode_outer(p, n, AGENT_GUEST_STDIN_CLOSED, decode_guest, &m);

	*ret = r < 0 ? (struct agent_guest_msg){ .type = AGENT_GUEST_NONE } : m;
	return r;
}

/* ---- encoding ---- */

static bool give_slice(pb_ostream_t *s, const pb_field_t *field, void *const *arg)
{
	const struct slice *slice = *arg;

	if (slice->n == 0)
		return true;
	return pb_encode_tag_for_field(s, field) && pb_encode_string(s, slice->p, slice->n);
}

static bool give_strings(pb_ostream_t *s, const pb_field_t *field, void *const *arg)
{
	const struct strv *v = *arg;

	for (size_t i = 0; i < v->n; i++)
		if (!pb_encode_tag_for_field(s, field) ||
		    !pb_encode_string(s, (const pb_byte_t *)v->v[i], strlen(v->v[i])))
			return false;
	return true;
}

static bool give_rlimits(pb_ostream_t *s, const pb_field_t *field, void *const *arg)
{
	const struct agent_exec *x = *arg;

	for (size_t i = 0; i < x->n_rlimits; i++) {
		vial_agent_v1_Rlimit pb = {
			.resource = x->rlimits[i].resource,
			.soft = x->rlimits[i].soft,
			.hard = x->rlimits[i].hard,
		};
		if (!pb_encode_tag_for_field(s, field) ||
		    !pb_encode_submessage(s, vial_agent_v1_Rlimit_fields, &pb))
			return false;
	}
	return true;
}

static pb_callback_t from(bool (*fn)(pb_ostream_t *, const pb_field_t *, void *const *), const void *source)
{
	return (pb_callback_t){ .funcs.encode = fn, .arg = (void *)(uintptr_t)source };
}

/* Appends a frame whose payload is the submessage @pb with the outer number @tag. */
static int put(struct buf *out, uint32_t tag, const pb_msgdesc_t *fields, const void *pb, size_t max)
{
	pb_ostream_t size = PB_OSTREAM_SIZING;

	if (!pb_encode_tag(&size, PB_WT_STRING, tag) || !pb_encode_submessage(&size, fields, pb))
		return -EFBIG;
	size_t n = size.bytes_written;
	if (n > max)
		return -E2BIG;
	int r = buf_reserve(out, FRAME_HEADER + n);
	if (r < 0)
		return r;
	uint8_t *p = (uint8_t *)out->data + out->len;
	pb_ostream_t s = pb_ostream_from_buffer(p + FRAME_HEADER, n);
	if (!pb_encode_tag(&s, PB_WT_STRING, tag) || !pb_encode_submessage(&s, fields, pb))
		return -EFBIG;
	frame_header(p, (uint32_t)n);
	out->len += FRAME_HEADER + n;
	return 0;
}

/* Messages without fields */
static int put_empty(struct buf *out, uint32_t tag)
{
	vial_agent_v1_Ping pb = vial_agent_v1_Ping_init_zero;

	return put(out, tag, vial_agent_v1_Ping_fields, &pb, FRAME_MAX);
}

static int put_hello(struct buf *out, uint32_t tag, const struct agent_hello *m)
{
	vial_agent_v1_Hello pb = {
		.magic = from(give_slice, &m->magic),
		.version_min = m->version_min,
		.version_max = m->version_max,
		.capabilities = m->capabilities,
	};

	return put(out, tag, vial_agent_v1_Hello_fields, &pb, FRAME_MAX);
}

static int put_refresh(struct buf *out, const struct agent_refresh *m)
{
	vial_agent_v1_Refresh pb = {
		.generation = m->generation,
		.entropy = from(give_slice, &m->entropy),
		.wall_ns = m->wall_ns,
		.hostname = from(give_slice, &m->hostname),
		.machine_id = from(give_slice, &m->machine_id),
		.memory_max = m->memory_max,
		.cpus = m->cpus,
	};

	return put(out, AGENT_HOST_REFRESH, vial_agent_v1_Refresh_fields, &pb, FRAME_MAX);
}

static int put_setup(struct buf *out, const struct agent_setup *m)
{
	vial_agent_v1_Setup pb = {
		.root_serial = from(give_slice, &m->root_serial),
		.root_fstype = from(give_slice, &m->root_fstype),
		.root_rw = m->root_rw,
		.upper_serial = from(give_slice, &m->upper_serial),
		.upper_size = m->upper_size,
		.console_shell = from(give_slice, &m->console_shell),
	};

	return put(out, AGENT_HOST_SETUP, vial_agent_v1_Setup_fields, &pb, FRAME_MAX);
}

static int put_exec(struct buf *out, const struct agent_exec *m)
{
	vial_agent_v1_Exec pb = {
		.argv = from(give_strings, &m->argv),
		.env = from(give_strings, &m->env),
		.cwd = from(give_slice, &m->cwd),
		.user = from(give_slice, &m->user),
		.tty = m->tty,
		.rows = m->rows,
		.cols = m->cols,
		.rlimits = from(give_rlimits, m),
		.timeout_ms = m->timeout_ms,
		.stdin = m->want_stdin,
		.window = m->window,
		.init = m->init,
	};

	if (m->argv.n > AGENT_ARGS_MAX || m->env.n > AGENT_ARGS_MAX || m->n_rlimits > AGENT_RLIMITS_MAX)
		return -E2BIG;
	return put(out, AGENT_HOST_EXEC, vial_agent_v1_Exec_fields, &pb, FRAME_MAX_EXEC);
}

static int put_data(struct buf *out, uint32_t tag, const struct agent_data *m)
{
	vial_agent_v1_Data pb = { .stream = m->stream, .data = from(give_slice, &m->data) };

	if (m->data.n > AGENT_DATA_MAX)
		return -E2BIG;
	return put(out, tag, vial_agent_v1_Data_fields, &pb, FRAME_MAX);
}

static int put_credit(struct buf *out, uint32_t tag, const struct agent_credit *m)
{
	vial_agent_v1_Credit pb = { .stream = m->stream, .bytes = m->bytes };

	return put(out, tag, vial_agent_v1_Credit_fields, &pb, FRAME_MAX);
}

static int put_failed(struct buf *out, const struct agent_failed *m)
{
	vial_agent_v1_Failed pb = {
		.kind = m->kind,
		.sys_errno = m->sys_errno,
		.message = from(give_slice, &m->message),
	};

	if (m->message.n > AGENT_TEXT_MAX)
		return -E2BIG;
	return put(out, AGENT_GUEST_FAILED, vial_agent_v1_Failed_fields, &pb, FRAME_MAX);
}

static int put_exited(struct buf *out, const struct agent_exited *m)
{
	vial_agent_v1_Exited pb = {
		.code = m->code,
		.signal = m->signal,
		.timed_out = m->timed_out,
		.oom = m->oom,
	};

	return put(out, AGENT_GUEST_EXITED, vial_agent_v1_Exited_fields, &pb, FRAME_MAX);
}

static int put_signal(struct buf *out, uint32_t number)
{
	vial_agent_v1_Signal pb = { .number = number };

	return put(out, AGENT_HOST_SIGNAL, vial_agent_v1_Signal_fields, &pb, FRAME_MAX);
}

static int put_resize(struct buf *out, uint32_t rows, uint32_t cols)
{
	vial_agent_v1_Resize pb = { .rows = rows, .cols = cols };

	return put(out, AGENT_HOST_RESIZE, vial_agent_v1_Resize_fields, &pb, FRAME_MAX);
}

static int put_quiesce(struct buf *out, bool for_template)
{
	vial_agent_v1_Quiesce pb = { .template = for_template };

	return put(out, AGENT_HOST_QUIESCE, vial_agent_v1_Quiesce_fields, &pb, FRAME_MAX);
}

static int put_started(struct buf *out, uint32_t pid, uint32_t window)
{
	vial_agent_v1_Started pb = { .pid = pid, .window = window };

	return put(out, AGENT_GUEST_STARTED, vial_agent_v1_Started_fields, &pb, FRAME_MAX);
}

int agent_host_msg_put(struct buf *out, const struct agent_host_msg *m)
{
	switch (m->type) {
	case AGENT_HOST_HELLO:
		return put_hello(out, AGENT_HOST_HELLO, &m->hello);
	case AGENT_HOST_REFRESH:
		return put_refresh(out, &m->refresh);
	case AGENT_HOST_SETUP:
		return put_setup(out, &m->setup);
	case AGENT_HOST_EXEC:
		return put_exec(out, &m->exec);
	case AGENT_HOST_STDIN:
		return put_data(out, AGENT_HOST_STDIN, &m->data);
	case AGENT_HOST_CREDIT:
		return put_credit(out, AGENT_HOST_CREDIT, &m->credit);
	case AGENT_HOST_SIGNAL:
		return put_signal(out, m->signal);
	case AGENT_HOST_RESIZE:
		return put_resize(out, m->resize.rows, m->resize.cols);
	case AGENT_HOST_QUIESCE:
		return put_quiesce(out, m->quiesce.for_template);
	default:
		return put_empty(out, (uint32_t)m->type);
	}
}

int agent_guest_msg_put(struct buf *out, const struct agent_guest_msg *m)
{
	switch (m->type) {
	case AGENT_GUEST_HELLO:
		return put_hello(out, AGENT_GUEST_HELLO, &m->hello);
	case AGENT_GUEST_FAILED:
		return put_failed(out, &m->failed);
	case AGENT_GUEST_STARTED:
		return put_started(out, m->started.pid, m->started.window);
	case AGENT_GUEST_OUTPUT:
		return put_data(out, AGENT_GUEST_OUTPUT, &m->data);
	case AGENT_GUEST_CREDIT:
		return put_credit(out, AGENT_GUEST_CREDIT, &m->credit);
	case AGENT_GUEST_EXITED:
		return put_exited(out, &m->exited);
	default:
		return put_empty(out, (uint32_t)m->type);
	}
}
