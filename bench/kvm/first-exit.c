// SPDX-License-Identifier: Apache-2.0
/*
 * first-exit N [MIB]: nanoseconds from open("/dev/kvm") to the first exit of a tiny 64-bit guest, N times, one line each.
 *
 * What a virtual machine monitor cannot be faster than on this host: the calls that vial-vmm makes, in its order (memory slot, split
 * interrupt chip, vCPU), nothing else. The guest is one OUT instruction behind identity-mapped page tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, CODE = 0x4000, IOAPIC_PINS = 24, PORT = 0x10 };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void put64(unsigned char *mem, size_t at, uint64_t v)
{
	memcpy(mem + at, &v, sizeof(v));
}

static void fill_memory(unsigned char *mem)
{
	static const unsigned char out[] = { 0xe6, PORT }; /* out PORT,al */

	put64(mem, PML4, PDPT | 3);
	put64(mem, PDPT, PD | 3);
	put64(mem, PD, 0x83); /* one 2 MiB page, present and writable */
	memcpy(mem + CODE, out, sizeof(out));
}

static int set_long_mode(int vcpu)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
	};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_sregs s;

	if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cs = code;
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.cr3 = PML4;
	s.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	s.cr4 = 0x20;	    /* PAE */
	s.efer = 0x500;	    /* LMA, LME */
	return ioctl(vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}

/* One machine; every descriptor is closed after the time is taken. Returns the exit's reason or -errno. */
static int one(unsigned char *mem, size_t size, uint64_t *ret_ns)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IOAPIC_PINS } };
	struct kvm_userspace_memory_region slot = { .memory_size = size, .userspace_addr = (uintptr_t)mem };
	uint64_t start = now_ns();
	int reason = -EIO;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0 ||
	    ioctl(vm, KVM_ENABLE_CAP, &split) < 0)
		return -errno;
	(void)ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000UL); /* Intel needs it; elsewhere it may fail */
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vcpu < 0 || run_size <= 0)
		return -errno;
	struct kvm_run *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED || set_long_mode(vcpu) < 0)
		return -errno;
	if (ioctl(vcpu, KVM_RUN, 0) == 0)
		reason = (int)run->exit_reason;
	*ret_ns = now_ns() - start;
	munmap(run, (size_t)run_size);
	close(vcpu);
	close(vm);
	close(kvm);
	return reason;
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? strtol(argv[1], NULL, 10) : 0, mib = argc > 2 ? strtol(argv[2], NULL, 10) : 256;

	if (argc > 3 || n < 1 || n > 100000 || mib < 2 || mib > 3072) {
		fprintf(stderr, "usage: first-exit N [MIB]\n");
		return 2;
	}
	size_t size = (size_t)mib << 20;
	unsigned char *mem =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED) {
		perror("first-exit: mmap");
		return 1;
	}
	fill_memory(mem);
	for (long i = 0; i < n; i++) {
		uint64_t ns = 0;
		int r = one(mem, size, &ns);
		if (r != KVM_EXIT_IO) {
			fprintf(stderr, "first-exit: %s %d\n", r < 0 ? strerror(-r) : "exit reason", r);
			return 1;
		}
		printf("%" PRIu64 "\n", ns);
	}
	return 0;
}
