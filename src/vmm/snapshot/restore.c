// SPDX-License-Identifier: Apache-2.0
// Making a machine from what was saved.
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "vmm/machine.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/snapshot/vcpu_state.h"
#include "vmm/snapshot/warm.h"

/* Guests tolerate this much between the frequency they measured and the real one [KVM: tsc_tolerance_ppm] */
#define TSC_TOLERANCE_PPM 250

static int load_map(struct machine *m, int fds[MEMMAP_LAYERS_MAX], struct vial_err *err)
{
	uint32_t layers = 0;
	int fd = machine_fd(m, VMM_FD_MEM, 0);

	for (uint32_t delta = 0; fd >= 0 && layers < MEMMAP_LAYERS_MAX; delta++) {
		fds[layers++] = fd;
		fd = machine_fd(m, VMM_FD_DELTA, delta);
	}
	int r = memmap_load(&m->map, m->saved.map.p, m->saved.map.n, m->saved.memory / GMEM_PAGE, layers);
	if (r < 0)
		return err_set(err, VIAL_E_CORRUPT,
			       "machine state: its map of memory does not fit the files that are given");
	return 0;
}

int snapshot_memory(struct machine *m, struct vial_err *err)
{
	int fds[MEMMAP_LAYERS_MAX];

	if (m->saved.memory != m->launch.memory || m->saved.n_vcpus != m->launch.vcpus)
		return err_set(
			err, VIAL_E_INVALID,
			"machine state: of a machine with %u virtual CPUs and %llu MiB, not %u and %llu",
			m->saved.n_vcpus, (unsigned long long)(m->saved.memory >> 20), m->launch.vcpus,
			(unsigned long long)(m->launch.memory >> 20));
	if (m->launch.mem_kind == VMM_MEM_SHARED)
		return err_set(err, VIAL_E_INVALID,
			       "a machine that is restored cannot write into the files it came from");
	int r = gmem_new_anon(&m->mem, m->saved.memory);
	if (r < 0)
		return err_sys(err, r, "%llu MiB of guest memory",
			       (unsigned long long)(m->saved.memory >> 20));
	r = load_map(m, fds, err);
	if (r < 0)
		return r;
	if (m->launch.mem_kind == VMM_MEM_ANON) {
		r = memmap_read(&m->map, &m->mem, fds);
		memmap_done(&m->map);
		if (r == 0)
			r = memmap_add(&m->map, m->mem.size / GMEM_PAGE, 0);
	} else {
		r = warm_map(&m->map, &m->mem, fds, machine_fd(m, VMM_FD_WARM, 0));
	}
	if (r == -ENODATA)
		return err_set(err, VIAL_E_CORRUPT, "memory file of the snapshot: cut short");
	return r < 0 ? err_sys(err, r, "memory file of the snapshot") : 0;
}

/* set_tsc() - the guest goes on counting at the frequency it knows */
static int set_tsc(struct machine *m, struct vial_err *err)
{
	uint64_t was = m->saved.tsc_khz, is = m->tsc_khz;
	uint64_t apart = was > is ? was - is : is - was;

	if (apart * 1000000 <= is * TSC_TOLERANCE_PPM) {
		m->tsc_khz = m->saved.tsc_khz;
		return 0;
	}
	if (!m->kvm.tsc_control)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "it was saved with a TSC of %u kHz; this CPU has %u kHz and cannot scale",
			       m->saved.tsc_khz, m->tsc_khz);
	for (uint32_t i = 0; i < m->vm.n_vcpus; i++) {
		int r = kvm_call_n(&m->kvm, m->vm.vcpus[i].fd, KVM_SET_TSC_KHZ, m->saved.tsc_khz);

		if (r < 0)
			return err_sys(err, r, "kvm: TSC of %u kHz", m->saved.tsc_khz);
	}
	m->tsc_khz = m->saved.tsc_khz;
	return 0;
}

int snapshot_cpus(struct machine *m, struct vial_err *err)
{
	int r = cpuid_usable(&m->saved.cpuid, &m->cpuid, err);

	if (r == 0)
		r = set_tsc(m, err);
	m->cpuid = m->saved.cpuid;
	for (uint32_t i = 0; r == 0 && i < m->vm.n_vcpus; i++)
		r = cpuid_apply(&m->cpuid, &m->vm.vcpus[i], err);
	return r;
}

static int load_irqchip(struct machine *m, struct vial_err *err)
{
	struct ioapic_state io;

	if (m->vm.kvm.split_irqchip != (m->saved.ioapic.p != NULL))
		return err_set(
			err, VIAL_E_UNSUPPORTED,
			"machine state: with another kind of interrupt controller than this host's KVM has");
	if (m->saved.ioapic.p) {
		memcpy(&io, m->saved.ioapic.p, sizeof(io));
		ioapic_load(&m->vm.ioapic, &io);
	}
	for (size_t i = 0; i < m->saved.n_irqchips; i++) {
		struct kvm_irqchip chip;

		memcpy(&chip, m->saved.irqchips[i].p, sizeof(chip));
		int r = kvm_call(&m->kvm, m->vm.fd, KVM_SET_IRQCHIP, &chip);
		if (r < 0)
			return err_sys(err, r, "kvm: interrupt controller");
	}
	return 0;
}

static int load_devices(struct machine *m, struct vial_err *err)
{
	for (uint32_t w = 0; w < MMIO_MAX; w++) {
		const struct tlv *t = &m->saved.devices[w];
		struct virtio_dev *dev = w < WINDOWS_N ? m->windows[w].dev : NULL;

		if (!t->p)
			continue; /* the guest knows nothing there */
		if (!dev)
			return err_set(err, VIAL_E_INVALID,
				       "machine state: has a device (window %u) that this machine lacks", w);
		int r = mmio_load(&m->windows[w], t->p, t->n);
		if (r < 0)
			return err_set(err, VIAL_E_CORRUPT, "machine state: device %s: %s", dev->ops->name,
				       strerror(-r));
	}
	return 0;
}

static int load_clock(struct machine *m, struct vial_err *err)
{
	struct kvm_clock_data clock = { .clock = m->saved.clock_ns };
	int r = kvm_call(&m->kvm, m->vm.fd, KVM_SET_CLOCK, &clock);

	if (r < 0)
		return err_sys(err, r, "kvm: clock");
	/* So that the guest's watchdogs forgive the pause. Refused where it has no kvm-clock (yet). */
	for (uint32_t i = 0; m->kvm.kvmclock_ctrl && i < m->vm.n_vcpus; i++)
		(void)kvm_call_n(&m->kvm, m->vm.vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	return 0;
}

int snapshot_load(struct machine *m, struct vial_err *err)
{
	int r = load_irqchip(m, err);

	if (r == 0)
		r = load_devices(m, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < m->vm.n_vcpus; i++) {
		const struct tlv *t = &m->saved.vcpus[i];

		r = vcpu_load(&m->vm.vcpus[i], &m->msrs, t->p, t->n);
		if (r < 0)
			return err_set(err, VIAL_E_CORRUPT, "machine state: virtual CPU %u: %s", i,
				       strerror(-r));
	}
	return load_clock(m, err);
}
