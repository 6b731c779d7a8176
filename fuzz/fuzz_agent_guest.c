// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's view: a stream of frames with host messages. Input: the size of the pieces it arrives in, then
 * the stream. What decodes must lie in its frame, keep the limits, and survive being encoded again.
 */
#include <string.h>

#include "fuzz.h"
#include "wire/agent_msg.h"
#include "wire/frame.h"

/* @s is empty or lies in the frame */
static void check_slice(struct slice s, const uint8_t *p, size_t n, size_t max)
{
	FUZZ_CHECK(s.n <= max);
	if (s.n)
		FUZZ_CHECK(s.p >= p && s.p + s.n <= p + n);
}

static void check_exec(const struct agent_exec *x, const uint8_t *p, size_t n)
{
	FUZZ_CHECK(x->argv.n >= 1 && x->argv.n <= AGENT_ARGS_MAX && x->env.n <= AGENT_ARGS_MAX);
	FUZZ_CHECK(x->n_rlimits <= AGENT_RLIMITS_MAX);
	FUZZ_CHECK(!x->argv.v[x->argv.n]);
	check_slice(x->cwd, p, n, AGENT_PATH_MAX);
	check_slice(x->user, p, n, AGENT_USER_MAX);
}

static void check(const struct agent_host_msg *m, const uint8_t *p, size_t n)
{
	switch (m->type) {
	case AGENT_HOST_HELLO:
		check_slice(m->hello.magic, p, n, AGENT_NAME_MAX);
		break;
	case AGENT_HOST_REFRESH:
		check_slice(m->refresh.entropy, p, n, AGENT_ENTROPY_MAX);
		check_slice(m->refresh.hostname, p, n, AGENT_NAME_MAX);
		check_slice(m->refresh.machine_id, p, n, AGENT_NAME_MAX);
		break;
	case AGENT_HOST_SETUP:
		check_slice(m->setup.root_serial, p, n, AGENT_NAME_MAX);
		check_slice(m->setup.root_fstype, p, n, AGENT_NAME_MAX);
		check_slice(m->setup.upper_serial, p, n, AGENT_NAME_MAX);
		check_slice(m->setup.console_shell, p, n, AGENT_PATH_MAX);
		break;
	case AGENT_HOST_EXEC:
		check_exec(&m->exec, p, n);
		break;
	case AGENT_HOST_STDIN:
		FUZZ_CHECK(m->data.stream == AGENT_STDIN && m->data.data.n > 0);
		check_slice(m->data.data, p, n, AGENT_DATA_MAX);
		break;
	case AGENT_HOST_CREDIT:
		FUZZ_CHECK(m->credit.stream == AGENT_STDOUT || m->credit.stream == AGENT_STDERR);
		break;
	default:
		break;
	}
}

/* Encoded, decoded and encoded again gives the same bytes twice. */
static void check_again(const struct agent_host_msg *m)
{
	_cleanup_buf_ struct buf one = { 0 }, two = { 0 };
	struct agent_host_msg again;

	FUZZ_CHECK(agent_host_msg_put(&one, m) == 0);
	FUZZ_CHECK(agent_host_msg_decode((uint8_t *)one.data + FRAME_HEADER, one.len - FRAME_HEADER,
					 &again) == 0);
	FUZZ_CHECK(again.type == m->type);
	FUZZ_CHECK(agent_host_msg_put(&two, &again) == 0);
	FUZZ_CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
	agent_host_msg_done(&again);
}

static void take_frames(struct frame_in *f)
{
	const uint8_t *p;
	size_t n;

	while (frame_in_next(f, &p, &n) == 1) {
		struct agent_host_msg m;

		FUZZ_CHECK(n <= f->max);
		if (agent_host_msg_decode(p, n, &m) < 0) {
			FUZZ_CHECK(m.type == AGENT_HOST_NONE);
			continue;
		}
		check(&m, p, n);
		if (m.type != AGENT_HOST_NONE)
			check_again(&m);
		agent_host_msg_done(&m);
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
