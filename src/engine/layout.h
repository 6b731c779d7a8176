/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine every box is: its devices, in one numbered layout. A template fits only a machine of
 * the same layout, so any change here, also of a device's order, mode or queue count, is a new number.
 */
#ifndef ENGINE_LAYOUT_H
#define ENGINE_LAYOUT_H

/* Of all that a guest sees of its machine, CPU flags included: a template or snapshot fits one of them. */
#define LAYOUT_VERSION 2

#define LAYOUT_ROOT_SERIAL  "vial-root"	 /* virtio-blk, read-only */
#define LAYOUT_UPPER_SERIAL "vial-upper" /* virtio-blk, read-write, discard */

/* PCI slots on the root bus (qemu engine) */
#define LAYOUT_SLOT_SERIAL 3
#define LAYOUT_SLOT_ROOT   4
#define LAYOUT_SLOT_UPPER  5
#define LAYOUT_SLOT_RNG	   6

/* Size classes: vCPUs 1, 2, 4, 8 …; memory powers of two of bytes */
#define LAYOUT_VCPUS_MAX  64
#define LAYOUT_MEMORY_MIN (128ULL << 20) /* smallest class */

#define LAYOUT_CMDLINE                                                                                  \
	"quiet loglevel=3 panic=-1 rdinit=/init i8042.noaux i8042.nokbd "                               \
	"random.trust_cpu=on cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 "                      \
	"no_timer_check rcupdate.rcu_expedited=1 nomodeset nowatchdog audit=0 psi=0 lsm=landlock,yama " \
	"dummy.numdummies=0" /* built in, the driver would make a device by itself */

/*
 * Under TCG every block of code that runs costs its translation, and time is read often. All vCPUs' TSC are
 * the host's one clock there, but an AMD guest with two of them distrusts it and reads the HPET, an exit
 * each. Nothing speculates, so nothing needs mitigating. What the guest's kernel checks against bugs of its own, at each call
 * (hardened_usercopy, randomize_kstack_offset), is left out: it is no part of the boundary, which is QEMU and its jail.
 */
#define LAYOUT_CMDLINE_TCG                                                                         \
	" tsc=reliable mitigations=off init_on_alloc=0 noautogroup cgroup.memory=nokmem,nosocket " \
	"hardened_usercopy=off randomize_kstack_offset=off"
#define LAYOUT_CMDLINE_KVM " tsc=nowatchdog"

/*
 * What only one engine's machine has. vial-vmm's has no PCI, no keyboard controller and no serial port worth probing: each
 * access would be an exit. Until its console's driver is there a panic is told by writing to the port blindly.
 */
#define LAYOUT_CMDLINE_QEMU " console=ttyS0"
#define LAYOUT_CMDLINE_VMM  " console=hvc0 earlycon=uart8250,io,0x3f8 8250.nr_uarts=0 pci=off"

#endif
