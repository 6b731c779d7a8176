// SPDX-License-Identifier: Apache-2.0
// The checks that stand before every format, and live fork, which is the same for all.
#include "vmm/block/block.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "vmm/block/iov.h"
#include "vmm/block/qcow2.h"

static int check_range(const struct block *b, uint64_t at, uint64_t len)
{
	if (at % BLOCK_SECTOR || len % BLOCK_SECTOR)
		return -EINVAL;
	return at > b->size || len > b->size - at ? -ERANGE : 0;
}

static int check_write(const struct block *b, uint64_t at, uint64_t len)
{
	return b->read_only ? -EROFS : check_range(b, at, len);
}

int block_readv(struct block *b, const struct iovec *v, size_t n, uint64_t at)
{
	size_t len;
	int r = iov_bytes(v, n, &len);

	r = r ?: check_range(b, at, len);
	return r || len == 0 ? r : b->ops->readv(b, v, n, len, at);
}

int block_writev(struct block *b, const struct iovec *v, size_t n, uint64_t at)
{
	size_t len;
	int r = iov_bytes(v, n, &len);

	r = r ?: check_write(b, at, len);
	return r || len == 0 ? r : b->ops->writev(b, v, n, len, at);
}

int block_discard(struct block *b, uint64_t at, uint64_t len)
{
	int r = check_write(b, at, len);

	return r || len == 0 || !b->ops->discard ? r : b->ops->discard(b, at, len);
}

int block_write_zeroes(struct block *b, uint64_t at, uint64_t len, bool unmap)
{
	int r = check_write(b, at, len);

	return r || len == 0 ? r : b->ops->write_zeroes(b, at, len, unmap);
}

int block_flush(struct block *b)
{
	return b->read_only || !b->ops->flush ? 0 : b->ops->flush(b);
}

int block_freeze(struct block *b)
{
	int r = block_flush(b);

	if (r == 0 && !b->read_only && b->ops->freeze)
		r = b->ops->freeze(b);
	if (r == 0)
		b->read_only = true;
	return r;
}

void block_close(struct block *b)
{
	if (b)
		b->ops->close(b);
}

int block_fork(struct block **b, int fd, enum block_sync sync, struct vial_err *err)
{
	_cleanup_(block_closep) struct block *top = NULL;
	int r = qcow2_open(fd, NULL, sync, &top, err);

	if (r < 0) {
		close(fd);
		return r;
	}
	if ((*b)->depth >= BLOCK_DEPTH_MAX)
		return err_set(err, VIAL_E_LIMIT,
			       "the disk has %d layers already: start a box from a snapshot of it",
			       BLOCK_DEPTH_MAX);
	if (top->read_only || top->size != (*b)->size)
		return err_set(err, VIAL_E_INVALID, "new layer of the disk: %s",
			       top->read_only ? "it is read-only" : "its size is another");
	r = block_freeze(*b);
	if (r < 0)
		return err_sys(err, r, "freeze the disk");
	qcow2_put_over(top, *b);
	*b = take_ptr(top);
	return 0;
}
