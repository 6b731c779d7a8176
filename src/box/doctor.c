// SPDX-License-Identifier: Apache-2.0
// vial doctor: one function a check, each with its remedy.
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "box/info.h"
#include "box/kernel.h"
#include "engine/host.h"
#include "engine/template.h"

#define ROOM_WANTED (2ULL << 30) /* templates and images */

struct finding {
	int result;
	char found[300];
	const char *remedy;
};

static void check_engine(struct vial *v, struct finding *f)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (home_host(v, &err) < 0) {
		f->result = VIAL_CHECK_FAIL;
		snprintf(f->found, sizeof(f->found), "%.290s", err.msg);
		f->remedy = "choose another engine (--engine, VIAL_ENGINE), or see the checks below";
	} else if (v->host.engine == LAUNCH_KVM) {
		snprintf(f->found, sizeof(f->found), "kvm");
	} else {
		snprintf(f->found, sizeof(f->found), "qemu, %s", home_engine_why(v));
	}
}

static void check_kvm(struct vial *v, struct finding *f)
{
	char why[ENGINE_WHY_MAX];

	if (host_kvm(v->cache_fd, ENGINE_KVM_NODE, why)) {
		snprintf(f->found, sizeof(f->found), "usable");
		return;
	}
	snprintf(f->found, sizeof(f->found), "not usable: %.280s", why);
	f->result = VIAL_CHECK_WARN;
	f->remedy = "boxes run by software emulation: slower, and no security boundary by QEMU's own "
		    "policy";
}

/* Where the kvm engine runs the boxes, QEMU may be missing. */
static void check_qemu(struct vial *v, struct finding *f)
{
	_cleanup_(engine_host_done) struct engine_host h = { 0 };
	struct vial_err err = VIAL_ERR_INIT;

	if (engine_host_probe(v->cache_fd, "qemu", "", &h, &err) == 0) {
		snprintf(f->found, sizeof(f->found), "%.150s, version %s, accelerator %s", h.program,
			 h.version, h.accel);
		return;
	}
	f->result = v->host_known ? VIAL_CHECK_WARN : VIAL_CHECK_FAIL;
	snprintf(f->found, sizeof(f->found), "%.290s", err.msg);
	f->remedy = "apt install qemu-system-x86";
}

static void check_kernel(struct vial *v, struct finding *f)
{
	struct vial_err err = VIAL_ERR_INIT;
	_cleanup_(kernel_done) struct kernel k = KERNEL_INIT;

	if (v->kernel)
		k.fd = open(v->kernel, O_RDONLY | O_CLOEXEC);
	else
		(void)kernel_installed(v, &k, &err);
	const char *name = v->kernel ? v->kernel : k.path ? k.path : "vmlinuz";

	if (k.fd >= 0 && kernel_check(k.fd, name, &err) == 0) {
		snprintf(f->found, sizeof(f->found), "%.290s", name);
		return;
	}
	f->result = VIAL_CHECK_FAIL;
	snprintf(f->found, sizeof(f->found), "%.290s", err.code ? err.msg : strerror(errno));
	f->remedy = "run 'vial init', or 'make demo' in the source tree";
}

static void check_helpers(struct vial *v, struct finding *f)
{
	static const char *const names[] = {
		"vial-monitor",
		"vial-unpack",
#ifdef __x86_64__
		"vial-vmm",
#endif
	};
	struct vial_err err = VIAL_ERR_INIT;

	snprintf(f->found, sizeof(f->found), "%.290s", v->libexec);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *path = NULL;
		if (home_helper(v, names[i], &path, &err) == 0)
			continue;
		f->result = VIAL_CHECK_FAIL;
		snprintf(f->found, sizeof(f->found), "%.290s", err.msg);
		f->remedy = "install vial whole";
		return;
	}
}

static void check_landlock(struct vial *v _unused_, struct finding *f)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi > 0) {
		snprintf(f->found, sizeof(f->found), "ABI %ld%s", abi,
			 abi < 6 ? " (6 adds signal and socket scopes)" : "");
		return;
	}
	f->result = VIAL_CHECK_WARN;
	snprintf(f->found, sizeof(f->found), "not available: the jail has one layer less");
	f->remedy = "a kernel with CONFIG_SECURITY_LANDLOCK and lsm=landlock,…";
}

static void check_userns(struct vial *v _unused_, struct finding *f)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 ? 0 : 1);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		snprintf(f->found, sizeof(f->found), "given");
		return;
	}
	f->result = VIAL_CHECK_WARN;
	snprintf(f->found, sizeof(f->found), "refused: the jail has one layer less");
	f->remedy =
		"sysctl kernel.apparmor_restrict_unprivileged_userns=0, or user.max_user_namespaces above 0";
}

static void check_notify(struct vial *v _unused_, struct finding *f)
{
	uint32_t action = 0x7fc00000U; /* SECCOMP_RET_USER_NOTIF */

	if (syscall(SYS_seccomp, 2 /* SECCOMP_GET_ACTION_AVAIL */, 0, &action) == 0) {
		snprintf(f->found, sizeof(f->found), "available");
		return;
	}
	f->result = VIAL_CHECK_FAIL;
	snprintf(f->found, sizeof(f->found), "not available: QEMU's opens cannot be supervised");
	f->remedy = "Linux 5.9 or later with CONFIG_SECCOMP_FILTER";
}

static void check_home(struct vial *v, struct finding *f)
{
	struct statvfs fs;
	unsigned long long room;

	if (faccessat(v->fd, ".", W_OK, 0) < 0 || fstatvfs(v->fd, &fs) < 0) {
		f->result = VIAL_CHECK_FAIL;
		snprintf(f->found, sizeof(f->found), "'%.200s': %s", v->path, strerror(errno));
		f->remedy = "make it writable, or set VIAL_HOME";
		return;
	}
	room = (unsigned long long)fs.f_bavail * fs.f_frsize;
	snprintf(f->found, sizeof(f->found), "'%.200s', %llu MiB free", v->path, room >> 20);
	if (room < ROOM_WANTED) {
		f->result = VIAL_CHECK_WARN;
		f->remedy = "templates and images want about 2 GiB: make room, or set VIAL_HOME";
	}
}

int doctor(struct vial *v, void (*fn)(void *data, const struct vial_check *c), void *data,
	   struct vial_err *err _unused_)
{
	static const struct {
		const char *name;
		void (*check)(struct vial *v, struct finding *f);
	} checks[] = {
		{ "engine", check_engine },
		{ "kvm", check_kvm },
		{ "qemu", check_qemu },
		{ "kernel", check_kernel },
		{ "helpers", check_helpers },
		{ "home", check_home },
		{ "seccomp-notify", check_notify },
		{ "landlock", check_landlock },
		{ "userns", check_userns },
	};
	int worst = VIAL_CHECK_OK;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct finding f = { .result = VIAL_CHECK_OK };
		checks[i].check(v, &f);
		const struct vial_check c = { .size = sizeof(c),
					      .name = checks[i].name,
					      .result = f.result,
					      .found = f.found,
					      .remedy = f.result ? f.remedy : NULL };
		fn(data, &c);
		worst = MAX(worst, f.result);
	}
	return worst;
}
