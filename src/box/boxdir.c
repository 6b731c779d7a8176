// SPDX-License-Identifier: Apache-2.0
#include "box/boxdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"

#define BACKLOG 128

/* Held while a directory has its first name: whoever gets it alone (home_sweep()) finds those that nobody will finish. */
static int lock_making(int boxes)
{
	while (flock(boxes, LOCK_SH) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int make_socket(int dir)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	/* The state directory's own path may be longer than sun_path. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" BOXDIR_SOCKET, dir);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(fd);
}

static int make_lock(int dir)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_fd_ int fd = openat(dir, BOXDIR_LOCK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return -errno;
	return take_fd(fd);
}

static int make_all(int boxes, const char *tmp, const char *id, int *ret_lock, int *ret_listen)
{
	_cleanup_fd_ int dir = openat(boxes, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int lock = dir < 0 ? -errno : make_lock(dir);
	_cleanup_fd_ int listening = lock < 0 ? lock : make_socket(dir);

	if (listening < 0)
		return listening;
	if (renameat(boxes, tmp, boxes, id) < 0)
		return -errno;
	*ret_lock = take_fd(lock);
	*ret_listen = take_fd(listening);
	return 0;
}

int boxdir_make(int boxes, const char *id, int *ret_lock, int *ret_listen)
{
	char tmp[40];
	int r = lock_making(boxes);

	if (r < 0)
		return r;
	snprintf(tmp, sizeof(tmp), ".%.32s", id);
	r = mkdirat(boxes, tmp, 0700) < 0 ? -errno : make_all(boxes, tmp, id, ret_lock, ret_listen);
	if (r < 0 && r != -EEXIST)
		(void)path_rm_rf_at(boxes, tmp);
	(void)flock(boxes, LOCK_UN);
	return r;
}

int boxdir_remove(int boxes, const char *id)
{
	/* In two steps: Landlock lets the monitor do anything in its own directory, and only that in the one above. */
	int r = path_empty_at(boxes, id);

	if (unlinkat(boxes, id, AT_REMOVEDIR) < 0 && errno != ENOENT && r == 0)
		r = -errno;
	return r == -ENOENT ? 0 : r;
}
