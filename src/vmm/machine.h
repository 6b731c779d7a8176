/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine as a whole: memory, vm, devices, made from a launch description; what the control socket then asks of it.
 *
 * Everything here is the I/O thread's.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>

#include "base/loop.h"
#include "vmm/ahead.h"
#include "vmm/mem.h"
#include "vmm/ports.h"
#include "vmm/snapshot/delta.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/virtio/mmio.h"
#include "vmm/vm.h"
#include "vmm/x86/cpuid.h"
#include "vmm/x86/msrs.h"
#include "wire/vmm.h"

/* Windows of the layout, fixed: what a guest finds where never changes, so that snapshots fit. */
enum machine_window {
	WINDOW_ROOT,
	WINDOW_UPPER,
	WINDOW_VSOCK,
	WINDOW_CONSOLE,
	WINDOW_RNG,
	WINDOW_BALLOON,
	WINDOW_NET,
	WINDOWS_N,
};

/**
 * struct machine - all there is
 * @launch:	as decoded; owned
 * @saved:	what it is restored from; empty once it runs
 * @map:	which file each page of memory comes from
 * @delta:	memory written ahead of a fork; @precopy: while that goes on
 * @windows:	window n is in use if windows[n].dev
 * @control:	the monitor's socket
 */
struct machine {
	struct vmm_launch launch;
	struct kvm kvm;
	struct saved saved;
	struct gmem mem;
	struct memmap map;
	struct delta delta;
	struct loop_src *precopy;
	struct ahead ahead;
	struct vm vm;
	struct cpuid cpuid;
	struct msr_list msrs;
	uint32_t tsc_khz;
	struct loop *loop;
	struct mmio_host host;
	struct mmio windows[WINDOWS_N];
	struct uart uart;
	int control;
	struct loop_src *control_src;
	struct loop_src *event_src;
};

/**
 * machine_new() - build and fill the machine; vCPU threads run, parked
 * @m:		zeroed, with @launch set; must not move; machine_done() in any case
 */
int machine_new(struct machine *m, struct vial_err *err);
void machine_done(struct machine *m);

/* machine_add() - put a device into its window; @dev is owned from then on, whatever happens */
int machine_add(struct machine *m, enum machine_window w, struct virtio_dev *dev, struct vial_err *err);
/* machine_devices() - add all that the launch description asks for */
int machine_devices(struct machine *m, struct vial_err *err);
/**
 * machine_fork_upper() - freeze the writable disk, and go on in a new image above it; the machine is paused
 * @fd:		an empty qcow2 of the same size, read-write; stays the caller's
 */
int machine_fork_upper(struct machine *m, int fd, struct vial_err *err);
/* machine_poke() - have all devices look into their queues */
void machine_poke(struct machine *m);
/* machine_env() - what device constructors get */
struct virtio_env machine_env(struct machine *m);
/* machine_fd() - inherited descriptor with @role, or -1 */
static inline int machine_fd(const struct machine *m, uint32_t role, size_t nth)
{
	return vmm_launch_fd(&m->launch, role, nth);
}

/**
 * control_serve() - start watching the control socket and the machine's events on m->loop, tell RUNNING, let it run
 * loop_run() then returns 0 after EXITED was told.
 */
int control_serve(struct machine *m, struct vial_err *err);
/* control_guest_connects() - the vsock device asks: pass it on to the monitor; @data is the machine */
void control_guest_connects(void *data, uint32_t id, uint32_t port);
/* control_done() - answer a request: tell DONE; @err is looked at if @r is negative */
void control_done(struct machine *m, uint32_t of, int r, const struct vial_err *err);
/* control_exited() - tell EXITED; also for a machine that could not be made */
void control_exited(int control, uint32_t reason, const char *text);

#endif
