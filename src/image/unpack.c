// SPDX-License-Identifier: Apache-2.0
/*
 * vial-unpack: the only program that parses the hostile bytes of images.
 *
 * Theory of operation
 *
 * Started by image/helper.c in the jail, with descriptors only (image/report.h numbers them): it opens nothing. One run does
 * one job (the first argument), reports on its standard output and ends. Outputs are temporary files of the store, which
 * the library publishes only after a report that ends in REPORT_DONE.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/erofs.h"
#include "image/image.h"
#include "image/limits.h"
#include "image/merge.h"
#include "image/report.h"
#include "image/stream.h"
#include "image/tar.h"
#include "image/treefile.h"
#include "wire/tlv.h"

static inline void stream_freep(struct stream **s)
{
	stream_free(*s);
}

static int parse_u64(const char *s, uint64_t *ret, struct vial_err *err)
{
	if (!s || str_u64(s, UINT64_MAX, ret) < 0)
		return err_set(err, VIAL_E_INVALID, "vial-unpack: bad argument '%s'", s ? s : "");
	return 0;
}

static int open_input(char **args, struct stream **ret, struct vial_err *err)
{
	uint64_t offset, bytes;
	int r = parse_u64(args[0], &offset, err);

	if (r == 0)
		r = parse_u64(args[1], &bytes, err);
	return r < 0 ? r : stream_open(UNPACK_FD_IN, offset, bytes, ret, err);
}

static int import_tar(char **args, bool whiteouts, struct buf *report, struct vial_err *err)
{
	_cleanup_(stream_freep) struct stream *in = NULL;
	_cleanup_(layer_done) struct layer l = { 0 };
	uint8_t raw[STREAM_DIGEST], plain[STREAM_DIGEST];
	int r = open_input(args, &in, err);

	if (r == 0)
		r = layer_init(&l, UNPACK_FD_OUT, UNPACK_FD_TREE, err);
	if (r == 0)
		r = tar_read(in, &l, whiteouts, err);
	if (r < 0)
		return r;
	/* A layer's digest tells whether it is whole; a plain tar has only its end mark for that. */
	if (!whiteouts && !stream_ends_in_zeros(in))
		return err_set(err, VIAL_E_CORRUPT, "truncated archive (no end mark)");
	r = layer_finish(&l, err);
	if (r < 0)
		return r;
	stream_digests(in, raw, plain);
	tlv_put(report, REPORT_RAW_DIGEST, raw, sizeof(raw));
	tlv_put(report, REPORT_PLAIN_DIGEST, plain, sizeof(plain));
	tlv_put_u64(report, REPORT_DATA_BYTES, l.data.pos);
	return 0;
}

/* tar OFFSET BYTES: a root file system */
static int run_tar(char **args, struct buf *report, struct vial_err *err)
{
	return import_tar(args, false, report, err);
}

/* layer OFFSET BYTES: one layer of an image */
static int run_layer(char **args, struct buf *report, struct vial_err *err)
{
	return import_tar(args, true, report, err);
}

/* struct maps - the layers' tree files */
struct maps {
	struct erofs_layer layer[IMAGE_LAYERS_MAX];
	size_t n;
};

static void maps_done(struct maps *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->layer[i].blobs)
			munmap((void *)(uintptr_t)m->layer[i].blobs, m->layer[i].blobs_len);
}

static int map_layer(struct maps *m, int fd, struct vial_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "vial-unpack: layer %zu", m->n);
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(err, -errno, "vial-unpack: map layer %zu", m->n);
	m->layer[m->n++] = (struct erofs_layer){ .blobs = p, .blobs_len = (uint64_t)st.st_size };
	return 0;
}

static int merge_one(struct maps *m, size_t k, struct tree *base, struct vial_err *err)
{
	_cleanup_(tree_done) struct tree layer = { 0 };
	struct erofs_layer *l = &m->layer[k];
	int r = treefile_load(l->blobs, l->blobs_len, (uint32_t)k, &layer, &l->data_bytes, err);

	return r < 0 ? r : merge_layer(base, &layer, err);
}

/* merge N UUID: N tree files, lowest first, into one EROFS */
static int run_merge(char **args, struct buf *report, struct vial_err *err)
{
	_cleanup_(maps_done) struct maps m = { 0 };
	_cleanup_(tree_done) struct tree base = { 0 };
	_cleanup_(sink_done) struct sink out = { .fd = -1 };
	uint8_t uuid[16];
	uint64_t n;
	int r = parse_u64(args[0], &n, err);

	if (r < 0)
		return r;
	if (n > IMAGE_LAYERS_MAX || !args[1] || str_unhex(args[1], uuid, sizeof(uuid)) < 0)
		return err_set(err, VIAL_E_INVALID, "vial-unpack: bad arguments of merge");
	r = tree_init(&base, err);
	for (size_t k = 0; k < n && r == 0; k++)
		r = map_layer(&m, UNPACK_FD_LAYER + (int)k, err);
	for (size_t k = 0; k < n && r == 0; k++)
		r = merge_one(&m, k, &base, err);
	if (r < 0)
		return r;
	sink_init(&out, UNPACK_FD_OUT);
	r = erofs_write(&base, m.layer, m.n, uuid, &out, err);
	if (r == 0)
		tlv_put_u64(report, REPORT_DATA_BYTES, out.pos);
	return r;
}

static const struct {
	const char *name;
	int n_args;
	int (*run)(char **args, struct buf *report, struct vial_err *err);
} jobs[] = {
	{ "tar", 2, run_tar },
	{ "layer", 2, run_layer },
	{ "merge", 2, run_merge },
};

static int run(int argc, char **argv, struct buf *report, struct vial_err *err)
{
	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(jobs); i++)
		if (strcmp(argv[1], jobs[i].name) == 0 && argc == 2 + jobs[i].n_args)
			return jobs[i].run(argv + 2, report, err);
	return err_set(err, VIAL_E_INVALID, "vial-unpack is started by vial itself");
}

int main(int argc, char **argv)
{
	_cleanup_buf_ struct buf report = { .limit = IMAGE_REPORT_MAX };
	struct vial_err err = VIAL_ERR_INIT;
	int r = run(argc, argv, &report, &err);

	if (r < 0) {
		report.len = 0;
		tlv_put_u32(&report, REPORT_ERROR_CODE, (uint32_t)-err.code);
		tlv_put_str(&report, REPORT_ERROR_MSG, err.msg);
	}
	tlv_put(&report, REPORT_DONE, NULL, 0);
	if (!buf_ok(&report) || fd_write_full(UNPACK_FD_REPORT, report.data, report.len) < 0)
		return EXIT_FAILURE;
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
