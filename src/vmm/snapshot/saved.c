// SPDX-License-Identifier: Apache-2.0
// Taking a state file apart: every part is where it must be, as often as it must be, of a possible size.
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/virtio/mmio.h"

static int corrupt(struct vial_err *err, const char *what)
{
	return err_set(err, VIAL_E_CORRUPT, "machine state: %s", what);
}

void saved_done(struct saved *s)
{
	free(s->file);
	memset(s, 0, sizeof(*s));
}

static bool is_text(const struct tlv *t, const char *s)
{
	return t->n == strlen(s) && !memcmp(t->p, s, t->n);
}

/* check_kind() - is it for a VMM like this one? */
static int check_kind(const struct tlv *t, struct vial_err *err)
{
	uint32_t v = 0;

	switch (t->tag) {
	case STATE_TAG_ARCH:
		return is_text(t, STATE_ARCH)
			       ? 0
			       : err_set(err, VIAL_E_UNSUPPORTED, "machine state: of another architecture");
	case STATE_TAG_ENGINE:
		return is_text(t, STATE_ENGINE)
			       ? 0
			       : err_set(err, VIAL_E_UNSUPPORTED, "machine state: of another engine");
	case STATE_TAG_LAYOUT:
		if (tlv_u32(t, &v) < 0)
			return corrupt(err, "layout");
		return v == STATE_LAYOUT ? 0
					 : err_set(err, VIAL_E_UNSUPPORTED,
						   "machine state: layout version %u, and this is for %d", v,
						   STATE_LAYOUT);
	default:
		if (tlv_u32(t, &v) < 0 || v != GMEM_PAGE)
			return err_set(err, VIAL_E_UNSUPPORTED, "machine state: another page size");
		return 0;
	}
}

static int take_cpuid(struct saved *s, const struct tlv *t)
{
	size_t n = t->n / sizeof(s->cpuid.e[0]);

	if (t->n % sizeof(s->cpuid.e[0]) || n == 0 || n > CPUID_MAX)
		return -EBADMSG;
	memcpy(s->cpuid.e, t->p, t->n);
	s->cpuid.n = (uint32_t)n;
	return 0;
}

static int take_device(struct saved *s, const struct tlv *t)
{
	uint32_t window_le;

	if (t->n < sizeof(window_le) || t->n > VIRTIO_SAVE_MAX)
		return -EBADMSG;
	memcpy(&window_le, t->p, sizeof(window_le));
	uint32_t window = le32toh(window_le);
	if (window >= MMIO_MAX || s->devices[window].p)
		return -EBADMSG;
	s->devices[window] = (struct tlv){ t->tag, t->p + sizeof(window_le), t->n - sizeof(window_le) };
	return 0;
}

static int take(struct saved *s, uint32_t *n_vcpus, const struct tlv *t)
{
	switch (t->tag) {
	case STATE_TAG_MEMORY:
		return tlv_u64(t, &s->memory);
	case STATE_TAG_VCPUS:
		return tlv_u32(t, n_vcpus);
	case STATE_TAG_TSC_KHZ:
		return tlv_u32(t, &s->tsc_khz);
	case STATE_TAG_CPUID:
		return take_cpuid(s, t);
	case STATE_TAG_CLOCK:
		return tlv_u64(t, &s->clock_ns);
	case STATE_TAG_IOAPIC:
		s->ioapic = *t;
		return t->n == sizeof(struct ioapic_state) ? 0 : -EBADMSG;
	case STATE_TAG_IRQCHIP:
		if (s->n_irqchips == SAVED_IRQCHIPS || t->n != sizeof(struct kvm_irqchip))
			return -EBADMSG;
		s->irqchips[s->n_irqchips++] = *t;
		return 0;
	case STATE_TAG_VCPU:
		if (s->n_vcpus == VM_VCPUS_MAX)
			return -EBADMSG;
		s->vcpus[s->n_vcpus++] = *t;
		return 0;
	case STATE_TAG_DEVICE:
		return take_device(s, t);
	case STATE_TAG_MAP:
		s->map = *t;
		return 0;
	default:
		return -EPROTONOSUPPORT;
	}
}

/* Parts that may come again; all others are there exactly once, but for those that depend on the irqchip. */
#define REPEATED (1u << STATE_TAG_IRQCHIP | 1u << STATE_TAG_VCPU | 1u << STATE_TAG_DEVICE)
#define NEEDED                        \
	(((1u << STATE_TAGS_N) - 2) & \
	 ~(1u << STATE_TAG_IOAPIC | 1u << STATE_TAG_IRQCHIP | 1u << STATE_TAG_DEVICE))

static int take_all(struct saved *s, struct tlv_in in, uint32_t *n_vcpus, struct vial_err *err)
{
	uint32_t seen = 0;
	struct tlv t;
	int r;

	while ((r = tlv_next(&in, &t)) > 0) {
		if (t.tag == 0 || t.tag >= STATE_TAGS_N)
			return err_set(err, VIAL_E_UNSUPPORTED,
				       "machine state: has a part (%u) that is not known here", t.tag);
		if (seen & ~REPEATED & 1u << t.tag)
			return corrupt(err, "a part twice");
		seen |= 1u << t.tag;
		if (t.tag <= STATE_TAG_PAGE) {
			r = check_kind(&t, err);
			if (r < 0)
				return r;
		} else if (take(s, n_vcpus, &t) < 0) {
			return corrupt(err, "a part that cannot be");
		}
	}
	if (r < 0)
		return corrupt(err, "parts overlap");
	if ((seen & NEEDED) != NEEDED)
		return corrupt(err, "a part is missing");
	return 0;
}

int saved_parse(char *file, size_t n, struct saved *ret, struct vial_err *err)
{
	uint32_t n_vcpus = 0;
	struct tlv_in in;

	memset(ret, 0, sizeof(*ret));
	ret->file = file;
	int r = state_open(file, n, &in, err);
	if (r == 0)
		r = take_all(ret, in, &n_vcpus, err);
	if (r == 0 && n_vcpus != ret->n_vcpus)
		r = corrupt(err, "another number of virtual CPUs");
	if (r == 0 && !ret->ioapic.p == !ret->n_irqchips)
		r = corrupt(err, "no interrupt controller");
	if (r < 0)
		saved_done(ret);
	return r;
}

int saved_open(int fd, struct saved *ret, struct vial_err *err)
{
	_cleanup_free_ char *file = NULL;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "machine state");
	if (st.st_size <= 0 || (uint64_t)st.st_size > STATE_MAX)
		return corrupt(err, st.st_size <= 0 ? "cut short" : "too long");
	size_t n = (size_t)st.st_size;
	file = malloc(n);
	if (!file)
		return err_sys(err, -ENOMEM, "machine state");
	for (size_t at = 0; at < n;) {
		ssize_t got = pread(fd, file + at, n - at, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? err_sys(err, -errno, "machine state") : corrupt(err, "cut short");
		at += (size_t)got;
	}
	return saved_parse(take_ptr(file), n, ret, err);
}
