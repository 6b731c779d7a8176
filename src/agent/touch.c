// SPDX-License-Identifier: Apache-2.0
#include "agent/touch.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

static unsigned int touch_dir(const char *path, unsigned int left)
{
	DIR *d = opendir(path);
	struct stat st;

	if (!d)
		return left;
	for (struct dirent *e; left > 0 && (e = readdir(d)); left--)
		(void)fstatat(dirfd(d), e->d_name, &st, 0);
	closedir(d);
	return left;
}

static void read_shell(void)
{
	static char chunk[64 * 1024];
	_cleanup_fd_ int fd = open("/bin/sh", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	for (size_t n = 0; n < TOUCH_SHELL_MAX; n += sizeof(chunk))
		if (read(fd, chunk, sizeof(chunk)) <= 0)
			return;
}

void touch_root(const char *path)
{
	unsigned int left = TOUCH_ENTRIES_MAX;

	while (*path) {
		char dir[256];
		size_t len = strcspn(path, ":");

		if (len > 0 && len < sizeof(dir)) {
			memcpy(dir, path, len);
			dir[len] = '\0';
			left = touch_dir(dir, left);
		}
		path += len + (path[len] == ':');
	}
	read_shell();
}
