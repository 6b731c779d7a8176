// SPDX-License-Identifier: Apache-2.0
// Choosing, completing and loading the seccomp filters that tools/seccomp-gen made.
#include <errno.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/plan.h"
#include "seccomp_filters.h"

struct filter {
	const struct sock_filter *prog;
	size_t len;
};

#define FILTER(name)                                   \
	{                                              \
		(name), sizeof(name) / sizeof(*(name)) \
	}
#define PROFILE(name)                                                                                       \
	{                                                                                                   \
		FILTER(filter_##name##_self), FILTER(filter_##name##_spawn), FILTER(filter_##name##_notify) \
	}

/* clang-format off */
static const struct filter filters[][3] = {
	[JAIL_MONITOR] = PROFILE(monitor),
	[JAIL_QEMU] = PROFILE(qemu),
	[JAIL_UNPACK] = PROFILE(unpack),
	[JAIL_VMM] = PROFILE(vmm),
	[JAIL_VMM_IO] = PROFILE(vmm_io),
	[JAIL_VMM_VCPU] = PROFILE(vmm_vcpu),
};
/* clang-format on */

struct sock_filter *filter_copy(enum jail_profile profile, enum filter_variant v, size_t *ret_len)
{
	const struct filter *f = &filters[profile][v];
	struct sock_filter *copy = malloc(f->len * sizeof(*copy));

	if (!copy)
		return NULL;
	memcpy(copy, f->prog, f->len * sizeof(*copy));
	*ret_len = f->len;
	return copy;
}

void filter_set_pid(struct sock_filter *prog, size_t len, unsigned int pid)
{
	for (size_t i = 0; i < len; i++)
		if (prog[i].k == FILTER_PID && BPF_CLASS(prog[i].code) == BPF_JMP)
			prog[i].k = pid;
}

int filter_load(struct sock_filter *prog, size_t len, bool notify)
{
	struct sock_fprog fprog = { .len = (unsigned short)len, .filter = prog };
	unsigned long flags = notify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
	long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &fprog);

	return rc < 0 ? -errno : (int)rc;
}

static bool action_known(uint32_t action)
{
	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

bool filter_available(void)
{
	return action_known(SECCOMP_RET_KILL_PROCESS);
}

bool filter_notify_available(void)
{
	return action_known(SECCOMP_RET_USER_NOTIF);
}
