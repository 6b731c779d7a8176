/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of the host as a source: its fingerprint, and its contents as a stream for vial-unpack. */
#ifndef IMAGE_WALK_H
#define IMAGE_WALK_H

#include "base/sha256.h"
#include "vial/error.h"

/*
 * The stream: records {le32 length, TLV list of that length}, each followed by as many bytes as WALK_SIZE says; a length of 0
 * ends it. The library reads the files, since it has the user's rights, and vial-unpack has none.
 */
enum walk_tag {
	WALK_PATH = 1,	   /* relative to the top, which is "" */
	WALK_MODE = 2,	   /* u32 */
	WALK_UID = 3,	   /* u32 */
	WALK_GID = 4,	   /* u32 */
	WALK_MTIME = 5,	   /* u64, seconds, two's complement */
	WALK_MTIME_NS = 6, /* u32 */
	WALK_SIZE = 7,	   /* u64: regular files only */
	WALK_MAJOR = 8,	   /* u32 */
	WALK_MINOR = 9,	   /* u32 */
	WALK_TARGET = 10,  /* of a symlink */
	WALK_LINK = 11,	   /* path sent before that is the same file */
	WALK_XATTR = 12,   /* name, NUL, value */
};

#define WALK_RECORD_MAX MIB(1)

/**
 * walk_fingerprint() - digest of names and attributes (not contents) of everything below @dirfd
 * @ret_ctime_ns: latest change time seen
 * Other file systems mounted inside are not entered.
 */
int walk_fingerprint(int dirfd, uint8_t ret[SHA256_SIZE], int64_t *ret_ctime_ns, struct vial_err *err);

/**
 * walk_send() - the stream, into connected socket @sock
 * @ret_digest:	of all that was sent
 * Return: 0, also when the receiver closed early (its report says why), or an error of reading.
 */
int walk_send(int dirfd, int sock, uint8_t ret_digest[SHA256_SIZE], struct vial_err *err);

#endif
