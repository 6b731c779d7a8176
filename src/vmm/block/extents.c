// SPDX-License-Identifier: Apache-2.0
// Several files, one after the other, as one read-only disk: a box's root, whose layers are stored once for all images.
#include "vmm/block/block.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "vmm/block/hostio.h"
#include "vmm/block/iov.h"

/* @start: of this part in the disk; @in_file: what there is of it, the rest (less than a sector) is zeros */
struct part {
	int fd;
	uint64_t start;
	uint64_t len;
	uint64_t in_file;
};

struct extents {
	struct block b;
	size_t n;
	struct part part[];
};

static struct extents *extents_of(struct block *b)
{
	return container_of(b, struct extents, b);
}

/* The part that @at lies in; there is one: @at is less than the disk's size. */
static size_t find_part(const struct extents *x, uint64_t at)
{
	size_t low = 0, high = x->n;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (x->part[mid].start <= at)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static int read_part(const struct part *p, struct iov_cur *c, size_t len, uint64_t at)
{
	size_t real = MIN(len, p->in_file - MIN(at, p->in_file));
	int r = hostio_readv(p->fd, c, real, at, HOSTIO_EOF_FAILS);

	if (r == 0)
		iov_zero(c, len - real);
	return r;
}

static int extents_readv(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t at)
{
	const struct extents *x = extents_of(b);
	struct iov_cur c = { v, n, 0 };
	int r = 0;

	for (size_t i = find_part(x, at); r == 0 && len > 0; i++) {
		const struct part *p = &x->part[i];
		size_t here = MIN(len, p->start + p->len - at);

		r = read_part(p, &c, here, at - p->start);
		at += here;
		len -= here;
	}
	return r;
}

static void extents_close(struct block *b)
{
	struct extents *x = extents_of(b);

	for (size_t i = 0; i < x->n; i++)
		close(x->part[i].fd);
	free(x);
}

static const struct block_ops extents_ops = {
	.name = "extents",
	.readv = extents_readv,
	.close = extents_close,
};

/* Checks extent @i and appends it. */
static int add_part(struct extents *x, const struct extent *e, size_t i, struct vial_err *err)
{
	uint64_t size;
	bool read_only;
	int r = hostio_check_fd(e->fd, &read_only, &size);

	if (r < 0)
		return err_sys(err, r, "open part %zu of a disk", i);
	if (!read_only)
		return err_set(err, VIAL_E_INVALID, "part %zu of a disk: its descriptor is not read-only", i);
	if (e->len == 0 || e->len % BLOCK_SECTOR || e->len > BLOCK_SIZE_MAX - x->b.size)
		return err_set(err, VIAL_E_INVALID, "part %zu of a disk: %llu bytes", i,
			       (unsigned long long)e->len);
	if (ALIGN_UP(MIN(size, e->len), (uint64_t)BLOCK_SECTOR) < e->len)
		return err_set(err, VIAL_E_CORRUPT,
			       "part %zu of a disk: %llu bytes, %llu were recorded: the file was cut", i,
			       (unsigned long long)size, (unsigned long long)e->len);
	x->part[x->n++] = (struct part){ e->fd, x->b.size, e->len, MIN(size, e->len) };
	x->b.size += e->len;
	return 0;
}

int extents_open(const struct extent *e, size_t n, struct block **ret, struct vial_err *err)
{
	if (n == 0 || n > EXTENTS_MAX)
		return err_set(err, VIAL_E_INVALID, "a disk of %zu parts (at most %d)", n, EXTENTS_MAX);
	_cleanup_free_ struct extents *x = calloc(1, sizeof(*x) + n * sizeof(x->part[0]));
	if (!x)
		return err_sys(err, -ENOMEM, "open a disk of %zu parts", n);
	x->b = (struct block){ &extents_ops, 0, 1, true };
	for (size_t i = 0; i < n; i++) {
		int r = add_part(x, &e[i], i, err);
		if (r < 0)
			return r;
	}
	*ret = &take_ptr(x)->b;
	return 0;
}
