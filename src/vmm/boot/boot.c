// SPDX-License-Identifier: Apache-2.0
// What both kernel formats need.
#include "vmm/boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/boot/layout.h"

#define HEAD_SIZE 4096 /* holds the setup header, and ELF's and program headers of any kernel */

size_t boot_memory_map(const struct gmem *m, struct boot_range ret[BOOT_E820_MAX])
{
	size_t n = 0;

	ret[n++] = (struct boot_range){ 0, LAYOUT_LOW_END, true };
	ret[n++] = (struct boot_range){ LAYOUT_LOW_END, LAYOUT_HIGH - LAYOUT_LOW_END, false };
	ret[n++] = (struct boot_range){ LAYOUT_HIGH, gmem_low_size(m) - LAYOUT_HIGH, true };
	if (gmem_high_size(m))
		ret[n++] = (struct boot_range){ GMEM_HIGH_START, gmem_high_size(m), true };
	return n;
}

int boot_read(struct gmem *m, struct gpa at, int fd, uint64_t off, uint64_t len)
{
	uint8_t *to = gmem_span(m, at, len);

	if (!to)
		return -EFAULT;
	while (len > 0) {
		ssize_t n = pread(fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		to += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int boot_initrd(const struct boot *b, struct gmem *m, uint64_t floor, uint64_t ceiling, uint64_t *ret_at,
		uint64_t *ret_len, struct vial_err *err)
{
	struct stat st;

	*ret_at = *ret_len = 0;
	if (b->initrd < 0)
		return 0;
	if (fstat(b->initrd, &st) < 0)
		return err_sys(err, -errno, "initrd");
	uint64_t len = (uint64_t)st.st_size, top = MIN(ceiling, gmem_low_size(m));
	if (top < floor || len > top - floor || ((top - len) & ~(GMEM_PAGE - 1)) < floor)
		return err_set(err, VIAL_E_NO_MEMORY,
			       "initrd of %llu MiB does not fit into the machine's memory",
			       (unsigned long long)(len >> 20));
	uint64_t at = (top - len) & ~(GMEM_PAGE - 1);
	int r = boot_read(m, gpa(at), b->initrd, 0, len);
	if (r < 0)
		return err_sys(err, r, "initrd");
	*ret_at = at;
	*ret_len = len;
	return 0;
}

int boot_cmdline(const struct boot *b, struct gmem *m, size_t max, struct vial_err *err)
{
	size_t n = strlen(b->cmdline) + 1;

	if (n > max || n > BOOT_CMDLINE_MAX)
		return err_set(err, VIAL_E_INVALID, "kernel command line of %zu bytes (at most %zu)", n - 1,
			       MIN(max, (size_t)BOOT_CMDLINE_MAX) - 1);
	int r = gmem_write(m, gpa(LAYOUT_CMDLINE), b->cmdline, n);
	return r < 0 ? err_sys(err, r, "kernel command line") : 0;
}

int boot_load(const struct boot *b, struct gmem *m, struct regs_entry *ret, struct vial_err *err)
{
	uint8_t head[HEAD_SIZE];
	ssize_t n = pread(b->kernel, head, sizeof(head), 0);

	if (n < 0)
		return err_sys(err, -errno, "kernel");
	if (n >= EI_NIDENT && !memcmp(head, ELFMAG, SELFMAG))
		return boot_vmlinux(b, m, head, (size_t)n, ret, err);
	return boot_bzimage(b, m, head, (size_t)n, ret, err);
}
