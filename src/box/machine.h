/* SPDX-License-Identifier: Apache-2.0 */
/* From a specification to the machine that can run it: size class, kernel, initrd, command line. */
#ifndef BOX_MACHINE_H
#define BOX_MACHINE_H

#include "box/home.h"
#include "engine/template.h"
#include "box/spec.h"
#include "engine/template.h"

/**
 * struct machine - what template_open() wants, and what it points to
 * @modules: the kernel is not known to have all built in: modules.cpio is in the initramfs
 * @cpus, @memory: the exact share, 0 where the class is meant whole
 */
struct machine {
	struct template_spec t;
	char *kernel_path;
	char *initrd_path;
	char *cmdline;
	bool modules;
	uint32_t cpus;
	uint64_t memory;
};

/**
 * machine_init() - open and check all parts
 * @image:	may name a kernel and an initrd of its own; NULL: none
 */
int machine_init(struct vial *v, const struct vial_spec *spec, const struct image *image, struct machine *ret,
		 struct vial_err *err);
void machine_done(struct machine *m);

#endif
