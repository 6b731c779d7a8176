// SPDX-License-Identifier: Apache-2.0
// Growable byte buffers, string vectors, small parsers.
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t limit = b->limit ? b->limit : BUF_LIMIT_DEFAULT;

	if (b->failed)
		return -ENOMEM;
	if (n > limit || b->len > limit - n) {
		b->failed = true;
		return -EFBIG;
	}
	if (b->cap - b->len >= n)
		return 0;
	size_t cap = MAX(b->cap * 2, b->len + n);
	char *bigger = realloc(b->data, MAX(cap, (size_t)64));
	if (!bigger) {
		b->failed = true;
		return -ENOMEM;
	}
	b->data = bigger;
	b->cap = MAX(cap, (size_t)64);
	return 0;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
	if (n == 0 || buf_reserve(b, n) < 0)
		return;
	memcpy(b->data + b->len, p, n);
	b->len += n;
}

void buf_puts(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0 && buf_reserve(b, (size_t)n + 1) == 0) {
		vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

const char *buf_cstr(struct buf *b)
{
	if (b->failed)
		return NULL;
	if (buf_reserve(b, 1) < 0)
		return NULL;
	b->data[b->len] = '\0';
	return b->data;
}

void strv_done(struct strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct strv){ 0 };
}

/* Takes ownership of @str, also on failure. */
static int add_owned(struct strv *s, char *str)
{
	if (!str)
		return -ENOMEM;
	/* Grow at powers of two; one slot more for the closing NULL. */
	if (s->n == 0 || (s->n & (s->n + 1)) == 0) {
		char **bigger = realloc(s->v, (s->n + 1) * 2 * sizeof(*bigger));
		if (!bigger) {
			free(str);
			return -ENOMEM;
		}
		s->v = bigger;
	}
	s->v[s->n++] = str;
	s->v[s->n] = NULL;
	return 0;
}

int strv_add(struct strv *s, const char *str)
{
	return add_owned(s, strdup(str));
}

int strv_addn(struct strv *s, const char *p, size_t len)
{
	char *str = malloc(len + 1);

	if (str) {
		memcpy(str, p, len);
		str[len] = '\0';
	}
	return add_owned(s, str);
}

int strv_addf(struct strv *s, const char *fmt, ...)
{
	char *str = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&str, fmt, ap);
	va_end(ap);
	return add_owned(s, n < 0 ? NULL : str);
}

int strv_copy(struct strv *dst, const struct strv *src)
{
	for (size_t i = 0; i < src->n; i++) {
		int r = strv_add(dst, src->v[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static char **find_env(const struct strv *s, const char *key, size_t len)
{
	for (size_t i = 0; i < s->n; i++)
		if (strncmp(s->v[i], key, len) == 0 && s->v[i][len] == '=')
			return &s->v[i];
	return NULL;
}

int strv_setenv(struct strv *s, const char *assignment)
{
	const char *eq = strchr(assignment, '=');

	if (!eq || eq == assignment)
		return -EINVAL;
	char **slot = find_env(s, assignment, (size_t)(eq - assignment));
	if (!slot)
		return strv_add(s, assignment);
	char *copy = strdup(assignment);
	if (!copy)
		return -ENOMEM;
	free(*slot);
	*slot = copy;
	return 0;
}

const char *strv_getenv(const struct strv *s, const char *key)
{
	char **slot = find_env(s, key, strlen(key));

	return slot ? strchr(*slot, '=') + 1 : NULL;
}

int str_u64(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		unsigned int d = (unsigned int)(*s - '0');
		if (v > (UINT64_MAX - d) / 10)
			return -ERANGE;
		v = v * 10 + d;
	}
	if (v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* Splits "123suffix" into number and suffix; 0, -EINVAL or -ERANGE. */
static int split_number(const char *s, uint64_t *ret_v, const char **ret_suffix)
{
	size_t n = strspn(s, "0123456789");
	char digits[24];

	if (n == 0)
		return -EINVAL;
	if (n >= sizeof(digits))
		return -ERANGE;
	memcpy(digits, s, n);
	digits[n] = '\0';
	*ret_suffix = s + n;
	return str_u64(digits, UINT64_MAX, ret_v);
}

int str_size(const char *s, uint64_t *ret_bytes)
{
	static const struct {
		const char *suffix;
		unsigned int shift;
	} units[] = {
		{ "", 20 },   { "k", 10 },   { "kb", 10 },  { "kib", 10 }, { "m", 20 },
		{ "mb", 20 }, { "mib", 20 }, { "g", 30 },   { "gb", 30 },  { "gib", 30 },
		{ "t", 40 },  { "tb", 40 },  { "tib", 40 },
	};
	const char *suffix;
	uint64_t v;
	int r = split_number(s, &v, &suffix);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcasecmp(suffix, units[i].suffix) != 0)
			continue;
		if (v > (UINT64_MAX >> units[i].shift))
			return -ERANGE;
		*ret_bytes = v << units[i].shift;
		return 0;
	}
	return -EINVAL;
}

int str_duration(const char *s, uint64_t *ret_ms)
{
	static const struct {
		const char *suffix;
		uint64_t ms;
	} units[] = {
		{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
	};
	uint64_t whole, frac = 0, scale = 1;
	const char *suffix;
	int r = split_number(s, &whole, &suffix);

	if (r < 0)
		return r;
	if (*suffix == '.') {
		suffix++;
		if (!isdigit((unsigned char)*suffix))
			return -EINVAL;
		for (; isdigit((unsigned char)*suffix); suffix++) {
			if (scale >= 1000000)
				continue; /* finer than any unit's millisecond matters */
			frac = frac * 10 + (uint64_t)(*suffix - '0');
			scale *= 10;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(suffix, units[i].suffix) != 0)
			continue;
		if (whole > UINT64_MAX / units[i].ms - 1)
			return -ERANGE;
		*ret_ms = whole * units[i].ms + frac * units[i].ms / scale;
		return 0;
	}
	return -EINVAL;
}

void str_hex(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -EINVAL;
}

int str_unhex(const char *s, uint8_t *out, size_t n)
{
	if (strlen(s) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int hi = hex_digit(s[2 * i]), lo = hex_digit(s[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

bool str_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Bytes of the harmless UTF-8 sequence at @s, 0 if there is none. [RFC 3629 4] */
static size_t utf8_span(const unsigned char *s)
{
	size_t n = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if (n == 2 && s[0] == 0xc2 && s[1] < 0xa0)
		return 0; /* C1 controls: U+009B is CSI */
	if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)))
		return 0; /* overlong, surrogates */
	if (n == 3 && s[0] == 0xe2 &&
	    ((s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) ||
	     (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)))
		return 0; /* U+2028 to U+202E, U+2066 to U+2069: other lines, other directions */
	if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)))
		return 0;
	return n;
}

void str_defuse(char *str)
{
	unsigned char *s = (unsigned char *)str;

	while (*s) {
		size_t n = *s >= 0x20 && *s < 0x7f ? 1 : utf8_span(s);

		if (n == 0)
			*s = *s == '\n' || *s == '\t' ? ' ' : '?';
		s += n ? n : 1;
	}
}
