// SPDX-License-Identifier: Apache-2.0
/*
 * An input, unpacked as it is read.
 *
 * Theory of operation
 *
 * Input: hostile bytes, in vial-unpack only. The first bytes choose the decoder. A file may hold several gzip members or
 * zstd frames one after the other (pigz, zstd:chunked): decoding goes on until the input ends, and an end inside a
 * member is an error. Digests are taken of what was read and of what was handed out.
 * Limits: IMAGE_DATA_BYTES_MAX plain bytes, so a small file cannot unpack without end; zstd windows up to
 * WINDOW_LOG_MAX.
 */
#include "image/stream.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/limits.h"

#define IN_CHUNK       KIB(128)
#define OUT_CHUNK      KIB(256)
#define WINDOW_LOG_MAX 27 /* 128 MiB, zstd's own default for streams */
#define TAR_RECORD     512

enum codec { CODEC_PLAIN, CODEC_GZIP, CODEC_ZSTD };

struct stream {
	int fd; /* -1: @mem */
	const uint8_t *mem;
	uint64_t off, left;
	enum codec codec;
	z_stream z;
	ZSTD_DCtx *zstd;
	EVP_MD_CTX *md_raw, *md_plain;
	const uint8_t *in; /* bytes read and not decoded yet */
	size_t in_len;
	bool mid_frame; /* a member or frame has begun and not ended */
	bool inflate_on;
	uint64_t plain_bytes;
	uint64_t zeros; /* at the end of what was handed out */
	uint8_t in_buf[IN_CHUNK];
	uint8_t out_buf[OUT_CHUNK];
};

void stream_free(struct stream *s)
{
	if (!s)
		return;
	if (s->inflate_on)
		inflateEnd(&s->z);
	ZSTD_freeDCtx(s->zstd);
	EVP_MD_CTX_free(s->md_raw);
	EVP_MD_CTX_free(s->md_plain);
	free(s);
}

static inline void stream_freep(struct stream **s)
{
	stream_free(*s);
}

/* Fill s->in when it is empty. Return: 0, also at the end of the input (s->in_len stays 0). */
static int refill(struct stream *s, struct vial_err *err)
{
	if (s->in_len > 0 || s->left == 0)
		return 0;
	size_t want = (size_t)MIN(s->left, (uint64_t)IN_CHUNK);
	ssize_t n = (ssize_t)want;
	if (s->fd >= 0) {
		do
			n = pread(s->fd, s->in_buf, want, (off_t)s->off);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return err_sys(err, -errno, "read");
		s->in = s->in_buf;
	} else {
		s->in = s->mem + s->off;
	}
	if (n == 0 && s->left != UINT64_MAX)
		return err_set(err, VIAL_E_CORRUPT, "truncated: ends %llu bytes early",
			       (unsigned long long)s->left);
	if (n == 0)
		s->left = 0;
	EVP_DigestUpdate(s->md_raw, s->in, (size_t)n);
	s->in_len = (size_t)n;
	s->off += (uint64_t)n;
	s->left -= s->left == UINT64_MAX ? 0 : (uint64_t)n;
	return 0;
}

static int choose(struct stream *s, struct vial_err *err)
{
	static const struct {
		const char *magic;
		size_t n;
		const char *name;
	} refused[] = {
		{ "\xfd"
		  "7zXZ",
		  5, "xz" },
		{ "BZh", 3, "bzip2" },
		{ "\x04\x22\x4d\x18", 4, "lz4" },
		{ "\x5d\x00\x00", 3, "lzma" },
		{ "PK\x03\x04", 4, "zip" },
	};
	int r = refill(s, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (s->in_len >= refused[i].n && memcmp(s->in, refused[i].magic, refused[i].n) == 0)
			return err_set(err, VIAL_E_UNSUPPORTED,
				       "compressed with %s, which is not supported (use gzip, zstd or none)",
				       refused[i].name);
	if (s->in_len >= 2 && s->in[0] == 0x1f && s->in[1] == 0x8b) {
		s->codec = CODEC_GZIP;
		s->inflate_on = inflateInit2(&s->z, 15 + 16) == Z_OK;
		return s->inflate_on ? 0 : err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	}
	/* A zstd frame, or a skippable frame before one. */
	if (s->in_len >= 4 && (memcmp(s->in, "\x28\xb5\x2f\xfd", 4) == 0 ||
			       ((s->in[0] & 0xf0) == 0x50 && memcmp(s->in + 1, "\x2a\x4d\x18", 3) == 0))) {
		s->codec = CODEC_ZSTD;
		s->zstd = ZSTD_createDCtx();
		if (!s->zstd ||
		    ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX)))
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	}
	return 0;
}

static int open_common(struct stream *s, struct vial_err *err)
{
	s->md_raw = EVP_MD_CTX_new();
	s->md_plain = EVP_MD_CTX_new();
	if (!s->md_raw || !s->md_plain || !EVP_DigestInit_ex(s->md_raw, EVP_sha256(), NULL) ||
	    !EVP_DigestInit_ex(s->md_plain, EVP_sha256(), NULL))
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	return choose(s, err);
}

int stream_open(int fd, uint64_t offset, uint64_t bytes, struct stream **ret, struct vial_err *err)
{
	_cleanup_(stream_freep) struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	s->fd = fd;
	s->off = offset;
	s->left = bytes;
	int r = open_common(s, err);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

int stream_open_mem(const void *p, size_t n, struct stream **ret, struct vial_err *err)
{
	_cleanup_(stream_freep) struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	s->fd = -1;
	s->mem = p;
	s->left = n;
	int r = open_common(s, err);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static ssize_t next_plain(struct stream *s, const void **ret)
{
	size_t n = s->in_len;

	*ret = s->in;
	s->in_len = 0;
	return (ssize_t)n;
}

/* One turn of inflate. Return: bytes put out, possibly 0. */
static ssize_t turn_gzip(struct stream *s, struct vial_err *err)
{
	s->z.next_in = (Bytef *)(uintptr_t)s->in;
	s->z.avail_in = (uInt)s->in_len;
	s->z.next_out = s->out_buf;
	s->z.avail_out = OUT_CHUNK;
	if (!s->mid_frame && s->in_len > 0) {
		/* Zeros behind the last member are padding. */
		if (s->in[0] == 0 && s->plain_bytes > 0) {
			s->in_len = 0;
			return 0;
		}
		inflateReset(&s->z);
		s->z.next_in = (Bytef *)(uintptr_t)s->in;
		s->z.avail_in = (uInt)s->in_len;
		s->mid_frame = true;
	}
	int r = inflate(&s->z, Z_NO_FLUSH);
	if (r == Z_STREAM_END)
		s->mid_frame = false;
	else if (r != Z_OK && r != Z_BUF_ERROR)
		return err_set(err, VIAL_E_CORRUPT, "damaged gzip data (%s)",
			       s->z.msg ? s->z.msg : "bad stream");
	s->in = s->z.next_in;
	s->in_len = s->z.avail_in;
	return (ssize_t)(OUT_CHUNK - s->z.avail_out);
}

static ssize_t turn_zstd(struct stream *s, struct vial_err *err)
{
	ZSTD_inBuffer in = { s->in, s->in_len, 0 };
	ZSTD_outBuffer out = { s->out_buf, OUT_CHUNK, 0 };
	size_t r = ZSTD_decompressStream(s->zstd, &out, &in);

	if (ZSTD_isError(r))
		return err_set(err, VIAL_E_CORRUPT, "damaged zstd data (%s)", ZSTD_getErrorName(r));
	s->mid_frame = r != 0;
	s->in += in.pos;
	s->in_len -= in.pos;
	return (ssize_t)out.pos;
}

static ssize_t next_decoded(struct stream *s, const void **ret, struct vial_err *err)
{
	for (;;) {
		bool had_input = s->in_len > 0;
		ssize_t n = refill(s, err);
		if (n < 0)
			return n;
		if (s->in_len == 0 && !had_input && !s->mid_frame)
			return 0;
		bool at_end = s->in_len == 0;
		n = s->codec == CODEC_GZIP ? turn_gzip(s, err) : turn_zstd(s, err);
		*ret = s->out_buf;
		if (n != 0)
			return n;
		if (at_end && s->mid_frame)
			return err_set(err, VIAL_E_CORRUPT, "truncated: the compressed data ends early");
	}
}

static void count_zeros(struct stream *s, const uint8_t *p, size_t n)
{
	size_t k = 0;

	while (k < n && k < TAR_RECORD && p[n - 1 - k] == 0)
		k++;
	s->zeros = k == n ? s->zeros + k : k;
}

ssize_t stream_next(struct stream *s, const void **ret, struct vial_err *err)
{
	ssize_t n;

	if (s->codec == CODEC_PLAIN) {
		n = refill(s, err);
		if (n == 0)
			n = next_plain(s, ret);
	} else {
		n = next_decoded(s, ret, err);
	}
	if (n <= 0)
		return n;
	s->plain_bytes += (uint64_t)n;
	if (s->plain_bytes > IMAGE_DATA_BYTES_MAX)
		return err_set(err, VIAL_E_LIMIT, "unpacks to more than %zu GiB",
			       IMAGE_DATA_BYTES_MAX / MIB(1024));
	EVP_DigestUpdate(s->md_plain, *ret, (size_t)n);
	count_zeros(s, *ret, (size_t)n);
	return n;
}

int stream_drain(struct stream *s, struct vial_err *err)
{
	const void *p;
	ssize_t n;

	do
		n = stream_next(s, &p, err);
	while (n > 0);
	return (int)n;
}

void stream_digests(struct stream *s, uint8_t ret_raw[STREAM_DIGEST], uint8_t ret_plain[STREAM_DIGEST])
{
	EVP_DigestFinal_ex(s->md_raw, ret_raw, NULL);
	EVP_DigestFinal_ex(s->md_plain, ret_plain, NULL);
}

bool stream_ends_in_zeros(const struct stream *s)
{
	return s->zeros >= TAR_RECORD;
}

bool stream_is_compressed(const struct stream *s)
{
	return s->codec != CODEC_PLAIN;
}

uint64_t stream_plain_bytes(const struct stream *s)
{
	return s->plain_bytes;
}
