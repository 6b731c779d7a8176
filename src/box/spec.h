/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a box shall be: the typed form of a specification.
 *
 * Theory of operation
 *
 * Purpose: flags, environment, project files and library calls all end here; box code reads typed,
 * checked members and never parses text again. One table (spec_fields.c) says what fields exist.
 * Trust: the text of a value is the user's or a project file's, so hostile: every value is parsed
 * whole and checked when it is set; what is stored is valid. A failed call changes nothing.
 * Limits: SPEC_*; a file or JSON text has at most SPEC_FILE_MAX bytes.
 * Threads: one at a time for each specification.
 */
#ifndef BOX_SPEC_H
#define BOX_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/str.h"
#include "vial/vial.h"

#define SPEC_VERSION	  1 /* of the JSON form */
#define SPEC_CPUS_MAX	  64
#define SPEC_MEMORY_MIN	  MIB(64)
#define SPEC_FILE_MAX	  MIB(1) /* project files, env files */
#define SPEC_STRING_MAX	  MIB(1) /* one value */
#define SPEC_LIST_MAX	  65536	 /* entries of a list */
#define SPEC_ENV_MAX	  8192	 /* variables */
#define SPEC_HOSTNAME_MAX 64	 /* Linux: __NEW_UTS_LEN */
#define SPEC_RLIMITS_MAX  16
#define SPEC_UNLIMITED	  UINT64_MAX		      /* of a resource limit: RLIM_INFINITY */
#define SPEC_TIMEOUT_MAX  (366ULL * 24 * 3600 * 1000) /* milliseconds */

/* enum spec_id - the fields that are built; index of their rows in the tables */
enum spec_id {
	SPEC_IMAGE,
	SPEC_COMMAND,
	SPEC_ENTRYPOINT,
	SPEC_INTERACTIVE,
	SPEC_TTY,
	SPEC_ENV,
	SPEC_ENV_FILE,
	SPEC_WORKDIR,
	SPEC_USER,
	SPEC_HOSTNAME,
	SPEC_CPUS,
	SPEC_MEMORY,
	SPEC_TIMEOUT,
	SPEC_ULIMIT,
	SPEC_INIT,
	SPEC_RM,
	SPEC_ROOTFS,
	SPEC_KERNEL,
	SPEC_INITRD,
	SPEC_BOOT_ARG,
	SPEC_CONSOLE,
	SPEC_DEFAULT_IMAGE,
	SPEC_MAX_CPUS,
	SPEC_MAX_MEMORY,
	SPEC_FROM,
	SPEC_N_BUILT,
};

/**
 * struct spec_rlimit - a limit for the command
 * @resource:	RLIMIT_* number of Linux (0..15), the guest's as well as ours on all architectures we know
 * @soft:	SPEC_UNLIMITED: none; never above @hard
 */
struct spec_rlimit {
	uint32_t resource;
	uint64_t soft;
	uint64_t hard;
};

/**
 * struct vial_spec - a specification; strings are NULL and vectors empty while unset
 * @image:	name or path, NULL: @default_image, then the built-in base; not with @rootfs
 * @rootfs:	path of a directory, tar, OCI layout or disk image
 * @command:	argv; empty: the image's
 * @entrypoint:	goes before @command; set and empty (spec_is_set()) takes the image's away. When it is
 *		set, the image's own command is not used.
 * @env:	"K=V", each key once; what env_file named is in here already
 * @cpus:	1..SPEC_CPUS_MAX
 * @memory_bytes: SPEC_MEMORY_MIN..the host's memory, a multiple of 1 KiB
 * @max_cpus, @max_memory_bytes: up to where both can be raised while the box runs; 0: not at all
 * @from:	path of a snapshot to start from; not with image or rootfs of other content
 * @timeout_ms:	0: none; else 1..SPEC_TIMEOUT_MAX
 * @ulimit:	text form of @rlimits
 * @init:	a reaper as the command's parent
 * @is_set:	by enum spec_id: given by someone (not the built-in default)
 * @text:	by enum spec_id: what vial_spec_get() returns
 * @unknown:	fields of a stored specification that this version does not know
 */
struct vial_spec {
	char *image;
	char *default_image;
	char *rootfs;
	char *from;
	char *kernel;
	char *initrd;
	char *hostname;
	char *workdir;
	char *user;
	struct strv command;
	struct strv entrypoint;
	struct strv env;
	struct strv boot_arg;
	struct strv ulimit;
	struct spec_rlimit rlimits[SPEC_RLIMITS_MAX];
	size_t n_rlimits;
	uint64_t cpus;
	uint64_t memory_bytes;
	uint64_t max_cpus;
	uint64_t max_memory_bytes;
	uint64_t timeout_ms;
	bool interactive;
	bool tty;
	bool init;
	bool rm;
	bool console;
	bool is_set[SPEC_N_BUILT];
	char *text[SPEC_N_BUILT];
	struct json_t *unknown;
};

/* ---- spec.c ---- */

/* spec_new() - all defaults; 0 or VIAL_E_NO_MEMORY */
int spec_new(struct vial_spec **ret, struct vial_err *err);
void spec_free(struct vial_spec *s);
DEFINE_CLEANUP(struct vial_spec, spec_free)

/* spec_copy() - an independent copy; 0 or VIAL_E_NO_MEMORY */
int spec_copy(const struct vial_spec *s, struct vial_spec **ret, struct vial_err *err);

/* spec_is_set() - was the field given, rather than left at its built-in default? */
static inline bool spec_is_set(const struct vial_spec *s, enum spec_id id)
{
	return s->is_set[id];
}

/* spec_set(), spec_clear(), spec_get() - as vial_spec_set(), vial_spec_clear(), vial_spec_get() */
int spec_set(struct vial_spec *s, const char *field, const char *value, struct vial_err *err);
int spec_clear(struct vial_spec *s, const char *field, struct vial_err *err);
const char *spec_get(const struct vial_spec *s, const char *field);

/**
 * spec_check() - what only the whole specification shows; for whoever makes a box of it
 * Return: 0 or VIAL_E_INVALID (both image and rootfs; a maximum below what it is the maximum of).
 */
int spec_check(const struct vial_spec *s, struct vial_err *err);

/**
 * spec_assign() - set a built field from its text form; the message does not name the field
 * Lists and maps: one more entry.
 */
int spec_assign(struct vial_spec *s, enum spec_id id, const char *value, struct vial_err *err);
/* spec_reset() - a built field back to its default */
int spec_reset(struct vial_spec *s, enum spec_id id, struct vial_err *err);

/* ---- spec_fields.c ---- */

/**
 * struct spec_impl - how a built field is stored
 * @offset:	of its member in struct vial_spec; its type follows from vial_field.type: bool, uint64_t,
 *		char * or struct strv. Unused with @add.
 * @def:	built-in default in text form, or NULL
 * @or_string:	a list whose JSON form may also be a single string
 * @check_num:	further check of a number; NULL: none
 * @check_str:	further check of a string or list entry; NULL: none
 * @add:	stores an entry instead of the common way; NULL: common
 */
struct spec_impl {
	size_t offset;
	const char *def;
	bool or_string;
	int (*check_num)(uint64_t v, struct vial_err *err);
	int (*check_str)(const char *value, struct vial_err *err);
	int (*add)(struct vial_spec *s, const char *value, struct vial_err *err);
};

/* spec_fields() - as vial_spec_fields(); the first SPEC_N_BUILT are in the order of enum spec_id */
const struct vial_field *spec_fields(size_t *ret_n);
/* spec_impl() - @id's row, static */
const struct spec_impl *spec_impl(enum spec_id id);
/**
 * spec_field_find() - field by name
 * @ret:	of a built field
 * Return: 0; VIAL_E_INVALID for an unknown name, with a suggestion; VIAL_E_UNSUPPORTED for one
 *	   that is not built. Neither message names the field.
 */
int spec_field_find(const char *name, enum spec_id *ret, struct vial_err *err);

/* ---- spec_env.c, spec_ulimit.c: fields with a grammar of their own ---- */

/**
 * spec_env_add() - one variable
 * @value:	"K=V", or "K": the value the calling process has, nothing if it has none
 */
int spec_env_add(struct vial_spec *s, const char *value, struct vial_err *err);
/* spec_env_file_add() - read the env file @path now; each of its variables is as if given by spec_env_add() */
int spec_env_file_add(struct vial_spec *s, const char *path, struct vial_err *err);
/**
 * spec_env_parse() - text of an env file
 * @text:	@n bytes, hostile; lines of K=V, K, empty or "# comment"; values are taken as they are
 * @origin:	for messages ("origin:line: …")
 */
int spec_env_parse(struct vial_spec *s, const char *text, size_t n, const char *origin, struct vial_err *err);

/* spec_ulimit_add() - "NAME=SOFT[:HARD]", numbers or "unlimited"; an earlier one of the same name is replaced */
int spec_ulimit_add(struct vial_spec *s, const char *value, struct vial_err *err);

/* ---- spec_json.c ---- */

/* spec_load_json(), spec_load_file(), spec_to_json() - as the vial_spec_* of the same name */
int spec_load_json(struct vial_spec *s, const char *text, size_t n, const char *origin, struct vial_err *err);
int spec_load_file(struct vial_spec *s, const char *path, struct vial_err *err);
int spec_to_json(const struct vial_spec *s, char **ret, struct vial_err *err);

/**
 * spec_from_blob() - read a stored specification back
 * @text:	what spec_to_json() made, perhaps by another version: unknown fields are kept for
 *		spec_to_json(), not refused
 * Return: 0; VIAL_E_CORRUPT (not such an object), VIAL_E_UNSUPPORTED (newer "version"), VIAL_E_INVALID (a value).
 */
int spec_from_blob(const char *text, size_t n, struct vial_spec **ret, struct vial_err *err);

/**
 * struct spec_key - a key of the outermost object of a JSON text
 * @raw:	as written between the quotes, borrowed from the text
 * @len:	bytes of @raw
 * @line:	its line, from 1
 */
struct spec_key {
	const char *raw;
	size_t len;
	unsigned int line;
};

/**
 * spec_json_keys() - where the outermost keys of a JSON text are
 * @text:	@n bytes, any; wrong JSON gives some keys, never an access outside
 * @keys:	room for @max
 *
 * Return: keys found, in order of appearance, at most @max.
 */
size_t spec_json_keys(const char *text, size_t n, struct spec_key *keys, size_t max);

#endif
