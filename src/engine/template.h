/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The template cache: booted machines waiting to become boxes. Client side.
 *
 * Theory of operation
 *
 * A template is a directory templates/<key>/ with "mem" (guest memory, sparse), "state" (device state), "meta" (what
 * belongs together, with digests) and "ok" (the identity of both files when they were last
 * checked in full, and on which boot of the host). The key is a digest over all that makes one machine differ from another.
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
#include "engine/host.h"
#include "vial/error.h"
#include "wire/link.h"

#define TEMPLATES_MAX_BYTES (8ULL << 30) /* on disk, not counting holes */

/**
 * struct template_spec - the machine wanted
 * @host:	borrowed
 * @vcpus, @memory: class
 * @kernel_fd, @initrd_fds: parts, borrowed, read-only; the initrd is their concatenation
 * @kernel_name, @initrd_names: for messages
 * @cmdline:	whole command line, borrowed
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
};

/**
 * struct template_env - where and how
 * @dir_fd, @cache_fd: templates/ and cache/ of the state directory
 * @monitor_path: vial-monitor
 * @uid, @gid:	what a builder runs as, (uid_t)-1: unchanged
 * @log_fd, @log_level: for the builder's processes
 * @progress:	may be NULL
 */
struct template_env {
	int dir_fd;
	int cache_fd;
	const char *monitor_path;
	uid_t uid;
	gid_t gid;
	int log_fd;
	uint32_t log_level;
	void (*progress)(void *data, const char *line);
	void *progress_data;
};

/**
 * struct template - opened for a restore
 * @mem_fd, @state_fd: read-only, owned
 * @reset_key:	the link key the guest holds
 */
struct template {
	int mem_fd;
	int state_fd;
	uint8_t reset_key[LINK_KEY_SIZE];
	char key[33];
};

/**
 * template_open() - the template for @spec; built first if there is none or it is damaged
 * @rebuild:	build anew in any case
 */
int template_open(const struct template_env *env, const struct template_spec *spec, bool rebuild,
		  struct template *ret, struct vial_err *err);
void template_done(struct template *t);

/* template_exists() - is there one for @spec (unchecked)? 1, 0 or an error */
int template_exists(const struct template_env *env, const struct template_spec *spec, struct vial_err *err);

/* template_initrd() - memfd of the concatenated initrd; fd or -errno */
int template_initrd(const struct template_spec *spec);

/* kernel_check() - does @fd look like a kernel (bzImage with 64-bit entry, or ELF)? 0 or an error naming @name */
int kernel_check(int fd, const char *name, struct vial_err *err);

#endif
