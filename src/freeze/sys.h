/* SPDX-License-Identifier: Apache-2.0 */
/* System calls without a library: its state is what is being saved or replaced. */
#ifndef FREEZE_SYS_H
#define FREEZE_SYS_H

#include <stddef.h>
#include <sys/syscall.h>

static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

/* sys(number, …) - up to six arguments, integers or pointers; the result, or -errno */
#define SYS_ARG(x)		((long)(x))
#define SYS_1(n)		sys6((n), 0, 0, 0, 0, 0, 0)
#define SYS_2(n, a)		sys6((n), SYS_ARG(a), 0, 0, 0, 0, 0)
#define SYS_3(n, a, b)		sys6((n), SYS_ARG(a), SYS_ARG(b), 0, 0, 0, 0)
#define SYS_4(n, a, b, c)	sys6((n), SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0, 0)
#define SYS_5(n, a, b, c, d)	sys6((n), SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0, 0)
#define SYS_6(n, a, b, c, d, e) sys6((n), SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), 0)
#define SYS_7(n, a, b, c, d, e, f) \
	sys6((n), SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), SYS_ARG(f))
#define SYS_PICK(_1, _2, _3, _4, _5, _6, _7, name, ...) name
#define sys(...)					SYS_PICK(__VA_ARGS__, SYS_7, SYS_6, SYS_5, SYS_4, SYS_3, SYS_2, SYS_1, 0)(__VA_ARGS__)

static inline size_t text_length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

/* say() - to descriptor 2, in pieces; the end of the list is NULL */
static inline void say(const char *const *pieces)
{
	for (; *pieces; pieces++)
		sys(SYS_write, 2, *pieces, text_length(*pieces));
}

/* number_text() - @n in base 10 or 16 at the end of @room (of 24 bytes); returns where it begins */
static inline const char *number_text(unsigned long n, unsigned int base, char room[24])
{
	char *p = room + 23;

	*p = '\0';
	do {
		*--p = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	return p;
}

#endif
