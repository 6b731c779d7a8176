// SPDX-License-Identifier: Apache-2.0
// The control socket: what the monitor asks, what it is told.
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "vmm/machine.h"

static struct slice slice_of(const char *s)
{
	return (struct slice){ .p = (const uint8_t *)s, .n = strlen(s) };
}

static void tell(struct machine *m, const struct vmm_msg *msg)
{
	/* A monitor that does not read is a monitor to be left: its end of the socket ends us. */
	if (vmm_msg_send(m->control, msg, NULL) < 0)
		loop_quit(m->loop, 0);
}

void control_exited(int control, uint32_t reason, const char *text)
{
	struct vmm_msg msg = { .type = VMM_EXITED, .exited = { reason, slice_of(text) } };

	(void)vmm_msg_send(control, &msg, NULL);
}

static void done(struct machine *m, uint32_t of, int r, const struct vial_err *err)
{
	struct vmm_msg msg = { .type = VMM_DONE, .done = { .of = of } };

	if (r < 0) {
		msg.done.sys_errno = err->sys_errno ? (uint32_t)err->sys_errno : EINVAL;
		msg.done.text = slice_of(err->msg);
	}
	tell(m, &msg);
}

static void stats(struct machine *m)
{
	struct vmm_msg msg = { .type = VMM_STATS_IS };

	vm_count(&m->vm, &msg.stats[VMM_STAT_EXITS], &msg.stats[VMM_STAT_MMIO]);
	tell(m, &msg);
}

static void resume(struct machine *m)
{
	/* So that the guest's watchdogs forgive the pause. Refused where it has no kvm-clock (yet). */
	for (uint32_t i = 0; m->kvm.kvmclock_ctrl && i < m->vm.n_vcpus; i++)
		(void)kvm_call_n(&m->kvm, m->vm.vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	vm_resume(&m->vm);
	/* A snapshot made devices put back what they had begun. */
	for (uint32_t w = 0; w < WINDOWS_N; w++)
		if (m->windows[w].dev)
			mmio_poke(&m->windows[w]);
	done(m, VMM_RESUME, 0, NULL);
}

static void pause_all(struct machine *m)
{
	vm_pause(&m->vm);
	done(m, VMM_PAUSE, 0, NULL);
}

static void unsupported(struct machine *m, uint32_t type)
{
	struct vial_err err = VIAL_ERR_INIT;
	int r = err_set(&err, VIAL_E_UNSUPPORTED, "not possible");

	done(m, type, r, &err);
}

static void snapshot(struct machine *m, uint32_t flags, const int *fds)
{
	struct vial_err err = VIAL_ERR_INIT;
	int memory = flags & VMM_SNAP_MEMORY ? fds[1] : -1;
	int r;

	if (!vm_is_paused(&m->vm))
		r = err_set(&err, VIAL_E_STATE, "only a paused machine can be saved");
	else if (flags & VMM_SNAP_UPPER)
		r = err_set(&err, VIAL_E_UNSUPPORTED, "the disk cannot be switched yet");
	else
		r = snapshot_save(m, fds[0], memory, flags, &err);
	done(m, VMM_SNAPSHOT, r, &err);
}

static void handle(struct machine *m, const struct vmm_msg *msg, int fds[3])
{
	switch (msg->type) {
	case VMM_PAUSE:
		pause_all(m);
		break;
	case VMM_RESUME:
		resume(m);
		break;
	case VMM_SNAPSHOT:
		snapshot(m, msg->flags, fds);
		break;
	case VMM_STATS:
		stats(m);
		break;
	case VMM_QUIT:
		vm_stop(&m->vm, VMM_EXIT_QUIT, "as asked");
		break;
	default:
		unsupported(m, msg->type);
		break;
	}
}

static void on_control(struct loop_src *src, uint32_t events, void *data)
{
	struct machine *m = data;
	uint8_t packet[VMM_MSG_MAX];
	int fds[3] = { -1, -1, -1 };
	struct vmm_msg msg;
	int r = vmm_msg_recv(m->control, packet, &msg, fds);

	(void)src;
	(void)events;
	if (r == -EAGAIN)
		return;
	if (r <= 0)
		vm_stop(&m->vm, VMM_EXIT_QUIT, r == 0 ? "the monitor is gone" : "bad control message");
	else
		handle(m, &msg, fds);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fd_close(&fds[i]);
}

static void on_event(struct loop_src *src, uint32_t events, void *data)
{
	struct machine *m = data;

	(void)src;
	(void)events;
	vm_run_jobs(&m->vm);
	if (m->vm.stop_reason) {
		vm_pause(&m->vm);
		control_exited(m->control, m->vm.stop_reason, m->vm.stop_text);
		loop_quit(m->loop, 0);
	}
}

int control_serve(struct machine *m, struct vial_err *err)
{
	struct vmm_msg running = { .type = VMM_RUNNING };
	int r = loop_add_fd(m->loop, m->control, EPOLLIN, on_control, m, &m->control_src);

	if (r == 0)
		r = loop_add_fd(m->loop, m->vm.io_event, EPOLLIN, on_event, m, &m->event_src);
	if (r < 0)
		return err_sys(err, r, "event loop");
	vm_resume(&m->vm);
	tell(m, &running);
	for (uint32_t w = 0; w < WINDOWS_N; w++)
		if (m->windows[w].dev)
			mmio_poke(&m->windows[w]);
	return 0;
}
