/* SPDX-License-Identifier: Apache-2.0 */
/* Making the virtual machine while its memory is made. */
#ifndef VMM_AHEAD_H
#define VMM_AHEAD_H

#include <pthread.h>
#include <stdbool.h>

#include "vmm/kvm.h"

/* struct ahead - KVM_CREATE_VM under way; zero-initialise to make one */
struct ahead {
	const struct kvm *kvm;
	pthread_t thread;
	bool running;
	int fd;
};

/* ahead_start() - begin; @kvm stays where it is. Without a thread ahead_take() does it */
void ahead_start(struct ahead *a, const struct kvm *kvm);
/* ahead_take() - wait for it: the machine's descriptor, the caller's, or -errno */
int ahead_take(struct ahead *a);
/* ahead_done() - for one that nobody takes */
void ahead_done(struct ahead *a);

#endif
