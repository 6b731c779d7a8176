/* SPDX-License-Identifier: Apache-2.0 */
/* A frozen QEMU, as the engine and the template cache see it. [src/freeze/frozen.h] */
#ifndef ENGINE_FROZEN_H
#define ENGINE_FROZEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "freeze/frozen.h"
#include "jail/jail.h"
#include "wire/launch.h"

struct qemu_cmd;

/* Name that the open supervisor maps to the library given as LAUNCH_FD_FREEZER. */
#define FROZEN_PATH_LIBRARY "/vial/freeze.so"

/**
 * struct frozen - the files that a frozen process has mapped
 * @fds:	@n_fds of them, owned; for FROZEN_FD_FILE and up
 */
struct frozen {
	int fds[FROZEN_FILES_MAX];
	size_t n_fds;
};

void frozen_done(struct frozen *f);

/**
 * frozen_check() - is @image a frozen process, and is every file that it has mapped what it was?
 * @prefixes:	where such files may lie, as for jail_open_beneath(); NULL: they are looked at, but not opened
 * @ret:	opened files, if there are @prefixes
 * Return: 0, -ESTALE (a file has changed), -EACCES (lies elsewhere), -EBADMSG, -errno.
 */
int frozen_check(int image, const char *const *prefixes, struct frozen *ret);

/* frozen_args_match() - was it made from the command line of @cmd and can it be given all its files? */
bool frozen_args_match(int image, const struct qemu_cmd *cmd);

/* frozen_finish() - a process started by @cmd has frozen itself into @image: note its arguments; 0, -EBADMSG, -errno */
int frozen_finish(int image, const uint8_t args[32]);

/* frozen_args() - digest of a command line */
void frozen_args(const struct qemu_cmd *cmd, uint8_t ret[32]);

/**
 * frozen_refs() - append what a process is frozen and woken with: the image, and the files that differ from box to box
 * @fds:	room for FROZEN_REFS_MAX + 1 from @n on
 * Return: new number of entries; @n if there are more files than can be referred to.
 */
size_t frozen_refs(const struct launch *l, const struct qemu_cmd *cmd, struct jail_fd *fds, size_t n);

#endif
