/* SPDX-License-Identifier: Apache-2.0 */
/* An independent reading of EROFS metadata, for tests: as strict as the kernel's or stricter. */
#ifndef TESTS_EROFS_CHECK_H
#define TESTS_EROFS_CHECK_H

#include <stddef.h>
#include <stdint.h>

/**
 * erofs_check() - walk the whole image
 * @p, @n:	metadata
 * @data_bytes:	what follows it on the disk
 * @ret_names:	names found, "." and ".." not counted, the root counted; may be NULL
 * Return: NULL, or what is wrong (static string).
 */
const char *erofs_check(const uint8_t *p, size_t n, uint64_t data_bytes, uint64_t *ret_names);

#endif
