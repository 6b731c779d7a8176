// SPDX-License-Identifier: Apache-2.0
// Landlock rulesets: everything the running kernel can refuse is refused, save the named paths.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "jail/plan.h"

/* Newer than the headers of Debian 12. [Linux include/uapi/linux/landlock.h] */
#define FS_TRUNCATE  (1ULL << 14) /* ABI 3 */
#define FS_IOCTL_DEV (1ULL << 15) /* ABI 5 */
#define NET_TCP	     (3ULL)	  /* ABI 4: bind and connect */
#define SCOPE_UNIX   (1ULL << 0)  /* ABI 6: abstract unix sockets */
#define SCOPE_SIGNAL (1ULL << 1)  /* ABI 6 */

#define FS_READ_FILE (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE)
#define FS_READ	     (FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* rights that a rule for something else than a directory may have */
#define FS_FILE	 (FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define FS_NODES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

/* first 8 bytes: ABI 1; 16: ABI 4; 24: ABI 6 */
struct ruleset_attr {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

static uint64_t fs_rights(int abi)
{
	uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; /* ABI 1: bits 0 to 12 */

	if (abi >= 2)
		all |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		all |= FS_TRUNCATE;
	if (abi >= 5)
		all |= FS_IOCTL_DEV;
	return all;
}

static int new_ruleset(int abi, bool scope_signals)
{
	struct ruleset_attr attr = { .fs = fs_rights(abi), .net = NET_TCP, .scoped = SCOPE_UNIX };
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;

	if (scope_signals)
		attr.scoped |= SCOPE_SIGNAL;
	long fd = syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	return fd < 0 ? -errno : (int)fd;
}

static int allow(int ruleset, int abi, const char *path, enum jail_access access)
{
	_cleanup_fd_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* Device nodes are never made; ioctl on devices only where the very device is named. */
	uint64_t rights = access == JAIL_WRITE ? ~(FS_NODES | FS_IOCTL_DEV) : FS_READ;
	if (access == JAIL_RMDIR)
		rights = LANDLOCK_ACCESS_FS_REMOVE_DIR;
	if (access == JAIL_WRITE && S_ISCHR(st.st_mode))
		rights |= FS_IOCTL_DEV;
	if (!S_ISDIR(st.st_mode))
		rights &= FS_FILE;
	struct landlock_path_beneath_attr rule = { .allowed_access = rights & fs_rights(abi),
						   .parent_fd = fd };
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

static int allow_program(int ruleset, int abi, const char *program)
{
	char interp[256];
	int rc = allow(ruleset, abi, program, JAIL_READ);

	if (rc < 0)
		return rc;
	rc = elf_interp(program, interp, sizeof(interp));
	if (rc == 0)
		rc = allow(ruleset, abi, interp, JAIL_READ);
	return rc == -ENOENT ? 0 : rc;
}

int landlock_ruleset(const struct jail_path *paths, size_t n, const char *program, bool scope_signals,
		     const char **ret_bad)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	*ret_bad = NULL;
	if (abi < 0)
		return -errno;
	_cleanup_fd_ int ruleset = new_ruleset(abi, scope_signals);
	if (ruleset < 0)
		return ruleset;
	for (size_t i = 0; i < n; i++) {
		int rc = allow(ruleset, abi, paths[i].path, paths[i].access);

		if (rc == -ENOENT && paths[i].access == JAIL_READ)
			continue;
		if (rc < 0) {
			*ret_bad = paths[i].path;
			return rc;
		}
	}
	int rc = program ? allow_program(ruleset, abi, program) : 0;
	if (rc < 0) {
		*ret_bad = program;
		return rc;
	}
	return take_fd(ruleset);
}

int landlock_lock(int ruleset_fd)
{
	return syscall(SYS_landlock_restrict_self, ruleset_fd, 0) < 0 ? -errno : 0;
}

int elf_interp(const char *path, char *ret, size_t size)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ElfW(Ehdr) eh;
	ElfW(Phdr) ph[32];

	if (fd < 0)
		return -errno;
	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
		return -ENOENT;
	size_t n = MIN((size_t)eh.e_phnum, ARRAY_SIZE(ph));
	if (eh.e_phentsize != sizeof(ph[0]) ||
	    pread(fd, ph, n * sizeof(ph[0]), (off_t)eh.e_phoff) != (ssize_t)(n * sizeof(ph[0])))
		return -ENOENT;
	for (size_t i = 0; i < n; i++) {
		if (ph[i].p_type != PT_INTERP)
			continue;
		if (ph[i].p_filesz == 0 || ph[i].p_filesz > size ||
		    pread(fd, ret, ph[i].p_filesz, (off_t)ph[i].p_offset) != (ssize_t)ph[i].p_filesz)
			return -ENOENT;
		ret[ph[i].p_filesz - 1] = '\0';
		return 0;
	}
	return -ENOENT;
}
