// SPDX-License-Identifier: Apache-2.0
// From a specification to the machine that can run it.
#include "box/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "box/kernel.h"
#include "engine/layout.h"

static uint64_t class_of(uint64_t want, uint64_t smallest)
{
	uint64_t c = smallest;

	while (c < want)
		c *= 2;
	return c;
}

/* --kernel, then VIAL_KERNEL, then the one beside a disk image, then the installed one. */
static int open_kernel(struct vial *v, const struct vial_spec *spec, const struct image *image,
		       struct machine *m, struct vial_err *err)
{
	const char *path = spec->kernel ? spec->kernel : v->kernel ? v->kernel : image ? image->kernel : NULL;

	m->modules = true;
	if (!path) {
		struct kernel k = KERNEL_INIT;
		int r = kernel_installed(v, &k, err);
		if (r < 0)
			return err ? err_prefix(err, "no guest kernel") : r;
		m->t.kernel_fd = k.fd;
		m->kernel_path = k.path;
		m->modules = k.modules;
	} else {
		m->kernel_path = strdup(path);
		m->t.kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (!m->kernel_path || m->t.kernel_fd < 0)
			return err_sys(err, -errno, "kernel '%s'", path);
	}
	m->t.kernel_name = m->kernel_path;
	return kernel_check(m->t.kernel_fd, m->kernel_path, err);
}

static int add_initrd(struct machine *m, int fd, const char *name)
{
	if (fd < 0)
		return fd;
	m->t.initrd_fds[m->t.n_initrd] = fd;
	m->t.initrd_names[m->t.n_initrd++] = name;
	return 0;
}

/* A given initrd brings its own modules; ours fit only our kernel. The agent comes last: its /init wins. */
static int open_initrd(struct vial *v, const struct vial_spec *spec, const struct image *image,
		       struct machine *m, struct vial_err *err)
{
	const char *path = spec->initrd ? spec->initrd : v->initrd ? v->initrd : image ? image->initrd : NULL;
	int fd, r;

	if (path) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		m->initrd_path = strdup(path);
		if (fd < 0 || !m->initrd_path)
			return err_sys(err, -errno, "initrd '%s'", path);
		r = add_initrd(m, fd, m->initrd_path);
	} else if (m->modules) {
		r = add_initrd(m, home_asset(v, "modules.cpio", NULL, err), "modules.cpio");
	} else {
		r = 0;
	}
	return r ?: add_initrd(m, home_asset(v, "agent.cpio", NULL, err), "agent.cpio");
}

static int make_cmdline(const struct vial_spec *spec, struct machine *m)
{
	_cleanup_buf_ struct buf line = { .limit = 2000 }; /* COMMAND_LINE_SIZE of x86 is 2048 */

	buf_puts(&line, LAYOUT_CMDLINE);
	buf_puts(&line, m->t.host->engine == LAUNCH_KVM ? LAYOUT_CMDLINE_VMM : LAYOUT_CMDLINE_QEMU);
	buf_puts(&line, strcmp(m->t.host->accel, "tcg") == 0 ? LAYOUT_CMDLINE_TCG : LAYOUT_CMDLINE_KVM);
	for (size_t i = 0; i < spec->boot_arg.n; i++)
		buf_printf(&line, " %s", spec->boot_arg.v[i]);
	const char *s = buf_cstr(&line);
	m->cmdline = s ? strdup(s) : NULL;
	return m->cmdline ? 0 : -ENOMEM;
}

int machine_init(struct vial *v, const struct vial_spec *spec, const struct image *image, struct machine *ret,
		 struct vial_err *err)
{
	_cleanup_(machine_done) struct machine m = { .t.kernel_fd = -1 };
	int r = home_host(v, err);

	m.t.host = &v->host;
	m.t.vcpus = (uint32_t)class_of(MAX(spec->cpus, spec->max_cpus), 1);
	m.t.memory = class_of(MAX(spec->memory_bytes, spec->max_memory_bytes), LAYOUT_MEMORY_MIN);
	m.cpus = m.t.vcpus == spec->cpus ? 0 : (uint32_t)spec->cpus;
	m.memory = m.t.memory == spec->memory_bytes ? 0 : spec->memory_bytes;
	r = r ?: open_kernel(v, spec, image, &m, err);
	r = r ?: open_initrd(v, spec, image, &m, err);
	if (r < 0)
		return r;
	r = make_cmdline(spec, &m);
	if (r < 0)
		return err_set(err, VIAL_E_INVALID,
			       "boot_arg: the kernel's command line would be longer than 2000 bytes");
	m.t.cmdline = m.cmdline;
	*ret = m;
	m = (struct machine){ .t.kernel_fd = -1 };
	return 0;
}

void machine_done(struct machine *m)
{
	fd_close(&m->t.kernel_fd);
	for (size_t i = 0; i < m->t.n_initrd; i++)
		fd_close(&m->t.initrd_fds[i]);
	free(m->kernel_path);
	free(m->initrd_path);
	free(m->cmdline);
	memset(m, 0, sizeof(*m));
	m->t.kernel_fd = -1;
}
