/* SPDX-License-Identifier: Apache-2.0 */
/* Booting a machine and keeping its state: the slow half of the template cache. */
#ifndef ENGINE_TEMPLATE_BUILD_H
#define ENGINE_TEMPLATE_BUILD_H

#include "engine/launcher.h"
#include "engine/template.h"

/**
 * template_build() - boot @spec's machine up to a waiting agent; write its memory and state
 * @tmp:	directory below env->dir_fd, empty: "mem" and "state" are made in it
 * @ret:	descriptors reopened read-only and the guest's reset key
 */
int template_build(const struct template_env *env, const struct template_spec *spec, const char *tmp,
		   struct template *ret, struct vial_err *err);

/**
 * template_freeze() - resume @t, run a few commands in it and freeze its QEMU into "frozen" and "frozen.upper" of the directory @dir
 * @t:		its frozen_key is set
 */
int template_freeze(const struct template_env *env, const struct template_spec *spec, int dir,
		    struct template *t, struct vial_err *err);

/* template_try_frozen() - does the frozen QEMU of @t wake, and its guest's agent answer? 0 or an error */
int template_try_frozen(const struct template_env *env, const struct template_spec *spec,
			const struct template *t, struct vial_err *err);

/* For whoever else has a machine started that ends by itself (convert.c) */
/* template_placeholders() - empty disks, as a guest has them before there is a box; 0 or -errno */
int template_placeholders(struct launcher *l);
/* template_wait() - until the monitor has said MON_DONE; its error otherwise */
int template_wait(struct launcher *l, struct vial_err *err);

#endif
