/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every profile may call. No code: tools/seccomp-gen reads the tags (its head explains their grammar)
 * from here and from any other source, where a call that only one place needs is listed beside it.
 *
 * Everybody: memory, its own descriptors, time, its own signals. mmap and mprotect without PROT_EXEC:
 * nobody but QEMU, whose translator writes code, gets executable memory after its start.
 * #syscalls:all read readv pread64 preadv write writev pwrite64 pwritev lseek close dup
 * #syscalls:all dup2 dup3 fcntl=safe
 * #syscalls:all fstat newfstatat fstatfs fsync fdatasync ftruncate fallocate fadvise64
 * #syscalls:all copy_file_range sendfile splice
 * #syscalls:all poll ppoll select pselect6 ioctl=tty pipe2
 * #syscalls:all brk mmap=noexec mprotect=noexec munmap mremap madvise membarrier
 * #syscalls:all futex set_robust_list get_robust_list rseq set_tid_address sched_yield
 * #syscalls:all sched_getaffinity=zero restart_syscall
 * #syscalls:all clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time getrandom
 * #syscalls:all rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait sigaltstack
 * #syscalls:all kill=self tgkill=self exit exit_group
 * #syscalls:all getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getpgrp getsid
 * #syscalls:all getrusage times uname sysinfo getcpu getrlimit prlimit64=zero prctl=harmless
 *
 * Before execve and up to main(), or to jail_self() in our own programs: the dynamic loader, then the
 * locking itself.
 * #syscalls:start execve execveat openat=rdonly2 open=rdonly1 access faccessat faccessat2
 * #syscalls:start readlink readlinkat arch_prctl
 * #syscalls:start mmap mprotect
 * #syscalls:lock seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self prctl=lock
 *
 * vial-monitor: the loop, the sockets it holds (accept4 on its listener, no new ones), files of its box's
 * directory (Landlock says which), its children through the pidfds it holds. No pidfd_open: it cannot
 * address anybody else.
 * #syscalls:monitor epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
 * #syscalls:monitor timerfd_create timerfd_settime timerfd_gettime
 * #syscalls:monitor signalfd4 eventfd2 accept4 accept recvmsg sendmsg recvfrom
 * #syscalls:monitor sendto shutdown getsockopt getsockname getpeername
 * #syscalls:monitor setsockopt open openat unlink unlinkat rmdir rename renameat
 * #syscalls:monitor renameat2 mkdir mkdirat stat lstat statx getdents64
 * #syscalls:monitor readlink readlinkat access faccessat faccessat2 fchmod umask
 * #syscalls:monitor memfd_create wait4 waitid pidfd_send_signal
 * #syscalls:monitor ioctl=notif
 *
 * qemu-system, TCG and KVM: threads (clone without namespaces; clone3 is ENOSYS, glibc then uses clone),
 * block layer with OFD locks, character devices on sockets it was given, its own event loop.
 * #syscalls:qemu clone=thread mmap mprotect mlock munlock get_mempolicy set_mempolicy
 * #syscalls:qemu mbind sched_getaffinity sched_getscheduler
 * #syscalls:qemu sched_getparam sched_get_priority_max sched_get_priority_min
 * #syscalls:qemu getpriority arch_prctl set_thread_area
 * #syscalls:qemu preadv2 pwritev2 sync_file_range flock stat lstat statx statfs
 * #syscalls:qemu getdents64 getcwd access faccessat faccessat2
 * #syscalls:qemu readlink readlinkat umask pipe eventfd eventfd2 signalfd signalfd4
 * #syscalls:qemu epoll_create epoll_create1 epoll_ctl
 * #syscalls:qemu epoll_wait epoll_pwait epoll_pwait2 timerfd_create timerfd_settime
 * #syscalls:qemu timerfd_gettime timer_create timer_settime
 * #syscalls:qemu timer_gettime timer_getoverrun timer_delete recvmsg sendmsg recvfrom
 * #syscalls:qemu sendto recvmmsg sendmmsg shutdown accept
 * #syscalls:qemu accept4 getsockopt setsockopt getsockname getpeername ioctl=kvm
 * #syscalls:qemu ioctl=blk rt_sigqueueinfo=self rt_tgsigqueueinfo=self
 * #syscalls:qemu mincore msync
 * #syscalls:qemu/notify open openat creat execve execveat
 *
 * vial-unpack: bytes in, bytes out, nothing by name.
 * #syscalls:unpack recvmsg sendmsg memfd_create
 *
 * vial-vmm until its machine is made: what everybody may, threads, its own event descriptors, then its threads' filters;
 * and what those allow, since all filters of a thread count.
 * #syscalls:vmm clone=thread eventfd2 epoll_create1 epoll_ctl epoll_wait epoll_pwait seccomp prctl=lock
 * #syscalls:vmm recvmsg sendmsg sendto shutdown mincore
 *
 * Its vCPU threads, from nothing: waiting for and waking the I/O thread, waking each other, ending.
 * #syscalls:vmm_vcpu futex write tgkill=self getpid gettid sched_yield rt_sigprocmask rt_sigreturn restart_syscall
 * #syscalls:vmm_vcpu clock_gettime madvise munmap exit exit_group
 *
 * Its I/O thread, from nothing: the loop, sockets and files it was given, guest memory.
 * #syscalls:vmm_io epoll_wait epoll_pwait epoll_ctl read write writev pread64 preadv pwrite64 pwritev
 * #syscalls:vmm_io recvmsg sendmsg shutdown close fcntl=safe lseek fstat newfstatat ftruncate
 * #syscalls:vmm_io fdatasync fallocate brk mmap=noexec munmap mremap madvise mincore sysinfo
 * #syscalls:vmm_io futex tgkill=self getpid gettid sched_yield rt_sigprocmask rt_sigreturn restart_syscall
 * #syscalls:vmm_io clock_gettime getrandom exit exit_group
 *
 * Old-kernel answers, so that callers fall back to calls a filter can see into (clone3 and openat2 hide
 * their arguments in memory; io_uring does its work past any filter).
 * #syscalls:enosys clone3 openat2 io_uring_setup io_uring_enter io_uring_register
 *
 * Nothing of ours ever tries these: whoever does is not our program any more.
 * #syscalls:kill ptrace process_vm_writev pidfd_getfd kexec_load kexec_file_load
 * #syscalls:kill init_module finit_module delete_module bpf
 * #syscalls:kill mount umount2 pivot_root chroot move_mount open_tree fsopen fsmount
 * #syscalls:kill fsconfig fspick mount_setattr setns unshare
 * #syscalls:kill keyctl add_key request_key perf_event_open reboot swapon swapoff iopl
 * #syscalls:kill ioperm open_by_handle_at
 * #syscalls:kill acct quotactl settimeofday clock_settime adjtimex clock_adjtime
 * #syscalls:kill sethostname setdomainname vhangup
 */
