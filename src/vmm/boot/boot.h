/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a kernel: bzImage by the 64-bit Linux boot protocol, vmlinux by PVH.
 *
 * Trust: kernel and initrd are files that a user may have got anywhere: each number in them is checked against
 * the file and guest memory before it is used. What the kernel then does is the guest's business.
 */
#ifndef VMM_BOOT_BOOT_H
#define VMM_BOOT_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "vial/error.h"
#include "vmm/mem.h"
#include "vmm/x86/regs.h"

#define BOOT_CMDLINE_MAX 0x10000u
#define BOOT_E820_MAX	 8

/**
 * struct boot - what to load
 * @kernel:	descriptor, regular file; @initrd: the same or -1. Read by pread, borrowed
 * @cmdline:	kernel command line
 */
struct boot {
	int kernel;
	int initrd;
	const char *cmdline;
};

/**
 * boot_load() - put kernel, initrd, command line and boot information into guest memory
 * @ret:	where the first vCPU enters
 * ACPI tables are acpi_write()'s.
 */
int boot_load(const struct boot *b, struct gmem *m, struct regs_entry *ret, struct vial_err *err);

/* struct boot_range - one piece of the memory map; @usable: RAM, otherwise reserved */
struct boot_range {
	uint64_t start, len;
	bool usable;
};

/* boot_memory_map() - ranges in ascending order; returns how many (at most BOOT_E820_MAX) */
size_t boot_memory_map(const struct gmem *m, struct boot_range ret[BOOT_E820_MAX]);

/**
 * boot_read() - @len bytes of file @fd from @off into guest memory at @at
 * Return: 0, -EFAULT if that is not all RAM, -ENODATA if the file is shorter, or -errno.
 */
int boot_read(struct gmem *m, struct gpa at, int fd, uint64_t off, uint64_t len);

/**
 * boot_initrd() - load b->initrd (if there is one) as high as possible
 * @floor:	first byte behind the kernel; @ceiling: first byte it must not reach
 * @ret_at, @ret_len: 0 without one
 */
int boot_initrd(const struct boot *b, struct gmem *m, uint64_t floor, uint64_t ceiling, uint64_t *ret_at,
		uint64_t *ret_len, struct vial_err *err);

/* boot_cmdline() - put it at LAYOUT_CMDLINE; @max: bytes with NUL that the kernel takes */
int boot_cmdline(const struct boot *b, struct gmem *m, size_t max, struct vial_err *err);

/* The two formats; @head: first @n bytes of the kernel */
int boot_bzimage(const struct boot *b, struct gmem *m, const uint8_t *head, size_t n, struct regs_entry *ret,
		 struct vial_err *err);
int boot_vmlinux(const struct boot *b, struct gmem *m, const uint8_t *head, size_t n, struct regs_entry *ret,
		 struct vial_err *err);

#endif
