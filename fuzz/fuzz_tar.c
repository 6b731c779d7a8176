// SPDX-License-Identifier: Apache-2.0
/*
 * Archives to a root disk: tar (plain, gzip, zstd) to tree, tree file and back, merge, EROFS. Input: a byte of flags, then
 * one to four archives of equal length. What is accepted must come out as well-formed EROFS, with as many names as the tree has.
 */
#include <string.h>

#include "erofs_check.h"
#include "fuzz.h"
#include "image/erofs.h"
#include "image/merge.h"
#include "image/tar.h"
#include "image/treefile.h"

#define LAYERS_MAX 4
#define DATA_MAX   MIB(4) /* instead of the sinks' own limit: holes must not make the fuzzer slow */

enum { FLAG_WHITEOUTS = 1, FLAG_LAYERS_SHIFT = 1 };

struct state {
	struct layer made[LAYERS_MAX];
	struct erofs_layer layers[LAYERS_MAX];
	size_t n;
	struct tree base;
	struct sink out;
};

static void state_done(struct state *s)
{
	for (size_t i = 0; i < LAYERS_MAX; i++)
		layer_done(&s->made[i]);
	tree_done(&s->base);
	sink_done(&s->out);
}

static inline void stream_freep(struct stream **s)
{
	stream_free(*s);
}

static int read_layer(struct layer *l, const uint8_t *p, size_t n, bool whiteouts, struct vial_err *err)
{
	_cleanup_(stream_freep) struct stream *in = NULL;
	int r = stream_open_mem(p, n, &in, err);

	if (r == 0)
		r = layer_init(l, -1, -1, err);
	if (r < 0)
		return r;
	l->data.mem.limit = DATA_MAX;
	l->blobs.mem.limit = DATA_MAX;
	r = tar_read(in, l, whiteouts, err);
	return r < 0 ? r : layer_finish(l, err);
}

/* What one layer wrote must load again; its merge may fail (an open hard link), with a message. */
static int merge_made(struct state *s, struct layer *l, struct vial_err *err)
{
	_cleanup_(tree_done) struct tree t = { 0 };
	struct erofs_layer *e = &s->layers[s->n];
	const uint8_t *p = (const uint8_t *)l->blobs.mem.data;

	int r = treefile_load(p, l->blobs.mem.len, (uint32_t)s->n, &t, &e->data_bytes, err);
	FUZZ_CHECK(r == 0 || err->code == VIAL_E_LIMIT);
	if (r < 0)
		return r;
	FUZZ_CHECK(e->data_bytes == l->data.pos && e->data_bytes % 4096 == 0);
	e->blobs = p;
	e->blobs_len = l->blobs.mem.len;
	s->n++;
	return merge_layer(&s->base, &t, err);
}

static void check_output(struct state *s)
{
	static const uint8_t uuid[16] = { 1 };
	struct tree_list list;
	uint64_t data = 0, names = 0;

	sink_init(&s->out, -1);
	FUZZ_CHECK(erofs_write(&s->base, s->layers, s->n, uuid, &s->out, NULL) == 0);
	for (size_t i = 0; i < s->n; i++)
		data += s->layers[i].data_bytes;
	FUZZ_CHECK(erofs_check((const uint8_t *)s->out.mem.data, s->out.mem.len, data, &names) == NULL);
	FUZZ_CHECK(tree_flatten(&s->base, &list, NULL) == 0);
	FUZZ_CHECK(names == list.n);
	for (uint32_t i = 0; i < list.n; i++)
		FUZZ_CHECK(list.v[i]->kind == TREE_INODE && list.v[i]->depth <= 256);
	tree_list_done(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(state_done) struct state s = { 0 };
	struct vial_err err = VIAL_ERR_INIT;

	if (size < 1)
		return 0;
	bool whiteouts = data[0] & FLAG_WHITEOUTS;
	size_t layers = 1 + ((data[0] >> FLAG_LAYERS_SHIFT) & (LAYERS_MAX - 1));
	size_t each = (size - 1) / layers;
	int r = tree_init(&s.base, &err);
	for (size_t i = 0; i < layers && r == 0; i++) {
		r = read_layer(&s.made[i], data + 1 + i * each, each, whiteouts, &err);
		if (r == 0)
			r = merge_made(&s, &s.made[i], &err);
	}
	FUZZ_CHECK(r == err.code && (r == 0) == (err.msg[0] == '\0'));
	if (r == 0)
		check_output(&s);
	return 0;
}
