// SPDX-License-Identifier: Apache-2.0
// The filters of vial-vmm's threads: what each may ask of the kernel and of KVM, and what neither may.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "jail/jail.h"

#define NO_FILTER 99

/* struct try - a call on a descriptor that there is not: EBADF where it is allowed, EPERM where the filter refuses it */
struct
try {
	long call;
	unsigned long arg; /* the second */
	bool io, vcpu;
};

static const struct try tries[] = {
	{ SYS_ioctl, KVM_RUN, false, true },
	{ SYS_ioctl, KVM_SIGNAL_MSI, true, true },
	{ SYS_ioctl, KVM_IRQ_LINE, true, true },
	{ SYS_ioctl, KVM_KVMCLOCK_CTRL, true, false },
	{ SYS_ioctl, KVM_GET_MSRS, true, false },
	{ SYS_ioctl, KVM_GET_CLOCK, true, false },
	{ SYS_ioctl, KVM_GET_DIRTY_LOG, true, false },
	{ SYS_ioctl, KVM_SET_USER_MEMORY_REGION, true, false },
	{ SYS_ioctl, KVM_CREATE_VM, false, false },
	{ SYS_ioctl, KVM_CREATE_VCPU, false, false },
	{ SYS_ioctl, KVM_CREATE_DEVICE, false, false },
	{ SYS_ioctl, KVM_ENABLE_CAP, false, false },
	{ SYS_ioctl, KVM_IOEVENTFD, false, false },
	{ SYS_ioctl, 0x5412 /* TIOCSTI */, false, false },
#ifdef __x86_64__
	{ SYS_ioctl, KVM_GET_REGS, true, false },
	{ SYS_ioctl, KVM_GET_SREGS, true, false },
	{ SYS_ioctl, KVM_GET_XCRS, true, false },
	{ SYS_ioctl, KVM_GET_XSAVE, true, false },
	{ SYS_ioctl, KVM_GET_XSAVE2, true, false },
	{ SYS_ioctl, KVM_GET_DEBUGREGS, true, false },
	{ SYS_ioctl, KVM_GET_LAPIC, true, false },
	{ SYS_ioctl, KVM_GET_IRQCHIP, true, false },
	{ SYS_ioctl, KVM_GET_VCPU_EVENTS, true, false },
	{ SYS_ioctl, KVM_GET_MP_STATE, true, false },
	{ SYS_ioctl, KVM_SET_REGS, false, false },
	{ SYS_ioctl, KVM_SET_MSRS, false, false },
#endif
	{ SYS_write, 0, true, true },
	{ SYS_read, 0, true, false },
	{ SYS_pread64, 0, true, false },
	{ SYS_recvmsg, 0, true, false },
	{ SYS_fcntl, F_GETFL, true, false },
	{ SYS_fcntl, F_SETOWN, false, false },
	{ SYS_accept4, 0, false, false },
	{ SYS_connect, 0, false, false },
	{ SYS_openat, 0, false, false },
	{ SYS_dup3, 0, false, false },
};

/* What the call in a thread of @profile came to: its errno, in a process of its own. */
static int outcome(enum jail_profile profile, const struct try *t)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		int missing = jail_self(JAIL_VMM, NULL, 0, JAIL_NO_LANDLOCK, NULL);
		int more = missing < 0 ? missing : jail_thread(profile, 0, NULL);
		if (more < 0 || (more & JAIL_NO_SECCOMP))
			_exit(NO_FILTER);
		long r = syscall(t->call, -1, t->arg, 0, 0, 0, 0);
		/* Not _exit(): a sanitizer would add calls of its own, which the filter refuses. */
		(void)syscall(SYS_exit_group, r < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void try_all(enum jail_profile profile)
{
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		const struct try *t = &tries[i];
		bool allowed = profile == JAIL_VMM_IO ? t->io : t->vcpu;
		int got = outcome(profile, t);

		if (got == NO_FILTER)
			skip();
		if ((got == EPERM) == allowed)
			fail_msg("call %ld (0x%lx): errno %d", t->call, t->arg, got);
	}
}

static void test_io_thread(void **state _unused_)
{
	try_all(JAIL_VMM_IO);
}

static void test_vcpu_thread(void **state _unused_)
{
	try_all(JAIL_VMM_VCPU);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_io_thread),
		cmocka_unit_test(test_vcpu_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
