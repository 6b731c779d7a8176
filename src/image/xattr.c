// SPDX-License-Identifier: Apache-2.0
// Extended attributes in EROFS's inline form: {u8 suffix length, u8 index, le16 value length, suffix, value, pad}.
#include "image/xattr.h"

#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/str.h"
#include "image/erofs.h"
#include "image/limits.h"

static const struct {
	const char *prefix;
	uint8_t index;
	bool whole; /* the prefix is the whole name */
} prefixes[] = {
	{ "user.", 1, false },
	{ "system.posix_acl_access", 2, true },
	{ "system.posix_acl_default", 3, true },
	{ "trusted.", 4, false },
	{ "security.", 6, false },
};

void xattr_set_done(struct xattr_set *s)
{
	free(s->v);
	*s = (struct xattr_set){ 0 };
}

static bool split(const char *name, struct xattr_one *ret)
{
	if (str_has_prefix(name, "trusted.overlay."))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		size_t n = strlen(prefixes[i].prefix);
		if (strncmp(name, prefixes[i].prefix, n) != 0 || (name[n] == '\0') != prefixes[i].whole)
			continue;
		ret->index = prefixes[i].index;
		ret->suffix = name + n;
		ret->suffix_len = strlen(name + n);
		return true;
	}
	return false;
}

static int compare(const void *pa, const void *pb)
{
	const struct xattr_one *a = pa, *b = pb;

	if (a->index != b->index)
		return a->index < b->index ? -1 : 1;
	return strcmp(a->suffix, b->suffix);
}

int xattr_set_add(struct xattr_set *s, const char *name, const void *value, size_t len, struct vial_err *err)
{
	struct xattr_one one = { .value = value, .value_len = len };

	if (!split(name, &one))
		return 0;
	if (one.suffix_len > IMAGE_NAME_MAX)
		return err_set(err, VIAL_E_LIMIT,
			       "name of extended attribute '%.40s…' is longer than %u bytes", name,
			       IMAGE_NAME_MAX);
	if (len > IMAGE_XATTR_VALUE_MAX)
		return err_set(err, VIAL_E_LIMIT, "extended attribute '%s' is longer than %u bytes", name,
			       IMAGE_XATTR_VALUE_MAX);
	for (size_t i = 0; i < s->n; i++)
		if (compare(&s->v[i], &one) == 0) {
			s->v[i] = one;
			return 0;
		}
	if (s->n >= IMAGE_XATTRS_MAX)
		return err_set(err, VIAL_E_LIMIT, "more than %u extended attributes", IMAGE_XATTRS_MAX);
	struct xattr_one *more = realloc(s->v, (s->n + 1) * sizeof(*more));
	if (!more)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	s->v = more;
	s->v[s->n++] = one;
	return 0;
}

static size_t entry_size(const struct xattr_one *x)
{
	return ALIGN_UP(EROFS_XATTR_ENTRY + x->suffix_len + x->value_len, (size_t)4);
}

static void encode_one(uint8_t *p, const struct xattr_one *x)
{
	p[0] = (uint8_t)x->suffix_len;
	p[1] = x->index;
	erofs_put16(p + 2, (uint16_t)x->value_len);
	memcpy(p + EROFS_XATTR_ENTRY, x->suffix, x->suffix_len);
	if (x->value_len)
		memcpy(p + EROFS_XATTR_ENTRY + x->suffix_len, x->value, x->value_len);
}

int xattr_set_encode(struct xattr_set *s, uint8_t **ret, uint32_t *ret_len, struct vial_err *err)
{
	size_t total = 0, at = 0;

	*ret = NULL;
	*ret_len = 0;
	if (s->n == 0)
		return 0;
	qsort(s->v, s->n, sizeof(*s->v), compare);
	for (size_t i = 0; i < s->n; i++)
		total += entry_size(&s->v[i]);
	if (total > IMAGE_XATTR_BODY_MAX)
		return err_set(err, VIAL_E_LIMIT, "extended attributes take more than %zu bytes",
			       IMAGE_XATTR_BODY_MAX);
	uint8_t *p = calloc(1, total);
	if (!p)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	for (size_t i = 0; i < s->n; i++) {
		encode_one(p + at, &s->v[i]);
		at += entry_size(&s->v[i]);
	}
	*ret = p;
	*ret_len = (uint32_t)total;
	return 0;
}

bool xattr_body_valid(const uint8_t *p, size_t n)
{
	size_t at = 0;

	if (n % 4 != 0 || n > IMAGE_XATTR_BODY_MAX)
		return false;
	while (at < n) {
		if (n - at < EROFS_XATTR_ENTRY)
			return false;
		size_t size =
			ALIGN_UP((size_t)EROFS_XATTR_ENTRY + p[at] + erofs_get16(p + at + 2), (size_t)4);
		if (size > n - at)
			return false;
		at += size;
	}
	return true;
}
