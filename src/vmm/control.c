// SPDX-License-Identifier: Apache-2.0
// The control socket: what the monitor asks, what it is told.
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "vmm/machine.h"
#include "vmm/snapshot/precopy.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/vsock.h"

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

void control_done(struct machine *m, uint32_t of, int r, const struct vial_err *err)
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
	if (m->windows[WINDOW_VSOCK].dev)
		vsock_counts(m->windows[WINDOW_VSOCK].dev, &msg.stats[VMM_STAT_VSOCK_TO_GUEST],
			     &msg.stats[VMM_STAT_VSOCK_FROM_GUEST]);
	if (m->windows[WINDOW_BALLOON].dev)
		balloon_counts(m->windows[WINDOW_BALLOON].dev, &msg.stats[VMM_STAT_BALLOON_BYTES],
			       &msg.stats[VMM_STAT_FREE_BYTES]);
	tell(m, &msg);
}

static void resume(struct machine *m)
{
	/* So that the guest's watchdogs forgive the pause. Refused where it has no kvm-clock (yet). */
	for (uint32_t i = 0; m->kvm.kvmclock_ctrl && i < m->vm.n_vcpus; i++)
		(void)kvm_call_n(&m->kvm, m->vm.vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	vm_resume(&m->vm);
	machine_poke(m); /* a snapshot made devices put back what they had begun */
	control_done(m, VMM_RESUME, 0, NULL);
}

static void pause_all(struct machine *m)
{
	vm_pause(&m->vm);
	control_done(m, VMM_PAUSE, 0, NULL);
}

static void unsupported(struct machine *m, uint32_t type)
{
	struct vial_err err = VIAL_ERR_INIT;
	int r = err_set(&err, VIAL_E_UNSUPPORTED, "not possible");

	control_done(m, type, r, &err);
}

/* How much the guest has given back, and when, is told by STATS. */
static void balloon(struct machine *m, uint64_t bytes)
{
	struct virtio_dev *dev = m->windows[WINDOW_BALLOON].dev;

	if (!dev) {
		unsupported(m, VMM_BALLOON);
		return;
	}
	balloon_target(dev, bytes);
	control_done(m, VMM_BALLOON, 0, NULL);
}

/* Whatever fails is told by the stream, which is closed then. */
static void connect_guest(struct machine *m, const struct vmm_msg *msg, int *fd)
{
	struct virtio_dev *dev = m->windows[WINDOW_VSOCK].dev;

	if (!dev)
		return;
	if (msg->type == VMM_CONNECT)
		(void)vsock_connect(dev, msg->port, take_fd(*fd));
	else if (msg->type == VMM_ACCEPT)
		(void)vsock_accept(dev, msg->id, take_fd(*fd));
	else
		(void)vsock_refuse(dev, msg->id);
}

void control_guest_connects(void *data, uint32_t id, uint32_t port)
{
	struct machine *m = data;
	struct vmm_msg msg = { .type = VMM_GUEST_CONNECTS, .guest_connects = { id, port } };

	tell(m, &msg);
}

static void snapshot(struct machine *m, uint32_t flags, const int *fds)
{
	struct vial_err err = VIAL_ERR_INIT;
	int memory = flags & VMM_SNAP_MEMORY ? fds[1] : -1;
	int r;

	if (!vm_is_paused(&m->vm))
		r = err_set(&err, VIAL_E_STATE, "only a paused machine can be saved");
	else
		r = snapshot_save(m, fds[0], memory, flags, &err);
	/* Last, so that a failure leaves the machine as it was. */
	if (r == 0 && flags & VMM_SNAP_UPPER)
		r = machine_fork_upper(m, fds[flags & VMM_SNAP_MEMORY ? 2 : 1], &err);
	control_done(m, VMM_SNAPSHOT, r, &err);
}

static void handle(struct machine *m, const struct vmm_msg *msg, int fds[3])
{
	switch (msg->type) {
	case VMM_PAUSE:
		precopy_stop(m);
		pause_all(m);
		break;
	case VMM_RESUME:
		resume(m);
		break;
	case VMM_SNAPSHOT:
		snapshot(m, msg->flags, fds);
		break;
	case VMM_AHEAD:
		precopy_start(m, fds[0]);
		break;
	case VMM_AHEAD_DROP:
		precopy_stop(m);
		precopy_drop(m);
		break;
	case VMM_STATS:
		stats(m);
		break;
	case VMM_BALLOON:
		balloon(m, msg->balloon_bytes);
		break;
	case VMM_CONNECT:
	case VMM_ACCEPT:
	case VMM_REFUSE:
		connect_guest(m, msg, &fds[0]);
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
	char text[VM_STOP_TEXT_MAX];

	(void)src;
	(void)events;
	vm_run_jobs(&m->vm);
	uint32_t reason = vm_stopped(&m->vm, text);
	if (reason) {
		vm_pause(&m->vm);
		control_exited(m->control, reason, text);
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
	machine_poke(m);
	return 0;
}
