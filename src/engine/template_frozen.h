/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frozen QEMUs beside root templates: "frozen" (src/freeze/frozen.h), "frozen.upper" (its writable disk) and "frozen.meta" (which boot of
 * the host it is for, the identity of both files, the link key). They are made anew after each boot.
 */
#ifndef ENGINE_TEMPLATE_FROZEN_H
#define ENGINE_TEMPLATE_FROZEN_H

#include "engine/template.h"

/* frozen_wanted() - QEMU's emulator profits; a machine that KVM runs has state in the kernel that cannot be frozen */
bool frozen_wanted(const struct template_env *env, const struct template_spec *spec);

/* frozen_open() - open that of @t, if it is there and fits, or is known to be impossible on this boot; 0 or -errno */
int frozen_open(const struct template_env *env, struct template *t);

/* frozen_build() - make that of @t and open it; under the template's lock. What hinders it is logged and not tried again before the next boot */
void frozen_build(const struct template_env *env, const struct template_spec *spec, struct template *t);

#endif
