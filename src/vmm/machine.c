// SPDX-License-Identifier: Apache-2.0
// Making the machine from its launch description.
#include "vmm/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "jail/jail.h"
#include "vmm/boot/boot.h"
#include "vmm/snapshot/memory.h"
#include "vmm/x86/acpi.h"
#include "vmm/x86/regs.h"

static void host_irq(void *data, uint32_t gsi)
{
	vm_irq(data, gsi);
}

static void host_on_io(void *data, void (*fn)(void *), void *arg)
{
	vm_on_io_thread(data, fn, arg);
}

static int host_kick_at(void *data, uint64_t at, int event)
{
	return vm_ioeventfd(data, at, event);
}

struct virtio_env machine_env(struct machine *m)
{
	return (struct virtio_env){ .mem = &m->mem, .loop = m->loop, .irq = mmio_irq };
}

int machine_add(struct machine *m, enum machine_window w, struct virtio_dev *dev, struct vial_err *err)
{
	struct mmio *win = &m->windows[w];
	int r = mmio_attach(win, dev, w, &m->host);

	if (r == 0)
		r = bus_add(&m->vm.mmio, win->base, MMIO_LEN, mmio_access, win);
	return r < 0 ? err_sys(err, r, "device %s", dev->ops->name) : 0;
}

void machine_poke(struct machine *m)
{
	for (uint32_t w = 0; w < WINDOWS_N; w++)
		if (m->windows[w].dev)
			mmio_poke(&m->windows[w]);
}

static bool restoring(const struct machine *m)
{
	return m->launch.mode == VMM_RESTORE;
}

static int cold_memory(struct machine *m, struct vial_err *err)
{
	uint64_t size = m->launch.memory;
	bool shared = m->launch.mem_kind == VMM_MEM_SHARED;
	int r = -EINVAL;

	if (shared)
		r = gmem_new_file(&m->mem, size, machine_fd(m, VMM_FD_MEM, 0), true);
	else if (m->launch.mem_kind == VMM_MEM_ANON)
		r = gmem_new_anon(&m->mem, size);
	if (r == 0)
		r = memmap_add(&m->map, size / GMEM_PAGE, shared);
	return r < 0 ? err_sys(err, r, "%llu MiB of guest memory", (unsigned long long)(size >> 20)) : 0;
}

static int make_memory(struct machine *m, struct vial_err *err)
{
	if (!restoring(m))
		return cold_memory(m, err);
	int r = saved_open(machine_fd(m, VMM_FD_STATE, 0), &m->saved, err);
	return r == 0 ? snapshot_memory(m, err) : r;
}

static int make_vm(struct machine *m, struct vial_err *err)
{
	struct vm_slot slots[VM_SLOTS_MAX];
	bool log = restoring(m) && m->launch.mem_kind == VMM_MEM_PRIVATE;
	size_t n_slots = memory_slots(&m->map, &m->mem, log, slots);
	int r = log ? gmem_dirty_start(&m->mem) : 0;

	if (r < 0)
		return err_sys(err, r, "guest memory");
	m->kvm.vm_fd = ahead_take(&m->ahead);
	if (m->kvm.vm_fd < 0)
		return err_sys(err, m->kvm.vm_fd, "kvm: create a machine");
	r = vm_new(&m->vm, &m->kvm, &m->mem, slots, n_slots, m->launch.vcpus, err);
	if (r < 0)
		return r;
	r = kvm_call_n(&m->kvm, m->vm.vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	if (r < 0)
		return err_sys(err, r, "kvm: TSC frequency");
	m->tsc_khz = (uint32_t)r;
	r = msr_list_host(&m->kvm, &m->msrs);
	if (r < 0)
		return err_sys(err, r, "kvm: list of MSRs");
	return cpuid_host(&m->kvm, m->vm.n_vcpus, m->tsc_khz, &m->cpuid, err);
}

static int make_devices(struct machine *m, struct vial_err *err)
{
	m->host = (struct mmio_host){
		.data = &m->vm, .irq = host_irq, .on_io = host_on_io, .kick_at = host_kick_at
	};
	int r = ports_add_power(&m->vm);
	/* A restored guest may use it: its command line is not known here. */
	const char *line = m->launch.cmdline;
	bool uart = restoring(m) || (line && (strstr(line, "ttyS") || strstr(line, "uart8250")));
	int console = machine_fd(m, VMM_FD_CONSOLE, 0);
	/* Its other end may be a client's that does not read: a vCPU thread that waits for it would not park. */
	if (console >= 0)
		(void)fd_set_nonblock(console, true);
	if (r == 0 && uart)
		r = ports_add_uart(&m->vm, &m->uart, console);
	return r < 0 ? err_sys(err, r, "ports") : 0;
}

static uint32_t windows_in_use(const struct machine *m)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < WINDOWS_N; i++)
		bits |= m->windows[i].dev ? 1u << i : 0;
	return bits;
}

static int boot(struct machine *m, struct vial_err *err)
{
	struct boot b = {
		.kernel = machine_fd(m, VMM_FD_KERNEL, 0),
		.initrd = machine_fd(m, VMM_FD_INITRD, 0),
		.cmdline = m->launch.cmdline ? m->launch.cmdline : "",
	};
	struct regs_entry entry;
	int r = boot_load(&b, &m->mem, &entry, err);

	if (r == 0)
		r = acpi_write(&m->mem, m->vm.n_vcpus, windows_in_use(m), err);
	for (uint32_t i = 0; r == 0 && i < m->vm.n_vcpus; i++)
		r = cpuid_apply(&m->cpuid, &m->vm.vcpus[i], err);
	if (r == 0)
		r = regs_setup(&m->vm.vcpus[0], &entry, err);
	return r;
}

static int restore(struct machine *m, struct vial_err *err)
{
	int r = snapshot_cpus(m, err);

	if (r == 0)
		r = snapshot_load(m, err);
	saved_done(&m->saved);
	return r;
}

/* lock_vcpu() - first thing in each vCPU's thread */
static int lock_vcpu(void *data, struct vial_err *err)
{
	struct machine *m = data;

	return jail_thread(JAIL_VMM_VCPU, m->launch.without, err);
}

int machine_new(struct machine *m, struct vial_err *err)
{
	int r = loop_new(&m->loop);

	if (r < 0)
		return err_sys(err, r, "event loop");
	r = kvm_open(&m->kvm, machine_fd(m, VMM_FD_KVM, 0), NULL, err);
	if (r < 0)
		return r;
	ahead_start(&m->ahead, &m->kvm);
	r = make_memory(m, err);
	if (r == 0)
		r = make_vm(m, err);
	if (r == 0)
		r = make_devices(m, err);
	if (r == 0)
		r = machine_devices(m, err);
	if (r == 0)
		r = restoring(m) ? restore(m, err) : boot(m, err);
	if (r == 0)
		r = vm_start(&m->vm, lock_vcpu, m, err);
	if (r == 0)
		r = jail_thread(JAIL_VMM_IO, m->launch.without, err);
	return MIN(r, 0);
}

void machine_done(struct machine *m)
{
	loop_src_free(m->control_src);
	loop_src_free(m->event_src);
	loop_src_free(m->precopy);
	delta_done(&m->delta);
	ahead_done(&m->ahead);
	vm_done(&m->vm);
	for (uint32_t i = 0; i < WINDOWS_N; i++) {
		struct virtio_dev *dev = m->windows[i].dev;

		if (!dev)
			continue;
		mmio_detach(&m->windows[i]);
		dev->ops->free(dev);
	}
	loop_free(m->loop);
	gmem_done(&m->mem);
	memmap_done(&m->map);
	saved_done(&m->saved);
	vmm_launch_done(&m->launch);
}
