/* SPDX-License-Identifier: Apache-2.0 */
/* What this host offers to run machines with: is KVM usable, which engine, which QEMU. Client side. */
#ifndef ENGINE_HOST_H
#define ENGINE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "vial/error.h"
#include "wire/launch.h"

#define ENGINE_WHY_MAX	300
#define ENGINE_KVM_NODE "/dev/kvm"

/**
 * struct engine_host - the engine to use
 * @engine:	enum launch_engine
 * @program:	path of QEMU or of vial-vmm, owned
 * @version:	of QEMU, "7.2.22"; empty for vial-vmm
 * @machine:	versioned machine type
 * @accel:	"kvm" or "tcg"
 * @digest:	hex SHA-256 of the program and its firmware together
 * @kvm_why:	why KVM is not used, with a remedy where there is one; empty if it is
 */
struct engine_host {
	uint32_t engine;
	char *program;
	char version[32];
	char machine[32];
	char accel[8];
	char digest[65];
	char kvm_why[ENGINE_WHY_MAX];
};

/**
 * engine_host_probe() - find and check; cheap when nothing changed since the last time
 * @want:	"auto": vial-vmm if KVM is usable, else QEMU; "kvm": vial-vmm; "qemu": QEMU, with KVM if that is usable
 * @cache_fd:	directory of filecache.h
 * @vmm:	path of vial-vmm; it may be missing
 * Return: 0; VIAL_E_UNSUPPORTED with the reason, and a remedy if there is one, if no machine can be run in this way.
 */
int engine_host_probe(int cache_fd, const char *want, const char *vmm, struct engine_host *ret,
		      struct vial_err *err);
void engine_host_done(struct engine_host *h);

/* engine_host_name() - "kvm" or "qemu", as in templates' keys and snapshot files */
const char *engine_host_name(const struct engine_host *h);

/**
 * kvm_usable() - can /dev/kvm run what a stock kernel does?
 * Runs a tiny 64-bit guest through LOCK CMPXCHG16B, XSAVE, a page fault and an interrupt in a child
 * process, with a limit of 2 s of CPU time. Some hosts offer a /dev/kvm that makes machines but cannot run these.
 * @ret_why:	one line if not, with a remedy where there is one
 */
bool kvm_usable(char *ret_why, size_t n);

/**
 * host_kvm() - the same for the KVM of device @node, asked once per boot of the host
 * @ret_why:	empty if it is usable
 */
bool host_kvm(int cache_fd, const char *node, char ret_why[ENGINE_WHY_MAX]);

/* host_boot_id() - the running kernel's boot id (36 characters), "" if it cannot be read */
void host_boot_id(char ret[40]);

#endif
