// SPDX-License-Identifier: Apache-2.0
/*
 * vial-vmm: the machine of the kvm engine. Started by vial-monitor with a launch description, a control socket and the
 * descriptors the description speaks of (wire/vmm.h); no arguments, no environment, no files.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "jail/jail.h"
#include "vmm/machine.h"

static int read_launch(struct vmm_launch *ret, struct vial_err *err)
{
	_cleanup_free_ char *blob = NULL;
	size_t n;
	int r = fd_read_all(VMM_FD_BLOB, VMM_LAUNCH_MAX, &blob, &n);

	if (r == 0)
		r = vmm_launch_decode(blob, n, ret);
	return r < 0 ? err_sys(err, r, "launch description") : 0;
}

/* run() - the machine's whole life; @m is huge, so not on the stack */
static int run(struct machine *m, struct vial_err *err)
{
	int r = read_launch(&m->launch, err);

	m->control = VMM_FD_CONTROL;
	if (r < 0)
		return r;
	log_open("vial-vmm", machine_fd(m, VMM_FD_LOG, 0), m->launch.log_level);
	r = jail_self(JAIL_VMM, NULL, 0, m->launch.without, err);
	if (r >= 0)
		r = machine_new(m, err);
	if (r == 0)
		r = control_serve(m, err);
	if (r == 0)
		r = loop_run(m->loop);
	return r;
}

int main(void)
{
	static struct machine m;
	struct vial_err err = VIAL_ERR_INIT;

	if (fcntl(VMM_FD_CONTROL, F_GETFD) < 0) {
		fputs("vial-vmm is started by vial-monitor; to run a box, use vial\n", stderr);
		return 2;
	}
	(void)mallopt(M_ARENA_MAX, 1); /* vCPU threads allocate once: no heap of their own */
	/* A reader of the early console or of the log that goes away is no reason for the box to end. */
	signal(SIGPIPE, SIG_IGN);
	(void)fd_set_nonblock(VMM_FD_CONTROL, true);
	int r = run(&m, &err);
	if (r < 0)
		control_exited(VMM_FD_CONTROL,
			       err.code == VIAL_E_NO_MEMORY ? VMM_EXIT_MEMORY : VMM_EXIT_ERROR, err.msg);
	machine_done(&m);
	return r < 0;
}
