// SPDX-License-Identifier: Apache-2.0
/*
 * The header of a snapshot file, and the header of a disk layer in it. Input: a byte that says how the rest is taken: as it is; with
 * length, file length and digest put right, so that what lies behind them is reached; or as a qcow2 image.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/qcow2.h"
#include "fuzz.h"
#include "wire/snapshot.h"
#include "wire/tlv.h"

#define IMAGE_BYTES (1ULL << 32)
#define TAG_CHUNK   3

static const uint8_t key[SNAPSHOT_KEY_SIZE] = "any key will do";

/* An image of our own passes, so a check that refuses everything would be found. */
static void try_qcow2(const uint8_t *p, size_t n)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && qcow2_init(fd, IMAGE_BYTES) == 0 && qcow2_check(fd, IMAGE_BYTES) == 0);
	FUZZ_CHECK(qcow2_check(fd, IMAGE_BYTES * 2) < 0);
	FUZZ_CHECK(pwrite(fd, p, n, 0) == (ssize_t)n);
	(void)qcow2_check(fd, IMAGE_BYTES);
	FUZZ_CHECK(ftruncate(fd, (off_t)n) == 0);
	(void)qcow2_check(fd, IMAGE_BYTES);
	close(fd);
}

/* Makes the fixed part true: what a writer of files could have done, too. */
static void put_right(uint8_t *p, size_t n)
{
	struct tlv_in in = { p + SNAPSHOT_FIXED, n - SNAPSHOT_FIXED };
	uint32_t header = htole32((uint32_t)n), version = htole32(SNAPSHOT_VERSION);
	uint64_t file = n;
	struct sha256 h;
	struct tlv t;

	while (tlv_next(&in, &t) == 1) {
		uint32_t bytes = 0;
		if (t.tag == TAG_CHUNK && t.n >= 8)
			memcpy(&bytes, t.p + 4, sizeof(bytes));
		file += le32toh(bytes);
	}
	file = htole64(file);
	memcpy(p, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_SIZE);
	memcpy(p + 16, &version, 4);
	memcpy(p + 20, &header, 4);
	memcpy(p + 24, &file, 8);
	sha256_init(&h);
	sha256_update(&h, p, 32);
	sha256_update(&h, p + SNAPSHOT_FIXED, n - SNAPSHOT_FIXED);
	sha256_final(&h, p + 32);
}

/* All that a user of a decoded header relies on. */
static void check(const struct snapshot *s, size_t header)
{
	uint64_t offset = header;

	FUZZ_CHECK(s->memory > 0 && s->memory <= SNAPSHOT_PART_MAX && s->cpus <= s->vcpus && s->vcpus > 0);
	FUZZ_CHECK(s->state_bytes > 0 && s->state_bytes <= SNAPSHOT_STATE_MAX && s->memory_max <= s->memory);
	FUZZ_CHECK(s->n_layers <= LAUNCH_UPPERS_MAX && s->spec && s->arch && s->image_digest && s->cpu);
	for (size_t i = 0; i < s->n_chunks; i++) {
		const struct snapshot_chunk *c = &s->chunks[i], *last = i ? c - 1 : NULL;
		FUZZ_CHECK(c->bytes > 0 && c->bytes <= SNAPSHOT_CHUNK_MAX && c->offset == offset);
		uint64_t part = snapshot_part_bytes(s, c->part);
		FUZZ_CHECK(c->at <= part && c->bytes <= part - c->at);
		FUZZ_CHECK(!last || last->part < c->part ||
			   (last->part == c->part && last->at + last->bytes <= c->at));
		offset += c->bytes;
	}
}

/* What was decoded says the same when it is written anew; then it is ours. */
static void check_again(struct snapshot *s)
{
	_cleanup_(snapshot_done) struct snapshot t = { 0 };
	_cleanup_buf_ struct buf out = { 0 };
	bool own = false;
	size_t header;

	FUZZ_CHECK(snapshot_encode(s, key, &out) == 0);
	uint64_t file = out.len;
	for (size_t i = 0; i < s->n_chunks; i++)
		file += s->chunks[i].bytes;
	FUZZ_CHECK(snapshot_peek((uint8_t *)out.data, out.len, file, &header) == 0 && header == out.len);
	FUZZ_CHECK(snapshot_decode((uint8_t *)out.data, out.len, key, &t, &own) == 0 && own);
	FUZZ_CHECK(strcmp(s->spec, t.spec) == 0 && strcmp(s->cpu, t.cpu) == 0 &&
		   s->upper_bytes == t.upper_bytes);
	FUZZ_CHECK(s->n_chunks == t.n_chunks && s->n_layers == t.n_layers);
	FUZZ_CHECK(s->n_chunks == 0 || memcmp(s->chunks, t.chunks, s->n_chunks * sizeof(*s->chunks)) == 0);
}

static void try_header(uint8_t *p, size_t n, uint64_t file_bytes)
{
	_cleanup_(snapshot_done) struct snapshot s = { 0 };
	bool own = false;
	size_t header;

	if (snapshot_peek(p, n, file_bytes, &header) < 0)
		return;
	FUZZ_CHECK(header > SNAPSHOT_FIXED && header <= SNAPSHOT_HEADER_MAX && header <= file_bytes);
	if (header > n || snapshot_decode(p, header, key, &s, &own) < 0) {
		FUZZ_CHECK(!s.spec && !s.chunks);
		return;
	}
	check(&s, header);
	check_again(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *p;
	uint64_t file;

	if (size < 2)
		return 0;
	if (data[0] % 3 == 2) {
		try_qcow2(data + 1, size - 1);
		return 0;
	}
	/* As long as the input and no longer: reading past it is seen. */
	p = malloc(size - 1);
	FUZZ_CHECK(p != NULL);
	memcpy(p, data + 1, size - 1);
	if (data[0] % 3 == 1 && size - 1 > SNAPSHOT_FIXED)
		put_right(p, size - 1);
	file = size - 1;
	if (size - 1 >= 32) {
		memcpy(&file, p + 24, sizeof(file));
		file = le64toh(file);
	}
	try_header(p, size - 1, data[0] & 0x80 ? size - 1 : file);
	free(p);
	return 0;
}
