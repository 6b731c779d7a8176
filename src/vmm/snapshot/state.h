/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine state file, version 1.
 *
 * Theory of operation
 *
 *	 0  16  STATE_MAGIC
 *	16   4  le32 version
 *	20   4  le32 0
 *	24   8  le64 bytes of the whole file
 *	32  32  SHA-256 of bytes 0 to 31 and of 64 to the end
 *	64      TLV list (wire/tlv.h), enum state_tag
 *
 * All that is not memory: what the machine is, vCPUs, interrupt controller, clock, devices, and where each page
 * of memory is found. Numbers are little-endian; KVM's structures stand as the x86-64 ABI has them.
 * Who is trusted: nobody. The digest finds damage, not malice: every length, index and count is checked before use, and values
 * that only go into the guest's CPU are KVM's to judge. A tag we do not know makes the file another version's:
 * leaving out a part of a machine is worse than refusing it.
 */
#ifndef VMM_SNAPSHOT_STATE_H
#define VMM_SNAPSHOT_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "vial/error.h"
#include "wire/tlv.h"

#define STATE_MAGIC   "VIAL-VMM-STATE\r\n"
#define STATE_VERSION 1
#define STATE_FIXED   64
#define STATE_MAX     MIB(64)
#define STATE_ARCH    "x86_64"
#define STATE_ENGINE  "kvm"
#define STATE_LAYOUT  1 /* of devices: enum machine_window */

enum state_tag {
	STATE_TAG_ARCH = 1,   /* string */
	STATE_TAG_ENGINE = 2, /* string */
	STATE_TAG_LAYOUT = 3, /* u32 */
	STATE_TAG_PAGE = 4,   /* u32 bytes */
	STATE_TAG_MEMORY = 5, /* u64 bytes */
	STATE_TAG_VCPUS = 6,  /* u32 */
	STATE_TAG_TSC_KHZ = 7,
	STATE_TAG_CPUID = 8,	/* struct kvm_cpuid_entry2[] */
	STATE_TAG_CLOCK = 9,	/* u64 ns */
	STATE_TAG_IOAPIC = 10,	/* struct ioapic_state */
	STATE_TAG_IRQCHIP = 11, /* struct kvm_irqchip, repeated: without split irqchip */
	STATE_TAG_VCPU = 12,	/* TLV list of enum vcpu_tag, repeated in order of ids */
	STATE_TAG_DEVICE = 13,	/* le32 window, then what mmio_save() wrote; repeated */
	STATE_TAG_MAP = 14,	/* struct memmap_extent[]; where memory is */
	STATE_TAGS_N,
};

/* state_begin() - the fixed part, to be completed by state_end() */
void state_begin(struct buf *b);
/* state_end() - length and digest; 0, -ENOMEM or -EFBIG */
int state_end(struct buf *b);

/**
 * state_open() - check the fixed part and the digest
 * @p:		the whole file; hostile
 * @ret:	its TLV list
 * Return: 0 or VIAL_E_CORRUPT, VIAL_E_UNSUPPORTED (another version) with text.
 */
int state_open(const void *p, size_t n, struct tlv_in *ret, struct vial_err *err);

/* state_nested() - begin a TLV whose value is itself a list; state_nested_end() puts its length */
size_t state_nested(struct buf *b, uint16_t tag);
void state_nested_end(struct buf *b, size_t mark);

#endif
