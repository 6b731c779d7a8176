// SPDX-License-Identifier: Apache-2.0
// For tests: image_open() without a machine. image-tool STORE UNPACK BASE REF [DISK-OUT]; prints config as JSON-like lines.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "image/image.h"

static void print_vec(const char *name, const struct strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		printf("%s=%s\n", name, s->v[i]);
}

static void print_one(const char *name, const char *s)
{
	if (s)
		printf("%s=%s\n", name, s);
}

static int copy(int in, uint64_t bytes, int out)
{
	static char chunk[1 << 20];
	uint64_t off = 0;

	while (off < bytes) {
		ssize_t n = pread(in, chunk, sizeof(chunk), (off_t)off);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		int r = fd_write_full(out, chunk, (size_t)n);
		if (r < 0)
			return r;
		off += (uint64_t)n;
	}
	return 0;
}

static int write_disk(const struct image *i, const char *path)
{
	_cleanup_fd_ int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = out < 0 ? -errno : 0;

	for (size_t k = 0; k < i->n_extents && r == 0; k++)
		r = copy(i->extents[k].fd, i->extents[k].bytes, out);
	return r;
}

static void print_image(const struct image *i, uint64_t ns)
{
	printf("fstype=%s\ndigest=%s\nextents=%zu\nopen_us=%llu\n", i->fstype, i->digest, i->n_extents,
	       (unsigned long long)(ns / 1000));
	print_vec("entrypoint", &i->config.entrypoint);
	print_vec("cmd", &i->config.cmd);
	print_vec("env", &i->config.env);
	print_one("user", i->config.user);
	print_one("workdir", i->config.workdir);
	print_one("stop_signal", i->config.stop_signal);
	print_one("kernel", i->kernel);
	print_one("initrd", i->initrd);
}

int main(int argc, char **argv)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct image i;

	if (argc < 5) {
		fprintf(stderr, "usage: image-tool STORE UNPACK BASE REF [DISK-OUT]\n");
		return 2;
	}
	int store = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store < 0) {
		perror(argv[1]);
		return 1;
	}
	const char *uid = getenv("IMAGE_TOOL_UID");
	struct image_env env = {
		.store_fd = store,
		.unpack_path = argv[2],
		.base_path = argv[3],
		.uid = uid ? (uid_t)atoi(uid) : (uid_t)-1,
		.gid = uid ? (gid_t)atoi(uid) : (gid_t)-1,
	};
	uint64_t t0 = clock_mono_ns();
	int r = image_open(&env, argv[4], false, &i, &err);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", vial_error_name(r), err.msg);
		return 1;
	}
	print_image(&i, clock_mono_ns() - t0);
	r = argc > 5 ? write_disk(&i, argv[5]) : 0;
	if (r < 0)
		fprintf(stderr, "%s: %s\n", argv[5], strerror(-r));
	image_done(&i);
	return r < 0;
}
