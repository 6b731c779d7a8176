// SPDX-License-Identifier: Apache-2.0
// Tests of wire/marker.c: against the plain search of the whole stream.
#include "test.h"

#include "wire/marker.h"

/* Few different bytes and a repeating start, so that near misses are many. */
static const uint8_t HEAD[16] = { 'a', 'a', 'b', 'a', 'a', 'b', 'a', 'a' };
static const uint8_t REST[16] = { 'a', 'b' };

static uint32_t random_u32(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Feeds @stream in pieces of at most @step and says where the marker's end was found, or 0. */
static size_t find_in_pieces(const uint8_t *stream, size_t n, size_t step, uint32_t *seed)
{
	struct marker m = { 0 };
	size_t at = 0;

	marker_set(&m, HEAD, REST);
	while (at < n) {
		size_t want = random_u32(seed) % step + 1, start = SIZE_MAX;
		size_t piece = MIN(n - at, want);
		_cleanup_free_ uint8_t *copy = exact_copy(stream + at, piece);
		size_t end = marker_find(&m, copy, piece, &start);

		if (end) {
			assert_true(end <= piece);
			assert_int_equal(start, end > MARKER_SIZE ? end - MARKER_SIZE : 0);
			return at + end;
		}
		at += piece;
	}
	return 0;
}

static void found_wherever_it_is_cut(void **state)
{
	uint8_t stream[100], marker[MARKER_SIZE];

	(void)state;
	memcpy(marker, HEAD, 16);
	memcpy(marker + 16, REST, 16);
	for (size_t at = 0; at + MARKER_SIZE <= sizeof(stream); at++) {
		memset(stream, 'a', sizeof(stream));
		memcpy(stream + at, marker, MARKER_SIZE);
		const uint8_t *want = memmem(stream, sizeof(stream), marker, MARKER_SIZE);
		for (size_t cut = 0; cut <= sizeof(stream); cut++) {
			struct marker m = { 0 };
			size_t start, end;

			marker_set(&m, HEAD, REST);
			end = marker_find(&m, stream, cut, &start);
			if (!end) {
				end = marker_find(&m, stream + cut, sizeof(stream) - cut, &start);
				end = end ? end + cut : 0;
			}
			assert_int_equal(end, (size_t)(want - stream) + MARKER_SIZE);
		}
	}
}

static void agrees_with_a_plain_search(void **state)
{
	uint8_t stream[300], marker[MARKER_SIZE];
	uint32_t seed = 1;
	size_t hits = 0;

	(void)state;
	memcpy(marker, HEAD, 16);
	memcpy(marker + 16, REST, 16);
	for (int round = 0; round < 20000; round++) {
		for (size_t i = 0; i < sizeof(stream); i++)
			stream[i] = "aaab"[random_u32(&seed) % 4];
		/* parts of the marker, and now and then all of it */
		for (int i = 0; i < 4; i++) {
			size_t n = random_u32(&seed) % (MARKER_SIZE + 1);
			memcpy(stream + random_u32(&seed) % (sizeof(stream) - MARKER_SIZE), marker, n);
		}
		const uint8_t *want = memmem(stream, sizeof(stream), marker, MARKER_SIZE);
		size_t got = find_in_pieces(stream, sizeof(stream), 1 + random_u32(&seed) % 64, &seed);
		assert_int_equal(got, want ? (size_t)(want - stream) + MARKER_SIZE : 0);
		hits += want != NULL;
	}
	assert_true(hits > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_wherever_it_is_cut),
		cmocka_unit_test(agrees_with_a_plain_search),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
