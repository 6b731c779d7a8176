// SPDX-License-Identifier: Apache-2.0
/*
 * Most of this is called while the guest stands still, so what matters is to touch little: anonymous stretches that were
 * never used are recognised by mincore(), zero pages are not written, and runs go out in one call each.
 */
#include "vmm/snapshot/pages.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

bool pages_zero(const uint8_t *page)
{
	const uint64_t *p = (const void *)page;
	uint64_t any = 0;

	for (size_t i = 0; i < GMEM_PAGE / sizeof(*p); i += 8) {
		any |= p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] | p[i + 7];
		if (any)
			return false;
	}
	return true;
}

bool pages_swapped(void)
{
	struct sysinfo si;

	return sysinfo(&si) < 0 || si.totalswap != si.freeswap;
}

bool pages_untouched(const struct gmem *mem, uint64_t page, uint64_t n)
{
	uint64_t there[PAGES_WINDOW / 8] = { 0 }, any = 0; /* a byte each */

	if (mincore(mem->base + page * GMEM_PAGE, n * GMEM_PAGE, (unsigned char *)there) < 0)
		return false;
	for (uint64_t i = 0; i < (n + 7) / 8; i++)
		any |= there[i];
	return (any & 0x0101010101010101) == 0;
}

static int write_run(const struct gmem *mem, int fd, uint64_t page, uint64_t n)
{
	uint64_t at = page * GMEM_PAGE, len = n * GMEM_PAGE;

	while (len > 0) {
		ssize_t done = pwrite(fd, mem->base + at, len, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		at += (uint64_t)done;
		len -= (uint64_t)done;
	}
	return 0;
}

int64_t pages_write(const struct gmem *mem, int fd, uint64_t page, uint64_t n, const uint64_t *there)
{
	uint64_t run = 0, end = page + n;
	int64_t total = 0;

	for (; page < end; page++) {
		bool data = pages_bit(there, page) || !pages_zero(mem->base + page * GMEM_PAGE);

		run += data;
		total += data;
		if (run == 0 || (data && page + 1 < end))
			continue;
		int r = write_run(mem, fd, page + data - run, run);
		if (r < 0)
			return r;
		run = 0;
	}
	return total;
}
