// SPDX-License-Identifier: Apache-2.0
// In vial-vmm's place, jailed as it: does what the kernel command line of its description says.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "wire/vmm.h"

static struct vmm_launch launch;

static void tell(const struct vmm_msg *m)
{
	if (vmm_msg_send(VMM_FD_CONTROL, m, NULL) < 0)
		_exit(3);
}

static void tell_type(uint16_t type)
{
	tell(&(struct vmm_msg){ .type = type });
}

static void tell_done(uint32_t of, uint32_t sys_errno, const char *text)
{
	tell(&(struct vmm_msg){ .type = VMM_DONE, .done = { of, sys_errno, slice_str(text) } });
}

static _Noreturn void leave(uint32_t reason, const char *text, int status)
{
	tell(&(struct vmm_msg){ .type = VMM_EXITED, .exited = { reason, slice_str(text) } });
	_exit(status);
}

static bool is(const char *script)
{
	return strcmp(launch.cmdline, script) == 0;
}

static int next(struct vmm_msg *m, int fds[3])
{
	static uint8_t buf[VMM_MSG_MAX];
	struct pollfd p = { .fd = VMM_FD_CONTROL, .events = POLLIN };

	(void)poll(&p, 1, -1);
	return vmm_msg_recv(VMM_FD_CONTROL, buf, m, fds);
}

static void answer(const struct vmm_msg *m, const int *fds)
{
	char text[40];

	switch (m->type) {
	case VMM_AHEAD_DROP:
		break;
	case VMM_SNAPSHOT:
		snprintf(text, sizeof(text), "state %u", m->flags);
		(void)!write(fds[0], text, strlen(text));
		if (m->flags & VMM_SNAP_MEMORY)
			(void)!write(fds[1], "memory", 6);
		if (m->flags & VMM_SNAP_UPPER)
			(void)!write(fds[2], "upper", 5);
		__attribute__((fallthrough));
	case VMM_PAUSE:
	case VMM_RESUME:
	case VMM_AHEAD:
		tell_done(m->type,
			  is("disk full") && (m->type == VMM_SNAPSHOT || m->type == VMM_AHEAD) ? ENOSPC : 0,
			  is("disk full") ? "no room\033[0m left" : "");
		break;
	case VMM_CONNECT:
		snprintf(text, sizeof(text), "port %u", m->port);
		(void)!write(fds[0], text, strlen(text));
		break;
	case VMM_REFUSE:
		leave(VMM_EXIT_POWEROFF, m->id == 77 ? "" : "wrong id", 0);
	case VMM_QUIT:
		leave(VMM_EXIT_QUIT, "", 0);
	default:
		leave(VMM_EXIT_ERROR, "unexpected message", 1);
	}
}

static void serve(void)
{
	struct vmm_msg m;
	int fds[3];

	while (next(&m, fds) == 1) {
		answer(&m, fds);
		for (size_t i = 0; i < vmm_msg_fds(&m); i++)
			close(fds[i]);
	}
}

/* Reads nothing until the console says so, then counts what waits. */
static void deaf(void)
{
	int console = vmm_launch_fd(&launch, VMM_FD_CONSOLE, 0), fds[3], n = 0;
	struct pollfd p = { .fd = console, .events = POLLIN };
	struct vmm_msg m;
	char text[20];

	(void)poll(&p, 1, -1);
	while (n < 1000 && next(&m, fds) == 1 && m.type == VMM_CONNECT) {
		n++;
		snprintf(text, sizeof(text), "%u", m.port);
		(void)!write(fds[0], text, strlen(text));
		close(fds[0]);
	}
	snprintf(text, sizeof(text), "%d", n);
	leave(VMM_EXIT_ERROR, text, 0);
}

static void describe(void)
{
	char text[VMM_TEXT_MAX];
	int n = snprintf(text, sizeof(text),
			 "mode %u mem %u vcpus %u memory %llu upper %llu differ %u:", launch.mode,
			 launch.mem_kind, launch.vcpus, (unsigned long long)launch.memory,
			 (unsigned long long)launch.upper_bytes, launch.disks_differ);

	for (size_t i = 0; i < launch.n_roles; i++) {
		char first[8] = "";
		int fd = VMM_FD_FIRST + (int)i;
		if (launch.roles[i] != VMM_FD_CONSOLE && launch.roles[i] != VMM_FD_KVM)
			(void)!pread(fd, first, 4, 0);
		n += snprintf(text + n, sizeof(text) - (size_t)n, " %u%s%s", launch.roles[i],
			      *first ? "=" : "", first);
	}
	leave(VMM_EXIT_ERROR, text, 1);
}

int main(void)
{
	_cleanup_free_ char *blob = NULL;
	size_t n;

	if (fd_read_all(VMM_FD_BLOB, VMM_LAUNCH_MAX, &blob, &n) < 0 ||
	    vmm_launch_decode(blob, n, &launch) < 0)
		return 9;
	if (is("describe"))
		describe();
	if (is("error"))
		leave(VMM_EXIT_ERROR, "no such\033[31m luck", 1);
	if (is("memory"))
		leave(VMM_EXIT_MEMORY, "512 MiB", 1);
	if (is("silent end"))
		return 5;
	if (is("forbidden"))
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	tell_type(VMM_RUNNING);
	if (is("poweroff"))
		leave(VMM_EXIT_POWEROFF, "", 0);
	if (is("triple fault"))
		leave(VMM_EXIT_CRASH, "", 0);
	if (is("garbage"))
		(void)!write(VMM_FD_CONTROL, "\xff\xff\xff\xff", 4);
	if (is("twice"))
		tell_type(VMM_RUNNING);
	if (is("unasked"))
		tell_done(VMM_PAUSE, 0, "");
	if (is("wrong way"))
		tell_type(VMM_STATS);
	if (is("hangs up"))
		close(VMM_FD_CONTROL);
	if (is("guest"))
		tell(&(struct vmm_msg){ .type = VMM_GUEST_CONNECTS, .guest_connects = { 77, 1024 } });
	if (is("stranger"))
		tell(&(struct vmm_msg){ .type = VMM_GUEST_CONNECTS, .guest_connects = { 77, 22 } });
	if (is("deaf"))
		deaf();
	if (is("hangs up"))
		for (;;)
			pause();
	serve();
	return 0;
}
