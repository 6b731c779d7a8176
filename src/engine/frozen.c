// SPDX-License-Identifier: Apache-2.0
// The engine's half: what a process is frozen and woken with.
#include "engine/frozen.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"
#include "engine/qemu_args.h"

void frozen_args(const struct qemu_cmd *cmd, uint8_t ret[32])
{
	struct sha256 h;

	sha256_init(&h);
	for (size_t i = 0; i < cmd->argv.n; i++)
		sha256_update(&h, cmd->argv.v[i], strlen(cmd->argv.v[i]) + 1);
	sha256_final(&h, ret);
}

bool frozen_args_match(int image, const struct qemu_cmd *cmd)
{
	uint8_t want[32], found[32];
	uint32_t n_refs;

	frozen_args(cmd, want);
	return pread(image, found, sizeof(found), offsetof(struct frozen_head, args)) == sizeof(found) &&
	       pread(image, &n_refs, sizeof(n_refs), offsetof(struct frozen_head, n_refs)) ==
		       sizeof(n_refs) &&
	       memcmp(want, found, sizeof(want)) == 0 && n_refs == cmd->n_fds + 1;
}

/* See frozen.h: what is mapped from beyond a file's end cannot be used. */
static int add_tail(int image)
{
	struct rlimit most;
	struct stat st;

	if (fstat(image, &st) < 0 || getrlimit(RLIMIT_FSIZE, &most) < 0)
		return -errno;
	uint64_t bytes = (uint64_t)st.st_size + FROZEN_TAIL_BYTES;
	if (bytes > most.rlim_cur)
		return -EFBIG; /* trying it would end this process */
	return ftruncate(image, (off_t)bytes) < 0 ? -errno : 0;
}

int frozen_finish(int image, const uint8_t args[32])
{
	int r = frozen_check(image, NULL, NULL);

	r = r ?: add_tail(image);
	if (r < 0)
		return r;
	ssize_t n = pwrite(image, args, 32, offsetof(struct frozen_head, args));
	return n == 32 ? 0 : n < 0 ? -errno : -EIO;
}

size_t frozen_refs(const struct launch *l, const struct qemu_cmd *cmd, struct jail_fd *fds, size_t n)
{
	if (cmd->n_fds + 1 > FROZEN_REFS_MAX)
		return n;
	fds[n++] = (struct jail_fd){ launch_fd(l, LAUNCH_FD_FROZEN, 0), FROZEN_FD_IMAGE };
	for (size_t i = 0; i < cmd->n_fds; i++)
		fds[n++] = (struct jail_fd){ cmd->fds[i], FROZEN_FD_REF + (int)i };
	fds[n++] = (struct jail_fd){ launch_fd(l, LAUNCH_FD_MEM, 0), FROZEN_FD_REF + (int)cmd->n_fds };
	return n;
}
