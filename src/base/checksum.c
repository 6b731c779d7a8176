// SPDX-License-Identifier: Apache-2.0
// A fast checksum against damage.
#include "base/checksum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

/* Odd numbers with many scattered bits; each step is a bijection of the lane, so one changed word always shows. */
static const uint64_t factor[4] = { 0x9fb21c651e98df25, 0xd6e8feb86659fd93, 0xa0761d6478bd642f,
				    0xe7037ed1a0b428db };

void checksum_init(struct checksum *c)
{
	for (int i = 0; i < 4; i++)
		c->lane[i] = factor[3 - i];
}

void checksum_update(struct checksum *c, const void *p, size_t n)
{
	const uint8_t *in = p;
	uint64_t lane[4], word[4];

	memcpy(lane, c->lane, sizeof(lane));
	for (; n >= sizeof(word); in += sizeof(word), n -= sizeof(word)) {
		memcpy(word, in, sizeof(word));
		for (int i = 0; i < 4; i++) {
			lane[i] = (lane[i] ^ word[i]) * factor[i];
			lane[i] = lane[i] << 29 | lane[i] >> 35;
		}
	}
	memcpy(c->lane, lane, sizeof(lane));
}

void checksum_final(const struct checksum *c, char ret[CHECKSUM_HEX])
{
	str_hex((const uint8_t *)c->lane, sizeof(c->lane), ret);
}

int checksum_sparse(int fd, char ret[CHECKSUM_HEX])
{
	static const uint8_t zero[4096];
	_cleanup_free_ uint8_t *chunk = malloc(MIB(1));
	uint64_t tail[4] = { 0 };
	struct checksum c;
	struct stat st = { 0 };
	off_t at = 0;

	if (!chunk)
		return -ENOMEM;
	if (fd >= 0 && fstat(fd, &st) < 0)
		return -errno;
	checksum_init(&c);
	while (fd >= 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		at &= ~(off_t)4095;
		ssize_t n = pread(fd, chunk, MIB(1), at);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		memset(chunk + n, 0, ALIGN_UP((size_t)n, (size_t)4096) - (size_t)n);
		for (ssize_t i = 0; i < n; i += 4096) {
			if (memcmp(chunk + i, zero, sizeof(zero)) == 0)
				continue;
			tail[0] = (uint64_t)(at + i);
			checksum_update(&c, tail, sizeof(tail));
			checksum_update(&c, chunk + i, 4096);
		}
		at += n;
	}
	/* ENXIO: no data from there on. Anything else must not pass for an end. */
	if (fd >= 0 && errno != ENXIO)
		return -errno;
	tail[0] = (uint64_t)st.st_size;
	checksum_update(&c, tail, sizeof(tail));
	checksum_final(&c, ret);
	return 0;
}
