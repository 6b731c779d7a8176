// SPDX-License-Identifier: Apache-2.0
// A disk that is a file, byte by byte.
#include "vmm/block/block.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "vmm/block/hostio.h"
#include "vmm/block/iov.h"

struct raw {
	struct block b;
	int fd;
	bool sync;
	uint64_t file_size; /* a read-only one may end in mid-sector */
};

static struct raw *raw_of(struct block *b)
{
	return container_of(b, struct raw, b);
}

static int raw_readv(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t at)
{
	struct raw *raw = raw_of(b);
	struct iov_cur c = { v, n, 0 };
	size_t in_file = MIN(len, raw->file_size - MIN(at, raw->file_size));
	int r = hostio_readv(raw->fd, &c, in_file, at, HOSTIO_EOF_FAILS);

	if (r == 0)
		iov_zero(&c, len - in_file);
	return r;
}

static int raw_writev(struct block *b, const struct iovec *v, size_t n, size_t len, uint64_t at)
{
	struct iov_cur c = { v, n, 0 };

	return hostio_writev(raw_of(b)->fd, &c, len, at);
}

static int raw_discard(struct block *b, uint64_t at, uint64_t len)
{
	int r = hostio_punch(raw_of(b)->fd, at, len);

	return r == -EOPNOTSUPP ? 0 : r;
}

static int raw_write_zeroes(struct block *b, uint64_t at, uint64_t len, bool unmap)
{
	return unmap ? hostio_zero(raw_of(b)->fd, at, len) : hostio_write_zeros(raw_of(b)->fd, at, len);
}

static int raw_flush(struct block *b)
{
	struct raw *raw = raw_of(b);

	return raw->sync && fdatasync(raw->fd) < 0 ? -errno : 0;
}

static void raw_close(struct block *b)
{
	struct raw *raw = raw_of(b);

	close(raw->fd);
	free(raw);
}

static const struct block_ops raw_ops = {
	.name = "raw",
	.readv = raw_readv,
	.writev = raw_writev,
	.discard = raw_discard,
	.write_zeroes = raw_write_zeroes,
	.flush = raw_flush,
	.close = raw_close,
};

int raw_open(int fd, enum block_sync sync, struct block **ret, struct vial_err *err)
{
	bool read_only;
	uint64_t size;
	int r = hostio_check_fd(fd, &read_only, &size);

	if (r < 0)
		return err_sys(err, r, "open a disk");
	if (size == 0 || size > BLOCK_SIZE_MAX)
		return err_set(err, VIAL_E_INVALID, "a disk of %llu bytes", (unsigned long long)size);
	if (!read_only && size % BLOCK_SECTOR)
		return err_set(err, VIAL_E_INVALID,
			       "a writable disk of %llu bytes: not a multiple of 512, use truncate on it",
			       (unsigned long long)size);
	struct raw *raw = calloc(1, sizeof(*raw));
	if (!raw)
		return err_sys(err, -ENOMEM, "open a disk");
	raw->b = (struct block){ &raw_ops, ALIGN_UP(size, (uint64_t)BLOCK_SECTOR), 1, read_only };
	raw->fd = fd;
	raw->sync = sync == BLOCK_SYNC;
	raw->file_size = size;
	*ret = &raw->b;
	return 0;
}
