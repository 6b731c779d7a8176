// SPDX-License-Identifier: Apache-2.0
// Header of a snapshot file: table-driven TLV of struct snapshot.
#include "wire/snapshot.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/le.h"
#include "wire/tlv.h"

enum { AT_VERSION = 16, AT_HEADER = 20, AT_FILE = 24, AT_DIGEST = 32, AT_MAC = 64 };

enum {
	TAG_KEY = 1,
	TAG_LAYER = 2, /* le64 length; repeated, the lowest first */
	TAG_CHUNK = 3, /* le32 part, le32 bytes, le64 at, digest; repeated in order, after all others */
	TAG_SPEC = 4,
	TAG_FIELDS = 16, /* fields[i] has tag TAG_FIELDS + i: append only */
};

#define CHUNK_SIZE (16 + SHA256_SIZE)
#define CHUNKS_MAX (SNAPSHOT_HEADER_MAX / (TLV_HEADER + CHUNK_SIZE))

enum kind { U32, U64, STR };

static const struct {
	enum kind kind;
	size_t offset;
} fields[] = {
	{ STR, offsetof(struct snapshot, arch) },	   { STR, offsetof(struct snapshot, engine) },
	{ STR, offsetof(struct snapshot, engine_digest) }, { STR, offsetof(struct snapshot, machine) },
	{ STR, offsetof(struct snapshot, accel) },	   { STR, offsetof(struct snapshot, cpu) },
	{ STR, offsetof(struct snapshot, cpu_digest) },	   { STR, offsetof(struct snapshot, base_digest) },
	{ STR, offsetof(struct snapshot, image) },	   { STR, offsetof(struct snapshot, image_digest) },
	{ STR, offsetof(struct snapshot, fstype) },	   { U32, offsetof(struct snapshot, layout) },
	{ U32, offsetof(struct snapshot, page_size) },	   { U32, offsetof(struct snapshot, vcpus) },
	{ U32, offsetof(struct snapshot, cpus) },	   { U64, offsetof(struct snapshot, memory) },
	{ U64, offsetof(struct snapshot, memory_max) },	   { U64, offsetof(struct snapshot, upper_bytes) },
	{ U64, offsetof(struct snapshot, root_bytes) },	   { U64, offsetof(struct snapshot, state_bytes) },
};

_Static_assert(ARRAY_SIZE(fields) <= 32, "a bit for each field that was seen");

static void *at(const struct snapshot *s, size_t i)
{
	return (char *)(uintptr_t)s + fields[i].offset;
}

void snapshot_done(struct snapshot *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].kind == STR)
			free(*(char **)at(s, i));
	free(s->spec);
	free(s->chunks);
	*s = (struct snapshot){ 0 };
}

int snapshot_add_chunk(struct snapshot *s, const struct snapshot_chunk *c)
{
	if (s->n_chunks >= CHUNKS_MAX)
		return -EFBIG;
	/* Grows by doubling: room is always the next power of two. */
	if ((s->n_chunks & (s->n_chunks - 1)) == 0) {
		size_t room = s->n_chunks ? s->n_chunks * 2 : 1;
		struct snapshot_chunk *more = reallocarray(s->chunks, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		s->chunks = more;
	}
	s->chunks[s->n_chunks++] = *c;
	return 0;
}

uint64_t snapshot_part_bytes(const struct snapshot *s, uint32_t part)
{
	if (part == SNAPSHOT_MEMORY)
		return s->memory;
	if (part == SNAPSHOT_STATE)
		return s->state_bytes;
	return part >= SNAPSHOT_DISK && part - SNAPSHOT_DISK < s->n_layers
		       ? s->layer_bytes[part - SNAPSHOT_DISK]
		       : 0;
}

/* ---- digests ---- */

void hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t ret[SHA256_SIZE])
{
	uint8_t inner[64] = { 0 }, outer[64];
	struct sha256 h;

	memcpy(inner, key, MIN(key_n, sizeof(inner)));
	for (size_t i = 0; i < sizeof(inner); i++) {
		outer[i] = inner[i] ^ 0x5c;
		inner[i] ^= 0x36;
	}
	sha256_init(&h);
	sha256_update(&h, inner, sizeof(inner));
	sha256_update(&h, p, n);
	sha256_final(&h, ret);
	sha256_init(&h);
	sha256_update(&h, outer, sizeof(outer));
	sha256_update(&h, ret, SHA256_SIZE);
	sha256_final(&h, ret);
	explicit_bzero(inner, sizeof(inner));
	explicit_bzero(outer, sizeof(outer));
}

static void digest_of(const uint8_t *p, size_t n, uint8_t ret[SHA256_SIZE])
{
	struct sha256 h;

	sha256_init(&h);
	sha256_update(&h, p, AT_DIGEST);
	sha256_update(&h, p + SNAPSHOT_FIXED, n - SNAPSHOT_FIXED);
	sha256_final(&h, ret);
}

/* Takes the same time whatever differs. */
static bool same(const uint8_t *a, const uint8_t *b, size_t n)
{
	uint8_t diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= a[i] ^ b[i];
	return diff == 0;
}

/* ---- encoding ---- */

static void put_field(struct buf *out, const struct snapshot *s, size_t i)
{
	uint16_t tag = (uint16_t)(TAG_FIELDS + i);

	if (fields[i].kind == U32)
		tlv_put_u32(out, tag, *(uint32_t *)at(s, i));
	else if (fields[i].kind == U64)
		tlv_put_u64(out, tag, *(uint64_t *)at(s, i));
	else
		tlv_put_str(out, tag, *(char **)at(s, i));
}

static void put_chunk(struct buf *out, const struct snapshot_chunk *c)
{
	char value[CHUNK_SIZE];

	put_le32(value, c->part);
	put_le32(value + 4, c->bytes);
	put_le64(value + 8, c->at);
	memcpy(value + 16, c->digest, SHA256_SIZE);
	tlv_put(out, TAG_CHUNK, value, sizeof(value));
}

int snapshot_encode(struct snapshot *s, const uint8_t mac_key[SNAPSHOT_KEY_SIZE], struct buf *out)
{
	static const char zeros[SNAPSHOT_FIXED];
	uint8_t digest[SHA256_SIZE], mac[SHA256_SIZE];
	uint64_t offset;

	out->limit = SNAPSHOT_HEADER_MAX;
	buf_append(out, zeros, sizeof(zeros));
	tlv_put(out, TAG_KEY, s->key, sizeof(s->key));
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		put_field(out, s, i);
	tlv_put_str(out, TAG_SPEC, s->spec);
	for (size_t i = 0; i < s->n_layers; i++)
		tlv_put_u64(out, TAG_LAYER, s->layer_bytes[i]);
	for (size_t i = 0; i < s->n_chunks; i++)
		put_chunk(out, &s->chunks[i]);
	if (!buf_ok(out))
		return out->len > SNAPSHOT_HEADER_MAX / 4 ? -EFBIG : -ENOMEM;
	offset = out->len;
	for (size_t i = 0; i < s->n_chunks; i++) {
		s->chunks[i].offset = offset;
		offset += s->chunks[i].bytes;
	}
	memcpy(out->data, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_SIZE);
	put_le32(out->data + AT_VERSION, SNAPSHOT_VERSION);
	put_le32(out->data + AT_HEADER, (uint32_t)out->len);
	put_le64(out->data + AT_FILE, offset);
	digest_of((uint8_t *)out->data, out->len, digest);
	hmac_sha256(mac_key, SNAPSHOT_KEY_SIZE, digest, sizeof(digest), mac);
	memcpy(out->data + AT_DIGEST, digest, sizeof(digest));
	memcpy(out->data + AT_MAC, mac, sizeof(mac));
	return 0;
}

/* ---- decoding ---- */

int snapshot_peek(const uint8_t *p, size_t n, uint64_t file_bytes, size_t *ret_header)
{
	if (n < SNAPSHOT_MAGIC_SIZE || memcmp(p, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_SIZE) != 0)
		return -ENOMSG;
	if (n < SNAPSHOT_FIXED)
		return -ENODATA;
	if (get_le32(p + AT_VERSION) != SNAPSHOT_VERSION)
		return -EPROTONOSUPPORT;
	uint32_t header = get_le32(p + AT_HEADER);
	uint64_t recorded = get_le64(p + AT_FILE);
	if (header <= SNAPSHOT_FIXED || header > SNAPSHOT_HEADER_MAX || header > recorded)
		return -EBADMSG;
	if (recorded != file_bytes)
		return recorded > file_bytes ? -ENODATA : -EBADMSG;
	*ret_header = header;
	return 0;
}

static int take_string(const struct tlv *t, size_t max, char **ret)
{
	return *ret ? -EBADMSG : tlv_str(t, max, ret);
}

static int take_field(struct snapshot *s, const struct tlv *t, uint32_t *seen)
{
	size_t i = (size_t)(t->tag - TAG_FIELDS);

	if (i >= ARRAY_SIZE(fields))
		return 0; /* of a later minor change: it is covered by the digest */
	if (*seen & 1u << i)
		return -EBADMSG;
	*seen |= 1u << i;
	if (fields[i].kind == U32)
		return tlv_u32(t, at(s, i));
	if (fields[i].kind == U64)
		return tlv_u64(t, at(s, i));
	return take_string(t, SNAPSHOT_TEXT_MAX, at(s, i));
}

static int take_layer(struct snapshot *s, const struct tlv *t)
{
	uint64_t bytes;
	int r = tlv_u64(t, &bytes);

	if (r < 0)
		return r;
	if (s->n_layers == LAUNCH_UPPERS_MAX)
		return -E2BIG;
	if (bytes == 0 || bytes > SNAPSHOT_PART_MAX || s->n_chunks > 0)
		return -EBADMSG;
	s->layer_bytes[s->n_layers++] = bytes;
	return 0;
}

/* Chunks come in order and do not overlap; where they lie in the file follows. */
static int take_chunk(struct snapshot *s, const struct tlv *t, uint64_t *offset)
{
	const struct snapshot_chunk *last = s->n_chunks ? &s->chunks[s->n_chunks - 1] : NULL;
	struct snapshot_chunk c;

	if (t->n != CHUNK_SIZE)
		return -EBADMSG;
	c.part = get_le32(t->p);
	c.bytes = get_le32(t->p + 4);
	c.at = get_le64(t->p + 8);
	c.offset = *offset;
	memcpy(c.digest, t->p + 16, SHA256_SIZE);
	uint64_t part = snapshot_part_bytes(s, c.part);
	if (c.bytes == 0 || c.bytes > SNAPSHOT_CHUNK_MAX || c.at > part || c.bytes > part - c.at)
		return -EBADMSG;
	if (last && (c.part < last->part || (c.part == last->part && c.at < last->at + last->bytes)))
		return -EBADMSG;
	*offset += c.bytes;
	return snapshot_add_chunk(s, &c);
}

static int take_entry(struct snapshot *s, const struct tlv *t, uint32_t *seen, uint64_t *offset)
{
	switch (t->tag) {
	case TAG_KEY:
		if (t->n != sizeof(s->key))
			return -EBADMSG;
		memcpy(s->key, t->p, sizeof(s->key));
		return 0;
	case TAG_LAYER:
		return take_layer(s, t);
	case TAG_CHUNK:
		return take_chunk(s, t, offset);
	case TAG_SPEC:
		return take_string(t, SNAPSHOT_SPEC_MAX, &s->spec);
	default:
		return t->tag < TAG_FIELDS ? -EBADMSG : take_field(s, t, seen);
	}
}

/* Nothing is missing, and no number is one that a machine cannot have. */
static bool is_whole(const struct snapshot *s, uint32_t seen)
{
	if (seen != (1ULL << ARRAY_SIZE(fields)) - 1 || !s->spec)
		return false;
	if (s->page_size == 0 || s->page_size & (s->page_size - 1) || s->memory == 0 ||
	    s->memory % s->page_size || s->memory > SNAPSHOT_PART_MAX || s->memory_max > s->memory)
		return false;
	if (s->vcpus == 0 || s->cpus > s->vcpus || s->state_bytes == 0 || s->state_bytes > SNAPSHOT_STATE_MAX)
		return false;
	return s->upper_bytes > 0 && s->upper_bytes % 512 == 0 && s->upper_bytes <= SNAPSHOT_PART_MAX;
}

static int take_list(struct snapshot *s, const uint8_t *p, size_t n)
{
	struct tlv_in in = { p + SNAPSHOT_FIXED, n - SNAPSHOT_FIXED };
	uint64_t offset = n;
	uint32_t seen = 0;
	struct tlv t;
	int r;

	while ((r = tlv_next(&in, &t)) > 0) {
		r = take_entry(s, &t, &seen, &offset);
		if (r < 0)
			return r;
	}
	if (r == 0 && (!is_whole(s, seen) || offset != get_le64(p + AT_FILE)))
		r = -EBADMSG;
	return r;
}

int snapshot_decode(const uint8_t *p, size_t n, const uint8_t mac_key[SNAPSHOT_KEY_SIZE],
		    struct snapshot *ret, bool *ret_own)
{
	uint8_t digest[SHA256_SIZE], mac[SHA256_SIZE];
	struct snapshot s = { 0 };

	if (n <= SNAPSHOT_FIXED || n != get_le32(p + AT_HEADER))
		return -EBADMSG;
	digest_of(p, n, digest);
	if (!same(digest, p + AT_DIGEST, sizeof(digest)))
		return -EBADMSG;
	int r = take_list(&s, p, n);
	if (r < 0) {
		snapshot_done(&s);
		return r;
	}
	hmac_sha256(mac_key, SNAPSHOT_KEY_SIZE, digest, sizeof(digest), mac);
	*ret_own = same(mac, p + AT_MAC, sizeof(mac));
	*ret = s;
	return 0;
}
