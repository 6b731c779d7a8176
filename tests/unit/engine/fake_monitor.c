// SPDX-License-Identifier: Apache-2.0
// A monitor that tells what it was given over its lifeline, and waits for its end.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "wire/launch.h"

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
