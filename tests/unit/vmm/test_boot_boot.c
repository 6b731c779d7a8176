// SPDX-License-Identifier: Apache-2.0
// Kernels, small and made up: loaded where they belong, refused where they lie.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <asm/bootparam.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"

#define KERNEL_SIZE 20000
#define SETUP_BYTES 1024 /* one sector and the boot sector */

static struct gmem mem;
static uint8_t kernel[KERNEL_SIZE];
static struct setup_header *hdr = (void *)(kernel + 0x1f1);
static int initrd = -1;
static const char *cmdline = "root=/dev/vda";

static int load_n(size_t n, struct regs_entry *entry, struct vial_err *err)
{
	_cleanup_fd_ int fd = fd_memfd("k", kernel, n);
	struct boot b = { fd, initrd, cmdline };

	assert_true(fd >= 0);
	*err = (struct vial_err)VIAL_ERR_INIT;
	return boot_load(&b, &mem, entry, err);
}

static int load(struct regs_entry *entry)
{
	struct vial_err err;
	int r = load_n(sizeof(kernel), entry, &err);

	assert_int_equal(r, err.code);
	return r;
}

static int setup(void **state)
{
	(void)state;
	memset(kernel, 0, sizeof(kernel));
	for (size_t i = SETUP_BYTES; i < sizeof(kernel); i++)
		kernel[i] = (uint8_t)(i * 7);
	hdr->boot_flag = 0xaa55;
	hdr->header = 0x53726448;
	hdr->version = 0x20f;
	hdr->setup_sects = 1;
	hdr->xloadflags = XLF_KERNEL_64;
	hdr->pref_address = 0x200000;
	hdr->init_size = 0x100000;
	hdr->initrd_addr_max = 0x7fffffff;
	hdr->cmdline_size = 255;
	initrd = -1;
	cmdline = "root=/dev/vda";
	return gmem_new_anon(&mem, MIB(32));
}

static int teardown(void **state)
{
	(void)state;
	fd_close(&initrd);
	gmem_done(&mem);
	return 0;
}

static void test_bzimage(void **state)
{
	struct boot_params bp;
	struct regs_entry e;

	(void)state;
	initrd = fd_memfd("i", kernel, 5000);
	assert_int_equal(load(&e), 0);
	assert_int_equal(e.mode, REGS_LONG);
	assert_int_equal(e.ip, 0x200200);
	assert_int_equal(e.arg, LAYOUT_ZERO_PAGE);
	assert_memory_equal(mem.base + 0x200000, kernel + SETUP_BYTES, KERNEL_SIZE - SETUP_BYTES);
	assert_string_equal((char *)mem.base + LAYOUT_CMDLINE, cmdline);
	memcpy(&bp, mem.base + LAYOUT_ZERO_PAGE, sizeof(bp));
	assert_int_equal(bp.hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	assert_int_equal(bp.hdr.ramdisk_size, 5000);
	assert_int_equal(bp.hdr.ramdisk_image, MIB(32) - 8192);
	assert_memory_equal(mem.base + bp.hdr.ramdisk_image, kernel, 5000);
	assert_int_equal(bp.acpi_rsdp_addr, LAYOUT_ACPI);
	assert_int_equal(bp.e820_entries, 3);
	assert_int_equal(bp.e820_table[2].addr + bp.e820_table[2].size, MIB(32));
}

static void test_memory_map_above_the_hole(void **state)
{
	struct gmem big = { .size = 5ULL << 30 };
	struct boot_range map[BOOT_E820_MAX];

	(void)state;
	assert_int_equal(boot_memory_map(&big, map), 4);
	assert_int_equal(map[2].start + map[2].len, 3ULL << 30);
	assert_int_equal(map[3].start, 4ULL << 30);
	assert_int_equal(map[3].len, 2ULL << 30);
}

static void test_bad_bzimages(void **state)
{
	struct setup_header good = *hdr;
	struct regs_entry e;
	struct vial_err err;

	(void)state;
	hdr->boot_flag = 0;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*hdr = good;
	hdr->version = 0x20b;
	assert_int_equal(load(&e), VIAL_E_UNSUPPORTED);
	*hdr = good;
	hdr->xloadflags = 0;
	assert_int_equal(load(&e), VIAL_E_UNSUPPORTED);
	*hdr = good;
	hdr->setup_sects = 200; /* beyond the file */
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*hdr = good;
	hdr->pref_address = 0x1000; /* over our tables */
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	hdr->pref_address = UINT64_MAX - 4096;
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	hdr->pref_address = MIB(32) - 4096;
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	*hdr = good;
	hdr->init_size = UINT32_MAX;
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	*hdr = good;
	hdr->cmdline_size = 3;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*hdr = good;
	for (size_t n = 0; n < SETUP_BYTES + 0x200; n += 100)
		assert_int_equal(load_n(n, &e, &err), VIAL_E_INVALID);
}

static void test_initrd_does_not_fit(void **state)
{
	struct regs_entry e;

	(void)state;
	initrd = memfd_create("i", MFD_CLOEXEC);
	assert_int_equal(ftruncate(initrd, (off_t)MIB(30)), 0); /* the kernel ends at 3 MiB */
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	assert_int_equal(ftruncate(initrd, (off_t)MIB(28)), 0);
	assert_int_equal(load(&e), 0);
	hdr->initrd_addr_max = (uint32_t)MIB(20);
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	hdr->initrd_addr_max = 0;
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
}

struct elf {
	Elf64_Ehdr e;
	Elf64_Phdr p[2];
	Elf64_Nhdr n;
	char name[4];
	uint32_t entry;
};

static struct elf *make_elf(void)
{
	struct elf *f = (void *)kernel;

	memset(kernel, 0, sizeof(kernel));
	memcpy(f->e.e_ident, ELFMAG, SELFMAG);
	f->e.e_ident[EI_CLASS] = ELFCLASS64;
	f->e.e_ident[EI_DATA] = ELFDATA2LSB;
	f->e.e_machine = EM_X86_64;
	f->e.e_phoff = offsetof(struct elf, p);
	f->e.e_phentsize = sizeof(Elf64_Phdr);
	f->e.e_phnum = 2;
	f->p[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
				.p_offset = 4096,
				.p_paddr = 0x1000000,
				.p_filesz = 8192,
				.p_memsz = 0x100000 };
	f->p[1] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = offsetof(struct elf, n), .p_filesz = 20 };
	f->n = (Elf64_Nhdr){ .n_namesz = 4, .n_descsz = 4, .n_type = 18 };
	memcpy(f->name, "Xen", 4);
	f->entry = 0x1000040;
	memset(kernel + 4096, 0x77, 8192);
	return f;
}

static void test_vmlinux(void **state)
{
	struct {
		uint32_t magic, version, flags, n_modules;
		uint64_t modules, cmdline, rsdp, memmap;
		uint32_t n_memmap;
	} info;
	struct regs_entry e;
	uint64_t module[2];

	(void)state;
	make_elf();
	initrd = fd_memfd("i", kernel, 5000);
	assert_int_equal(load(&e), 0);
	assert_int_equal(e.mode, REGS_PVH);
	assert_int_equal(e.ip, 0x1000040);
	assert_memory_equal(mem.base + 0x1000000, kernel + 4096, 8192);
	memcpy(&info, mem.base + e.arg, sizeof(info));
	assert_int_equal(info.magic, 0x336ec578);
	assert_int_equal(info.n_modules, 1);
	assert_int_equal(info.n_memmap, 3);
	assert_int_equal(info.rsdp, LAYOUT_ACPI);
	memcpy(module, mem.base + info.modules, sizeof(module));
	assert_int_equal(module[1], 5000);
	assert_memory_equal(mem.base + module[0], kernel, 5000);
}

static void test_bad_vmlinux(void **state)
{
	struct elf *f = make_elf(), good = *f;
	struct regs_entry e;
	struct vial_err err;

	(void)state;
	f->e.e_machine = EM_AARCH64;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*f = good;
	f->e.e_phnum = 0xffff;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*f = good;
	f->e.e_phoff = UINT64_MAX - 8;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*f = good;
	f->p[0].p_filesz = f->p[0].p_memsz + 1;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*f = good;
	f->p[0].p_paddr = 0x1000;
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	f->p[0].p_paddr = UINT64_MAX;
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	*f = good;
	f->p[0].p_memsz = UINT64_MAX;
	assert_int_equal(load(&e), VIAL_E_NO_MEMORY);
	*f = good;
	f->p[0].p_offset = UINT64_MAX;
	assert_true(load(&e) < 0);
	*f = good;
	f->n.n_type = 17;
	assert_int_equal(load(&e), VIAL_E_UNSUPPORTED);
	*f = good;
	f->n.n_namesz = UINT32_MAX;
	assert_int_equal(load(&e), VIAL_E_UNSUPPORTED);
	*f = good;
	f->entry = 0xfffffff0;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	*f = good;
	for (size_t n = 4; n < sizeof(*f); n += 5)
		assert_true(load_n(n, &e, &err) < 0);
}

static void test_cmdline_too_long(void **state)
{
	char *long_one = malloc(5000);
	struct regs_entry e;

	(void)state;
	memset(long_one, 'x', 4999);
	long_one[4999] = '\0';
	cmdline = long_one;
	assert_int_equal(load(&e), VIAL_E_INVALID);
	make_elf();
	assert_int_equal(load(&e), VIAL_E_INVALID);
	free(long_one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bzimage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_map_above_the_hole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_bzimages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_initrd_does_not_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vmlinux, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_vmlinux, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cmdline_too_long, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
