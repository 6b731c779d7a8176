// SPDX-License-Identifier: Apache-2.0
/*
 * vial-agent, PID 1 of a guest: boots the machine's user side, then serves the host.
 *
 * Order at boot: file systems of the kernel, modules, the rest of /dev, control groups, then the host's channel. Until then
 * nobody can be told of a failure but the console, and PID 1 must not end: a machine that cannot
 * serve says why there and switches off.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/modules.h"
#include "agent/session.h"
#include "agent/sysfile.h"
#include "base/err.h"
#include "base/log.h"

/* The kernel leaves 0, 1 and 2 closed if the initramfs had no /dev/console. */
static void open_stdio(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		if (fd != i)
			dup2(fd, i);
	if (fd > 2)
		close(fd);
	log_open("vial-agent", STDERR_FILENO, LOG_LEVEL_WARN);
}

static void boot_machine(void)
{
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	root_boot_early();
	open_stdio();
	(void)sysfile_write(AT_FDCWD, "/proc/self/oom_score_adj", "-1000");
	(void)reboot(RB_DISABLE_CAD);
	modules_load_all();
	root_boot_late();
}

static int start(struct agent *a, struct vial_err *err)
{
	int r = loop_new(&a->loop);

	if (r == 0)
		r = cgroups_new(a->loop, &a->cgroups);
	if (r < 0)
		return err_sys(err, r, "control groups (is cgroup v2 in this kernel?)");
	r = cmds_new(a->loop, a->cgroups, &a->cmds);
	if (r == 0)
		r = sessions_init(a);
	if (r == 0)
		r = power_init(a);
	if (r < 0)
		return err_sys(err, r, "start");
	identity_init(&a->identity);
	return transport_open(a->loop, &session_events, a, &a->transport, err);
}

int main(void)
{
	static struct agent agent = { .root.base_fd = -1 };
	struct vial_err err = VIAL_ERR_INIT;

	if (getpid() != 1) {
		static const char text[] = "vial-agent is PID 1 of a vial guest and does nothing elsewhere\n";
		(void)!write(STDERR_FILENO, text, strlen(text));
		return 1;
	}
	boot_machine();
	if (start(&agent, &err) < 0)
		log_error("%s", err.msg);
	else
		log_error("event loop: %s", strerror(-loop_run(agent.loop)));
	sync();
	(void)reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
