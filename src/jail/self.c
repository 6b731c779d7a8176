// SPDX-License-Identifier: Apache-2.0
// Locking the calling process in.
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "jail/plan.h"

static int lock_files(enum jail_profile profile, const struct jail_path *paths, size_t n,
		      unsigned int without, struct vial_err *err)
{
	const char *bad = NULL;
	/* A signal scope would keep the monitor from ending its children: they started before, so outside. */
	bool scope_signals = profile != JAIL_MONITOR;
	_cleanup_fd_ int ruleset = -EOPNOTSUPP;

	if (!(without & JAIL_NO_LANDLOCK))
		ruleset = landlock_ruleset(paths, n, NULL, scope_signals, &bad);
	if (ruleset == -EOPNOTSUPP || ruleset == -ENOSYS)
		return JAIL_NO_LANDLOCK;
	if (ruleset < 0)
		return err_sys(err, ruleset, "jail: landlock%s%s", bad ? ": " : "", bad ? bad : "");
	int rc = landlock_lock(ruleset);
	return rc < 0 ? err_sys(err, rc, "jail: landlock") : 0;
}

static int lock_calls(enum jail_profile profile, unsigned int without, struct vial_err *err)
{
	_cleanup_free_ struct sock_filter *prog = NULL;
	size_t len = 0;

	if (profile == JAIL_NONE)
		return 0;
	if ((without & JAIL_NO_SECCOMP) || !filter_available())
		return JAIL_NO_SECCOMP;
	prog = filter_copy(profile, FILTER_SELF, &len);
	if (!prog)
		return err_sys(err, -ENOMEM, "jail: seccomp");
	filter_set_pid(prog, len, (unsigned int)getpid());
	int rc = filter_load(prog, len, false);
	return rc < 0 ? err_sys(err, rc, "jail: seccomp") : 0;
}

int jail_self(enum jail_profile profile, const struct jail_path *paths, size_t n_paths, unsigned int without,
	      struct vial_err *err)
{
	if ((unsigned int)profile > JAIL_VMM)
		return err_set(err, VIAL_E_INVALID, "jail: no such profile");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(err, -errno, "jail: prctl");
	int files = lock_files(profile, paths, n_paths, without, err);
	if (files < 0)
		return files;
	int calls = lock_calls(profile, without, err);
	return calls < 0 ? calls : files | calls;
}

int jail_thread(enum jail_profile profile, unsigned int without, struct vial_err *err)
{
	if (profile != JAIL_VMM_IO && profile != JAIL_VMM_VCPU)
		return err_set(err, VIAL_E_INVALID, "jail: no profile of a thread");
	return lock_calls(profile, without, err);
}
