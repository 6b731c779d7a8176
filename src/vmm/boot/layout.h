/* SPDX-License-Identifier: Apache-2.0 */
/* Where things lie in the first MiB of a booting machine. The kernel may overwrite all but the ACPI tables. */
#ifndef VMM_BOOT_LAYOUT_H
#define VMM_BOOT_LAYOUT_H

#define LAYOUT_GDT	  0x500ULL
#define LAYOUT_START_INFO 0x6000ULL /* PVH: hvm_start_info, modules, memory map */
#define LAYOUT_ZERO_PAGE  0x7000ULL /* Linux: struct boot_params */
#define LAYOUT_STACK	  0x8ff0ULL
#define LAYOUT_PML4	  0x9000ULL /* six pages of page tables */
#define LAYOUT_CMDLINE	  0x20000ULL
#define LAYOUT_LOW_END	  0x9fc00ULL /* end of usable RAM below the BIOS area */
#define LAYOUT_ACPI	  0xe0000ULL /* RSDP first, where kernels look for it */
#define LAYOUT_ACPI_MAX	  0x20000ULL
#define LAYOUT_HIGH	  0x100000ULL /* RAM goes on here */

#endif
