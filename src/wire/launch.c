// SPDX-License-Identifier: Apache-2.0
// Launch description: table-driven TLV of struct launch.
#include "wire/launch.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "wire/roles.h"
#include "wire/tlv.h"

enum {
	TAG_VERSION = 1,
	TAG_EXTENT = 2,
	TAG_ROLE = 3,
	TAG_ID = 4,
	TAG_RESET_KEY = 5,
	TAG_NEXT_KEY = 6,
	TAG_FIELDS = 16, /* fields[i] has tag TAG_FIELDS + i: append only */
};

enum kind { U32, U64, STR };

static const struct {
	enum kind kind;
	size_t offset;
} fields[] = {
	{ U32, offsetof(struct launch, mode) },		 { STR, offsetof(struct launch, program) },
	{ STR, offsetof(struct launch, accel) },	 { STR, offsetof(struct launch, machine) },
	{ STR, offsetof(struct launch, cmdline) },	 { U32, offsetof(struct launch, vcpus) },
	{ U64, offsetof(struct launch, memory) },	 { U32, offsetof(struct launch, cpus) },
	{ U64, offsetof(struct launch, memory_max) },	 { STR, offsetof(struct launch, fstype) },
	{ U64, offsetof(struct launch, upper_bytes) },	 { STR, offsetof(struct launch, hostname) },
	{ STR, offsetof(struct launch, console_shell) }, { U32, offsetof(struct launch, strict) },
	{ U32, offsetof(struct launch, without) },	 { U32, offsetof(struct launch, log_level) },
	{ U32, offsetof(struct launch, rooted) },	 { U32, offsetof(struct launch, untrusted) },
	{ U32, offsetof(struct launch, engine) },	 { STR, offsetof(struct launch, thaw) },
};

#define LAUNCH_STR_MAX 4096

static void *at(const struct launch *l, size_t i)
{
	return (char *)(uintptr_t)l + fields[i].offset;
}

void launch_done(struct launch *l)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].kind == STR)
			free(*(char **)at(l, i));
	memset(l, 0, sizeof(*l));
}

int launch_encode(const struct launch *l, struct buf *out)
{
	tlv_put_u32(out, TAG_VERSION, LAUNCH_VERSION);
	tlv_put_str(out, TAG_ID, l->id);
	tlv_put(out, TAG_RESET_KEY, l->reset_key, sizeof(l->reset_key));
	tlv_put(out, TAG_NEXT_KEY, l->next_key, sizeof(l->next_key));
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint16_t tag = (uint16_t)(TAG_FIELDS + i);
		switch (fields[i].kind) {
		case U32:
			tlv_put_u32(out, tag, *(uint32_t *)at(l, i));
			break;
		case U64:
			tlv_put_u64(out, tag, *(uint64_t *)at(l, i));
			break;
		case STR:
			tlv_put_str(out, tag, *(char **)at(l, i));
			break;
		}
	}
	for (size_t i = 0; i < l->n_extents; i++)
		tlv_put_u64(out, TAG_EXTENT, l->extent_bytes[i]);
	for (size_t i = 0; i < l->n_roles; i++)
		tlv_put_u32(out, TAG_ROLE, l->roles[i]);
	return buf_ok(out) ? 0 : -ENOMEM;
}

static int decode_field(struct launch *l, const struct tlv *t, size_t i)
{
	char **s = at(l, i);

	switch (fields[i].kind) {
	case U32:
		return tlv_u32(t, at(l, i));
	case U64:
		return tlv_u64(t, at(l, i));
	case STR:
		if (*s)
			return -EBADMSG;
		return tlv_str(t, LAUNCH_STR_MAX, s);
	}
	return -EBADMSG;
}

static int copy_exact(const struct tlv *t, void *to, size_t n)
{
	if (t->n != n)
		return -EBADMSG;
	memcpy(to, t->p, n);
	return 0;
}

static int decode_entry(void *to, const struct tlv *t)
{
	struct launch *l = to;
	uint32_t version;
	int r;

	switch (t->tag) {
	case TAG_VERSION:
		r = tlv_u32(t, &version);
		return r < 0 ? r : version == LAUNCH_VERSION ? 0 : -EPROTONOSUPPORT;
	case TAG_EXTENT:
		return l->n_extents < LAUNCH_EXTENTS_MAX ? tlv_u64(t, &l->extent_bytes[l->n_extents++])
							 : -E2BIG;
	case TAG_ROLE:
		return l->n_roles < LAUNCH_FDS_MAX ? tlv_u32(t, &l->roles[l->n_roles++]) : -E2BIG;
	case TAG_ID:
		return copy_exact(t, l->id, sizeof(l->id) - 1);
	case TAG_RESET_KEY:
		return copy_exact(t, l->reset_key, sizeof(l->reset_key));
	case TAG_NEXT_KEY:
		return copy_exact(t, l->next_key, sizeof(l->next_key));
	default:
		break;
	}
	if (t->tag >= TAG_FIELDS && (size_t)(t->tag - TAG_FIELDS) < ARRAY_SIZE(fields))
		return decode_field(l, t, (size_t)(t->tag - TAG_FIELDS));
	return 0;
}

int launch_decode(const void *p, size_t n, struct launch *ret)
{
	memset(ret, 0, sizeof(*ret));
	int r = tlv_each(p, n, TAG_VERSION, decode_entry, ret);
	if (r < 0)
		launch_done(ret);
	return r;
}

int launch_fd(const struct launch *l, uint32_t role, size_t nth)
{
	return roles_fd(l->roles, l->n_roles, role, nth, LAUNCH_FD_FIRST);
}
