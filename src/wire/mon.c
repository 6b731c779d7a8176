// SPDX-License-Identifier: Apache-2.0
// Monitor protocol messages: fixed little-endian shapes, and the TLV list of an exec request.
#include "wire/mon.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/le.h"
#include "wire/tlv.h"

#define HEADER 4 /* le16 type, le16 version */

#define RLIMIT_SIZE 20 /* le32 resource, le64 soft, le64 hard */

/* ---- decoding ---- */

static int decode_data(const uint8_t *p, size_t n, struct slice *ret)
{
	if (n == 0 || n > AGENT_DATA_MAX)
		return -EBADMSG;
	*ret = (struct slice){ p, n };
	return 0;
}

static int decode_output(const uint8_t *p, size_t n, struct agent_data *ret)
{
	if (n < 4)
		return -EBADMSG;
	ret->stream = get_le32(p);
	if (ret->stream != AGENT_STDOUT && ret->stream != AGENT_STDERR)
		return -EBADMSG;
	return decode_data(p + 4, n - 4, &ret->data);
}

static int decode_error(const uint8_t *p, size_t n, struct mon_msg *ret)
{
	if (n < 8 || n - 8 > MON_TEXT_MAX)
		return -EBADMSG;
	ret->error.code = (int32_t)get_le32(p);
	ret->error.sys_errno = get_le32(p + 4);
	ret->error.text = (struct slice){ p + 8, n - 8 };
	return 0;
}

static int decode_credit(const uint8_t *p, struct agent_credit *ret)
{
	ret->stream = get_le32(p);
	ret->bytes = get_le32(p + 4);
	return ret->stream > AGENT_STDERR ? -EBADMSG : 0;
}

/* Bytes of body of the types whose body is numbers only, in le32s; -1 for the others */
static int words_of(uint16_t type)
{
	switch (type) {
	case MON_STDIN_END:
	case MON_PING:
	case MON_DONE:
	case MON_STDIN_CLOSED:
	case MON_PAUSE:
	case MON_RESUME:
		return 0;
	case MON_SIGNAL:
	case MON_STOP:
	case MON_SNAPSHOT:
		return 1;
	case MON_CREDIT:
	case MON_RESIZE:
		return 2;
	case MON_EXITED:
	case MON_UPDATE:
		return 3;
	default:
		return -1;
	}
}

/* Bodies of numbers; the length was checked against words_of(). */
static int decode_words(const uint8_t *p, struct mon_msg *ret)
{
	switch (ret->type) {
	case MON_SIGNAL:
	case MON_STOP:
	case MON_SNAPSHOT:
		ret->u32 = get_le32(p);
		return 0;
	case MON_CREDIT:
		return decode_credit(p, &ret->credit);
	case MON_RESIZE:
		ret->resize.rows = get_le32(p);
		ret->resize.cols = get_le32(p + 4);
		return 0;
	case MON_EXITED:
		ret->exited.code = get_le32(p);
		ret->exited.signal = get_le32(p + 4);
		ret->exited.flags = get_le32(p + 8);
		return 0;
	case MON_UPDATE:
		ret->update.cpus = get_le32(p);
		ret->update.memory = get_le64(p + 4);
		return 0;
	default:
		return 0;
	}
}

static int decode_started(const uint8_t *p, size_t n, struct mon_msg *ret)
{
	if (n == 0)
		return 0; /* of a launch */
	if (n != 8)
		return -EBADMSG;
	ret->started.pid = get_le32(p);
	ret->started.window = get_le32(p + 4);
	return 0;
}

static int decode_snapshotted(const uint8_t *p, size_t n, struct mon_msg *ret)
{
	if (n != 8 + LINK_KEY_SIZE)
		return -EBADMSG;
	ret->snapshotted.form = get_le32(p);
	ret->snapshotted.pause_us = get_le32(p + 4);
	memcpy(ret->snapshotted.key, p + 8, LINK_KEY_SIZE);
	return 0;
}

static int decode_body(const uint8_t *p, size_t n, struct mon_msg *ret)
{
	int words = words_of(ret->type);

	if (words >= 0)
		return n == (size_t)words * 4 ? decode_words(p, ret) : -EBADMSG;
	switch (ret->type) {
	case MON_STDIN:
		return decode_data(p, n, &ret->body);
	case MON_OUTPUT:
		return decode_output(p, n, &ret->output);
	case MON_STARTED:
		return decode_started(p, n, ret);
	case MON_ERROR:
		return decode_error(p, n, ret);
	case MON_SNAPSHOTTED:
		return decode_snapshotted(p, n, ret);
	default: /* EXEC, LAUNCH and what later versions add */
		ret->body = (struct slice){ p, n };
		return 0;
	}
}

int mon_msg_decode(const uint8_t *p, size_t n, struct mon_msg *ret)
{
	struct mon_msg m = { 0 };

	if (n < HEADER)
		return -EBADMSG;
	m.type = get_le16(p);
	if (get_le16(p + 2) != MON_VERSION)
		return -EPROTONOSUPPORT;
	int r = decode_body(p + HEADER, n - HEADER, &m);
	if (r < 0)
		return r;
	*ret = m;
	return 0;
}

/* ---- encoding ---- */

/* A frame of header, @n_words numbers and @tail */
static int put(struct buf *out, uint16_t type, const uint32_t *words, size_t n_words, struct slice tail)
{
	uint8_t head[FRAME_HEADER + HEADER + 3 * 4];
	size_t fixed = HEADER + n_words * 4;
	uint16_t type_le = htole16(type), version_le = htole16(MON_VERSION);

	if (tail.n > FRAME_MAX_EXEC - fixed)
		return -EFBIG;
	frame_header(head, (uint32_t)(fixed + tail.n));
	memcpy(head + FRAME_HEADER, &type_le, 2);
	memcpy(head + FRAME_HEADER + 2, &version_le, 2);
	for (size_t i = 0; i < n_words; i++) {
		uint32_t le = htole32(words[i]);
		memcpy(head + FRAME_HEADER + HEADER + i * 4, &le, 4);
	}
	int r = buf_reserve(out, FRAME_HEADER + fixed + tail.n);
	if (r < 0)
		return r;
	buf_append(out, head, FRAME_HEADER + fixed);
	buf_append(out, tail.p, tail.n);
	return 0;
}

static int put_data(struct buf *out, uint16_t type, const uint32_t *words, size_t n_words, struct slice data)
{
	if (data.n > AGENT_DATA_MAX)
		return -EFBIG;
	return put(out, type, words, n_words, data);
}

static int put_error(struct buf *out, const struct mon_msg *m)
{
	struct slice text = m->error.text;

	text.n = MIN(text.n, (size_t)MON_TEXT_MAX);
	return put(out, m->type, (uint32_t[]){ (uint32_t)m->error.code, m->error.sys_errno }, 2, text);
}

int mon_msg_put(struct buf *out, const struct mon_msg *m)
{
	const struct slice none = { 0 };

	switch (m->type) {
	case MON_STDIN:
		return put_data(out, m->type, NULL, 0, m->body);
	case MON_OUTPUT:
		return put_data(out, m->type, &m->output.stream, 1, m->output.data);
	case MON_SIGNAL:
	case MON_STOP:
	case MON_SNAPSHOT:
		return put(out, m->type, &m->u32, 1, none);
	case MON_CREDIT:
		return put(out, m->type, (uint32_t[]){ m->credit.stream, m->credit.bytes }, 2, none);
	case MON_RESIZE:
		return put(out, m->type, (uint32_t[]){ m->resize.rows, m->resize.cols }, 2, none);
	case MON_STARTED:
		return put(out, m->type, (uint32_t[]){ m->started.pid, m->started.window },
			   m->started.pid ? 2 : 0, none);
	case MON_EXITED:
		return put(out, m->type, (uint32_t[]){ m->exited.code, m->exited.signal, m->exited.flags }, 3,
			   none);
	case MON_ERROR:
		return put_error(out, m);
	case MON_UPDATE:
		return put(out, m->type,
			   (uint32_t[]){ m->update.cpus, (uint32_t)m->update.memory,
					 (uint32_t)(m->update.memory >> 32) },
			   3, none);
	case MON_SNAPSHOTTED:
		return put(out, m->type, (uint32_t[]){ m->snapshotted.form, m->snapshotted.pause_us }, 2,
			   (struct slice){ m->snapshotted.key, LINK_KEY_SIZE });
	case MON_STDIN_END:
	case MON_PING:
	case MON_DONE:
	case MON_STDIN_CLOSED:
	case MON_PAUSE:
	case MON_RESUME:
		return put(out, m->type, NULL, 0, none);
	default:
		return put(out, m->type, NULL, 0, m->body);
	}
}

/* ---- exec requests ---- */

static void put_strings(struct buf *b, uint16_t tag, const struct strv *v)
{
	for (size_t i = 0; i < v->n; i++)
		tlv_put_str(b, tag, v->v[i]);
}

static void put_rlimit(struct buf *b, const struct agent_rlimit *l)
{
	uint32_t resource_le = htole32(l->resource);
	uint64_t soft_le = htole64(l->soft), hard_le = htole64(l->hard);
	uint8_t value[RLIMIT_SIZE];

	memcpy(value, &resource_le, 4);
	memcpy(value + 4, &soft_le, 8);
	memcpy(value + 12, &hard_le, 8);
	tlv_put(b, MON_X_RLIMIT, value, sizeof(value));
}

int mon_exec_put(struct buf *out, const struct agent_exec *x)
{
	_cleanup_buf_ struct buf b = { .limit = FRAME_MAX_EXEC };

	put_strings(&b, MON_X_ARG, &x->argv);
	put_strings(&b, MON_X_ENV, &x->env);
	if (x->cwd.n)
		tlv_put(&b, MON_X_CWD, x->cwd.p, x->cwd.n);
	if (x->user.n)
		tlv_put(&b, MON_X_USER, x->user.p, x->user.n);
	if (x->tty)
		tlv_put_u32(&b, MON_X_TTY, MIN(x->rows, 0xffffu) << 16 | MIN(x->cols, 0xffffu));
	for (size_t i = 0; i < MIN(x->n_rlimits, (size_t)AGENT_RLIMITS_MAX); i++)
		put_rlimit(&b, &x->rlimits[i]);
	if (x->timeout_ms)
		tlv_put_u64(&b, MON_X_TIMEOUT, x->timeout_ms);
	tlv_put_u32(&b, MON_X_STDIN, x->want_stdin);
	tlv_put_u32(&b, MON_X_WINDOW, x->window);
	tlv_put_u32(&b, MON_X_INIT, x->init);
	if (!buf_ok(&b))
		return b.len > FRAME_MAX_EXEC / 2 ? -EFBIG : -ENOMEM;
	return put(out, MON_EXEC, NULL, 0, (struct slice){ (const uint8_t *)b.data, b.len });
}

static int take_string(const struct tlv *t, struct strv *ret)
{
	if (ret->n >= AGENT_ARGS_MAX)
		return -E2BIG;
	if (memchr(t->p, 0, t->n))
		return -EBADMSG;
	return strv_addn(ret, (const char *)t->p, t->n);
}

static int take_slice(const struct tlv *t, size_t max, struct slice *ret)
{
	if (t->n > max)
		return -E2BIG;
	*ret = (struct slice){ t->p, t->n };
	return 0;
}

static int take_rlimit(const struct tlv *t, struct agent_exec *ret)
{
	if (t->n != RLIMIT_SIZE)
		return -EBADMSG;
	if (ret->n_rlimits >= AGENT_RLIMITS_MAX)
		return -E2BIG;
	ret->rlimits[ret->n_rlimits++] = (struct agent_rlimit){
		.resource = get_le32(t->p),
		.soft = get_le64(t->p + 4),
		.hard = get_le64(t->p + 12),
	};
	return 0;
}

static int take_tty(const struct tlv *t, struct agent_exec *ret)
{
	uint32_t v;
	int r = tlv_u32(t, &v);

	if (r < 0)
		return r;
	ret->tty = true;
	ret->rows = v >> 16;
	ret->cols = v & 0xffff;
	return 0;
}

static int take_bool(const struct tlv *t, bool *ret)
{
	uint32_t v;
	int r = tlv_u32(t, &v);

	if (r < 0)
		return r;
	if (v > 1)
		return -EBADMSG;
	*ret = v == 1;
	return 0;
}

static int take_entry(const struct tlv *t, struct agent_exec *ret)
{
	switch (t->tag) {
	case MON_X_ARG:
		return take_string(t, &ret->argv);
	case MON_X_ENV:
		return take_string(t, &ret->env);
	case MON_X_CWD:
		return take_slice(t, AGENT_PATH_MAX, &ret->cwd);
	case MON_X_USER:
		return take_slice(t, AGENT_USER_MAX, &ret->user);
	case MON_X_TTY:
		return take_tty(t, ret);
	case MON_X_RLIMIT:
		return take_rlimit(t, ret);
	case MON_X_TIMEOUT:
		return tlv_u64(t, &ret->timeout_ms);
	case MON_X_STDIN:
		return take_bool(t, &ret->want_stdin);
	case MON_X_WINDOW:
		return tlv_u32(t, &ret->window);
	case MON_X_INIT:
		return take_bool(t, &ret->init);
	default:
		return 0; /* a later version's */
	}
}

int mon_exec_decode(struct slice body, struct agent_exec *ret)
{
	struct tlv_in in = { body.p, body.n };
	struct tlv t;
	int r;

	*ret = (struct agent_exec){ 0 };
	while ((r = tlv_next(&in, &t)) > 0) {
		r = take_entry(&t, ret);
		if (r < 0)
			break;
	}
	if (r == 0 && ret->argv.n == 0)
		r = -EBADMSG;
	if (r < 0) {
		strv_done(&ret->argv);
		strv_done(&ret->env);
		*ret = (struct agent_exec){ 0 };
	}
	return r;
}
