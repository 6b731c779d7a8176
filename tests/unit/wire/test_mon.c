// SPDX-License-Identifier: Apache-2.0
// Tests of wire/mon.c.
#include "test.h"

#include "wire/frame.h"
#include "wire/mon.h"
#include "wire/tlv.h"

#define SLICE(s) ((struct slice){ (const uint8_t *)(s), sizeof(s) - 1 })

static const uint16_t TYPES[] = {
	MON_EXEC,   MON_STDIN, MON_STDIN_END, MON_CREDIT,	MON_SIGNAL,  MON_RESIZE,
	MON_LAUNCH, MON_STOP,  MON_SNAPSHOT,  MON_PING,		MON_STARTED, MON_OUTPUT,
	MON_EXITED, MON_ERROR, MON_DONE,      MON_STDIN_CLOSED,
};

static struct mon_msg sample(uint16_t type)
{
	struct mon_msg m = { .type = type };

	switch (type) {
	case MON_EXEC:
	case MON_LAUNCH:
	case MON_STDIN:
		m.body = SLICE("some\0bytes");
		break;
	case MON_CREDIT:
		m.credit = (struct agent_credit){ AGENT_STDERR, 0x01020304 };
		break;
	case MON_SIGNAL:
	case MON_STOP:
	case MON_SNAPSHOT:
		m.u32 = 0xfffefdfc;
		break;
	case MON_RESIZE:
		m.resize.rows = 24;
		m.resize.cols = 80;
		break;
	case MON_STARTED:
		m.started.pid = 42;
		m.started.window = AGENT_WINDOW;
		break;
	case MON_OUTPUT:
		m.output = (struct agent_data){ AGENT_STDOUT, SLICE("out") };
		break;
	case MON_EXITED:
		m.exited.code = 1;
		m.exited.signal = 9;
		m.exited.flags = MON_F_TIMED_OUT | MON_F_OOM;
		break;
	case MON_ERROR:
		m.error.code = -7;
		m.error.sys_errno = ENOENT;
		m.error.text = SLICE("no such thing");
		break;
	default:
		break;
	}
	return m;
}

static void assert_slice(struct slice got, struct slice want)
{
	assert_int_equal(got.n, want.n);
	if (want.n)
		assert_memory_equal(got.p, want.p, want.n);
}

static void assert_same(const struct mon_msg *a, const struct mon_msg *b)
{
	assert_int_equal(a->type, b->type);
	switch (a->type) {
	case MON_OUTPUT:
		assert_int_equal(a->output.stream, b->output.stream);
		assert_slice(a->output.data, b->output.data);
		break;
	case MON_ERROR:
		assert_int_equal(a->error.code, b->error.code);
		assert_int_equal(a->error.sys_errno, b->error.sys_errno);
		assert_slice(a->error.text, b->error.text);
		break;
	case MON_EXEC:
	case MON_LAUNCH:
	case MON_STDIN:
		assert_slice(a->body, b->body);
		break;
	default: /* numbers only, and zero where there is none */
		assert_memory_equal(a, b, sizeof(*a));
		break;
	}
}

static struct slice payload(const struct buf *b)
{
	const uint8_t *p = (const uint8_t *)b->data;
	size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];

	assert_int_equal(b->len, n + FRAME_HEADER);
	return (struct slice){ p + FRAME_HEADER, n };
}

static void every_message_survives(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(TYPES); i++) {
		_cleanup_buf_ struct buf b = { 0 };
		struct mon_msg m = sample(TYPES[i]), got;

		assert_int_equal(mon_msg_put(&b, &m), 0);
		struct slice s = payload(&b);
		assert_int_equal(mon_msg_decode(s.p, s.n, &got), 0);
		assert_same(&got, &m);
	}
}

/* Cut short, a message with numbers is refused; one with bytes at the end may be shorter, not empty. */
static void every_truncation_is_safe(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(TYPES); i++) {
		_cleanup_buf_ struct buf b = { 0 };
		struct mon_msg m = sample(TYPES[i]), got;
		size_t least; /* payload from which on it is a message */

		assert_int_equal(mon_msg_put(&b, &m), 0);
		struct slice s = payload(&b);
		switch (TYPES[i]) {
		case MON_EXEC:
		case MON_LAUNCH:
			least = 4;
			break;
		case MON_STDIN:
			least = 5;
			break;
		case MON_OUTPUT:
			least = 9;
			break;
		case MON_ERROR:
			least = 12;
			break;
		default:
			least = s.n;
			break;
		}
		for (size_t n = 0; n < s.n; n++) {
			_cleanup_free_ uint8_t *cut = exact_copy(s.p, n);
			bool launch_started = TYPES[i] == MON_STARTED && n == 4;
			int want = n >= least || launch_started ? 0 : -EBADMSG;
			assert_int_equal(mon_msg_decode(cut, n, &got), want);
		}
	}
}

static int decode(const char *p, size_t n)
{
	_cleanup_free_ uint8_t *copy = exact_copy(p, n);
	struct mon_msg m;

	return mon_msg_decode(copy, n, &m);
}
#define DECODE(s) decode(s, sizeof(s) - 1)

static void bad_shapes_are_refused(void **state)
{
	(void)state;
	assert_int_equal(DECODE("\x09\0\2\0"), -EPROTONOSUPPORT);
	assert_int_equal(DECODE("\x09\0\1\0x"), -EBADMSG);		  /* PING with a body */
	assert_int_equal(DECODE("\x05\0\1\0\1\0\0\0\0"), -EBADMSG);	  /* SIGNAL too long */
	assert_int_equal(DECODE("\x04\0\1\0\3\0\0\0\1\0\0\0"), -EBADMSG); /* CREDIT for stream 3 */
	assert_int_equal(DECODE("\x21\0\1\0\0\0\0\0x"), -EBADMSG);	  /* OUTPUT on stdin */
	assert_int_equal(DECODE("\x21\0\1\0\3\0\0\0x"), -EBADMSG);
	assert_int_equal(DECODE("\x21\0\1\0\2\0\0\0x"), 0);
	assert_int_equal(DECODE("\x63\0\1\0whatever"), 0); /* a later version's type */
}

static void lengths_are_limited(void **state)
{
	_cleanup_free_ uint8_t *bytes = calloc(1, FRAME_MAX_EXEC);
	_cleanup_buf_ struct buf b = { 0 };
	struct mon_msg m = { .type = MON_STDIN, .body = { bytes, AGENT_DATA_MAX } }, got;

	(void)state;
	assert_int_equal(mon_msg_put(&b, &m), 0);
	struct slice s = payload(&b);
	assert_int_equal(mon_msg_decode(s.p, s.n, &got), 0);
	m.body.n++;
	assert_int_equal(mon_msg_put(&b, &m), -EFBIG);
	memcpy(bytes, "\2\0\1\0", 4);
	assert_int_equal(mon_msg_decode(bytes, 4 + AGENT_DATA_MAX + 1, &got), -EBADMSG);
	memcpy(bytes, "\x21\0\1\0\1", 5);
	assert_int_equal(mon_msg_decode(bytes, 8 + AGENT_DATA_MAX, &got), 0);
	assert_int_equal(mon_msg_decode(bytes, 8 + AGENT_DATA_MAX + 1, &got), -EBADMSG);
	memcpy(bytes, "\x23\0\1\0", 4);
	assert_int_equal(mon_msg_decode(bytes, 12 + MON_TEXT_MAX, &got), 0);
	assert_int_equal(mon_msg_decode(bytes, 12 + MON_TEXT_MAX + 1, &got), -EBADMSG);
	m = (struct mon_msg){ .type = MON_LAUNCH, .body = { bytes, FRAME_MAX_EXEC } };
	assert_int_equal(mon_msg_put(&b, &m), -EFBIG);
}

static void long_error_text_is_cut(void **state)
{
	_cleanup_free_ uint8_t *text = calloc(1, 1000);
	_cleanup_buf_ struct buf b = { 0 };
	struct mon_msg m = { .type = MON_ERROR, .error.text = { text, 1000 } }, got;

	(void)state;
	assert_int_equal(mon_msg_put(&b, &m), 0);
	struct slice s = payload(&b);
	assert_int_equal(mon_msg_decode(s.p, s.n, &got), 0);
	assert_int_equal(got.error.text.n, MON_TEXT_MAX);
}

static void launch_started_has_no_body(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct mon_msg m = { .type = MON_STARTED }, got;

	(void)state;
	assert_int_equal(mon_msg_put(&b, &m), 0);
	assert_memory_equal(b.data, "\0\0\0\4\x20\0\1\0", 8);
	assert_int_equal(b.len, 8);
	assert_int_equal(mon_msg_decode((const uint8_t *)b.data + 4, 4, &got), 0);
	assert_int_equal(got.started.pid, 0);
}

/* ---- exec ---- */

static void exec_done(struct agent_exec *x)
{
	strv_done(&x->argv);
	strv_done(&x->env);
}
#define _cleanup_exec_ _cleanup_(exec_done)

static void exec_survives(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_exec_ struct agent_exec got = { 0 };
	_cleanup_exec_ struct agent_exec x = {
		.cwd = SLICE("/srv"),
		.user = SLICE("nobody:nogroup"),
		.tty = true,
		.rows = 65535,
		.cols = 132,
		.rlimits = { { 7, 1, 2 }, { 9, UINT64_MAX, UINT64_MAX } },
		.n_rlimits = 2,
		.timeout_ms = UINT64_MAX,
		.want_stdin = true,
		.window = 77,
		.init = true,
	};
	struct mon_msg m;

	(void)state;
	strv_add(&x.argv, "sh");
	strv_add(&x.argv, "");
	strv_add(&x.argv, "\xfe");
	strv_add(&x.env, "A=b");
	assert_int_equal(mon_exec_put(&b, &x), 0);
	struct slice s = payload(&b);
	assert_int_equal(mon_msg_decode(s.p, s.n, &m), 0);
	assert_int_equal(m.type, MON_EXEC);
	assert_int_equal(mon_exec_decode(m.body, &got), 0);
	assert_int_equal(got.argv.n, 3);
	assert_string_equal(got.argv.v[1], "");
	assert_string_equal(got.argv.v[2], "\xfe");
	assert_int_equal(got.env.n, 1);
	assert_string_equal(got.env.v[0], "A=b");
	assert_slice(got.cwd, x.cwd);
	assert_slice(got.user, x.user);
	assert_true(got.tty && got.want_stdin && got.init);
	assert_int_equal(got.rows, 65535);
	assert_int_equal(got.cols, 132);
	assert_int_equal(got.n_rlimits, 2);
	assert_memory_equal(got.rlimits, x.rlimits, sizeof(x.rlimits));
	assert_int_equal(got.timeout_ms, UINT64_MAX);
	assert_int_equal(got.window, 77);
}

static void plain_exec_has_the_defaults(void **state)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_exec_ struct agent_exec x = { 0 }, got = { 0 };

	(void)state;
	strv_add(&x.argv, "true");
	assert_int_equal(mon_exec_put(&b, &x), 0);
	struct slice s = payload(&b);
	assert_int_equal(mon_exec_decode((struct slice){ s.p + 4, s.n - 4 }, &got), 0);
	assert_false(got.tty || got.want_stdin || got.init);
	assert_int_equal(got.cwd.n + got.user.n + got.env.n + got.n_rlimits, 0);
	assert_int_equal(got.timeout_ms, 0);
}

static int decode_list(const struct buf *b)
{
	struct agent_exec got;
	int r = mon_exec_decode((struct slice){ (const uint8_t *)b->data, b->len }, &got);

	if (r < 0)
		assert_null(got.argv.v);
	exec_done(&got);
	return r;
}

/* What mon_exec_decode() says to {"x"} and one more entry */
static int with_entry(uint16_t tag, const void *p, size_t n)
{
	_cleanup_buf_ struct buf b = { 0 };

	tlv_put_str(&b, MON_X_ARG, "x");
	tlv_put(&b, tag, p, n);
	return decode_list(&b);
}

static void exec_entries_are_checked(void **state)
{
	static const uint8_t bytes[AGENT_PATH_MAX + 1];
	_cleanup_buf_ struct buf none = { 0 }, cut = { 0 };

	(void)state;
	assert_int_equal(decode_list(&none), -EBADMSG); /* no argv */
	assert_int_equal(with_entry(999, "later", 5), 0);
	assert_int_equal(with_entry(MON_X_ARG, "a\0b", 3), -EBADMSG);
	assert_int_equal(with_entry(MON_X_ENV, "a\0b", 3), -EBADMSG);
	assert_int_equal(with_entry(MON_X_CWD, bytes, AGENT_PATH_MAX), 0);
	assert_int_equal(with_entry(MON_X_CWD, bytes, AGENT_PATH_MAX + 1), -E2BIG);
	assert_int_equal(with_entry(MON_X_USER, bytes, AGENT_USER_MAX + 1), -E2BIG);
	assert_int_equal(with_entry(MON_X_TTY, bytes, 3), -EBADMSG);
	assert_int_equal(with_entry(MON_X_RLIMIT, bytes, 20), 0);
	assert_int_equal(with_entry(MON_X_RLIMIT, bytes, 19), -EBADMSG);
	assert_int_equal(with_entry(MON_X_RLIMIT, bytes, 21), -EBADMSG);
	assert_int_equal(with_entry(MON_X_TIMEOUT, bytes, 4), -EBADMSG);
	assert_int_equal(with_entry(MON_X_STDIN, "\2\0\0\0", 4), -EBADMSG);
	assert_int_equal(with_entry(MON_X_STDIN, bytes, 5), -EBADMSG);
	assert_int_equal(with_entry(MON_X_INIT, "\0\1\0\0", 4), -EBADMSG);
	assert_int_equal(with_entry(MON_X_WINDOW, bytes, 8), -EBADMSG);
	tlv_put_str(&cut, MON_X_ARG, "x");
	buf_append(&cut, "\1", 1);
	assert_int_equal(decode_list(&cut), -EBADMSG);
}

static void exec_counts_are_limited(void **state)
{
	(void)state;
	for (size_t extra = 0; extra <= 1; extra++) {
		_cleanup_buf_ struct buf args = { 0 }, env = { 0 }, rlimits = { 0 };
		static const uint8_t zero[20];

		for (size_t i = 0; i < AGENT_ARGS_MAX + extra; i++)
			tlv_put(&args, MON_X_ARG, "a", 1);
		assert_int_equal(decode_list(&args), extra ? -E2BIG : 0);
		tlv_put(&env, MON_X_ARG, "a", 1);
		for (size_t i = 0; i < AGENT_ARGS_MAX + extra; i++)
			tlv_put(&env, MON_X_ENV, "", 0);
		assert_int_equal(decode_list(&env), extra ? -E2BIG : 0);
		tlv_put(&rlimits, MON_X_ARG, "a", 1);
		for (size_t i = 0; i < AGENT_RLIMITS_MAX + extra; i++)
			tlv_put(&rlimits, MON_X_RLIMIT, zero, sizeof(zero));
		assert_int_equal(decode_list(&rlimits), extra ? -E2BIG : 0);
	}
}

static void too_large_an_exec_is_refused(void **state)
{
	_cleanup_free_ char *arg = malloc(MIB(1));
	_cleanup_exec_ struct agent_exec x = { 0 };
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	memset(arg, 'a', MIB(1));
	for (int i = 0; i < 16; i++)
		assert_int_equal(strv_addn(&x.argv, arg, MIB(1)), 0);
	assert_int_equal(mon_exec_put(&b, &x), -EFBIG);
	assert_int_equal(b.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_survives),
		cmocka_unit_test(every_truncation_is_safe),
		cmocka_unit_test(bad_shapes_are_refused),
		cmocka_unit_test(lengths_are_limited),
		cmocka_unit_test(long_error_text_is_cut),
		cmocka_unit_test(launch_started_has_no_body),
		cmocka_unit_test(exec_survives),
		cmocka_unit_test(plain_exec_has_the_defaults),
		cmocka_unit_test(exec_entries_are_checked),
		cmocka_unit_test(exec_counts_are_limited),
		cmocka_unit_test(too_large_an_exec_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
