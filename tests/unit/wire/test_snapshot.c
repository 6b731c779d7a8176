// SPDX-License-Identifier: Apache-2.0
// Headers of snapshot files: round trip, whose they are, damage at every byte.
#include "test.h"
#include "wire/snapshot.h"

static const uint8_t key[SNAPSHOT_KEY_SIZE] = "the state directory's own key...";

static void add(struct snapshot *s, uint32_t part, uint32_t bytes, uint64_t at)
{
	struct snapshot_chunk c = { .part = part, .bytes = bytes, .at = at };

	memset(c.digest, (int)part, sizeof(c.digest));
	assert_int_equal(snapshot_add_chunk(s, &c), 0);
}

static void fill(struct snapshot *s)
{
	*s = (struct snapshot){ .arch = strdup("x86_64"),
				.engine = strdup("qemu"),
				.engine_digest = strdup("e"),
				.machine = strdup("q35"),
				.accel = strdup("tcg"),
				.cpu = strdup("a cpu"),
				.cpu_digest = strdup("c"),
				.base_digest = strdup("b"),
				.image = strdup(""),
				.image_digest = strdup("i"),
				.fstype = strdup("erofs"),
				.spec = strdup("{}"),
				.layout = 1,
				.page_size = 4096,
				.vcpus = 4,
				.cpus = 3,
				.memory = 16 << 20,
				.memory_max = 15 << 20,
				.upper_bytes = 1 << 30,
				.root_bytes = 8192,
				.state_bytes = 5000,
				.layer_bytes = { 196608, 65536 },
				.n_layers = 2 };
	memset(s->key, 7, sizeof(s->key));
	add(s, SNAPSHOT_MEMORY, 65536, 0);
	add(s, SNAPSHOT_MEMORY, 4096, 1 << 20);
	add(s, SNAPSHOT_STATE, 5000, 0);
	add(s, SNAPSHOT_DISK, 196608, 0);
	add(s, SNAPSHOT_DISK + 1, 1, 65535);
}

#define FILE_DATA (65536 + 4096 + 5000 + 196608 + 1)

static void encode(struct snapshot *s, struct buf *b)
{
	fill(s);
	assert_int_equal(snapshot_encode(s, key, b), 0);
}

static void round_trip(void **state)
{
	_cleanup_(snapshot_done) struct snapshot a = { 0 }, z = { 0 };
	_cleanup_buf_ struct buf b = { 0 };
	bool own = false;
	size_t header;

	(void)state;
	encode(&a, &b);
	assert_int_equal(snapshot_peek((uint8_t *)b.data, b.len, b.len + FILE_DATA, &header), 0);
	assert_int_equal(header, b.len);
	assert_int_equal(snapshot_decode((uint8_t *)b.data, b.len, key, &z, &own), 0);
	assert_true(own);
	assert_string_equal(z.machine, "q35");
	assert_string_equal(z.spec, "{}");
	assert_string_equal(z.image, "");
	assert_int_equal(z.cpus, 3);
	assert_int_equal(z.memory_max, 15 << 20);
	assert_int_equal(z.root_bytes, 8192);
	assert_memory_equal(z.key, a.key, sizeof(z.key));
	assert_int_equal(z.n_layers, 2);
	assert_int_equal(z.layer_bytes[1], 65536);
	assert_int_equal(z.n_chunks, 5);
	assert_memory_equal(z.chunks, a.chunks, 5 * sizeof(*z.chunks));
	assert_int_equal(z.chunks[4].offset, b.len + FILE_DATA - 1);
	assert_int_equal(snapshot_part_bytes(&z, SNAPSHOT_DISK + 1), 65536);
	assert_int_equal(snapshot_part_bytes(&z, SNAPSHOT_DISK + 2), 0);
	assert_int_equal(snapshot_part_bytes(&z, 0), 0);
}

static void another_key_is_not_ours(void **state)
{
	_cleanup_(snapshot_done) struct snapshot a = { 0 }, z = { 0 };
	_cleanup_buf_ struct buf b = { 0 };
	uint8_t other[SNAPSHOT_KEY_SIZE];
	bool own = true;

	(void)state;
	encode(&a, &b);
	memcpy(other, key, sizeof(other));
	other[31] ^= 1;
	assert_int_equal(snapshot_decode((uint8_t *)b.data, b.len, other, &z, &own), 0);
	assert_false(own);
}

/* One bit anywhere: refused, or (in the MAC alone) somebody else's. */
static void every_bit_counts(void **state)
{
	_cleanup_(snapshot_done) struct snapshot a = { 0 };
	_cleanup_buf_ struct buf b = { 0 };
	size_t header;

	(void)state;
	encode(&a, &b);
	for (size_t i = 0; i < b.len; i++) {
		_cleanup_(snapshot_done) struct snapshot z = { 0 };
		_cleanup_free_ uint8_t *p = exact_copy(b.data, b.len);
		bool own = true;

		p[i] ^= 1 << (i % 8);
		int r = snapshot_peek(p, b.len, b.len + FILE_DATA, &header);
		if (r == 0)
			r = header > b.len ? -ENODATA : snapshot_decode(p, header, key, &z, &own);
		assert_true(r < 0 || (i >= 64 && i < SNAPSHOT_FIXED && !own));
	}
}

static void what_peek_says(void **state)
{
	_cleanup_(snapshot_done) struct snapshot a = { 0 };
	_cleanup_buf_ struct buf b = { 0 };
	size_t header;
	uint8_t *p;

	(void)state;
	encode(&a, &b);
	p = (uint8_t *)b.data;
	uint64_t file = b.len + FILE_DATA;
	for (size_t n = 0; n < SNAPSHOT_FIXED; n++) {
		_cleanup_free_ uint8_t *cut = exact_copy(p, n);
		assert_int_equal(snapshot_peek(cut, n, n, &header),
				 n < SNAPSHOT_MAGIC_SIZE ? -ENOMSG : -ENODATA);
	}
	assert_int_equal(snapshot_peek(p, b.len, file - 1, &header), -ENODATA);
	assert_int_equal(snapshot_peek(p, b.len, file + 1, &header), -EBADMSG);
	p[16] = 2;
	assert_int_equal(snapshot_peek(p, b.len, file, &header), -EPROTONOSUPPORT);
	p[0] ^= 1;
	assert_int_equal(snapshot_peek(p, b.len, file, &header), -ENOMSG);
}

static int decode_changed(void (*change)(struct snapshot *s))
{
	_cleanup_(snapshot_done) struct snapshot a = { 0 }, z = { 0 };
	_cleanup_buf_ struct buf b = { 0 };
	bool own;

	fill(&a);
	change(&a);
	assert_int_equal(snapshot_encode(&a, key, &b), 0);
	return snapshot_decode((uint8_t *)b.data, b.len, key, &z, &own);
}

static void unchanged(struct snapshot *s _unused_)
{
}

static void no_memory_size(struct snapshot *s)
{
	s->memory = 0;
	s->memory_max = 0;
	s->n_chunks = 0;
}

static void too_many_cpus(struct snapshot *s)
{
	s->cpus = 5;
}

static void odd_pages(struct snapshot *s)
{
	s->page_size = 3000;
}

static void share_above_memory(struct snapshot *s)
{
	s->memory_max = s->memory + 1;
}

static void state_too_large(struct snapshot *s)
{
	s->state_bytes = SNAPSHOT_STATE_MAX + 1;
}

static void chunk_beyond(struct snapshot *s)
{
	s->chunks[2].bytes = 5001;
}

static void chunk_wraps(struct snapshot *s)
{
	s->chunks[4].at = UINT64_MAX;
}

static void chunks_swapped(struct snapshot *s)
{
	s->chunks[0].at = 2 << 20;
}

static void chunks_overlap(struct snapshot *s)
{
	s->chunks[1].at = 65535;
}

static void chunk_empty(struct snapshot *s)
{
	s->chunks[1].bytes = 0;
}

static void layer_missing(struct snapshot *s)
{
	s->n_layers = 1;
}

/* Signed all right, and nonsense: the signature does not excuse from checks. */
static void numbers_are_checked(void **state)
{
	static void (*const bad[])(struct snapshot * s) = {
		no_memory_size,	 too_many_cpus, odd_pages,     share_above_memory,
		state_too_large, chunk_beyond,	chunk_wraps,   chunks_swapped,
		chunks_overlap,	 chunk_empty,	layer_missing,
	};

	(void)state;
	assert_int_equal(decode_changed(unchanged), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(decode_changed(bad[i]), -EBADMSG);
}

/* [RFC 4231 4.2, 4.3] */
static void hmac_vectors(void **state)
{
	static const uint8_t want1[] = { 0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53 };
	static const uint8_t want2[] = { 0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e };
	uint8_t k[20], got[SHA256_SIZE];

	(void)state;
	memset(k, 0x0b, sizeof(k));
	hmac_sha256(k, sizeof(k), "Hi There", 8, got);
	assert_memory_equal(got, want1, sizeof(want1));
	hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, got);
	assert_memory_equal(got, want2, sizeof(want2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),	       cmocka_unit_test(another_key_is_not_ours),
		cmocka_unit_test(every_bit_counts),    cmocka_unit_test(what_peek_says),
		cmocka_unit_test(numbers_are_checked), cmocka_unit_test(hmac_vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
