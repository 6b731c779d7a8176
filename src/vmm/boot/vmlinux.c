// SPDX-License-Identifier: Apache-2.0
// vmlinux (ELF) by the PVH entry [Xen docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h].
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"

#define PHDRS_MAX     32
#define NOTES_MAX     8192
#define NOTE_PHYS32   18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_MAGIC   0x336ec578u
#define START_VERSION 1
#define MODULES_AT    (LAYOUT_START_INFO + 0x100)
#define MEMMAP_AT     (LAYOUT_START_INFO + 0x200)
#define MEM_RAM	      1u
#define MEM_RESERVED  2u
#define PVH_ENTRY_END (1ULL << 32)
#define CMDLINE_MAX   2048 /* COMMAND_LINE_SIZE of Linux */

struct start_info {
	uint32_t magic, version, flags, n_modules;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t n_memmap, reserved;
};

struct start_module {
	uint64_t at, len, cmdline, reserved;
};

struct start_range {
	uint64_t start, len;
	uint32_t type, reserved;
};

static int bad(struct vial_err *err, const char *what)
{
	return err_set(err, VIAL_E_INVALID, "the kernel (vmlinux) %s", what);
}

static int read_phdrs(const uint8_t *head, size_t n, Elf64_Phdr ret[PHDRS_MAX], size_t *ret_n,
		      struct vial_err *err)
{
	Elf64_Ehdr e;

	if (n < sizeof(e))
		return bad(err, "is cut short");
	memcpy(&e, head, sizeof(e));
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != ELFDATA2LSB ||
	    e.e_machine != EM_X86_64)
		return bad(err, "is not for x86-64");
	if (e.e_phentsize != sizeof(Elf64_Phdr) || e.e_phnum == 0 || e.e_phnum > PHDRS_MAX)
		return bad(err, "has odd program headers");
	if (e.e_phoff > n || e.e_phnum * sizeof(Elf64_Phdr) > n - e.e_phoff)
		return bad(err, "has its program headers elsewhere than at its start");
	memcpy(ret, head + e.e_phoff, e.e_phnum * sizeof(Elf64_Phdr));
	*ret_n = e.e_phnum;
	return 0;
}

static int load_segment(const struct boot *b, struct gmem *m, const Elf64_Phdr *p, struct vial_err *err)
{
	if (p->p_filesz > p->p_memsz)
		return bad(err, "has a segment longer in the file than in memory");
	if (p->p_paddr < LAYOUT_HIGH || !gmem_span(m, gpa(p->p_paddr), p->p_memsz) ||
	    p->p_paddr >= GMEM_HIGH_START)
		return err_set(
			err, VIAL_E_NO_MEMORY,
			"the kernel has a segment outside of the machine's memory (%llu MiB at %llu MiB)",
			(unsigned long long)(p->p_memsz >> 20), (unsigned long long)(p->p_paddr >> 20));
	/* The rest, up to p_memsz, is zero: fresh memory is. */
	int r = boot_read(m, gpa(p->p_paddr), b->kernel, p->p_offset, p->p_filesz);
	return r < 0 ? err_sys(err, r, "kernel") : 0;
}

/* find_entry() - look through the notes of one PT_NOTE; 0 if none is the one */
static uint64_t find_entry(const uint8_t *p, size_t n)
{
	Elf64_Nhdr h;

	while (n >= sizeof(h)) {
		memcpy(&h, p, sizeof(h));
		p += sizeof(h);
		n -= sizeof(h);
		uint64_t name = ALIGN_UP((uint64_t)h.n_namesz, 4ULL),
			 desc = ALIGN_UP((uint64_t)h.n_descsz, 4ULL);
		if (name > n || desc > n - name)
			return 0;
		uint64_t v = 0;
		if (h.n_type == NOTE_PHYS32 && h.n_namesz == 4 && !memcmp(p, "Xen", 4) && h.n_descsz >= 4) {
			memcpy(&v, p + name, MIN((size_t)h.n_descsz, sizeof(v)));
			return v;
		}
		p += name + desc;
		n -= name + desc;
	}
	return 0;
}

static uint64_t read_notes(const struct boot *b, const Elf64_Phdr *p)
{
	uint8_t notes[NOTES_MAX];
	ssize_t n = pread(b->kernel, notes, MIN(p->p_filesz, (uint64_t)sizeof(notes)), (off_t)p->p_offset);

	return n > 0 ? find_entry(notes, (size_t)n) : 0;
}

static int load_segments(const struct boot *b, struct gmem *m, const Elf64_Phdr *p, size_t n,
			 uint64_t *ret_entry, uint64_t *ret_end, struct vial_err *err)
{
	*ret_entry = *ret_end = 0;
	for (size_t i = 0; i < n; i++) {
		if (p[i].p_type == PT_NOTE && !*ret_entry)
			*ret_entry = read_notes(b, &p[i]);
		if (p[i].p_type != PT_LOAD || p[i].p_memsz == 0)
			continue;
		int r = load_segment(b, m, &p[i], err);
		if (r < 0)
			return r;
		*ret_end = MAX(*ret_end, p[i].p_paddr + p[i].p_memsz);
	}
	if (!*ret_entry)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "the kernel (vmlinux) has no PVH entry (build it with CONFIG_PVH)");
	if (*ret_entry >= PVH_ENTRY_END || !gmem_span(m, gpa(*ret_entry), 1))
		return bad(err, "has its PVH entry outside of memory");
	return 0;
}

static int write_start_info(struct gmem *m, uint64_t initrd, uint64_t initrd_len)
{
	struct boot_range map[BOOT_E820_MAX];
	size_t n = boot_memory_map(m, map);
	struct start_info info = {
		.magic = START_MAGIC,
		.version = START_VERSION,
		.n_modules = initrd_len ? 1 : 0,
		.modules = initrd_len ? MODULES_AT : 0,
		.cmdline = LAYOUT_CMDLINE,
		.rsdp = LAYOUT_ACPI,
		.memmap = MEMMAP_AT,
		.n_memmap = (uint32_t)n,
	};
	struct start_module module = { .at = initrd, .len = initrd_len };
	int r = gmem_write(m, gpa(LAYOUT_START_INFO), &info, sizeof(info));

	if (r == 0)
		r = gmem_write(m, gpa(MODULES_AT), &module, sizeof(module));
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct start_range e = { map[i].start, map[i].len, map[i].usable ? MEM_RAM : MEM_RESERVED,
					 0 };

		r = gmem_write(m, gpa(MEMMAP_AT + i * sizeof(e)), &e, sizeof(e));
	}
	return r;
}

int boot_vmlinux(const struct boot *b, struct gmem *m, const uint8_t *head, size_t n, struct regs_entry *ret,
		 struct vial_err *err)
{
	Elf64_Phdr phdrs[PHDRS_MAX];
	uint64_t entry = 0, end = 0, initrd, initrd_len;
	size_t n_phdrs = 0;
	int r = read_phdrs(head, n, phdrs, &n_phdrs, err);

	if (r == 0)
		r = load_segments(b, m, phdrs, n_phdrs, &entry, &end, err);
	if (r == 0)
		r = boot_initrd(b, m, end, GMEM_LOW_MAX, &initrd, &initrd_len, err);
	if (r == 0)
		r = boot_cmdline(b, m, CMDLINE_MAX, err);
	if (r < 0)
		return r;
	r = write_start_info(m, initrd, initrd_len);
	if (r < 0)
		return err_sys(err, r, "boot information");
	*ret = (struct regs_entry){ REGS_PVH, entry, LAYOUT_START_INFO };
	return 0;
}
