// SPDX-License-Identifier: Apache-2.0
// Bytes on their way into a socket that takes only so many.
#include "test.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/outq.h"

static void test_empty(void **state _unused_)
{
	struct outq q = { 0 };

	assert_int_equal(outq_flush(&q, -1), 1); /* nothing to write: the socket is not touched */
	assert_int_equal(outq_pending(&q), 0);
	outq_done(&q);
}

/* More than the socket holds, read in small pieces: each byte arrives once and in order. */
static void test_partial_writes(void **state _unused_)
{
	struct outq q = { 0 };
	size_t put = 0, got = 0;
	uint32_t in[1000];
	int sv[2], r, waits = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	while (put < 300000) {
		uint32_t word = (uint32_t)put++;
		buf_append(&q.buf, &word, sizeof(word));
	}
	do {
		r = outq_flush(&q, sv[0]);
		assert_true(r >= 0);
		waits += r == 0;
		assert_int_equal(r == 1, outq_pending(&q) == 0);
		ssize_t n = recv(sv[1], in, sizeof(in), MSG_DONTWAIT);
		for (ssize_t i = 0; i < n / 4; i++)
			assert_int_equal(in[i], got++);
		if (r == 0 && put < 300100) { /* and some more while it is half written */
			uint32_t word = (uint32_t)put++;
			buf_append(&q.buf, &word, sizeof(word));
		}
	} while (r == 0 || got < put);
	assert_true(waits > 1);
	assert_int_equal(got, put);
	close(sv[0]);
	close(sv[1]);
	outq_done(&q);
}

static void test_peer_gone(void **state _unused_)
{
	struct outq q = { 0 };
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	close(sv[1]);
	buf_puts(&q.buf, "hello");
	assert_int_equal(outq_flush(&q, sv[0]), -EPIPE); /* and no signal */
	close(sv[0]);
	outq_done(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_partial_writes),
		cmocka_unit_test(test_peer_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
