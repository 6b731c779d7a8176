// SPDX-License-Identifier: Apache-2.0
/*
 * A program for the guest whose time is memory's: touches WALK_BYTES for the first time, then follows a chain of pointers through
 * all of its cache lines in no order. Prints both times in nanoseconds. Without a C library, so that it can be written into a guest
 * by printf.
 */
#include <stdint.h>
#include <sys/syscall.h>

#define WALK_BYTES (64UL << 20)
#define LINE	   64UL
#define LINES	   (WALK_BYTES / LINE)
#define STEPS	   (4 * LINES)

#define PROT_RW	     3
#define PRIVATE_ANON 0x22

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

static uint64_t now_ns(void)
{
	int64_t ts[2];

	call(SYS_clock_gettime, 1, (long)ts, 0, 0, 0, 0);
	return (uint64_t)ts[0] * 1000000000 + (uint64_t)ts[1];
}

static void put(uint64_t n, char end)
{
	char text[24], *p = text + sizeof(text);

	*--p = end;
	do
		*--p = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	call(SYS_write, 1, (long)p, text + sizeof(text) - p, 0, 0, 0);
}

/* The next line of a full-period sequence: LINES is a power of two. [Knuth 3.2.1.2] */
static uint64_t follow(uint64_t line)
{
	return (line * 1664525 + 1013904223) % LINES;
}

void _start(void) __attribute__((noreturn));
void _start(void)
{
	long at = call(SYS_mmap, 0, WALK_BYTES, PROT_RW, PRIVATE_ANON, -1, 0);
	volatile uint64_t *mem = (volatile uint64_t *)at;
	uint64_t start = now_ns(), line = 0;

	for (uint64_t i = 0; at > 0 && i < LINES; i++)
		mem[i * (LINE / 8)] = follow(i);
	uint64_t filled = now_ns();
	for (uint64_t i = 0; at > 0 && i < STEPS; i++)
		line = mem[line * (LINE / 8)];
	put(filled - start, ' ');
	put(now_ns() - filled, '\n');
	call(SYS_exit_group, at <= 0 || line >= LINES, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}
