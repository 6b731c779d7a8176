// SPDX-License-Identifier: Apache-2.0
// What a source became: one small file per device and inode, a TLV list.
#include "image/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/config.h"
#include "image/store.h"
#include "wire/tlv.h"

#define SOURCE_FILE_MAX MIB(8)
#define SOURCE_VERSION	1
/* Younger changes may share their timestamp with one that is still to come, so they are not remembered. */
#define SETTLED_NS (50 * NS_PER_MS)

enum { TAG_VERSION = 1, TAG_ID, TAG_KEY, TAG_META_BYTES, TAG_LAYER_KEY, TAG_LAYER_BYTES, TAG_CONFIG };

void source_id_stat(struct source_id *id, const struct stat *st)
{
	*id = (struct source_id){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * (int64_t)NS_PER_S + st->st_mtim.tv_nsec,
		.ctime_ns = (int64_t)st->st_ctim.tv_sec * (int64_t)NS_PER_S + st->st_ctim.tv_nsec,
	};
}

void source_root_done(struct source_root *r)
{
	config_done(&r->config);
	r->n_layers = 0;
}

void source_name(const struct source_id *id, char *buf)
{
	snprintf(buf, STORE_NAME_MAX, "%llx-%llx", (unsigned long long)id->dev, (unsigned long long)id->ino);
}

static void source_path(const struct source_id *id, char *buf, size_t n)
{
	char name[STORE_NAME_MAX];

	source_name(id, name);
	snprintf(buf, n, "sources/%.100s", name);
}

static int get_key(const struct tlv *t, char key[SHA256_HEX])
{
	uint8_t raw[SHA256_SIZE];

	if (t->n != SHA256_HEX - 1)
		return -EBADMSG;
	memcpy(key, t->p, t->n);
	key[t->n] = '\0';
	return str_unhex(key, raw, sizeof(raw));
}

static int decode_field(const struct tlv *t, const struct source_id *id, struct source_root *r)
{
	uint32_t version;

	switch (t->tag) {
	case TAG_VERSION:
		return tlv_u32(t, &version) < 0 || version != SOURCE_VERSION ? -ENOENT : 0;
	case TAG_ID:
		return t->n == sizeof(*id) && memcmp(t->p, id, sizeof(*id)) == 0 ? 0 : -ENOENT;
	case TAG_KEY:
		return get_key(t, r->key);
	case TAG_META_BYTES:
		return tlv_u64(t, &r->meta_bytes);
	case TAG_LAYER_KEY:
		if (r->n_layers >= IMAGE_LAYERS_MAX)
			return -E2BIG;
		return get_key(t, r->layers[r->n_layers++].key);
	case TAG_LAYER_BYTES:
		return r->n_layers ? tlv_u64(t, &r->layers[r->n_layers - 1].bytes) : -EBADMSG;
	case TAG_CONFIG:
		config_done(&r->config);
		return config_decode(t->p, t->n, &r->config);
	default:
		return 0;
	}
}

int source_load(int store_fd, const struct source_id *id, struct source_root *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[STORE_NAME_MAX];
	struct tlv t;
	size_t n;
	int r;

	*ret = (struct source_root){ 0 };
	source_path(id, path, sizeof(path));
	if (fd_read_file_at(store_fd, path, SOURCE_FILE_MAX, &text, &n) < 0)
		return -ENOENT;
	struct tlv_in in = { (const uint8_t *)text, n };
	while ((r = tlv_next(&in, &t)) > 0) {
		r = decode_field(&t, id, ret);
		if (r < 0)
			break;
	}
	/* Whatever is wrong with the file: it is a cache, the source is still there. */
	return r < 0 || !ret->key[0] ? -ENOENT : 0;
}

int source_save(int store_fd, const struct source_id *id, const struct source_root *r, struct vial_err *err)
{
	_cleanup_buf_ struct buf b = { 0 }, config = { 0 };
	char path[STORE_NAME_MAX];
	int e;

	if ((int64_t)clock_wall_ns() - id->ctime_ns < (int64_t)SETTLED_NS)
		return 0;
	tlv_put_u32(&b, TAG_VERSION, SOURCE_VERSION);
	tlv_put(&b, TAG_ID, id, sizeof(*id));
	tlv_put_str(&b, TAG_KEY, r->key);
	tlv_put_u64(&b, TAG_META_BYTES, r->meta_bytes);
	for (size_t i = 0; i < r->n_layers; i++) {
		tlv_put_str(&b, TAG_LAYER_KEY, r->layers[i].key);
		tlv_put_u64(&b, TAG_LAYER_BYTES, r->layers[i].bytes);
	}
	config_encode(&r->config, &config);
	tlv_put(&b, TAG_CONFIG, config.data, config.len);
	if (!buf_ok(&b) || !buf_ok(&config))
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	source_path(id, path, sizeof(path));
	e = fd_write_file_at(store_fd, path, b.data, b.len, 0600);
	return e < 0 ? err_sys(err, e, "write '%s' of the image store", path) : 0;
}
