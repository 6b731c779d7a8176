// SPDX-License-Identifier: Apache-2.0
// Feeds each file of the given directories to a fuzz target, built with any compiler: corpora as tests.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "fuzz.h"

#define INPUT_MAX ((off_t)64 << 20)

static int replay_file(int dir, const char *name)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	if (st.st_size > INPUT_MAX)
		return -EFBIG;
	/* Exactly as large as the input, so that a read past its end is seen. */
	_cleanup_free_ uint8_t *bytes = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!bytes)
		return -ENOMEM;
	ssize_t n = read(fd, bytes, (size_t)st.st_size);
	if (n != st.st_size)
		return n < 0 ? -errno : -EIO;
	LLVMFuzzerTestOneInput(bytes, (size_t)n);
	return 1;
}

static int replay_dir(const char *path)
{
	DIR *d = opendir(path);
	int total = 0, r = 0;

	if (!d)
		return -errno;
	for (struct dirent *e; r >= 0 && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		r = replay_file(dirfd(d), e->d_name);
		if (r < 0)
			fprintf(stderr, "%s/%s: %s\n", path, e->d_name, strerror(-r));
		total += r > 0;
	}
	closedir(d);
	return r < 0 ? r : total;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int r = replay_dir(argv[i]);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
			return 1;
		}
		total += r;
	}
	printf("%d inputs replayed\n", total);
	return total > 0 ? 0 : 1; /* a lost corpus must not pass */
}
