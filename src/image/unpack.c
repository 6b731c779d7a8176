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
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/bundle.h"
#include "image/config.h"
#include "image/dirstream.h"
#include "image/erofs.h"
#include "image/image.h"
#include "image/limits.h"
#include "image/merge.h"
#include "image/report.h"
#include "image/stream.h"
#include "image/tar.h"
#include "image/treefile.h"
#include "jail/jail.h"
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
	uint64_t offset = 0, bytes = 0;
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

/* dir: a stream of image/walk.h */
static int run_dir(char **args _unused_, struct buf *report, struct vial_err *err)
{
	_cleanup_(layer_done) struct layer l = { 0 };
	uint8_t digest[SHA256_SIZE];
	int r = layer_init(&l, UNPACK_FD_OUT, UNPACK_FD_TREE, err);

	if (r == 0)
		r = dirstream_read(UNPACK_FD_IN, &l, digest, err);
	if (r == 0)
		r = layer_finish(&l, err);
	if (r < 0)
		return r;
	tlv_put(report, REPORT_PLAIN_DIGEST, digest, sizeof(digest));
	tlv_put_u64(report, REPORT_DATA_BYTES, l.data.pos);
	return 0;
}

/* inflate: the input's plain bytes to the output */
static int run_inflate(char **args _unused_, struct buf *report, struct vial_err *err)
{
	_cleanup_(stream_freep) struct stream *in = NULL;
	_cleanup_(sink_done) struct sink out;
	const void *p;
	ssize_t n;
	int r;

	sink_init(&out, UNPACK_FD_OUT);
	r = stream_open(UNPACK_FD_IN, 0, UINT64_MAX, &in, err);
	if (r < 0)
		return r;
	while ((n = stream_next(in, &p, err)) > 0)
		sink_write(&out, p, (size_t)n);
	if (n < 0)
		return (int)n;
	r = sink_finish(&out);
	if (r < 0)
		return err_sys(err, r, "write the unpacked archive");
	tlv_put_u64(report, REPORT_DATA_BYTES, out.pos);
	return 0;
}

/* Name of this machine's architecture in image configs (Go's GOARCH). */
static const char *host_arch(void)
{
	static const struct {
		const char *machine, *arch;
	} names[] = { { "x86_64", "amd64" }, { "aarch64", "arm64" } };
	static struct utsname u;

	if (uname(&u) < 0)
		return "unknown";
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(u.machine, names[i].machine) == 0)
			return names[i].arch;
	return u.machine;
}

static void report_image(const struct oci_image *image, struct buf *report)
{
	_cleanup_buf_ struct buf config = { .limit = IMAGE_REPORT_MAX };

	config_encode(&image->config, &config);
	report->failed = report->failed || !buf_ok(&config);
	tlv_put_u32(report, REPORT_KIND, KIND_IMAGE);
	tlv_put(report, REPORT_IMAGE_DIGEST, image->digest, sizeof(image->digest));
	tlv_put(report, REPORT_CONFIG, config.data, config.len);
}

static void report_layer(const struct oci_layer *l, uint64_t offset, uint64_t bytes, struct buf *report)
{
	_cleanup_buf_ struct buf b = { 0 };

	tlv_put(&b, LAYER_DIFF_ID, l->diff_id, sizeof(l->diff_id));
	if (l->has_blob)
		tlv_put(&b, LAYER_BLOB, l->blob, sizeof(l->blob));
	tlv_put_u64(&b, LAYER_OFFSET, offset);
	tlv_put_u64(&b, LAYER_BYTES, bytes);
	report->failed = report->failed || !buf_ok(&b);
	tlv_put(report, REPORT_LAYER, b.data, b.len);
}

static int report_archived_layers(const struct bundle *x, const struct oci_image *image, struct buf *report,
				  struct vial_err *err)
{
	char path[16 + SHA256_HEX] = "blobs/sha256/";

	for (size_t i = 0; i < image->n_layers; i++) {
		const struct oci_layer *l = &image->layers[i];
		str_hex(l->blob, sizeof(l->blob), path + strlen("blobs/sha256/"));
		const struct bundle_file *f = bundle_find(x, l->name ? l->name : path);
		if (!f)
			return err_set(err, VIAL_E_CORRUPT, "layer %zu ('%.200s') is not in the archive",
				       i + 1, l->name ? l->name : path);
		report_layer(l, f->offset, f->bytes, report);
	}
	return 0;
}

static int run_archived_image(struct bundle *x, struct buf *report, struct vial_err *err)
{
	_cleanup_(oci_image_done) struct oci_image image = { 0 };
	struct oci_docs docs = bundle_docs(x);
	int r = x->kind == BUNDLE_OCI ? oci_read_layout(&docs, host_arch(), &image, err)
				      : oci_read_docker(&docs, host_arch(), &image, err);

	if (r < 0)
		return r;
	report_image(&image, report);
	return report_archived_layers(x, &image, report, err);
}

/* archive: what the input is, and the image in it if it is one */
static int run_archive(char **args _unused_, struct buf *report, struct vial_err *err)
{
	_cleanup_(bundle_done) struct bundle x = { 0 };
	int r = bundle_scan(UNPACK_FD_IN, &x, err);

	if (r < 0)
		return r;
	if (x.kind == BUNDLE_OCI || x.kind == BUNDLE_DOCKER)
		return run_archived_image(&x, report, err);
	tlv_put_u32(report, REPORT_KIND, x.kind == BUNDLE_COMPRESSED ? KIND_COMPRESSED_IMAGE : KIND_ROOTFS);
	return 0;
}

/* struct given - documents of a layout directory: index.json is the input, blobs follow from UNPACK_FD_LAYER on */
struct given {
	const char *digests; /* of the blobs, each followed by a comma */
};

static int read_given(int fd, char **ret, size_t *ret_len, struct vial_err *err)
{
	int r = fd_read_all(fd, IMAGE_JSON_MAX, ret, ret_len);

	if (r == -EFBIG)
		return err_set(err, VIAL_E_LIMIT, "a JSON document is larger than %zu MiB",
			       IMAGE_JSON_MAX / MIB(1));
	return r < 0 ? err_sys(err, r, "read") : 0;
}

static int given_file(void *data _unused_, const char *name _unused_, char **ret, size_t *ret_len,
		      struct vial_err *err)
{
	return read_given(UNPACK_FD_IN, ret, ret_len, err);
}

static int given_blob(void *data, const char *hex, char **ret, size_t *ret_len, struct vial_err *err)
{
	const struct given *g = data;
	const char *at = strstr(g->digests, hex);

	if (!at)
		return OCI_NEED;
	return read_given(UNPACK_FD_LAYER + (int)((size_t)(at - g->digests) / SHA256_HEX), ret, ret_len, err);
}

/* layout DIGESTS: a layout directory; asks for the blobs it needs one by one and is then run again */
static int run_layout(char **args, struct buf *report, struct vial_err *err)
{
	_cleanup_(oci_image_done) struct oci_image image = { 0 };
	struct given given = { .digests = args[0] };
	struct oci_docs docs = { .data = &given, .file = given_file, .blob = given_blob };
	int r = oci_read_layout(&docs, host_arch(), &image, err);

	if (r < 0)
		return r;
	if (r == OCI_NEED) {
		tlv_put_str(report, REPORT_NEED, image.need);
		return 0;
	}
	report_image(&image, report);
	for (size_t i = 0; i < image.n_layers; i++)
		report_layer(&image.layers[i], 0, image.layers[i].bytes, report);
	return 0;
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
	{ "tar", 2, run_tar },	       { "layer", 2, run_layer },     { "dir", 0, run_dir },
	{ "inflate", 0, run_inflate }, { "archive", 0, run_archive }, { "layout", 1, run_layout },
	{ "merge", 2, run_merge },
};

static int run(int argc, char **argv, struct buf *report, struct vial_err *err)
{
	/* The loader has done its work: from here on no file can be opened at all. */
	int r = jail_self(JAIL_UNPACK, NULL, 0, 0, err);

	if (r < 0)
		return r;
	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(jobs); i++)
		if (strcmp(argv[1], jobs[i].name) == 0 && argc == 2 + jobs[i].n_args)
			return jobs[i].run(argv + 2, report, err);
	return err_set(err, VIAL_E_INVALID, "vial-unpack is started by vial itself");
}

int main(int argc, char **argv)
{
	_cleanup_buf_ struct buf report = { .limit = IMAGE_REPORT_MAX };
	struct vial_err err = VIAL_ERR_INIT;
	int r;

	/* Executed by descriptor it would be known by a number. */
	(void)prctl(PR_SET_NAME, "vial-unpack");
	r = run(argc, argv, &report, &err);

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
