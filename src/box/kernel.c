// SPDX-License-Identifier: Apache-2.0
// Choosing among the installed guest kernels.
#include "box/kernel.h"

#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "wire/launch.h"

/* Best first. */
static const struct {
	const char *file, *version;
	bool modules;
	bool kvm_only; /* under software emulation some boots of the small kernel end early: docs/LIMITS.md */
} known[] = {
	{ "vmlinux-small", "kernel-version-small", false, true },
	{ "vmlinuz-small", "kernel-version-small", false, true },
	{ "vmlinuz", "kernel-version", true, false },
};

int kernel_installed(const struct vial *v, struct kernel *ret, struct vial_err *err)
{
	bool kvm = v->host_known && v->host.engine == LAUNCH_KVM;
	int fd = -1;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		bool last = i + 1 == ARRAY_SIZE(known);
		char *path = NULL;

		if (known[i].kvm_only && !kvm)
			continue;
		fd = home_asset(v, known[i].file, &path, last ? err : NULL);
		if (fd < 0)
			continue;
		*ret = (struct kernel){ fd, path, known[i].version, known[i].modules };
		return 0;
	}
	return fd;
}

void kernel_done(struct kernel *k)
{
	fd_close(&k->fd);
	free(k->path);
	*k = (struct kernel)KERNEL_INIT;
}
