// SPDX-License-Identifier: Apache-2.0
// bzImage by the 64-bit boot protocol [Linux Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL"].
#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"

#define SECTOR		  512u
#define HEADER_AT	  0x1f1u
#define BOOT_MAGIC	  0xaa55u
#define HEADER_MAGIC	  0x53726448u /* "HdrS" */
#define PROTOCOL_MIN	  0x020c      /* xloadflags */
#define SETUP_SECTS_OLD	  4	      /* what 0 means */
#define LOADER_UNDEFINED  0xff
#define ENTRY_64	  0x200u /* of the 64-bit entry in the protected-mode part */
#define E820_RAM_TYPE	  1u
#define E820_RESERVE_TYPE 2u

static int read_header(const uint8_t *head, size_t n, struct setup_header *ret, struct vial_err *err)
{
	if (n < HEADER_AT + sizeof(*ret))
		return err_set(err, VIAL_E_INVALID, "the kernel is neither a bzImage nor a vmlinux");
	memcpy(ret, head + HEADER_AT, sizeof(*ret));
	if (ret->boot_flag != BOOT_MAGIC || ret->header != HEADER_MAGIC)
		return err_set(err, VIAL_E_INVALID, "the kernel is neither a bzImage nor a vmlinux");
	if (ret->version < PROTOCOL_MIN || !(ret->xloadflags & XLF_KERNEL_64))
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "the kernel has no 64-bit entry (boot protocol %u.%u)", ret->version >> 8,
			       ret->version & 0xff);
	return 0;
}

/* load_kernel() - the protected-mode part to where it prefers to be; @ret_end: first byte it does not need */
static int load_kernel(const struct boot *b, struct gmem *m, const struct setup_header *h, uint64_t *ret_end,
		       struct vial_err *err)
{
	uint64_t sects = h->setup_sects ? h->setup_sects : SETUP_SECTS_OLD, off = (sects + 1) * SECTOR;
	uint64_t at = h->pref_address;
	struct stat st;

	if (fstat(b->kernel, &st) < 0)
		return err_sys(err, -errno, "kernel");
	if ((uint64_t)st.st_size <= off + ENTRY_64)
		return err_set(err, VIAL_E_INVALID, "the kernel is cut short");
	uint64_t len = (uint64_t)st.st_size - off, need = MAX(len, (uint64_t)h->init_size);
	if (at < LAYOUT_HIGH || at >= gmem_low_size(m) || need > gmem_low_size(m) - at)
		return err_set(err, VIAL_E_NO_MEMORY,
			       "the kernel needs %llu MiB of memory at %llu MiB, the machine has %llu",
			       (unsigned long long)(need >> 20), (unsigned long long)(at >> 20),
			       (unsigned long long)(m->size >> 20));
	int r = boot_read(m, gpa(at), b->kernel, off, len);
	if (r < 0)
		return err_sys(err, r, "kernel");
	*ret_end = at + need;
	return 0;
}

static void fill_e820(struct boot_params *bp, const struct gmem *m)
{
	struct boot_range map[BOOT_E820_MAX];
	size_t n = boot_memory_map(m, map);

	for (size_t i = 0; i < n; i++)
		bp->e820_table[i] =
			(struct boot_e820_entry){ map[i].start, map[i].len,
						  map[i].usable ? E820_RAM_TYPE : E820_RESERVE_TYPE };
	bp->e820_entries = (uint8_t)n;
}

int boot_bzimage(const struct boot *b, struct gmem *m, const uint8_t *head, size_t n, struct regs_entry *ret,
		 struct vial_err *err)
{
	struct boot_params bp = { 0 };
	struct setup_header h;
	uint64_t end = 0, initrd, initrd_len;
	int r = read_header(head, n, &h, err);

	if (r == 0)
		r = load_kernel(b, m, &h, &end, err);
	if (r == 0)
		r = boot_initrd(b, m, end, (uint64_t)h.initrd_addr_max + 1, &initrd, &initrd_len, err);
	if (r == 0)
		r = boot_cmdline(b, m, (size_t)h.cmdline_size + 1, err);
	if (r < 0)
		return r;
	bp.hdr = h;
	bp.hdr.type_of_loader = LOADER_UNDEFINED;
	bp.hdr.ramdisk_image = (uint32_t)initrd;
	bp.hdr.ramdisk_size = (uint32_t)initrd_len;
	bp.hdr.cmd_line_ptr = (uint32_t)LAYOUT_CMDLINE;
	bp.hdr.setup_data = 0;
	bp.acpi_rsdp_addr = LAYOUT_ACPI;
	fill_e820(&bp, m);
	r = gmem_write(m, gpa(LAYOUT_ZERO_PAGE), &bp, sizeof(bp));
	if (r < 0)
		return err_sys(err, r, "boot parameters");
	*ret = (struct regs_entry){ REGS_LONG, h.pref_address + ENTRY_64, LAYOUT_ZERO_PAGE };
	return 0;
}
