// SPDX-License-Identifier: Apache-2.0
// The state file's frame.
#include "vmm/snapshot/state.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/sha256.h"

struct fixed {
	char magic[16];
	uint32_t version_le;
	uint32_t zero;
	uint64_t bytes_le;
	uint8_t digest[SHA256_SIZE];
};

_Static_assert(sizeof(struct fixed) == STATE_FIXED, "no padding in the file");

static void digest(const struct fixed *f, const void *rest, size_t n, uint8_t ret[SHA256_SIZE])
{
	struct sha256 s;

	sha256_init(&s);
	sha256_update(&s, f, offsetof(struct fixed, digest));
	sha256_update(&s, rest, n);
	sha256_final(&s, ret);
}

void state_begin(struct buf *b)
{
	struct fixed f = { .version_le = htole32(STATE_VERSION) };

	b->limit = STATE_MAX;
	memcpy(f.magic, STATE_MAGIC, sizeof(f.magic));
	buf_append(b, &f, sizeof(f));
}

int state_end(struct buf *b)
{
	struct fixed f;

	if (!buf_ok(b))
		return b->len >= STATE_MAX ? -EFBIG : -ENOMEM;
	memcpy(&f, b->data, sizeof(f));
	f.bytes_le = htole64(b->len);
	digest(&f, b->data + sizeof(f), b->len - sizeof(f), f.digest);
	memcpy(b->data, &f, sizeof(f));
	return 0;
}

int state_open(const void *p, size_t n, struct tlv_in *ret, struct vial_err *err)
{
	uint8_t sum[SHA256_SIZE];
	struct fixed f;

	if (n < sizeof(f))
		return err_set(err, VIAL_E_CORRUPT, "machine state: cut short");
	memcpy(&f, p, sizeof(f));
	if (memcmp(f.magic, STATE_MAGIC, sizeof(f.magic)) != 0)
		return err_set(err, VIAL_E_CORRUPT, "machine state: not the kvm engine's");
	if (le32toh(f.version_le) != STATE_VERSION)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "machine state: version %u, and this is for version %d", le32toh(f.version_le),
			       STATE_VERSION);
	if (le64toh(f.bytes_le) != n)
		return err_set(err, VIAL_E_CORRUPT, "machine state: %s",
			       le64toh(f.bytes_le) > n ? "cut short" : "too long");
	digest(&f, (const uint8_t *)p + sizeof(f), n - sizeof(f), sum);
	if (memcmp(sum, f.digest, sizeof(sum)) != 0)
		return err_set(err, VIAL_E_CORRUPT, "machine state: altered or damaged (digest differs)");
	*ret = (struct tlv_in){ (const uint8_t *)p + sizeof(f), n - sizeof(f) };
	return 0;
}

size_t state_nested(struct buf *b, uint16_t tag)
{
	tlv_put(b, tag, "", 0);
	return b->len;
}

void state_nested_end(struct buf *b, size_t mark)
{
	uint32_t len_le = htole32((uint32_t)(b->len - mark));

	if (buf_ok(b))
		memcpy(b->data + mark - sizeof(len_le), &len_le, sizeof(len_le));
}
