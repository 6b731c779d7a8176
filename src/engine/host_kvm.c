// SPDX-License-Identifier: Apache-2.0
// Can this host's KVM be used? If not, why, and what helps.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "engine/filecache.h"
#include "engine/host.h"

void host_boot_id(char ret[40])
{
	_cleanup_free_ char *id = NULL;

	ret[0] = '\0';
	if (fd_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &id, NULL) < 0)
		return;
	id[strcspn(id, "\n")] = '\0';
	if (strlen(id) == 36)
		memcpy(ret, id, 37);
}

/* What the node itself says: it must be there, be one, and be ours to use. */
static bool node_usable(const char *node, struct stat *ret, char *why, size_t n)
{
	if (stat(node, ret) < 0 && errno == ENOENT) {
		snprintf(why, n,
			 "%s does not exist (turn virtualization on in the firmware, then 'modprobe "
			 "kvm_intel' or "
			 "'modprobe kvm_amd'; in a virtual machine it needs nested virtualization)",
			 node);
		return false;
	}
	if (access(node, R_OK | W_OK) == 0)
		return true;
	if (errno == EACCES)
		snprintf(why, n,
			 "%s is not for you: join the group kvm ('sudo usermod -aG kvm NAME', then log in "
			 "again)",
			 node);
	else
		snprintf(why, n, "%s: %s", node, strerror(errno));
	return false;
}

/* A KVM that makes machines but cannot run them is most often this one: tell it by its name. */
static void explain(char *why, size_t n)
{
	size_t at = strlen(why);

	if (access("/sys/module/kvm_pvm", F_OK) == 0)
		snprintf(why + at, n - at,
			 " (this host's KVM is kvm_pvm, which has no hardware virtualization under it and "
			 "runs kernels "
			 "made for it only)");
}

bool host_kvm(int cache_fd, const char *node, char ret_why[ENGINE_WHY_MAX])
{
	char boot[40], kind[64], value[FILECACHE_VALUE_MAX];
	struct stat st;

	ret_why[0] = '\0';
	if (!node_usable(node, &st, ret_why, ENGINE_WHY_MAX))
		return false;
	/* The verdict holds for one boot of the host and one device node. */
	host_boot_id(boot);
	snprintf(kind, sizeof(kind), "kvm-%s", boot);
	if (filecache_get(cache_fd, kind, &st, value) == 0) {
		snprintf(ret_why, ENGINE_WHY_MAX, "%s", strcmp(value, "ok") == 0 ? "" : value);
		return strcmp(value, "ok") == 0;
	}
	bool ok = kvm_usable(ret_why, ENGINE_WHY_MAX);
	if (!ok)
		explain(ret_why, ENGINE_WHY_MAX);
	filecache_put(cache_fd, kind, &st, ok ? "ok" : ret_why);
	return ok;
}
