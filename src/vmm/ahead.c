// SPDX-License-Identifier: Apache-2.0
/*
 * Making the virtual machine while its memory is made.
 *
 * KVM_CREATE_VM takes milliseconds in which nothing runs: it starts a kernel thread and moves it into our control group, which waits
 * for all of the host's processors (an RCU grace period). Memory can be mapped and read in that time. It must be a thread, since
 * the machine belongs to the address space that made it.
 */
#include "vmm/ahead.h"

#include <sched.h>
#include <signal.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/thread.h"

#define AHEAD_STACK KIB(64)

static void *create(void *data)
{
	struct ahead *a = data;

	a->fd = kvm_call_n(a->kvm, a->kvm->fd, KVM_CREATE_VM, 0);
	return NULL;
}

void ahead_start(struct ahead *a, const struct kvm *kvm)
{
	*a = (struct ahead){ .kvm = kvm, .fd = -1 };
	a->running = thread_start(&a->thread, AHEAD_STACK, create, a) == 0;
	/* Where there is one processor it shall begin to wait before we work. */
	(void)sched_yield();
}

int ahead_take(struct ahead *a)
{
	if (a->running)
		pthread_join(a->thread, NULL);
	else
		create(a);
	a->running = false;
	return a->fd;
}

void ahead_done(struct ahead *a)
{
	if (!a->running)
		return;
	int fd = ahead_take(a);
	fd_close(&fd);
}
