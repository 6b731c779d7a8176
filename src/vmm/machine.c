// SPDX-License-Identifier: Apache-2.0
// Making the machine from its launch description.
#include "vmm/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "jail/jail.h"
#include "vmm/boot/boot.h"
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

static int make_memory(struct machine *m, struct vial_err *err)
{
	int fd = machine_fd(m, VMM_FD_MEM, 0);
	int r;

	switch (m->launch.mem_kind) {
	case VMM_MEM_ANON:
		r = gmem_new_anon(&m->mem, m->launch.memory);
		break;
	case VMM_MEM_SHARED:
	case VMM_MEM_PRIVATE:
		r = gmem_new_file(&m->mem, m->launch.memory, fd, m->launch.mem_kind == VMM_MEM_SHARED);
		break;
	default:
		return err_set(err, VIAL_E_INVALID, "unknown kind of memory");
	}
	return r < 0 ? err_sys(err, r, "%llu MiB of guest memory",
			       (unsigned long long)(m->launch.memory >> 20))
		     : 0;
}

static int make_vm(struct machine *m, struct vial_err *err)
{
	int r = kvm_open(&m->kvm, machine_fd(m, VMM_FD_KVM, 0), NULL, err);

	if (r == 0)
		r = vm_new(&m->vm, &m->kvm, &m->mem, m->launch.vcpus, false, err);
	if (r < 0)
		return r;
	r = kvm_call_n(&m->kvm, m->vm.vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	if (r < 0)
		return err_sys(err, r, "kvm: TSC frequency");
	m->tsc_khz = (uint32_t)r;
	return cpuid_host(&m->kvm, m->vm.n_vcpus, m->tsc_khz, &m->cpuid, err);
}

static int make_devices(struct machine *m, struct vial_err *err)
{
	m->host = (struct mmio_host){
		.data = &m->vm, .irq = host_irq, .on_io = host_on_io, .kick_at = host_kick_at
	};
	int r = ports_add_power(&m->vm);
	if (r == 0 && m->launch.cmdline && strstr(m->launch.cmdline, "ttyS"))
		r = ports_add_uart(&m->vm, &m->uart, machine_fd(m, VMM_FD_CONSOLE, 0));
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

int machine_new(struct machine *m, struct vial_err *err)
{
	int r = loop_new(&m->loop);

	if (r < 0)
		return err_sys(err, r, "event loop");
	r = make_memory(m, err);
	if (r == 0)
		r = make_vm(m, err);
	if (r == 0)
		r = make_devices(m, err);
	if (r == 0)
		r = boot(m, err);
	return r == 0 ? vm_start(&m->vm, NULL, err) : r;
}

void machine_done(struct machine *m)
{
	loop_src_free(m->control_src);
	loop_src_free(m->event_src);
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
	vmm_launch_done(&m->launch);
}
