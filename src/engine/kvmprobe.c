// SPDX-License-Identifier: Apache-2.0
/*
 * Is /dev/kvm good for a stock kernel? A page of code decides.
 *
 * Theory of operation
 *
 * Purpose: some hosts offer a /dev/kvm that creates machines and then fails at instructions every
 * kernel uses. So a tiny guest in 64-bit mode does LOCK CMPXCHG16B, XSAVE, takes a page fault and a software
 * interrupt, counts what worked and reports by OUT. All of it in a child process with limits, since a
 * broken KVM may also spin, or wait for ever: CPU time for the one, and for the other a time that a loaded host does not reach.
 * Guest memory: page tables at 0x1000-0x3fff (2 MiB pages, identity, first GiB less one hole), GDT 0x4000, IDT
 * 0x5000, code 0x6000, XSAVE area 0x7000, stack below 0x9000.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/host.h"

#ifdef __x86_64__

#define MEM_SIZE     0x200000UL
#define DONE_VALUE   0x5a
#define CPU_LIMIT_S  2
#define TIME_LIMIT_S 30

enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, GDT = 0x4000, IDT = 0x5000, CODE = 0x6000 };

/* Why the probe failed; the child's exit status. */
enum { STEP_OK, STEP_OPEN, STEP_CREATE, STEP_VCPU, STEP_RUN, STEP_WRONG };

static const char *const step_text[] = {
	[STEP_OPEN] = "/dev/kvm cannot be opened (join group kvm)",
	[STEP_CREATE] = "/dev/kvm cannot create a virtual machine",
	[STEP_VCPU] = "/dev/kvm cannot set up a virtual CPU",
	[STEP_RUN] = "/dev/kvm cannot run instructions that stock kernels need",
	[STEP_WRONG] = "/dev/kvm runs a test guest wrongly",
};

/* The guest, position: CODE. Counts in ebx; both handlers add to it. */
static const unsigned char guest_code[] = {
	0x31, 0xdb,				  /* xor ebx,ebx */
	0x31, 0xc0,	  0x31, 0xd2, 0x31, 0xc9, /* xor eax,eax; edx; ecx */
	0x53,					  /* push rbx (keeps the count over cmpxchg16b) */
	0xf0, 0x48,	  0x0f, 0xc7, 0x0c, 0x25, 0x00, 0x78, 0x00, 0x00, /* lock cmpxchg16b [0x7800] */
	0x5b,								  /* pop rbx */
	0x75, 0x02,							  /* jnz +2: compare failed */
	0xff, 0xc3,							  /* inc ebx */
	0xb8, 0x03,	  0x00, 0x00, 0x00, 0x31, 0xd2,			  /* mov eax,3; xor edx,edx */
	0x48, 0x0f,	  0xae, 0x24, 0x25, 0x00, 0x70, 0x00, 0x00,	  /* xsave64 [0x7000] */
	0xff, 0xc3,							  /* inc ebx */
	0xcd, 0x20,							  /* int 0x20 */
	0x48, 0xc7,	  0xc6, 0x00, 0x00, 0x00, 0x40,			  /* mov rsi,0x40000000: not mapped */
	0x8a, 0x06,							  /* mov al,[rsi]: page fault */
	0x83, 0xfb,	  0x04,						  /* cmp ebx,4 */
	0xb0, DONE_VALUE,						  /* mov al,DONE_VALUE */
	0x74, 0x02,							  /* je +2 */
	0xb0, 0x00,							  /* mov al,0 */
	0xe6, 0x10,							  /* out 0x10,al */
	0xf4,								  /* hlt */
};

/* int 0x20: count and return. Page fault: count, drop the error code, step over the 2-byte mov. */
static const unsigned char int_handler[] = { 0xff, 0xc3, 0x48, 0xcf };
static const unsigned char fault_handler[] = { 0xff, 0xc3, 0x48, 0x83, 0xc4, 0x08, 0x48,
					       0x83, 0x04, 0x24, 0x02, 0x48, 0xcf };

enum { INT_HANDLER = CODE + 0x200, FAULT_HANDLER = CODE + 0x300 };

static void put64(unsigned char *mem, unsigned long at, unsigned long long v)
{
	memcpy(mem + at, &v, sizeof(v));
}

static void put_gate(unsigned char *mem, unsigned int vector, unsigned long handler)
{
	put64(mem, IDT + vector * 16UL,
	      (handler & 0xffff) | 8ULL << 16 | 0x8e00ULL << 32 | (handler >> 16) << 48);
	put64(mem, IDT + vector * 16UL + 8, 0);
}

static void fill_memory(unsigned char *mem)
{
	put64(mem, PML4, PDPT | 3);
	put64(mem, PDPT, PD | 3);
	put64(mem, PD, 0x83);			     /* one 2 MiB page, present and writable */
	put64(mem, GDT + 8, 0x00af9b000000ffffULL);  /* 64-bit code */
	put64(mem, GDT + 16, 0x00cf93000000ffffULL); /* data */
	put_gate(mem, 14, FAULT_HANDLER);
	put_gate(mem, 0x20, INT_HANDLER);
	memcpy(mem + CODE, guest_code, sizeof(guest_code));
	memcpy(mem + INT_HANDLER, int_handler, sizeof(int_handler));
	memcpy(mem + FAULT_HANDLER, fault_handler, sizeof(fault_handler));
}

static int set_long_mode(int vcpu)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
	};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	struct kvm_regs regs = { .rip = CODE, .rsp = 0x8ff0, .rflags = 2 };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = 3 } } };
	struct kvm_sregs s;

	if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cs = code;
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.gdt.base = GDT;
	s.gdt.limit = 23;
	s.idt.base = IDT;
	s.idt.limit = 0xfff;
	s.cr3 = PML4;
	s.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	s.cr4 = 0x40620;    /* OSXSAVE, OSXMMEXCPT, OSFXSR, PAE */
	s.efer = 0x500;	    /* LMA, LME */
	if (ioctl(vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0 ||
	    ioctl(vcpu, KVM_SET_XCRS, &xcrs) < 0)
		return -errno;
	return 0;
}

static int set_cpuid(int kvm, int vcpu)
{
	union {
		struct kvm_cpuid2 head; /* ends in an array without a length */
		uint8_t room[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
	} c = { .head.nent = 256 };

	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &c) < 0 || ioctl(vcpu, KVM_SET_CPUID2, &c) < 0)
		return -errno;
	return 0;
}

static int run_guest(int vcpu, struct kvm_run *run)
{
	while (ioctl(vcpu, KVM_RUN, 0) == 0 || errno == EINTR) {
		if (run->exit_reason != KVM_EXIT_IO)
			return STEP_RUN;
		return *((unsigned char *)run + run->io.data_offset) == DONE_VALUE ? STEP_OK : STEP_WRONG;
	}
	return STEP_RUN;
}

static int probe_child(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	unsigned char *mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = { .memory_size = MEM_SIZE,
						    .userspace_addr = (unsigned long)mem };

	if (kvm < 0)
		return STEP_OPEN;
	if (vm < 0 || mem == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return STEP_CREATE;
	/* Intel needs a place for its task state; elsewhere this may fail. */
	(void)ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000UL);
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vcpu < 0 || size <= 0)
		return STEP_VCPU;
	struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	fill_memory(mem);
	if (run == MAP_FAILED || set_cpuid(kvm, vcpu) < 0 || set_long_mode(vcpu) < 0)
		return STEP_VCPU;
	return run_guest(vcpu, run);
}

bool kvm_usable(char *ret_why, size_t n)
{
	int status = 0;
	pid_t pid = fork(), got = 0;

	if (pid == 0) {
		sigset_t none;
		/* The program that uses the library may have SIGALRM ignored or blocked. */
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGALRM, SIG_DFL);
		alarm(TIME_LIMIT_S);
		(void)setrlimit(RLIMIT_CPU, &(struct rlimit){ CPU_LIMIT_S, CPU_LIMIT_S });
		_exit(probe_child());
	}
	while (pid > 0 && (got = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
		;
	if (got != pid) {
		snprintf(ret_why, n, "cannot probe /dev/kvm: %s", strerror(errno));
		return false;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == STEP_OK) {
		ret_why[0] = '\0';
		return true;
	}
	if (WIFEXITED(status) && (size_t)WEXITSTATUS(status) < sizeof(step_text) / sizeof(step_text[0]))
		snprintf(ret_why, n, "%s", step_text[WEXITSTATUS(status)]);
	else
		snprintf(ret_why, n, "/dev/kvm did not run a test guest within %d s of CPU time",
			 CPU_LIMIT_S);
	return false;
}

#else

bool kvm_usable(char *ret_why, size_t n)
{
	snprintf(ret_why, n, "KVM is probed on x86-64 only so far");
	return false;
}

#endif
