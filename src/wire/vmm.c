// SPDX-License-Identifier: Apache-2.0
// vial-vmm's launch description (table-driven TLV) and its control messages (table-driven fixed shapes).
#include "wire/vmm.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "wire/roles.h"
#include "wire/tlv.h"

enum {
	TAG_VERSION = 1,
	TAG_EXTENT = 2,
	TAG_ROLE = 3,
	TAG_CMDLINE = 4,
	TAG_FIELDS = 16, /* fields[i] has tag TAG_FIELDS + i: append only */
};

enum kind { U32, U64 };

static const struct {
	enum kind kind;
	size_t offset;
} fields[] = {
	{ U32, offsetof(struct vmm_launch, mode) },	   { U32, offsetof(struct vmm_launch, mem_kind) },
	{ U32, offsetof(struct vmm_launch, vcpus) },	   { U64, offsetof(struct vmm_launch, memory) },
	{ U64, offsetof(struct vmm_launch, upper_bytes) }, { U32, offsetof(struct vmm_launch, log_level) },
	{ U32, offsetof(struct vmm_launch, without) },	   { U32, offsetof(struct vmm_launch, disks_differ) },
};

static void *at(const struct vmm_launch *l, size_t i)
{
	return (char *)(uintptr_t)l + fields[i].offset;
}

void vmm_launch_done(struct vmm_launch *l)
{
	free(l->cmdline);
	memset(l, 0, sizeof(*l));
}

int vmm_launch_encode(const struct vmm_launch *l, struct buf *out)
{
	if (l->n_extents > VMM_EXTENTS_MAX || l->n_roles > VMM_FDS_MAX)
		return -EFBIG;
	tlv_put_u32(out, TAG_VERSION, VMM_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint16_t tag = (uint16_t)(TAG_FIELDS + i);
		if (fields[i].kind == U32)
			tlv_put_u32(out, tag, *(uint32_t *)at(l, i));
		else
			tlv_put_u64(out, tag, *(uint64_t *)at(l, i));
	}
	tlv_put_str(out, TAG_CMDLINE, l->cmdline);
	for (size_t i = 0; i < l->n_extents; i++)
		tlv_put_u64(out, TAG_EXTENT, l->extent_bytes[i]);
	for (size_t i = 0; i < l->n_roles; i++)
		tlv_put_u32(out, TAG_ROLE, l->roles[i]);
	return buf_ok(out) ? 0 : -ENOMEM;
}

static int decode_entry(void *to, const struct tlv *t)
{
	struct vmm_launch *l = to;
	uint32_t version;
	int r;

	switch (t->tag) {
	case TAG_VERSION:
		r = tlv_u32(t, &version);
		return r < 0 ? r : version == VMM_VERSION ? 0 : -EPROTONOSUPPORT;
	case TAG_EXTENT:
		return l->n_extents < VMM_EXTENTS_MAX ? tlv_u64(t, &l->extent_bytes[l->n_extents++]) : -E2BIG;
	case TAG_ROLE:
		return l->n_roles < VMM_FDS_MAX ? tlv_u32(t, &l->roles[l->n_roles++]) : -E2BIG;
	case TAG_CMDLINE:
		return l->cmdline ? -EBADMSG : tlv_str(t, VMM_CMDLINE_MAX, &l->cmdline);
	default:
		break;
	}
	if (t->tag < TAG_FIELDS || (size_t)(t->tag - TAG_FIELDS) >= ARRAY_SIZE(fields))
		return 0; /* a later version's */
	size_t i = (size_t)(t->tag - TAG_FIELDS);
	return fields[i].kind == U32 ? tlv_u32(t, at(l, i)) : tlv_u64(t, at(l, i));
}

int vmm_launch_decode(const void *p, size_t n, struct vmm_launch *ret)
{
	memset(ret, 0, sizeof(*ret));
	int r = tlv_each(p, n, TAG_VERSION, decode_entry, ret);
	if (r < 0)
		vmm_launch_done(ret);
	return r;
}

int vmm_launch_fd(const struct vmm_launch *l, uint32_t role, size_t nth)
{
	return roles_fd(l->roles, l->n_roles, role, nth, VMM_FD_FIRST);
}

#define HEADER	  4 /* le16 type, le16 version */
#define PARTS_MAX VMM_STATS_N

/* A message's body: numbers, all of 4 or all of 8 bytes, then text or nothing. */
struct shape {
	bool known;
	uint8_t n_parts, part_size;
	bool has_text;
	uint16_t text; /* offset of its slice */
	uint16_t offset[PARTS_MAX];
};

#define AT(member) offsetof(struct vmm_msg, member)

static const struct shape shapes[] = {
	[VMM_PAUSE] = { .known = true },
	[VMM_RESUME] = { .known = true },
	[VMM_SNAPSHOT] = { .known = true, .n_parts = 1, .part_size = 4, .offset = { AT(flags) } },
	[VMM_CONNECT] = { .known = true, .n_parts = 1, .part_size = 4, .offset = { AT(port) } },
	[VMM_ACCEPT] = { .known = true, .n_parts = 1, .part_size = 4, .offset = { AT(id) } },
	[VMM_REFUSE] = { .known = true, .n_parts = 1, .part_size = 4, .offset = { AT(id) } },
	[VMM_BALLOON] = { .known = true, .n_parts = 1, .part_size = 8, .offset = { AT(balloon_bytes) } },
	[VMM_STATS] = { .known = true },
	[VMM_QUIT] = { .known = true },
	[VMM_AHEAD] = { .known = true },
	[VMM_AHEAD_DROP] = { .known = true },
	[VMM_RUNNING] = { .known = true },
	[VMM_DONE] = { .known = true,
		       .n_parts = 2,
		       .part_size = 4,
		       .has_text = true,
		       .text = AT(done.text),
		       .offset = { AT(done.of), AT(done.sys_errno) } },
	[VMM_GUEST_CONNECTS] = { .known = true,
				 .n_parts = 2,
				 .part_size = 4,
				 .offset = { AT(guest_connects.id), AT(guest_connects.port) } },
	[VMM_EXITED] = { .known = true,
			 .n_parts = 1,
			 .part_size = 4,
			 .has_text = true,
			 .text = AT(exited.text),
			 .offset = { AT(exited.reason) } },
	[VMM_STATS_IS] = { .known = true,
			   .n_parts = VMM_STATS_N,
			   .part_size = 8,
			   .offset = { AT(stats[0]), AT(stats[1]), AT(stats[2]), AT(stats[3]), AT(stats[4]),
				       AT(stats[5]), AT(stats[6]), AT(stats[7]) } },
};

_Static_assert(VMM_STATS_N == 8, "shapes[VMM_STATS_IS] names each");
_Static_assert(HEADER + 2 * 4 + VMM_TEXT_MAX <= VMM_MSG_MAX, "the longest with text");
_Static_assert(HEADER + VMM_STATS_N * 8 <= VMM_MSG_MAX, "the longest without");

static const struct shape *shape_of(uint16_t type)
{
	return type < ARRAY_SIZE(shapes) && shapes[type].known ? &shapes[type] : NULL;
}

static void put_number(uint8_t *to, const void *from, size_t size)
{
	uint32_t v32;
	uint64_t v64;

	if (size == sizeof(v32)) {
		memcpy(&v32, from, sizeof(v32));
		v32 = htole32(v32);
		memcpy(to, &v32, sizeof(v32));
	} else {
		memcpy(&v64, from, sizeof(v64));
		v64 = htole64(v64);
		memcpy(to, &v64, sizeof(v64));
	}
}

int vmm_msg_encode(const struct vmm_msg *m, uint8_t ret[VMM_MSG_MAX], size_t *ret_len)
{
	const struct shape *s = shape_of(m->type);
	uint16_t head[2] = { htole16(m->type), htole16(VMM_VERSION) };
	size_t n = HEADER;

	if (!s)
		return -EINVAL;
	memcpy(ret, head, sizeof(head));
	for (size_t i = 0; i < s->n_parts; i++, n += s->part_size)
		put_number(ret + n, (const char *)m + s->offset[i], s->part_size);
	if (s->has_text) {
		struct slice text;
		memcpy(&text, (const char *)m + s->text, sizeof(text));
		text.n = MIN(text.n, (size_t)VMM_TEXT_MAX);
		if (text.n > 0)
			memcpy(ret + n, text.p, text.n);
		n += text.n;
	}
	*ret_len = n;
	return 0;
}

static int check(const struct vmm_msg *m)
{
	if (m->type != VMM_SNAPSHOT)
		return 0;
	if (m->flags & ~(uint32_t)VMM_SNAP_ALL)
		return -EBADMSG;
	return (m->flags & (VMM_SNAP_DELTA | VMM_SNAP_REMAP)) && !(m->flags & VMM_SNAP_MEMORY) ? -EBADMSG : 0;
}

int vmm_msg_decode(const uint8_t *p, size_t n, struct vmm_msg *ret)
{
	struct vmm_msg m = { 0 };
	uint16_t head[2];

	if (n < HEADER)
		return -EBADMSG;
	memcpy(head, p, sizeof(head));
	if (le16toh(head[1]) != VMM_VERSION)
		return -EPROTONOSUPPORT;
	m.type = le16toh(head[0]);
	const struct shape *s = shape_of(m.type);
	size_t fixed = s ? HEADER + (size_t)s->n_parts * s->part_size : 0;
	if (!s || n < fixed || n - fixed > (s->has_text ? VMM_TEXT_MAX : 0))
		return -EBADMSG;
	p += HEADER;
	for (size_t i = 0; i < s->n_parts; i++, p += s->part_size)
		put_number((uint8_t *)&m + s->offset[i], p, s->part_size); /* swapping is its own inverse */
	if (s->has_text) {
		struct slice text = { p, n - fixed };
		memcpy((char *)&m + s->text, &text, sizeof(text));
	}
	int r = check(&m);
	if (r == 0)
		*ret = m;
	return r;
}

size_t vmm_msg_fds(const struct vmm_msg *m)
{
	switch (m->type) {
	case VMM_CONNECT:
	case VMM_ACCEPT:
	case VMM_AHEAD:
		return 1;
	case VMM_SNAPSHOT:
		return 1U + !!(m->flags & VMM_SNAP_MEMORY) + !!(m->flags & VMM_SNAP_UPPER);
	default:
		return 0;
	}
}

int vmm_msg_send(int sock, const struct vmm_msg *m, const int *fds)
{
	uint8_t packet[VMM_MSG_MAX];
	size_t n;
	int r = vmm_msg_encode(m, packet, &n);

	if (r < 0)
		return r;
	ssize_t sent = fd_send(sock, packet, n, fds, vmm_msg_fds(m));
	return sent < 0 ? (int)sent : 0;
}

int vmm_msg_recv(int sock, uint8_t buf[VMM_MSG_MAX], struct vmm_msg *ret, int ret_fds[3])
{
	int fds[FD_PASS_MAX];
	struct vmm_msg m;
	size_t n_fds = 0;
	ssize_t n = fd_recv(sock, buf, VMM_MSG_MAX, fds, &n_fds);

	if (n <= 0)
		return (int)n;
	int r = vmm_msg_decode(buf, (size_t)n, &m);
	if (r == 0 && n_fds != vmm_msg_fds(&m))
		r = -EPROTO;
	if (r < 0) {
		while (n_fds > 0)
			close(fds[--n_fds]);
		return r;
	}
	memcpy(ret_fds, fds, n_fds * sizeof(int));
	*ret = m;
	return 1;
}
