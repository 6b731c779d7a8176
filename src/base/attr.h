/* SPDX-License-Identifier: Apache-2.0 */
/* Compiler attributes and the few macros everything uses. */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#include <stddef.h>

#define _cleanup_(fn)		      __attribute__((cleanup(fn)))
#define _printf_(a, b)		      __attribute__((format(printf, a, b)))
#define _must_check_		      __attribute__((warn_unused_result))
#define _unused_		      __attribute__((unused))
#define _noreturn_		      __attribute__((noreturn))
#define ARRAY_SIZE(a)		      (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)		      ((a) < (b) ? (a) : (b))
#define MAX(a, b)		      ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)		      (((x) + ((a)-1)) & ~((a)-1)) /* @a: a power of two */
#define KIB(n)			      ((n) * (size_t)1024)
#define MIB(n)			      ((n) * (size_t)1024 * 1024)
#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* DEFINE_CLEANUP() - make @name##p(T **) for _cleanup_(), from a free that accepts NULL */
#define DEFINE_CLEANUP(type, free_fn)                     \
	static inline _unused_ void free_fn##p(type **pp) \
	{                                                 \
		free_fn(*pp);                             \
	}

#endif
