// SPDX-License-Identifier: Apache-2.0
// A monitor that tells what it was given over its lifeline, and waits for its end. Of a conversion it tells as an error would be.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vial/error.h"
#include "wire/launch.h"
#include "wire/mon.h"

static int refuse(int line, const struct launch *l)
{
	_cleanup_buf_ struct buf out = { 0 };
	struct mon_msg m = { .type = MON_ERROR, .error.code = VIAL_E_ENGINE };
	char text[80], byte;

	snprintf(text, sizeof(text), "strict %u, untrusted %u, without 0x%x", l->strict, l->untrusted,
		 l->without);
	m.error.text = slice_str(text);
	if (mon_msg_put(&out, &m) < 0 || fd_write_full(line, out.data, out.len) < 0)
		return 5;
	return read(line, &byte, 1) == 0 ? 0 : 6;
}

int main(int argc, char **argv)
{
	_cleanup_free_ char *blob = NULL;
	_cleanup_(launch_done) struct launch l = { 0 };
	char said[100] = "none", text[400], byte;
	int open_fds = 0, extent, line;
	struct stat st;
	size_t n;

	if (fd_read_all(LAUNCH_FD_BLOB, KIB(64), &blob, &n) < 0 || launch_decode(blob, n, &l) < 0)
		return 3;
	line = launch_fd(&l, LAUNCH_FD_LIFELINE, 0);
	if (l.mode == LAUNCH_CONVERT)
		return refuse(line, &l);
	extent = launch_fd(&l, LAUNCH_FD_EXTENT, 0);
	if (extent >= 0 && pread(extent, said, sizeof(said) - 1, 0) < 0)
		return 4;
	for (int fd = 0; fd < 1024; fd++)
		open_fds += fstat(fd, &st) == 0;
	snprintf(text, sizeof(text), "argc %d, argv[1] %s, id %s, extent %s, fds %d, roles %zu, client %d\n",
		 argc, argv[1], l.id, said, open_fds, l.n_roles, launch_fd(&l, LAUNCH_FD_CLIENT, 0) > 0);
	if (fd_write_full(line, text, strlen(text)) < 0)
		return 5;
	return read(line, &byte, 1) == 0 ? 0 : 6;
}
