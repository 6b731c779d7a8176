/* SPDX-License-Identifier: Apache-2.0 */
/* A fast checksum against damage (not against people): 4 lanes of multiply and rotate, some GB/s. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#define CHECKSUM_HEX 65 /* with NUL */

struct checksum {
	uint64_t lane[4];
};

void checksum_init(struct checksum *c);
/* checksum_update() - @n: a multiple of 32 */
void checksum_update(struct checksum *c, const void *p, size_t n);
void checksum_final(const struct checksum *c, char ret[CHECKSUM_HEX]);

/**
 * checksum_sparse() - of a file: offset and bytes of each page that is not all zeros, then the length
 * So it does not depend on where the file system keeps holes.
 * @fd:		-1: no file, which has a checksum, too
 * Return: 0 or -errno.
 */
int checksum_sparse(int fd, char ret[CHECKSUM_HEX]);

#endif
