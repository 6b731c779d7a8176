// SPDX-License-Identifier: Apache-2.0
/*
 * The host's view: a stream of frames with guest messages. Input: the size of the pieces it arrives in, then
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

static void check(const struct agent_guest_msg *m, const uint8_t *p, size_t n)
{
	switch (m->type) {
	case AGENT_GUEST_HELLO:
		check_slice(m->hello.magic, p, n, AGENT_NAME_MAX);
		break;
	case AGENT_GUEST_FAILED:
		check_slice(m->failed.message, p, n, AGENT_TEXT_MAX);
		break;
	case AGENT_GUEST_OUTPUT:
		FUZZ_CHECK(m->data.stream == AGENT_STDOUT || m->data.stream == AGENT_STDERR);
		FUZZ_CHECK(m->data.data.n > 0);
		check_slice(m->data.data, p, n, AGENT_DATA_MAX);
		break;
	case AGENT_GUEST_CREDIT:
		FUZZ_CHECK(m->credit.stream == AGENT_STDIN);
		break;
	default:
		break;
	}
}

/* Encoded, decoded and encoded again gives the same bytes twice. */
static void check_again(const struct agent_guest_msg *m)
{
	_cleanup_buf_ struct buf one = { 0 }, two = { 0 };
	struct agent_guest_msg again;

	FUZZ_CHECK(agent_guest_msg_put(&one, m) == 0);
	FUZZ_CHECK(agent_guest_msg_decode((uint8_t *)one.data + FRAME_HEADER, one.len - FRAME_HEADER,
					  &again) == 0);
	FUZZ_CHECK(again.type == m->type);
	FUZZ_CHECK(agent_guest_msg_put(&two, &again) == 0);
	FUZZ_CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
}

static void take_frames(struct frame_in *f)
{
	const uint8_t *p;
	size_t n;

	while (frame_in_next(f, &p, &n) == 1) {
		struct agent_guest_msg m;

		FUZZ_CHECK(n <= f->max);
		if (agent_guest_msg_decode(p, n, &m) < 0) {
			FUZZ_CHECK(m.type == AGENT_GUEST_NONE);
			continue;
		}
		check(&m, p, n);
		if (m.type != AGENT_GUEST_NONE)
			check_again(&m);
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
