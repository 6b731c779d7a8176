// SPDX-License-Identifier: Apache-2.0
// vial-monitor's main(): what it was told to run, then monitor.c.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/monitor.h"

#define LAUNCH_MAX KIB(64)

static int read_launch(struct monitor *m, struct vial_err *err)
{
	_cleanup_free_ char *blob = NULL;
	size_t n;
	int r = fd_read_all(LAUNCH_FD_BLOB, LAUNCH_MAX, &blob, &n);

	r = r < 0 ? r : launch_decode(blob, n, &m->launch);
	close(LAUNCH_FD_BLOB);
	if (r < 0)
		return err_sys(err, r, "vial-monitor is started by libvial only; launch description");
	if (launch_fd(&m->launch, LAUNCH_FD_LIFELINE, 0) < 0 ||
	    launch_fd(&m->launch, LAUNCH_FD_CLIENT, 0) < 0)
		return err_set(err, VIAL_E_INVALID, "launch description lacks lifeline or client");
	log_open("vial-monitor", launch_fd(&m->launch, LAUNCH_FD_LOG, 0),
		 (enum log_level)m->launch.log_level);
	return 0;
}

int main(void)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct monitor m = { 0 };

	/* The terminal's Ctrl-C goes to the client, which passes it on as it sees fit. */
	(void)setsid();
	/* Executed by descriptor it would be known by a number. */
	(void)prctl(PR_SET_NAME, "vial-monitor");
	signal(SIGPIPE, SIG_IGN);
	if (read_launch(&m, &err) < 0)
		return 1;
	if (monitor_start(&m, m.launch.engine == LAUNCH_KVM ? &engine_kvm : &engine_qemu, &err) < 0)
		monitor_fail(&m, err.code, "%s", err.msg);
	else
		(void)loop_run(m.loop);
	monitor_done(&m);
	return 0;
}
