/* SPDX-License-Identifier: Apache-2.0 */
/* Buffered sequential output to a descriptor or to memory. */
#ifndef IMAGE_SINK_H
#define IMAGE_SINK_H

#include <stdint.h>

#include "base/str.h"

/**
 * struct sink - where output goes
 * @fd:		borrowed, seekable; -1: everything stays in @mem
 * @mem:	bytes not yet written, or all bytes in memory mode
 * @pos:	bytes accepted so far, @mem and holes included
 * @error:	first -errno, 0 so far; later calls do nothing: check sink_finish() once
 */
struct sink {
	int fd;
	struct buf mem;
	uint64_t pos;
	int error;
};

void sink_init(struct sink *s, int fd);
void sink_done(struct sink *s);
void sink_write(struct sink *s, const void *p, size_t n);
/* sink_zero() - @n zero bytes; long runs become a hole in a file */
void sink_zero(struct sink *s, uint64_t n);
/* sink_align() - zeros up to the next multiple of @align (power of two) */
void sink_align(struct sink *s, uint32_t align);
/* sink_patch() - overwrite @n bytes at @off, all of them accepted before */
void sink_patch(struct sink *s, uint64_t off, const void *p, size_t n);
/* sink_finish() - write what is buffered, set the file's length; 0 or the first -errno */
int sink_finish(struct sink *s);

#endif
