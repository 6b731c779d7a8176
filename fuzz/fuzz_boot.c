// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile kernel file. Input: a byte that gives the initrd's length in 64 bytes (0xff: none), a byte for the command line's, then the
 * kernel. What is loaded lies in the machine's memory, which has guard pages around it; if loading succeeds, the kernel is
 * entered in memory, and initrd and command line are there whole, where the boot information says.
 */
#include <asm/bootparam.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "fuzz.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"

#define MEM	 (8u << 20)
#define GUARD	 (1u << 20)
#define PVH_INFO 0x336ec578u

static struct gmem machine(void)
{
	uint8_t *p =
		mmap(NULL, MEM + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	FUZZ_CHECK(p != MAP_FAILED && mprotect(p + GUARD, MEM, PROT_READ | PROT_WRITE) == 0);
	return (struct gmem){ .base = p + GUARD, .size = MEM };
}

static int new_file(const uint8_t *p, size_t n)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && fd_write_full(fd, p, n) == 0);
	return fd;
}

static uint8_t initrd_byte(size_t i)
{
	return (uint8_t)(i * 2654435761u >> 24);
}

static void check_initrd(const struct gmem *m, uint64_t at, uint64_t n, size_t want)
{
	const uint8_t *p = gmem_span(m, gpa(at), n);

	FUZZ_CHECK(n == want);
	FUZZ_CHECK(n == 0 || (p && at >= LAYOUT_HIGH));
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECK(p[i] == initrd_byte(i));
}

/* The protected-mode part lies whole where the header wants it, and what the kernel needs behind it is free. */
static void check_bzimage(const struct gmem *m, const uint8_t *kernel, size_t n, size_t initrd)
{
	const struct boot_params *bp = (const void *)(m->base + LAYOUT_ZERO_PAGE);
	struct setup_header h;

	memcpy(&h, &bp->hdr, sizeof(h));
	size_t off = ((size_t)(h.setup_sects ? h.setup_sects : 4) + 1) * 512;
	FUZZ_CHECK(off < n);
	const uint8_t *p = gmem_span(m, gpa(h.pref_address), n - off);
	FUZZ_CHECK(p && memcmp(p, kernel + off, n - off) == 0);
	FUZZ_CHECK(gmem_span(m, gpa(h.pref_address), h.init_size));
	FUZZ_CHECK(h.cmd_line_ptr == LAYOUT_CMDLINE && h.setup_data == 0);
	FUZZ_CHECK(!initrd || h.ramdisk_image >= h.pref_address + h.init_size);
	FUZZ_CHECK((uint64_t)h.ramdisk_image + initrd <= (uint64_t)h.initrd_addr_max + 1 || !initrd);
	FUZZ_CHECK(bp->e820_entries > 0 && bp->e820_entries <= BOOT_E820_MAX);
	check_initrd(m, h.ramdisk_image, h.ramdisk_size, initrd);
}

static void check_vmlinux(const struct gmem *m, size_t initrd)
{
	uint32_t info[14];
	uint64_t at = 0, n = 0, modules;

	memcpy(info, m->base + LAYOUT_START_INFO, sizeof(info));
	FUZZ_CHECK(info[0] == PVH_INFO && info[3] == (initrd > 0));
	memcpy(&modules, &info[4], 8);
	if (info[3]) {
		FUZZ_CHECK(gmem_read(m, gpa(modules), &at, 8) == 0);
		FUZZ_CHECK(gmem_read(m, gpa(modules + 8), &n, 8) == 0);
	}
	check_initrd(m, at, n, initrd);
}

static void load(const struct boot *b, const uint8_t *kernel, size_t n, size_t initrd)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct regs_entry entry = { 0 };
	struct gmem m = machine();
	int r = boot_load(b, &m, &entry, &err);

	FUZZ_CHECK(r <= 0 && err.code == r && (r == 0 || err.msg[0]));
	if (r == 0) {
		FUZZ_CHECK(gmem_span(&m, gpa(entry.ip), 1));
		FUZZ_CHECK(strcmp((char *)m.base + LAYOUT_CMDLINE, b->cmdline) == 0);
		if (entry.mode == REGS_PVH)
			check_vmlinux(&m, initrd);
		else
			check_bzimage(&m, kernel, n, initrd);
	}
	munmap(m.base - GUARD, MEM + 2 * GUARD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char cmdline[257];
	uint8_t bytes[256 * 64];

	if (size < 2)
		return 0;
	size_t initrd = data[0] == 0xff ? 0 : data[0] * 64u;
	for (size_t i = 0; i < initrd; i++)
		bytes[i] = initrd_byte(i);
	memset(cmdline, 'x', data[1]);
	cmdline[data[1]] = '\0';
	struct boot b = { new_file(data + 2, size - 2), data[0] == 0xff ? -1 : new_file(bytes, initrd),
			  cmdline };
	load(&b, data + 2, size - 2, initrd);
	close(b.kernel);
	fd_close(&b.initrd);
	return 0;
}
