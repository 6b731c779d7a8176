/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshot file, version 1: a saved box in one file.
 *
 * Theory of operation
 *
 *	 0  16  SNAPSHOT_MAGIC
 *	16   4  le32 version
 *	20   4  le32 bytes of the header: where the first chunk begins
 *	24   8  le64 bytes of the whole file
 *	32  32  SHA-256 of bytes 0 to 31 and of 96 to the header's end
 *	64  32  HMAC-SHA-256 of that digest under the state directory's secret key; others may hold zeros
 *	96      TLV list (wire/tlv.h): what the machine is, then one entry for each chunk
 *	        the chunks' bytes, one after the other, up to the file's end
 *
 * Three things are kept: the guest's memory, the engine's device state, and the layers of the writable disk. Each is cut into
 * chunks of at most SNAPSHOT_CHUNK_MAX bytes; what no chunk covers is zeros. A chunk has a digest and the
 * header's digest covers those, so every byte of the file is covered, and the MAC says whether this state directory wrote it.
 * Who is trusted: nobody. A file comes from anywhere: every number is checked before it is used, and
 * decoding allocates no more than a small multiple of the header's size. Whether a box may be made of it is the caller's to decide.
 * Limits: SNAPSHOT_*.
 */
#ifndef WIRE_SNAPSHOT_H
#define WIRE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "base/str.h"
#include "wire/launch.h"

#define SNAPSHOT_MAGIC	    "VIAL-SNAPSHOT\r\n\x1a"
#define SNAPSHOT_MAGIC_SIZE 16
#define SNAPSHOT_VERSION    1
#define SNAPSHOT_FIXED	    96 /* bytes before the TLV list */

#define SNAPSHOT_HEADER_MAX MIB(16)
#define SNAPSHOT_CHUNK_MAX  MIB(4)
#define SNAPSHOT_PART_MAX   (1ULL << 44) /* memory, and each layer */
#define SNAPSHOT_STATE_MAX  MIB(64)
#define SNAPSHOT_TEXT_MAX   4096
#define SNAPSHOT_SPEC_MAX   MIB(1)
#define SNAPSHOT_KEY_SIZE   32

/* What a chunk belongs to; layer n of the disk, from the lowest, is SNAPSHOT_DISK + n */
enum { SNAPSHOT_MEMORY = 1, SNAPSHOT_STATE = 2, SNAPSHOT_DISK = 3 };

/**
 * struct snapshot_chunk - some bytes of a part
 * @part:	SNAPSHOT_*
 * @bytes:	1..SNAPSHOT_CHUNK_MAX
 * @at:		where in the part
 * @offset:	where in the file (follows from the others)
 */
struct snapshot_chunk {
	uint32_t part;
	uint32_t bytes;
	uint64_t at;
	uint64_t offset;
	uint8_t digest[SHA256_SIZE];
};

/**
 * struct snapshot - a header; strings and chunks are owned, snapshot_done()
 * @arch, @engine, @engine_digest, @machine, @accel: what can resume it
 * @cpu, @cpu_digest: the host's processor, for people and for comparing
 * @layout:	engine/layout.h; @page_size: of the host
 * @vcpus, @memory: class; @cpus, @memory_max: the box's share, 0: all
 * @upper_bytes, @base_digest: the writable disk's size, and the file below its layers
 * @image, @image_digest, @fstype, @root_bytes: root disk; @image is how it was asked for
 * @spec:	JSON of the specification
 * @key:	the link key the guest holds
 * @state_bytes, @layer_bytes: lengths of the parts
 * @chunks:	@n_chunks in the order of (part, at), not overlapping
 */
struct snapshot {
	char *arch, *engine, *engine_digest, *machine, *accel;
	char *cpu, *cpu_digest;
	char *base_digest;
	char *image, *image_digest, *fstype;
	char *spec;
	uint32_t layout, page_size, vcpus, cpus;
	uint64_t memory, memory_max, upper_bytes, root_bytes, state_bytes;
	uint8_t key[LINK_KEY_SIZE];
	uint64_t layer_bytes[LAUNCH_UPPERS_MAX];
	size_t n_layers;
	struct snapshot_chunk *chunks;
	size_t n_chunks;
};

void snapshot_done(struct snapshot *s);

/* snapshot_add_chunk() - one more, after the last; 0, -ENOMEM, -EFBIG beyond what a header can hold */
int snapshot_add_chunk(struct snapshot *s, const struct snapshot_chunk *c);

/* snapshot_part_bytes() - length of @part, 0 if there is no such part */
uint64_t snapshot_part_bytes(const struct snapshot *s, uint32_t part);

/**
 * snapshot_encode() - the whole header, with digest and MAC; chunk offsets in @s are filled in
 * @mac_key:	the state directory's
 * Return: 0, -ENOMEM, -EFBIG.
 */
int snapshot_encode(struct snapshot *s, const uint8_t mac_key[SNAPSHOT_KEY_SIZE], struct buf *out);

/**
 * snapshot_peek() - what the first bytes promise
 * @p:		@n bytes, SNAPSHOT_FIXED or fewer if the file is shorter
 * @file_bytes:	how long the file is
 * @ret_header:	SNAPSHOT_FIXED + 1 .. SNAPSHOT_HEADER_MAX
 * Return: 0, -ENOMSG (not a snapshot), -EPROTONOSUPPORT (another version), -ENODATA (the file is cut short),
 *	   -EBADMSG (longer than recorded, or an impossible header).
 */
int snapshot_peek(const uint8_t *p, size_t n, uint64_t file_bytes, size_t *ret_header);

/**
 * snapshot_decode() - a header that snapshot_peek() found good
 * @p:		@n bytes, the whole header
 * @mac_key:	the state directory's
 * @ret_own:	the MAC is right: it was written with this key
 * Return: 0, -EBADMSG (altered, or not what the head of this file says), -E2BIG past a limit, -ENOMEM.
 */
int snapshot_decode(const uint8_t *p, size_t n, const uint8_t mac_key[SNAPSHOT_KEY_SIZE],
		    struct snapshot *ret, bool *ret_own);

/* hmac_sha256() - [RFC 2104] with a key of at most 64 bytes */
void hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t ret[SHA256_SIZE]);

#endif
