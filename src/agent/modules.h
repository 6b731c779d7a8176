/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel modules of the initramfs. */
#ifndef AGENT_MODULES_H
#define AGENT_MODULES_H

#include <stddef.h>

#define MODULES_DEP_MAX (1024 * 1024) /* longest modules.dep that is read */

/**
 * modules_dep_find() - the line of modules.dep that makes module @name
 * @dep:	contents of modules.dep, NUL-terminated [modules.dep(5)]
 * @name:	'-' and '_' are the same
 * @ret:	start of "path: dep dep …" in @dep
 * @ret_len:	its length, without the newline
 * Return: 0 or -ENOENT.
 */
int modules_dep_find(const char *dep, const char *name, const char **ret, size_t *ret_len);

/**
 * modules_load_all() - load what the agent can use, each with its dependencies
 * Modules that are built in or absent are passed over: what lacks one says so when it is asked for.
 * A module that exists and fails to load is logged.
 */
void modules_load_all(void);

#endif
