// SPDX-License-Identifier: Apache-2.0
#include "agent/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "base/fd.h"

static unsigned short cells(uint32_t n)
{
	return (unsigned short)MIN(n, 65535U);
}

int pty_resize(int master, uint32_t rows, uint32_t cols)
{
	struct winsize ws = { .ws_row = cells(rows), .ws_col = cells(cols) };

	return ioctl(master, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

int pty_open(uint32_t rows, uint32_t cols, int *ret_master, int *ret_slave)
{
	_cleanup_fd_ int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int unlock = 0;

	if (master < 0)
		return -errno;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	/* By descriptor: the path under /dev/pts is the guest's to change. */
	_cleanup_fd_ int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -errno;
	if (rows && cols)
		(void)pty_resize(master, rows, cols);
	*ret_master = take_fd(master);
	*ret_slave = take_fd(slave);
	return 0;
}
