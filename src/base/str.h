/* SPDX-License-Identifier: Apache-2.0 */
/* Growable byte buffers and string vectors with limits; small parsers of numbers and sizes. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/**
 * struct buf - growable bytes
 * @data:	owned; NULL while empty
 * @len:	bytes in use
 * @cap:	bytes allocated
 * @failed:	an append ran out of memory or passed @limit; later appends do nothing
 * @limit:	most bytes ever held, 0: BUF_LIMIT_DEFAULT
 *
 * Zero-initialise to make one. Append freely and check buf_ok() once at the end.
 */
struct buf {
	char *data;
	size_t len;
	size_t cap;
	size_t limit;
	bool failed;
};

#define BUF_LIMIT_DEFAULT MIB(64)

void buf_done(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_done)

/* buf_reserve() - room for @n more bytes at data + len; 0, -ENOMEM or -EFBIG (and @failed) */
int buf_reserve(struct buf *b, size_t n);
void buf_append(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
/* buf_consume() - drop the first @n bytes (n <= len); the rest moves down */
void buf_consume(struct buf *b, size_t n);
/* buf_cstr() - NUL-terminated view, "" when empty; NULL if an append failed */
const char *buf_cstr(struct buf *b);
static inline bool buf_ok(const struct buf *b)
{
	return !b->failed;
}

/**
 * struct strv - NULL-terminated vector of owned C strings
 * Zero-initialise to make one; @v is NULL while @n is 0.
 */
struct strv {
	char **v;
	size_t n;
};

void strv_done(struct strv *s);
#define _cleanup_strv_ _cleanup_(strv_done)
int strv_add(struct strv *s, const char *str);			    /* copies; 0 or -ENOMEM */
int strv_addn(struct strv *s, const char *p, size_t len);	    /* copies @len bytes + NUL */
int strv_addf(struct strv *s, const char *fmt, ...) _printf_(2, 3); /* 0 or -ENOMEM */
int strv_copy(struct strv *dst, const struct strv *src);	    /* appends all of @src */
/* strv_setenv() - replace or add "K=V" given whole; 0, -EINVAL without '=' or -ENOMEM */
int strv_setenv(struct strv *s, const char *assignment);
/* strv_getenv() - value of @key or NULL; borrowed */
const char *strv_getenv(const struct strv *s, const char *key);

/* str_u64() - decimal digits only, whole string; 0, -EINVAL or -ERANGE */
int str_u64(const char *s, uint64_t max, uint64_t *ret);
/**
 * str_size() - a memory or disk size: number with optional K, M, G, T (powers of 1024, also "MiB", "mb")
 * A bare number counts MiB (FEATURES: sizes).
 * Return: 0 with bytes in @ret, -EINVAL or -ERANGE.
 */
int str_size(const char *s, uint64_t *ret_bytes);
/**
 * str_duration() - seconds with optional fraction, or a number with ms, s, m, h, d
 * Return: 0 with milliseconds in @ret, -EINVAL or -ERANGE.
 */
int str_duration(const char *s, uint64_t *ret_ms);
/* str_hex() - lower-case hex of @n bytes into @out (2n+1 bytes) */
void str_hex(const uint8_t *p, size_t n, char *out);
/* str_unhex() - exactly 2*@n lower- or upper-case hex digits; 0 or -EINVAL */
int str_unhex(const char *s, uint8_t *out, size_t n);
bool str_has_prefix(const char *s, const char *prefix);
/**
 * str_defuse() - make text of unknown origin harmless for a terminal, in place
 *
 * Control characters (of ASCII and, as UTF-8, U+0080 to U+009F), bidirectional overrides and what is not UTF-8
 * become '?', one for each byte; line feeds and tabs become blanks. What was clean is unchanged.
 */
void str_defuse(char *s);

#endif
