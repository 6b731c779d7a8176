// SPDX-License-Identifier: Apache-2.0
// ACPI machine language, as much of it as our DSDT needs.
#include "vmm/x86/aml.h"

#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXT = 0x5b,
	OP_EXT_DEVICE = 0x82,
	OP_NOTIFY = 0x86,
};

static void put8(struct buf *b, uint32_t v)
{
	uint8_t byte = (uint8_t)v;

	buf_append(b, &byte, 1);
}

static void put_le(struct buf *b, uint32_t v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		put8(b, v >> (8 * i));
}

/* put_length() - PkgLength: counts its own bytes, too [20.2.4] */
static void put_length(struct buf *b, size_t contents)
{
	if (contents + 1 < 0x40) {
		put8(b, (uint32_t)contents + 1);
		return;
	}
	uint32_t extra = contents + 2 < 0x1000 ? 1 : 2;
	uint32_t total = (uint32_t)contents + 1 + extra;
	put8(b, extra << 6 | (total & 0xf));
	put_le(b, total >> 4, extra);
}

static void put_name(struct buf *b, const char *name)
{
	buf_append(b, name, 4);
}

void aml_integer(struct buf *b, uint32_t v)
{
	if (v <= 1) {
		put8(b, v ? OP_ONE : OP_ZERO);
	} else if (v <= 0xff) {
		put8(b, OP_BYTE);
		put8(b, v);
	} else if (v <= 0xffff) {
		put8(b, OP_WORD);
		put_le(b, v, 2);
	} else {
		put8(b, OP_DWORD);
		put_le(b, v, 4);
	}
}

void aml_string(struct buf *b, const char *s)
{
	put8(b, OP_STRING);
	buf_append(b, s, strlen(s) + 1);
}

void aml_name(struct buf *b, const char *name)
{
	put8(b, OP_NAME);
	put_name(b, name);
}

void aml_name_integer(struct buf *b, const char *name, uint32_t v)
{
	aml_name(b, name);
	aml_integer(b, v);
}

void aml_name_string(struct buf *b, const char *name, const char *s)
{
	aml_name(b, name);
	aml_string(b, s);
}

void aml_name_package(struct buf *b, const char *name, const uint32_t *v, uint8_t n)
{
	_cleanup_buf_ struct buf items = { 0 };

	for (uint8_t i = 0; i < n; i++)
		aml_integer(&items, v[i]);
	aml_name(b, name);
	put8(b, OP_PACKAGE);
	put_length(b, items.len + 1);
	put8(b, n);
	buf_append(b, items.data, items.len);
}

void aml_name_resources(struct buf *b, const char *name, const struct buf *resources)
{
	_cleanup_buf_ struct buf size = { 0 };

	aml_integer(&size, (uint32_t)resources->len + 2);
	aml_name(b, name);
	put8(b, OP_BUFFER);
	put_length(b, size.len + resources->len + 2);
	buf_append(b, size.data, size.len);
	buf_append(b, resources->data, resources->len);
	put_le(b, 0x0079, 2); /* end tag, no checksum */
}

void aml_scope_sb(struct buf *b, const struct buf *contents)
{
	put8(b, OP_SCOPE);
	put_length(b, 5 + contents->len);
	buf_append(b, "\\_SB_", 5);
	buf_append(b, contents->data, contents->len);
}

void aml_device(struct buf *b, const char *name, const struct buf *contents)
{
	put8(b, OP_EXT);
	put8(b, OP_EXT_DEVICE);
	put_length(b, 4 + contents->len);
	put_name(b, name);
	buf_append(b, contents->data, contents->len);
}

void aml_method(struct buf *b, const char *name, uint8_t n_args, const struct buf *contents)
{
	put8(b, OP_METHOD);
	put_length(b, 5 + contents->len);
	put_name(b, name);
	put8(b, n_args);
	buf_append(b, contents->data, contents->len);
}

void aml_notify(struct buf *b, const char *name, uint8_t value)
{
	put8(b, OP_NOTIFY);
	put_name(b, name);
	aml_integer(b, value);
}

void aml_memory(struct buf *b, uint32_t base, uint32_t len)
{
	put8(b, 0x86); /* 32-bit fixed memory range [6.4.3.4] */
	put_le(b, 9, 2);
	put8(b, 1); /* read-write */
	put_le(b, base, 4);
	put_le(b, len, 4);
}

void aml_interrupt_edge(struct buf *b, uint32_t gsi)
{
	put8(b, 0x89); /* extended interrupt [6.4.3.6] */
	put_le(b, 6, 2);
	put8(b, 1 | 1 << 1); /* consumer, edge; active high, exclusive */
	put8(b, 1);
	put_le(b, gsi, 4);
}

static uint32_t hex_digit(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

uint32_t aml_eisa_id(const char *id)
{
	uint32_t v = 0;

	for (int i = 0; i < 3; i++)
		v = v << 5 | ((uint32_t)(id[i] - '@') & 0x1f);
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	return __builtin_bswap32(v);
}
