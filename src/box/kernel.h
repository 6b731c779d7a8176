/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the installed guest kernels runs where none is asked for. */
#ifndef BOX_KERNEL_H
#define BOX_KERNEL_H

#include <stdbool.h>

#include "base/attr.h"
#include "box/home.h"

/**
 * struct kernel - an installed guest kernel
 * @fd:		open for reading
 * @path:	malloc'ed
 * @version:	asset that holds what `uname -r` prints in it; static
 * @modules:	it needs modules.cpio
 */
struct kernel {
	int fd;
	char *path;
	const char *version;
	bool modules;
};

#define KERNEL_INIT      \
	{                \
		.fd = -1 \
	}

/**
 * kernel_installed() - open the best one for the engine of @v
 *
 * The small kernel of `make kernel` before the distribution's, as ELF where the engine loads that: nothing is unpacked then.
 *
 * Return: 0, or VIAL_E_NOT_FOUND with a remedy.
 */
int kernel_installed(const struct vial *v, struct kernel *ret, struct vial_err *err);

void kernel_done(struct kernel *k);

#endif
