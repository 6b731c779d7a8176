// SPDX-License-Identifier: Apache-2.0
// Saving a paused machine.
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "vmm/machine.h"
#include "vmm/snapshot/memory.h"
#include "vmm/snapshot/precopy.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/snapshot/vcpu_state.h"

static int quiesce(struct machine *m, struct vial_err *err)
{
	for (uint32_t w = 0; w < WINDOWS_N; w++) {
		int r = m->windows[w].dev ? mmio_quiesce(&m->windows[w]) : 0;

		if (r < 0)
			return err_sys(err, r, "save device %s", m->windows[w].dev->ops->name);
	}
	return 0;
}

static int put_devices(struct machine *m, struct buf *out, struct vial_err *err)
{
	for (uint32_t w = 0; w < WINDOWS_N; w++) {
		uint32_t window_le = htole32(w);

		if (!m->windows[w].dev)
			continue;
		size_t mark = state_nested(out, STATE_TAG_DEVICE);
		buf_append(out, &window_le, sizeof(window_le));
		int r = mmio_save(&m->windows[w], out);
		if (r < 0)
			return err_sys(err, r, "save device %s", m->windows[w].dev->ops->name);
		state_nested_end(out, mark);
	}
	return 0;
}

static int put_irqchip(struct machine *m, struct buf *out)
{
	struct ioapic_state io;

	if (m->vm.kvm.split_irqchip) {
		ioapic_save(&m->vm.ioapic, &io);
		tlv_put(out, STATE_TAG_IOAPIC, &io, sizeof(io));
		return 0;
	}
	for (uint32_t i = 0; i < SAVED_IRQCHIPS; i++) {
		struct kvm_irqchip chip = { .chip_id = i };
		int r = kvm_call(&m->kvm, m->vm.fd, KVM_GET_IRQCHIP, &chip);

		if (r < 0)
			return r;
		tlv_put(out, STATE_TAG_IRQCHIP, &chip, sizeof(chip));
	}
	return 0;
}

static int put_vcpus(struct machine *m, struct buf *out, struct vial_err *err)
{
	struct kvm_clock_data clock = { 0 };
	int r = kvm_call(&m->kvm, m->vm.fd, KVM_GET_CLOCK, &clock);

	if (r < 0)
		return err_sys(err, r, "save the clock");
	tlv_put_u64(out, STATE_TAG_CLOCK, clock.clock);
	for (uint32_t i = 0; i < m->vm.n_vcpus; i++) {
		size_t mark = state_nested(out, STATE_TAG_VCPU);

		r = vcpu_save(&m->vm.vcpus[i], &m->msrs, out);
		if (r < 0)
			return err_sys(err, r, "save virtual CPU %u", i);
		state_nested_end(out, mark);
	}
	r = put_irqchip(m, out);
	return r < 0 ? err_sys(err, r, "save the interrupt controller") : 0;
}

static void put_kind(struct machine *m, struct buf *out)
{
	tlv_put_str(out, STATE_TAG_ARCH, STATE_ARCH);
	tlv_put_str(out, STATE_TAG_ENGINE, STATE_ENGINE);
	tlv_put_u32(out, STATE_TAG_LAYOUT, STATE_LAYOUT);
	tlv_put_u32(out, STATE_TAG_PAGE, GMEM_PAGE);
	tlv_put_u64(out, STATE_TAG_MEMORY, m->mem.size);
	tlv_put_u32(out, STATE_TAG_VCPUS, m->vm.n_vcpus);
	tlv_put_u32(out, STATE_TAG_TSC_KHZ, m->tsc_khz);
	tlv_put(out, STATE_TAG_CPUID, m->cpuid.e, m->cpuid.n * sizeof(m->cpuid.e[0]));
}

static int write_memory(struct machine *m, int fd, uint32_t flags, struct memmap *ret)
{
	if (m->mem.shared)
		return memory_punch(&m->mem, machine_fd(m, VMM_FD_MEM, 0), ret);
	if (!(flags & VMM_SNAP_MEMORY))
		return -EINVAL;
	/* Without a file below there is nothing to differ from. */
	if ((flags & VMM_SNAP_DELTA) && m->map.layers > 0)
		return delta_write(&m->vm, &m->map, &m->delta, fd, ret);
	return memory_write_all(&m->mem, &m->map, fd, ret);
}

static int write_state(struct machine *m, int fd, const struct memmap *map, struct vial_err *err)
{
	_cleanup_buf_ struct buf b = { 0 };

	state_begin(&b);
	put_kind(m, &b);
	int r = put_vcpus(m, &b, err);
	if (r == 0)
		r = put_devices(m, &b, err);
	if (r < 0)
		return r;
	tlv_put(&b, STATE_TAG_MAP, map->e, map->n * sizeof(map->e[0]));
	r = state_end(&b);
	if (r == 0)
		r = fd_write_full(fd, b.data, b.len);
	return r < 0 ? err_sys(err, r, "write the machine's state") : 0;
}

/* go_on() - over what was written, if that is asked for: memory then differs from nothing */
static int go_on(struct machine *m, int memory, uint32_t flags, struct memmap *map, struct vial_err *err)
{
	int r;

	if (!(flags & VMM_SNAP_REMAP) || m->mem.shared)
		return 0;
	r = memory_remap(&m->vm, map, memory);
	if (r < 0)
		return err_sys(err, r, "go on with the written memory");
	delta_done(&m->delta);
	memmap_done(&m->map);
	m->map = *map;
	*map = (struct memmap){ 0 };
	return 0;
}

int snapshot_save(struct machine *m, int state, int memory, uint32_t flags, struct vial_err *err)
{
	_cleanup_(memmap_done) struct memmap map = { 0 };
	int r = quiesce(m, err);

	if (!precopy_is(m, memory))
		precopy_drop(m);
	if (r == 0) {
		r = write_memory(m, memory, flags, &map);
		if (r < 0)
			r = err_sys(err, r, "write the machine's memory");
	}
	r = r ?: write_state(m, state, &map, err);
	r = r ?: go_on(m, memory, flags, &map, err);
	precopy_drop(m);
	return r;
}
