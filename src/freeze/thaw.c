// SPDX-License-Identifier: Apache-2.0
/*
 * vial-thaw: becomes the process that was frozen.
 *
 * Theory of operation
 *
 * Purpose: map what frozen.h describes and jump into it. freeze.c, part of what was mapped, does the rest: descriptors, threads.
 * Who is trusted: the image, which is made like a template and never comes from elsewhere. It runs inside the jail that QEMU
 * has, and needs no call that QEMU may not make.
 * Place: it has no library and is linked at FROZEN_LOW, where no frozen process has anything, so that all else can be unmapped, its
 * own first stack included, but for the pages that hold its arguments, where ps looks for them. The kernel's vDSO, which each process gets somewhere else, is moved to where it was; that
 * takes its code to be the same, byte by byte.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <linux/auxvec.h>
#include <stdint.h>
#include <sys/mman.h>

#include "freeze/frozen.h"
#include "freeze/sys.h"

#define EXIT_FAILED 70
#define PAGE	    4096UL
#define VDSO_MAX    65536

static char stack[32768] __attribute__((aligned(16), used));

static void __attribute__((noreturn)) fail(const char *what, uint64_t where, long err)
{
	char room[24], room2[24];
	const char *const text[] = { "vial-thaw: ", what,
				     " at 0x",	    number_text(where, 16, room),
				     ": errno ",    number_text((unsigned long)-err, 10, room2),
				     "\n",	    NULL };

	say(text);
	sys(SYS_exit_group, EXIT_FAILED);
	__builtin_unreachable();
}

/* An entry of the auxiliary vector; @sp: the stack as the kernel made it: argc, argv, NULL, environment, NULL, vector. */
static uint64_t auxiliary(const uint64_t *sp, uint64_t type)
{
	const uint64_t *p = sp + 1 + sp[0] + 1;

	while (*p++)
		;
	for (; p[0] != AT_NULL; p += 2)
		if (p[0] == type)
			return p[1];
	return 0;
}

static void unmap(uint64_t from, uint64_t to)
{
	long r = from < to ? sys(SYS_munmap, from, to - from) : 0;

	if (r < 0)
		fail("make room", from, r);
}

/* The arguments end with the program's name, which the kernel puts at the stack's very end. */
static void unmap_all(const uint64_t *sp)
{
	uint64_t args = sp[1] & ~(PAGE - 1), name = auxiliary(sp, AT_EXECFN);
	uint64_t end = (name + text_length((const char *)name) + PAGE) & ~(PAGE - 1);

	unmap(FROZEN_LOW_END, args);
	unmap(end, FROZEN_TOP);
}

static void check_vdso(const struct frozen_head *h, uint64_t own)
{
	const struct frozen_range *code = &h->vdso[h->n_vdso - 1];
	long copy = sys(SYS_mmap, 0, code->bytes, PROT_READ, MAP_PRIVATE, FROZEN_FD_IMAGE, h->vdso_copy);

	if (copy < 0 && copy > -4096)
		fail("map the vDSO's copy", code->start, copy);
	for (uint64_t i = 0; i < code->bytes; i += 8)
		if (*(const uint64_t *)(copy + (long)i) != *(const uint64_t *)(own + i))
			fail("the vDSO is another", code->start, -EINVAL);
}

/* All pieces by the same distance: the code finds its data beside it. */
static void move_vdso(const struct frozen_head *h, uint64_t from, uint64_t to)
{
	uint64_t first = h->vdso[h->n_vdso - 1].start;

	for (uint32_t i = 0; i < h->n_vdso; i++) {
		uint64_t away = first - h->vdso[i].start;
		long r = sys(SYS_mremap, from - away, h->vdso[i].bytes, h->vdso[i].bytes,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to - away);
		if (r < 0 && r > -4096)
			fail("move the vDSO", h->vdso[i].start, r);
	}
}

static void map_all(const struct frozen_head *h)
{
	for (uint32_t i = 0; i < h->n_maps; i++) {
		const struct frozen_map *m = &h->maps[i];
		long flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (m->fd < 0 ? MAP_ANONYMOUS : 0);
		long r = sys(SYS_mmap, m->start, m->bytes, m->prot, flags, m->fd, m->offset);
		if (r < 0 && r > -4096)
			fail("map", m->start, r);
	}
}

static int is_frozen(const struct frozen_head *h)
{
	for (unsigned int i = 0; i < sizeof(h->magic); i++)
		if (h->magic[i] != FROZEN_MAGIC[i])
			return 0;
	return h->n_maps <= FROZEN_MAPS_MAX && h->n_vdso > 0 && h->n_vdso <= FROZEN_VDSO_MAX &&
	       h->vdso[h->n_vdso - 1].bytes <= VDSO_MAX;
}

static void __attribute__((noreturn, used)) thaw(const uint64_t *sp)
{
	const struct frozen_head *h = (const struct frozen_head *)FROZEN_LOW_TABLE;
	uint64_t own = auxiliary(sp, AT_SYSINFO_EHDR);
	long r = sys(SYS_mmap, FROZEN_LOW_TABLE, FROZEN_HEAD_BYTES, PROT_READ, MAP_PRIVATE | MAP_FIXED,
		     FROZEN_FD_IMAGE, 0);

	if (r < 0)
		fail("map the image", FROZEN_LOW_TABLE, r);
	if (!is_frozen(h))
		fail("not a frozen process", FROZEN_LOW_TABLE, -EBADMSG);
	check_vdso(h, own);
	move_vdso(h, own, FROZEN_LOW_VDSO + VDSO_MAX);
	unmap_all(sp);
	map_all(h);
	move_vdso(h, FROZEN_LOW_VDSO + VDSO_MAX, h->vdso[h->n_vdso - 1].start);
	sys(SYS_arch_prctl, ARCH_SET_FS, h->wake_fs);
	__asm__ volatile("jmp *%0" : : "r"(h->wake_ip), "D"(h->wake_arg));
	__builtin_unreachable();
}

/* The kernel's stack is about to go. */
__asm__(".globl _start\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	lea stack+32768(%rip), %rsp\n"
	"	xor %ebp, %ebp\n"
	"	call thaw\n");
