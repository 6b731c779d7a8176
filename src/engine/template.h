/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The template cache: booted machines waiting to become boxes. Client side.
 *
 * Theory of operation
 *
 * There are two kinds. A machine template is booted up to a waiting agent. A root template is made from it: its memory is
 * copied, the machine resumed on the copy, an image's root set up, and saved again; a box starts from
 * one of these and has nothing left to do but take its identity.
 * A template is a directory templates/<key>/ with "mem" (guest memory, sparse), "state" (device state), "upper" (root
 * templates: what was written to the upper disk), "meta" (what belongs together, with checksums) and "ok" (the identity of both files when they were last
 * checked in full, and on which boot of the host). The key is a digest over all that makes one machine, and one root, differ
 * from another.
 * It is built in templates/.new-<id>/ and published by rename after fsync, under a lock file per key: others wait.
 * Every start compares identity and boot id with "ok"; if they differ the full digests are checked once, and
 * a template that fails is removed and built anew. Nobody but the builder has it open for writing.
 * The cache is bounded: beyond TEMPLATES_MAX_BYTES those unused for longest go.
 */
#ifndef ENGINE_TEMPLATE_H
#define ENGINE_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/str.h"
#include "engine/host.h"
#include "vial/error.h"
#include "wire/link.h"

#ifndef TEMPLATES_MAX_BYTES		 /* tests make do with less */
#define TEMPLATES_MAX_BYTES (8ULL << 30) /* on disk, not counting holes */
#endif

/**
 * struct template_root - the root file system of a root template; all borrowed
 * @digest:	names its content
 * @fds, @bytes: @n extents of the root disk, read-only
 * @base_fd:	the pre-made upper file system; @base_name: for messages
 */
struct template_root {
	const char *digest;
	const char *fstype;
	const int *fds;
	const uint64_t *bytes;
	size_t n;
	int base_fd;
	const char *base_name;
	uint64_t base_bytes;
};

/**
 * struct template_spec - the machine wanted
 * @host:	borrowed
 * @vcpus, @memory: class
 * @kernel_fd, @initrd_fds: parts, borrowed, read-only; the initrd is their concatenation
 * @kernel_name, @initrd_names: for messages
 * @cmdline:	whole command line, borrowed
 * @root:	borrowed; NULL: a machine template
 */
struct template_spec {
	const struct engine_host *host;
	uint32_t vcpus;
	uint64_t memory;
	int kernel_fd;
	const char *kernel_name;
	int initrd_fds[4];
	const char *initrd_names[4];
	size_t n_initrd;
	const char *cmdline;
	const struct template_root *root;
};

/**
 * struct template_env - where and how
 * @dir_fd, @cache_fd: templates/ and cache/ of the state directory
 * @monitor_path: vial-monitor
 * @freezer_path: vial-freeze.so, @thaw_path: vial-thaw; NULL: nothing is frozen
 * @uid, @gid:	what a builder runs as, (uid_t)-1: unchanged
 * @log_fd, @log_level: for the builder's processes
 * @progress:	may be NULL
 */
struct template_env {
	int dir_fd;
	int cache_fd;
	const char *monitor_path;
	const char *freezer_path;
	const char *thaw_path;
	uid_t uid;
	gid_t gid;
	int log_fd;
	uint32_t log_level;
	void (*progress)(void *data, const char *line);
	void *progress_data;
};

/**
 * struct template - opened for a restore
 * @mem_fd, @state_fd, @upper_fd: read-only, owned; @upper_fd is -1 in a machine template
 * @reset_key:	the link key the guest holds
 * @frozen_fd:	a QEMU that was frozen when it had resumed it, -1 if there is none; @frozen_upper_fd: its writable disk, of which each
 *		box needs a copy; @frozen_key: the link key that its guest holds
 */
struct template
{
	int mem_fd;
	int state_fd;
	int upper_fd;
	uint8_t reset_key[LINK_KEY_SIZE];
	int frozen_fd, frozen_upper_fd;
	uint8_t frozen_key[LINK_KEY_SIZE];
	char key[33];
};

/**
 * template_open() - the template for @spec; built first if there is none or it is damaged
 * @rebuild:	build anew in any case
 */
int template_open(const struct template_env *env, const struct template_spec *spec, bool rebuild,
		  struct template *ret, struct vial_err *err);
void template_done(struct template *t);
/* TEMPLATE_NONE - a struct template that holds nothing */
#define TEMPLATE_NONE       \
	((struct template){ \
		.mem_fd = -1, .state_fd = -1, .upper_fd = -1, .frozen_fd = -1, .frozen_upper_fd = -1 })

/* template_host_cpu() - append the processor's model, features and microcode as the guest may see or feel them, a line each */
void template_host_cpu(struct buf *b);

/* template_initrd() - memfd of the concatenated initrd; fd or -errno */
int template_initrd(const struct template_spec *spec);

/**
 * template_kernel_stub() - enough of a kernel for QEMU to take it: a bzImage header without code
 * A resumed machine has its kernel in memory already; see qemu_args.c.
 * Return: memfd or -errno.
 */
int template_kernel_stub(void);

/* kernel_check() - does @fd look like a kernel (bzImage with 64-bit entry, or ELF)? 0 or an error naming @name */
int kernel_check(int fd, const char *name, struct vial_err *err);

#endif
