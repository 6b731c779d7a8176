/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership of heap memory: scope-bound frees and explicit hand-over. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdlib.h>

#include "base/attr.h"

static inline void mem_freep(void *pp)
{
	free(*(void **)pp);
}
#define _cleanup_free_ _cleanup_(mem_freep)

/* take_ptr() - the pointer's value, leaving NULL behind: ownership moves to the receiver */
#define take_ptr(p)                          \
	({                                   \
		__typeof__(p) _taken_ = (p); \
		(p) = NULL;                  \
		_taken_;                     \
	})

#endif
