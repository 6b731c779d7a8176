/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a start from a template touches: a hint that lies beside the template, read by vial-vmm (VMM_FD_WARM).
 *
 * Format: 8 bytes WARM_MAGIC, le32 version, le32 number of runs, then for each le64 first page, le32 pages, le32 enum warm_kind; in the
 * order of pages, not overlapping. It is believed only as far as it may: a wrong one costs time and memory.
 */
#ifndef WIRE_WARM_H
#define WIRE_WARM_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define WARM_MAGIC    "VIALWARM"
#define WARM_VERSION  1
#define WARM_HEAD     16
#define WARM_RUN      16 /* bytes of one */
#define WARM_RUNS_MAX 4096
#define WARM_MAX      (WARM_HEAD + WARM_RUNS_MAX * WARM_RUN)
#define WARM_PAGE     4096u
#define WARM_HUGE     512u /* pages of a huge page */

/**
 * enum warm_kind
 * @WARM_WRITTEN:	will be written: its private copy may be made at once
 * @WARM_DENSE:		much of it will be read, nothing written: whole huge pages, to be mapped as such
 */
enum warm_kind { WARM_WRITTEN = 1, WARM_DENSE = 2 };

struct warm_run {
	uint64_t page;
	uint32_t n;
	uint32_t kind;
};

/* warm_encode() - append @n runs, at most WARM_RUNS_MAX, to @out; 0 or -ENOMEM */
int warm_encode(const struct warm_run *runs, size_t n, struct buf *out);
/**
 * warm_decode() - @len bytes of a file
 * @pages:	of the memory
 * @ret:	room for WARM_RUNS_MAX
 * Return: how many runs, -EPROTONOSUPPORT (another version), -EBADMSG (anything else that cannot be).
 */
int warm_decode(const void *p, size_t len, uint64_t pages, struct warm_run *ret);

#endif
