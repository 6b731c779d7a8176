// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor protocol, both directions: a stream of frames, their messages, the exec request and TLV
 * lists in them. Input: the size of the pieces it arrives in, then the stream.
 */
#include <string.h>

#include "fuzz.h"
#include "wire/frame.h"
#include "wire/mon.h"
#include "wire/tlv.h"

#define TEXT_MAX 64 /* for tlv_str() */

static void check_slice(struct slice s, const uint8_t *p, size_t n, size_t max)
{
	FUZZ_CHECK(s.n <= max);
	if (s.n)
		FUZZ_CHECK(s.p >= p && s.p + s.n <= p + n);
}

static void exec_done(struct agent_exec *x)
{
	strv_done(&x->argv);
	strv_done(&x->env);
}

static void check_exec(const struct agent_exec *x, struct slice body)
{
	FUZZ_CHECK(x->argv.n >= 1 && x->argv.n <= AGENT_ARGS_MAX && x->env.n <= AGENT_ARGS_MAX);
	FUZZ_CHECK(x->n_rlimits <= AGENT_RLIMITS_MAX);
	check_slice(x->cwd, body.p, body.n, AGENT_PATH_MAX);
	check_slice(x->user, body.p, body.n, AGENT_USER_MAX);
}

/* An exec request that decodes survives being encoded again. */
static void try_exec(struct slice body)
{
	_cleanup_(exec_done) struct agent_exec x = { 0 }, again = { 0 };
	_cleanup_buf_ struct buf b = { 0 };

	if (mon_exec_decode(body, &x) < 0) {
		FUZZ_CHECK(!x.argv.v && !x.env.v);
		return;
	}
	check_exec(&x, body);
	FUZZ_CHECK(mon_exec_put(&b, &x) == 0);
	struct slice inner = { (uint8_t *)b.data + FRAME_HEADER + 4, b.len - FRAME_HEADER - 4 };
	FUZZ_CHECK(mon_exec_decode(inner, &again) == 0);
	FUZZ_CHECK(again.argv.n == x.argv.n && again.env.n == x.env.n && again.n_rlimits == x.n_rlimits);
	FUZZ_CHECK(memcmp(again.rlimits, x.rlimits, sizeof(x.rlimits)) == 0);
	FUZZ_CHECK(again.tty == x.tty && again.rows == x.rows && again.cols == x.cols &&
		   again.window == x.window);
	FUZZ_CHECK(again.timeout_ms == x.timeout_ms && again.want_stdin == x.want_stdin &&
		   again.init == x.init);
	for (size_t i = 0; i < x.argv.n; i++)
		FUZZ_CHECK(strcmp(again.argv.v[i], x.argv.v[i]) == 0);
}

static void try_tlv(struct slice body)
{
	struct tlv_in in = { body.p, body.n };
	struct tlv t;

	while (tlv_next(&in, &t) == 1) {
		char *s = NULL;
		uint32_t u32;
		uint64_t u64;

		check_slice((struct slice){ t.p, t.n }, body.p, body.n, body.n);
		FUZZ_CHECK(in.n == 0 || in.p == t.p + t.n);
		if (tlv_str(&t, TEXT_MAX, &s) == 0)
			FUZZ_CHECK(strlen(s) == t.n && t.n <= TEXT_MAX);
		FUZZ_CHECK((tlv_u32(&t, &u32) == 0) == (t.n == 4));
		FUZZ_CHECK((tlv_u64(&t, &u64) == 0) == (t.n == 8));
		free(s);
	}
}

static void check(const struct mon_msg *m, const uint8_t *p, size_t n)
{
	switch (m->type) {
	case MON_STDIN:
		FUZZ_CHECK(m->body.n > 0);
		check_slice(m->body, p, n, AGENT_DATA_MAX);
		break;
	case MON_OUTPUT:
		FUZZ_CHECK(m->output.stream == AGENT_STDOUT || m->output.stream == AGENT_STDERR);
		FUZZ_CHECK(m->output.data.n > 0);
		check_slice(m->output.data, p, n, AGENT_DATA_MAX);
		break;
	case MON_CREDIT:
		FUZZ_CHECK(m->credit.stream <= AGENT_STDERR);
		break;
	case MON_ERROR:
		check_slice(m->error.text, p, n, MON_TEXT_MAX);
		break;
	case MON_EXEC:
		try_exec(m->body);
		break;
	case MON_LAUNCH:
		try_tlv(m->body);
		break;
	default:
		break;
	}
}

/* The one encoding of a message is the bytes it came from (but for a STARTED of zeros). */
static void check_again(const struct mon_msg *m, const uint8_t *p, size_t n)
{
	_cleanup_buf_ struct buf b = { 0 };

	FUZZ_CHECK(mon_msg_put(&b, m) == 0);
	if (m->type == MON_STARTED && m->started.pid == 0)
		return;
	FUZZ_CHECK(b.len == n + FRAME_HEADER && memcmp(b.data + FRAME_HEADER, p, n) == 0);
}

static void take_frames(struct frame_in *f)
{
	const uint8_t *p;
	size_t n;

	while (frame_in_next(f, &p, &n) == 1) {
		struct mon_msg m;

		FUZZ_CHECK(n <= f->max);
		if (mon_msg_decode(p, n, &m) < 0)
			continue;
		check(&m, p, n);
		check_again(&m, p, n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(frame_in_done) struct frame_in f = { .max = KIB(64) };

	if (size < 1)
		return 0;
	size_t step = data[0] ? data[0] : size;
	for (size_t at = 1; at < size; at += step) {
		if (frame_in_push(&f, data + at, MIN(step, size - at)) < 0)
			break;
		take_frames(&f);
	}
	return 0;
}
