// SPDX-License-Identifier: Apache-2.0
// Tests of wire/agent_msg.c.
#include "test.h"

#include "wire/agent_msg.h"
#include "wire/frame.h"

#define SLICE(s) ((struct slice){ (const uint8_t *)(s), sizeof(s) - 1 })

static void assert_slice(struct slice got, struct slice want)
{
	assert_int_equal(got.n, want.n);
	if (want.n)
		assert_memory_equal(got.p, want.p, want.n);
}

static void assert_strv(const struct strv *got, const struct strv *want)
{
	assert_int_equal(got->n, want->n);
	for (size_t i = 0; i < want->n; i++)
		assert_string_equal(got->v[i], want->v[i]);
}

/* ---- one of each message ---- */

static struct agent_host_msg host_sample(enum agent_host_type type, struct strv *argv, struct strv *env)
{
	struct agent_host_msg m = { .type = type };

	switch (type) {
	case AGENT_HOST_HELLO:
		m.hello = (struct agent_hello){ SLICE(AGENT_MAGIC), 1, 3, UINT64_MAX };
		break;
	case AGENT_HOST_REFRESH:
		m.refresh = (struct agent_refresh){
			7,
			SLICE("0123456789abcdef\0 123456789abcdef"),
			UINT64_MAX - 1,
			SLICE("box"),
			SLICE("0123456789abcdef0123456789abcdef"),
			1ull << 40,
			3,
		};
		break;
	case AGENT_HOST_SETUP:
		m.setup = (struct agent_setup){ SLICE("root"),	SLICE("erofs"), true,
						SLICE("upper"), 1ull << 35,	SLICE("/bin/sh") };
		break;
	case AGENT_HOST_EXEC:
		m.exec = (struct agent_exec){
			.argv = *argv,
			.env = *env,
			.cwd = SLICE("/tmp"),
			.user = SLICE("1000:1000"),
			.tty = true,
			.rows = 24,
			.cols = 80,
			.rlimits = { { 7, 1024, UINT64_MAX }, { 0, 0, 0 } },
			.n_rlimits = 2,
			.timeout_ms = 5000,
			.want_stdin = true,
			.window = AGENT_WINDOW,
			.init = true,
		};
		break;
	case AGENT_HOST_STDIN:
		m.data = (struct agent_data){ AGENT_STDIN, SLICE("in\0put") };
		break;
	case AGENT_HOST_CREDIT:
		m.credit = (struct agent_credit){ AGENT_STDERR, UINT32_MAX };
		break;
	case AGENT_HOST_SIGNAL:
		m.signal = 15;
		break;
	case AGENT_HOST_RESIZE:
		m.resize.rows = 50;
		m.resize.cols = 132;
		break;
	default:
		break;
	}
	return m;
}

static struct agent_guest_msg guest_sample(enum agent_guest_type type)
{
	struct agent_guest_msg m = { .type = type };

	switch (type) {
	case AGENT_GUEST_HELLO:
		m.hello = (struct agent_hello){ SLICE(AGENT_MAGIC), 1, 1, 0 };
		break;
	case AGENT_GUEST_FAILED:
		m.failed = (struct agent_failed){ AGENT_FAIL_NOT_FOUND, ENOENT, SLICE("no such program") };
		break;
	case AGENT_GUEST_STARTED:
		m.started.pid = 42;
		m.started.window = AGENT_WINDOW;
		break;
	case AGENT_GUEST_OUTPUT:
		m.data = (struct agent_data){ AGENT_STDERR, SLICE("out\0put") };
		break;
	case AGENT_GUEST_CREDIT:
		m.credit = (struct agent_credit){ AGENT_STDIN, 1 };
		break;
	case AGENT_GUEST_EXITED:
		m.exited = (struct agent_exited){ 3, 9, true, true };
		break;
	default:
		break;
	}
	return m;
}

static void assert_host_same(const struct agent_host_msg *a, const struct agent_host_msg *b)
{
	assert_int_equal(a->type, b->type);
	switch (a->type) {
	case AGENT_HOST_HELLO:
		assert_slice(a->hello.magic, b->hello.magic);
		assert_int_equal(a->hello.version_min, b->hello.version_min);
		assert_int_equal(a->hello.version_max, b->hello.version_max);
		assert_int_equal(a->hello.capabilities, b->hello.capabilities);
		break;
	case AGENT_HOST_REFRESH:
		assert_int_equal(a->refresh.generation, b->refresh.generation);
		assert_slice(a->refresh.entropy, b->refresh.entropy);
		assert_int_equal(a->refresh.wall_ns, b->refresh.wall_ns);
		assert_slice(a->refresh.hostname, b->refresh.hostname);
		assert_slice(a->refresh.machine_id, b->refresh.machine_id);
		assert_int_equal(a->refresh.memory_max, b->refresh.memory_max);
		assert_int_equal(a->refresh.cpus, b->refresh.cpus);
		break;
	case AGENT_HOST_SETUP:
		assert_slice(a->setup.root_serial, b->setup.root_serial);
		assert_slice(a->setup.root_fstype, b->setup.root_fstype);
		assert_int_equal(a->setup.root_rw, b->setup.root_rw);
		assert_slice(a->setup.upper_serial, b->setup.upper_serial);
		assert_int_equal(a->setup.upper_size, b->setup.upper_size);
		assert_slice(a->setup.console_shell, b->setup.console_shell);
		break;
	case AGENT_HOST_EXEC:
		assert_strv(&a->exec.argv, &b->exec.argv);
		assert_strv(&a->exec.env, &b->exec.env);
		assert_slice(a->exec.cwd, b->exec.cwd);
		assert_slice(a->exec.user, b->exec.user);
		assert_int_equal(a->exec.tty, b->exec.tty);
		assert_int_equal(a->exec.rows, b->exec.rows);
		assert_int_equal(a->exec.cols, b->exec.cols);
		assert_int_equal(a->exec.n_rlimits, b->exec.n_rlimits);
		assert_memory_equal(a->exec.rlimits, b->exec.rlimits, sizeof(a->exec.rlimits));
		assert_int_equal(a->exec.timeout_ms, b->exec.timeout_ms);
		assert_int_equal(a->exec.want_stdin, b->exec.want_stdin);
		assert_int_equal(a->exec.window, b->exec.window);
		assert_int_equal(a->exec.init, b->exec.init);
		break;
	case AGENT_HOST_STDIN:
		assert_int_equal(a->data.stream, b->data.stream);
		assert_slice(a->data.data, b->data.data);
		break;
	case AGENT_HOST_CREDIT:
		assert_int_equal(a->credit.stream, b->credit.stream);
		assert_int_equal(a->credit.bytes, b->credit.bytes);
		break;
	case AGENT_HOST_SIGNAL:
		assert_int_equal(a->signal, b->signal);
		break;
	case AGENT_HOST_RESIZE:
		assert_int_equal(a->resize.rows, b->resize.rows);
		assert_int_equal(a->resize.cols, b->resize.cols);
		break;
	default:
		break;
	}
}

static void assert_guest_same(const struct agent_guest_msg *a, const struct agent_guest_msg *b)
{
	assert_int_equal(a->type, b->type);
	switch (a->type) {
	case AGENT_GUEST_HELLO:
		assert_slice(a->hello.magic, b->hello.magic);
		assert_int_equal(a->hello.version_max, b->hello.version_max);
		break;
	case AGENT_GUEST_FAILED:
		assert_int_equal(a->failed.kind, b->failed.kind);
		assert_int_equal(a->failed.sys_errno, b->failed.sys_errno);
		assert_slice(a->failed.message, b->failed.message);
		break;
	case AGENT_GUEST_STARTED:
		assert_int_equal(a->started.pid, b->started.pid);
		assert_int_equal(a->started.window, b->started.window);
		break;
	case AGENT_GUEST_OUTPUT:
		assert_int_equal(a->data.stream, b->data.stream);
		assert_slice(a->data.data, b->data.data);
		break;
	case AGENT_GUEST_CREDIT:
		assert_int_equal(a->credit.stream, b->credit.stream);
		assert_int_equal(a->credit.bytes, b->credit.bytes);
		break;
	case AGENT_GUEST_EXITED:
		assert_memory_equal(&a->exited, &b->exited, sizeof(a->exited));
		break;
	default:
		break;
	}
}

/* The payload of the one frame in @b */
static struct slice payload(const struct buf *b)
{
	const uint8_t *p = (const uint8_t *)b->data;
	size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];

	assert_int_equal(b->len, n + FRAME_HEADER);
	return (struct slice){ p + FRAME_HEADER, n };
}

static void make_args(struct strv *argv, struct strv *env)
{
	assert_int_equal(strv_add(argv, "/bin/echo"), 0);
	assert_int_equal(strv_add(argv, ""), 0);
	assert_int_equal(strv_add(argv, "\xff\x01 not UTF-8"), 0);
	assert_int_equal(strv_add(env, "A=1"), 0);
	assert_int_equal(strv_add(env, ""), 0);
}

/* ---- tests ---- */

static void every_host_message_survives(void **state)
{
	_cleanup_strv_ struct strv argv = { 0 }, env = { 0 };

	(void)state;
	make_args(&argv, &env);
	for (int type = AGENT_HOST_HELLO; type <= AGENT_HOST_SYNC; type++) {
		_cleanup_buf_ struct buf b = { 0 };
		struct agent_host_msg m = host_sample((enum agent_host_type)type, &argv, &env), got;

		assert_int_equal(agent_host_msg_put(&b, &m), 0);
		struct slice s = payload(&b);
		assert_int_equal(agent_host_msg_decode(s.p, s.n, &got), 0);
		assert_host_same(&got, &m);
		agent_host_msg_done(&got);
	}
}

static void every_guest_message_survives(void **state)
{
	(void)state;
	for (int type = AGENT_GUEST_HELLO; type <= AGENT_GUEST_STDIN_CLOSED; type++) {
		_cleanup_buf_ struct buf b = { 0 };
		struct agent_guest_msg m = guest_sample((enum agent_guest_type)type), got;

		assert_int_equal(agent_guest_msg_put(&b, &m), 0);
		struct slice s = payload(&b);
		assert_int_equal(agent_guest_msg_decode(s.p, s.n, &got), 0);
		assert_guest_same(&got, &m);
	}
}

/* A message cut short is refused, or is nothing at all; and no byte past the cut is read (ASan, valgrind). */
static void every_truncation_is_refused(void **state)
{
	_cleanup_strv_ struct strv argv = { 0 }, env = { 0 };

	(void)state;
	make_args(&argv, &env);
	for (int type = AGENT_HOST_HELLO; type <= AGENT_HOST_SYNC; type++) {
		_cleanup_buf_ struct buf b = { 0 };
		struct agent_host_msg m = host_sample((enum agent_host_type)type, &argv, &env), got;

		assert_int_equal(agent_host_msg_put(&b, &m), 0);
		struct slice s = payload(&b);
		for (size_t n = 0; n < s.n; n++) {
			_cleanup_free_ uint8_t *cut = exact_copy(s.p, n);
			assert_int_equal(agent_host_msg_decode(cut, n, &got), n == 0 ? 0 : -EBADMSG);
			assert_int_equal(got.type, AGENT_HOST_NONE);
		}
	}
	for (int type = AGENT_GUEST_HELLO; type <= AGENT_GUEST_STDIN_CLOSED; type++) {
		_cleanup_buf_ struct buf b = { 0 };
		struct agent_guest_msg m = guest_sample((enum agent_guest_type)type), got;

		assert_int_equal(agent_guest_msg_put(&b, &m), 0);
		struct slice s = payload(&b);
		for (size_t n = 0; n < s.n; n++) {
			_cleanup_free_ uint8_t *cut = exact_copy(s.p, n);
			assert_int_equal(agent_guest_msg_decode(cut, n, &got), n == 0 ? 0 : -EBADMSG);
			assert_int_equal(got.type, AGENT_GUEST_NONE);
		}
	}
}

static int decode_host(const char *bytes, size_t n)
{
	struct agent_host_msg m;
	_cleanup_free_ uint8_t *copy = exact_copy(bytes, n);
	int r = agent_host_msg_decode(copy, n, &m);

	if (r < 0)
		assert_int_equal(m.type, AGENT_HOST_NONE);
	agent_host_msg_done(&m);
	return r;
}

static int decode_guest(const char *bytes, size_t n)
{
	struct agent_guest_msg m;
	_cleanup_free_ uint8_t *copy = exact_copy(bytes, n);

	return agent_guest_msg_decode(copy, n, &m);
}

#define HOST(bytes)  decode_host(bytes, sizeof(bytes) - 1)
#define GUEST(bytes) decode_guest(bytes, sizeof(bytes) - 1)

static void unknown_messages_are_none(void **state)
{
	struct agent_host_msg m;
	struct agent_guest_msg g;

	(void)state;
	assert_int_equal(agent_host_msg_decode((const uint8_t *)"\x7a\x01x", 3, &m), 0); /* field 15 */
	assert_int_equal(m.type, AGENT_HOST_NONE);
	assert_int_equal(agent_guest_msg_decode((const uint8_t *)"\x4a\x00", 2, &g), 0); /* field 9 */
	assert_int_equal(g.type, AGENT_GUEST_NONE);
	/* …next to a known one they are skipped, as are unknown fields in it */
	assert_int_equal(agent_host_msg_decode((const uint8_t *)"\x7a\x01x\x6a\x02\x08\x05\x78\x01", 9, &m),
			 0);
	assert_int_equal(m.type, AGENT_HOST_PING);
}

static void malformed_outer_is_refused(void **state)
{
	(void)state;
	assert_int_equal(HOST("\x6a\x00\x6a\x00"), -EBADMSG);	      /* two messages */
	assert_int_equal(HOST("\x68\x01"), -EBADMSG);		      /* ping as a number */
	assert_int_equal(HOST("\x02\x00"), -EBADMSG);		      /* field 0 */
	assert_int_equal(HOST("\x6a\x05\x00"), -EBADMSG);	      /* longer than the frame */
	assert_int_equal(HOST("\x6a\xff\xff\xff\xff\x0f"), -EBADMSG); /* much longer */
	assert_int_equal(HOST("\x77"), -EBADMSG);		      /* wire type 7 */
	assert_int_equal(HOST("\x73\x74"), -EBADMSG);		      /* groups */
	assert_int_equal(HOST("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), -EBADMSG);
	assert_int_equal(GUEST("\x12\x00\x12\x00"), -EBADMSG);
}

/* nanopb hands a callback the bytes of a number on its own stack: borrowed, they would dangle. */
static void numbers_where_bytes_belong_are_refused(void **state)
{
	(void)state;
	assert_int_equal(HOST("\x0a\x02\x08\x01"), -EBADMSG);		  /* hello.magic = varint */
	assert_int_equal(HOST("\x22\x02\x08\x61"), -EBADMSG);		  /* exec.argv = varint */
	assert_int_equal(HOST("\x22\x05\x0d\x61\x61\x61\x61"), -EBADMSG); /* exec.argv = fixed32 */
	assert_int_equal(HOST("\x22\x06\x0a\x01z\x1d\x01"), -EBADMSG);	  /* cut short */
	assert_int_equal(GUEST("\x2a\x04\x08\x01\x10\x41"), -EBADMSG);	  /* output.data = varint */
	assert_int_equal(GUEST("\x1a\x09\x19\x41\x41\x41\x41\x41\x41\x41\x41"), -EBADMSG);
}

static void streams_are_checked(void **state)
{
	(void)state;
	assert_int_equal(HOST("\x2a\x03\x12\x01x"), 0);		       /* stdin, stream 0 */
	assert_int_equal(HOST("\x2a\x05\x08\x01\x12\x01x"), -EBADMSG); /* stream 1 */
	assert_int_equal(HOST("\x2a\x02\x12\x00"), -EBADMSG);	       /* no bytes */
	assert_int_equal(HOST("\x2a\x00"), -EBADMSG);
	assert_int_equal(HOST("\x3a\x02\x10\x01"), -EBADMSG); /* credit for stdin from the host */
	assert_int_equal(HOST("\x3a\x04\x08\x02\x10\x01"), 0);
	assert_int_equal(HOST("\x3a\x04\x08\x03\x10\x01"), -EBADMSG);
	assert_int_equal(GUEST("\x2a\x03\x12\x01x"), -EBADMSG); /* output on stream 0 */
	assert_int_equal(GUEST("\x2a\x05\x08\x02\x12\x01x"), 0);
	assert_int_equal(GUEST("\x2a\x05\x08\x03\x12\x01x"), -EBADMSG);
	assert_int_equal(GUEST("\x32\x02\x10\x01"), 0);
	assert_int_equal(GUEST("\x32\x04\x08\x01\x10\x01"), -EBADMSG); /* credit for stdout from the guest */
	assert_int_equal(HOST("\x3a\x08\x08\x01\x10\xff\xff\xff\xff\x1f"), -EBADMSG); /* over 32 bits */
}

static void exec_strings_are_checked(void **state)
{
	(void)state;
	assert_int_equal(HOST("\x22\x00"), -EBADMSG);			  /* no argv */
	assert_int_equal(HOST("\x22\x02\x0a\x00"), 0);			  /* an empty one */
	assert_int_equal(HOST("\x22\x05\x0a\x03\x61\x00\x62"), -EBADMSG); /* NUL inside */
	assert_int_equal(HOST("\x22\x06\x0a\x01z\x12\x01\x00"), -EBADMSG);
}

/* A host message of one bytes field: outer field @tag, inner field @inner, @n bytes of 'a' */
static int host_with_bytes(uint8_t tag, uint8_t inner, size_t n)
{
	_cleanup_buf_ struct buf b = { 0 };
	uint8_t head[] = { (uint8_t)(tag << 3 | 2), 0, 0, 0, (uint8_t)(inner << 3 | 2), 0, 0, 0 };

	for (int i = 0; i < 3; i++) {
		head[1 + i] = (uint8_t)(((n + 4) >> 7 * i & 0x7f) | (i < 2 ? 0x80 : 0));
		head[5 + i] = (uint8_t)((n >> 7 * i & 0x7f) | (i < 2 ? 0x80 : 0));
	}
	buf_append(&b, head, sizeof(head));
	assert_int_equal(buf_reserve(&b, n), 0);
	memset(b.data + b.len, 'a', n);
	return decode_host(b.data, b.len + n);
}

static void lengths_are_limited(void **state)
{
	static const struct {
		uint8_t tag, inner;
		size_t max;
	} limits[] = {
		{ 1, 1, AGENT_NAME_MAX }, { 2, 2, AGENT_ENTROPY_MAX }, { 2, 4, AGENT_NAME_MAX },
		{ 2, 5, AGENT_NAME_MAX }, { 3, 1, AGENT_NAME_MAX },    { 3, 2, AGENT_NAME_MAX },
		{ 3, 4, AGENT_NAME_MAX }, { 3, 6, AGENT_PATH_MAX },    { 5, 2, AGENT_DATA_MAX },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		assert_int_equal(host_with_bytes(limits[i].tag, limits[i].inner, limits[i].max), 0);
		assert_int_equal(host_with_bytes(limits[i].tag, limits[i].inner, limits[i].max + 1), -E2BIG);
	}
	/* these need argv besides */
	assert_int_equal(host_with_bytes(4, 3, AGENT_PATH_MAX), -EBADMSG);
	assert_int_equal(host_with_bytes(4, 3, AGENT_PATH_MAX + 1), -E2BIG);
	assert_int_equal(host_with_bytes(4, 4, AGENT_USER_MAX), -EBADMSG);
	assert_int_equal(host_with_bytes(4, 4, AGENT_USER_MAX + 1), -E2BIG);
}

static void counts_are_limited(void **state)
{
	(void)state;
	for (uint8_t inner = 1; inner <= 2; inner++) {
		for (size_t extra = 0; extra <= 1; extra++) {
			_cleanup_buf_ struct buf b = { 0 };
			size_t n = 2 * (AGENT_ARGS_MAX + extra) + 2;
			uint8_t head[] = { 0x22, (uint8_t)(n | 0x80), (uint8_t)(n >> 7 | 0x80),
					   (uint8_t)(n >> 14) };
			char entry[2] = { (char)(inner << 3 | 2), 0 };

			buf_append(&b, head, sizeof(head));
			for (size_t i = 0; i < AGENT_ARGS_MAX + extra; i++)
				buf_append(&b, entry, 2);
			buf_append(&b, inner == 1 ? "\x12\x00" : "\x0a\x00", 2);
			assert_int_equal(decode_host(b.data, b.len), extra ? -E2BIG : 0);
		}
	}
	for (size_t extra = 0; extra <= 1; extra++) {
		_cleanup_buf_ struct buf b = { 0 };
		size_t n = 2 * (AGENT_RLIMITS_MAX + extra) + 2;
		uint8_t head[] = { 0x22, (uint8_t)n, 0x0a, 0 };

		buf_append(&b, head, sizeof(head));
		for (size_t i = 0; i < AGENT_RLIMITS_MAX + extra; i++)
			buf_append(&b, "\x42\x00", 2);
		assert_int_equal(decode_host(b.data, b.len), extra ? -E2BIG : 0);
	}
}

static void bad_rlimits_are_refused(void **state)
{
	(void)state;
	assert_int_equal(HOST("\x22\x05\x0a\x00\x42\x01\x08"), -EBADMSG); /* cut inside */
	assert_int_equal(HOST("\x22\x04\x0a\x00\x40\x01"), -EBADMSG);	  /* a number */
}

static void put_refuses_what_would_not_decode(void **state)
{
	_cleanup_free_ uint8_t *big = calloc(1, FRAME_MAX_EXEC);
	_cleanup_buf_ struct buf b = { 0 };
	struct agent_host_msg in = { .type = AGENT_HOST_STDIN, .data = { 0, { big, AGENT_DATA_MAX + 1 } } };
	struct agent_host_msg x = { .type = AGENT_HOST_EXEC, .exec.n_rlimits = AGENT_RLIMITS_MAX + 1 };
	struct agent_host_msg s = { .type = AGENT_HOST_SETUP, .setup.console_shell = { big, FRAME_MAX } };
	struct agent_guest_msg f = { .type = AGENT_GUEST_FAILED,
				     .failed.message = { big, AGENT_TEXT_MAX + 1 } };

	(void)state;
	assert_int_equal(agent_host_msg_put(&b, &in), -E2BIG);
	assert_int_equal(agent_host_msg_put(&b, &x), -E2BIG);
	assert_int_equal(agent_host_msg_put(&b, &s), -E2BIG);
	assert_int_equal(agent_guest_msg_put(&b, &f), -E2BIG);
	x.exec.n_rlimits = 0;
	x.exec.cwd = (struct slice){ big, FRAME_MAX_EXEC };
	assert_int_equal(agent_host_msg_put(&b, &x), -E2BIG);
	assert_int_equal(b.len, 0);
	assert_true(buf_ok(&b));
	f.failed.message.n = AGENT_TEXT_MAX;
	assert_int_equal(agent_guest_msg_put(&b, &f), 0);
}

static void put_tells_of_a_full_buffer(void **state)
{
	_cleanup_buf_ struct buf b = { .limit = 5 };
	struct agent_host_msg m = { .type = AGENT_HOST_PING };

	(void)state;
	assert_int_equal(agent_host_msg_put(&b, &m), -EFBIG);
	assert_int_equal(b.len, 0);
}

static void the_largest_exec_fits(void **state)
{
	struct agent_host_msg m = { .type = AGENT_HOST_EXEC }, got;
	_cleanup_free_ char *arg = malloc(KIB(128));
	_cleanup_buf_ struct buf b = { 0 };

	(void)state;
	memset(arg, 'a', KIB(128));
	/* What Linux takes at most for one argument, as often as a frame holds it. */
	for (int i = 0; i < 127; i++)
		assert_int_equal(strv_addn(&m.exec.argv, arg, KIB(128) - 1), 0);
	assert_int_equal(agent_host_msg_put(&b, &m), 0);
	struct slice s = payload(&b);
	assert_int_equal(agent_host_msg_decode(s.p, s.n, &got), 0);
	assert_host_same(&got, &m);
	agent_host_msg_done(&got);
	agent_host_msg_done(&m);
	assert_int_equal(m.type, AGENT_HOST_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_host_message_survives),
		cmocka_unit_test(every_guest_message_survives),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(unknown_messages_are_none),
		cmocka_unit_test(malformed_outer_is_refused),
		cmocka_unit_test(numbers_where_bytes_belong_are_refused),
		cmocka_unit_test(streams_are_checked),
		cmocka_unit_test(exec_strings_are_checked),
		cmocka_unit_test(lengths_are_limited),
		cmocka_unit_test(counts_are_limited),
		cmocka_unit_test(bad_rlimits_are_refused),
		cmocka_unit_test(put_refuses_what_would_not_decode),
		cmocka_unit_test(put_tells_of_a_full_buffer),
		cmocka_unit_test(the_largest_exec_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
