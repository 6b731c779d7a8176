/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 [FIPS 180-4 6.2], for programs that must not link a crypto library. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_HEX  (2 * SHA256_SIZE + 1) /* with NUL */

struct sha256 {
	uint32_t h[8];
	uint64_t total;
	uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *p, size_t n);
void sha256_final(struct sha256 *s, uint8_t ret[SHA256_SIZE]);
/* sha256_fd() - digest of @fd from offset 0 to its end (pread; the offset stays); 0 or -errno */
int sha256_fd(int fd, uint8_t ret[SHA256_SIZE]);

#endif
