/* SPDX-License-Identifier: Apache-2.0 */
/* What this host offers to run machines with: which QEMU, which accelerator, is KVM usable. Client side. */
#ifndef ENGINE_HOST_H
#define ENGINE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "vial/error.h"

/**
 * struct engine_host - the engine to use
 * @qemu:	path of the program, owned
 * @version:	of QEMU, "7.2.22"
 * @machine:	versioned machine type
 * @accel:	"kvm" or "tcg"
 * @digest:	hex SHA-256 of the program and its firmware together
 * @kvm_why:	why KVM is not used, empty if it is
 */
struct engine_host {
	char *qemu;
	char version[32];
	char machine[32];
	char accel[8];
	char digest[65];
	char kvm_why[200];
};

/**
 * engine_host_probe() - find and check; cheap when nothing changed since the last time
 * @want:	"auto", "kvm" or "qemu"
 * @cache_fd:	directory of filecache.h
 * Return: 0; VIAL_E_UNSUPPORTED with a remedy if there is no way to run a machine.
 */
int engine_host_probe(int cache_fd, const char *want, struct engine_host *ret, struct vial_err *err);
void engine_host_done(struct engine_host *h);

/**
 * kvm_usable() - can /dev/kvm run what a stock kernel does?
 * Runs a tiny 64-bit guest through LOCK CMPXCHG16B, XSAVE, a page fault and an interrupt in a child
 * process, with a time limit of 2 s. Some hosts offer a /dev/kvm that makes machines but cannot run these.
 * @ret_why:	one line if not, with a remedy where there is one
 */
bool kvm_usable(char *ret_why, size_t n);

/* host_boot_id() - the running kernel's boot id (36 characters), "" if it cannot be read */
void host_boot_id(char ret[40]);

#endif
