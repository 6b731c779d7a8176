// SPDX-License-Identifier: Apache-2.0
// Booting a machine and keeping its state.
#include "engine/template_build.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/launcher.h"
#include "engine/qcow2.h"
#include "wire/frame.h"
#include "wire/mon.h"

#define INITRD_MAX	  MIB(512)
#define PLACEHOLDER_BYTES MIB(1)
#define ROOM_MAX	  MIB(512) /* a booted machine touches some 200 MiB of its memory */

int kernel_check(int fd, const char *name, struct vial_err *err)
{
	uint8_t head[0x238];
	ssize_t n = pread(fd, head, sizeof(head), 0);

	if (n < 0)
		return err_sys(err, -errno, "read kernel '%s'", name);
	if ((size_t)n == sizeof(head)) {
		/* [x86/boot: 1.1] magic at 0x202; 64-bit entry is bit 0 of xloadflags at 0x236 */
		if (memcmp(head + 0x202, "HdrS", 4) == 0) {
			if (head[0x236] & 1)
				return 0;
			return err_set(err, VIAL_E_INVALID, "kernel '%s': not a 64-bit x86 kernel", name);
		}
		if (memcmp(head, "\177ELF\2\1", 6) == 0)
			return 0;
	}
	return err_set(err, VIAL_E_INVALID,
		       "kernel '%s': not a Linux kernel (neither a bzImage nor a 64-bit ELF vmlinux)", name);
}

static int append_file(struct buf *b, int fd)
{
	static const char zero[4];
	_cleanup_free_ char *data = NULL;
	size_t n;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	int r = fd_read_all(fd, INITRD_MAX, &data, &n);
	if (r < 0)
		return r;
	buf_append(b, data, n);
	/* The next archive must begin at a multiple of four. [initramfs buffer format] */
	buf_append(b, zero, (4 - b->len % 4) % 4);
	return buf_ok(b) ? 0 : -ENOMEM;
}

int template_initrd(const struct template_spec *spec)
{
	_cleanup_buf_ struct buf all = { .limit = INITRD_MAX * 2 };

	for (size_t i = 0; i < spec->n_initrd; i++) {
		int r = append_file(&all, spec->initrd_fds[i]);
		if (r < 0)
			return r;
	}
	return fd_memfd("vial-initrd", all.data, all.len);
}

/* An empty disk of PLACEHOLDER_BYTES, opened read-only. */
static int empty_disk(const char *name)
{
	_cleanup_fd_ int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, PLACEHOLDER_BYTES) < 0)
		return -errno;
	return fd_reopen(fd, O_RDONLY);
}

/* The guest's disks before there is a box: empty. */
int template_placeholders(struct launcher *l)
{
	_cleanup_fd_ int upper = memfd_create("vial-no-upper-top", MFD_CLOEXEC);
	int r = upper < 0 ? -errno : qcow2_init(upper, PLACEHOLDER_BYTES);

	r = r ?: launcher_add_own(l, LAUNCH_FD_EXTENT, empty_disk("vial-no-root"));
	r = r ?: launcher_add_own(l, LAUNCH_FD_UPPER_BASE, empty_disk("vial-no-upper"));
	r = r ?: launcher_add_own(l, LAUNCH_FD_UPPER, take_fd(upper));
	l->launch.n_extents = 1;
	l->launch.extent_bytes[0] = PLACEHOLDER_BYTES;
	l->launch.upper_bytes = PLACEHOLDER_BYTES;
	return r;
}

static int describe(const struct template_env *env, const struct template_spec *spec, struct launcher *l)
{
	uint8_t id[16];

	if (getrandom(id, sizeof(id), 0) != sizeof(id) ||
	    getrandom(l->launch.next_key, LINK_KEY_SIZE, 0) != LINK_KEY_SIZE)
		return -EIO;
	str_hex(id, sizeof(id), l->launch.id);
	l->launch.cmdline = strdup(spec->cmdline);
	l->launch.fstype = strdup(spec->root ? spec->root->fstype : "none");
	l->launch.hostname = strdup("vial");
	l->launch.vcpus = spec->vcpus;
	l->launch.memory = spec->memory;
	l->launch.log_level = env->log_level;
	if (!l->launch.cmdline || !l->launch.fstype || !l->launch.hostname)
		return -ENOMEM;
	int r = launcher_add_host(l, spec->host);
	if (r < 0)
		return r;
	return env->log_fd >= 0 ? launcher_add(l, LAUNCH_FD_LOG, env->log_fd) : 0;
}

/* Is there a last word among the frames of @in? 1 with it in @ret (it borrows from @in), 0 or -errno. */
static int last_word(struct frame_in *in, struct mon_msg *ret)
{
	const uint8_t *p;
	size_t n;
	int r;

	while ((r = frame_in_next(in, &p, &n)) == 1) {
		r = mon_msg_decode(p, n, ret);
		if (r < 0 || ret->type == MON_DONE || ret->type == MON_ERROR)
			return r < 0 ? r : 1;
	}
	return r;
}

/* Waits for the builder's word: MON_DONE, or MON_ERROR, or its end. */
int template_wait(struct launcher *l, struct vial_err *err)
{
	_cleanup_(frame_in_done) struct frame_in in = { .max = FRAME_MAX };
	struct mon_msg msg;
	char chunk[1024];
	int r = 0;

	while (r == 0) {
		ssize_t n = recv(l->lifeline, chunk, sizeof(chunk), 0);
		if (n < 0 && errno == EINTR)
			continue;
		r = n < 0 ? -errno : n == 0 ? -EPIPE : frame_in_push(&in, chunk, (size_t)n);
		r = r ?: last_word(&in, &msg);
	}
	if (r < 0)
		return err_set(err, VIAL_E_ENGINE, "the machine's monitor ended without a word");
	if (msg.type == MON_ERROR)
		return err_set(err, msg.error.code < 0 ? msg.error.code : VIAL_E_ENGINE, "%.*s",
			       (int)msg.error.text.n, (const char *)msg.error.text.p);
	return 0;
}

/* A new file in the template's directory, for launch role @role. */
static int add_file(struct launcher *l, int dir, const char *name, int flags, uint32_t role, int *ret_fd)
{
	int fd = openat(dir, name, flags | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : launcher_add_own(l, role, fd);

	if (r == 0 && ret_fd)
		*ret_fd = fd;
	return r;
}

/*
 * Booting: empty memory, kernel, initrd, placeholder disks. QEMU boots in the file that is kept; vial-vmm in anonymous memory, with
 * huge pages, of which it writes what is not zero.
 */
static int add_boot(const struct template_spec *spec, int dir, struct launcher *l)
{
	bool kvm = spec->host->engine == LAUNCH_KVM;
	int mem, r = add_file(l, dir, "mem", O_RDWR, kvm ? LAUNCH_FD_MEM_OUT : LAUNCH_FD_MEM, &mem);

	l->launch.mode = LAUNCH_BUILD;
	if (r == 0 && !kvm && ftruncate(mem, (off_t)spec->memory) < 0)
		r = -errno;
	r = r ?: launcher_add_own(l, LAUNCH_FD_INITRD, template_initrd(spec));
	r = r ?: launcher_add(l, LAUNCH_FD_KERNEL, spec->kernel_fd);
	return r ?: template_placeholders(l);
}

static int add_root(const struct template_root *root, struct launcher *l)
{
	int r = launcher_add(l, LAUNCH_FD_UPPER_BASE, root->base_fd);

	l->launch.upper_bytes = root->base_bytes;
	for (size_t i = 0; r == 0 && i < root->n && i < LAUNCH_EXTENTS_MAX; i++) {
		l->launch.extent_bytes[l->launch.n_extents++] = root->bytes[i];
		r = launcher_add(l, LAUNCH_FD_EXTENT, root->fds[i]);
	}
	return r;
}

/* Preparing a root: a copy of the machine template's memory, its state, the image's disks. */
static int add_resume(const struct template_spec *spec, int dir, struct template *machine, struct launcher *l)
{
	const struct template_root *root = spec->root;
	bool kvm = spec->host->engine == LAUNCH_KVM;
	int mem, upper, r = add_file(l, dir, "mem", O_RDWR, kvm ? LAUNCH_FD_MEM_OUT : LAUNCH_FD_MEM, &mem);

	l->launch.mode = LAUNCH_PREPARE;
	memcpy(l->launch.reset_key, machine->reset_key, LINK_KEY_SIZE);
	if (kvm)
		r = r ?: launcher_add(l, LAUNCH_FD_MEM, machine->mem_fd);
	else
		r = r ?: fd_copy_sparse(machine->mem_fd, mem);
	r = r ?: launcher_add(l, LAUNCH_FD_STATE, machine->state_fd);
	if (spec->host->engine == LAUNCH_QEMU)
		r = r ?: launcher_add_own(l, LAUNCH_FD_KERNEL, template_kernel_stub());
	r = r ?: add_file(l, dir, "upper", O_RDWR, LAUNCH_FD_UPPER, &upper);
	r = r ?: qcow2_init(upper, root->base_bytes);
	return r ?: add_root(root, l);
}

int template_kernel_stub(void)
{
	uint8_t stub[8192] = { 0 };

	stub[0x1f1] = 1; /* setup sectors */
	memcpy(stub + 0x202, "HdrS", 4);
	stub[0x206] = 12; /* protocol 2.12 */
	stub[0x207] = 2;
	stub[0x211] = 1; /* loaded high */
	return fd_memfd("vial-no-kernel", stub, sizeof(stub));
}

static int reopen(int dir, struct template *t)
{
	t->mem_fd = openat(dir, "mem", O_RDONLY | O_CLOEXEC);
	t->state_fd = openat(dir, "state", O_RDONLY | O_CLOEXEC);
	t->upper_fd = openat(dir, "upper", O_RDONLY | O_CLOEXEC);
	return t->mem_fd < 0 || t->state_fd < 0 || (t->upper_fd < 0 && errno != ENOENT) ? -errno : 0;
}

static int check_room(const struct template_env *env, const struct template_spec *spec, struct vial_err *err)
{
	struct statvfs fs;
	unsigned long long want = MIN(spec->memory, (uint64_t)ROOM_MAX), room;

	if (fstatvfs(env->dir_fd, &fs) < 0)
		return err_sys(err, -errno, "look at the state directory's file system");
	room = (unsigned long long)fs.f_bavail * fs.f_frsize;
	if (room >= want)
		return 0;
	return err_set(
		err, VIAL_E_NO_SPACE,
		"the disk of the state directory is full: a template needs %llu MiB, %llu MiB are free "
		"(make room, or set VIAL_HOME to another disk)",
		want >> 20, room >> 20);
}

/* The machine of a box, so that the box can take its place. */
static int add_like_box(const struct template_spec *spec, const struct template *t, int upper,
			struct launcher *l)
{
	int r = launcher_add(l, LAUNCH_FD_MEM, t->mem_fd);

	l->launch.rooted = 1;
	/* Not t->state_fd: its offset is for whoever resumes it next. */
	r = r ?: launcher_add_own(l, LAUNCH_FD_STATE, fd_reopen(t->state_fd, O_RDONLY));
	r = r ?: launcher_add_own(l, LAUNCH_FD_KERNEL, template_kernel_stub());
	r = r ?: launcher_add_own(l, LAUNCH_FD_UPPER_RO, fd_reopen(upper, O_RDONLY));
	r = r ?: launcher_add(l, LAUNCH_FD_UPPER_MID, t->upper_fd);
	return r ?: add_root(spec->root, l);
}

static int add_freeze(const struct template_env *env, const struct template_spec *spec, int dir,
		      const struct template *t, struct launcher *l)
{
	int upper, freezer = open(env->freezer_path, O_RDONLY | O_CLOEXEC), r;

	(void)unlinkat(dir, "frozen", 0);
	(void)unlinkat(dir, "frozen.upper", 0);
	l->launch.mode = LAUNCH_FREEZE;
	memcpy(l->launch.reset_key, t->reset_key, LINK_KEY_SIZE);
	r = launcher_add_own(l, LAUNCH_FD_FREEZER, freezer < 0 ? -errno : freezer);
	r = r ?: add_file(l, dir, "frozen", O_RDWR, LAUNCH_FD_FROZEN, NULL);
	r = r ?: add_file(l, dir, "frozen.upper", O_RDWR, LAUNCH_FD_UPPER, &upper);
	r = r ?: qcow2_init(upper, spec->root->base_bytes);
	return r ?: add_like_box(spec, t, upper, l);
}

static int add_try(const struct template_env *env, const struct template_spec *spec, const struct template *t,
		   struct launcher *l)
{
	int upper = memfd_create("vial-upper", MFD_CLOEXEC);
	int r = launcher_add_own(l, LAUNCH_FD_UPPER, upper < 0 ? -errno : upper);

	l->launch.mode = LAUNCH_TRY;
	memcpy(l->launch.reset_key, t->frozen_key, LINK_KEY_SIZE);
	r = r ?: fd_copy_sparse(t->frozen_upper_fd, upper);
	r = r ?: launcher_add(l, LAUNCH_FD_FROZEN, t->frozen_fd);
	l->launch.thaw = strdup(env->thaw_path);
	r = r ?: l->launch.thaw ? 0 : -ENOMEM;
	return r ?: add_like_box(spec, t, upper, l);
}

static int run(const struct template_env *env, struct launcher *l, struct vial_err *err)
{
	int r = launcher_start(l, env->monitor_path, env->uid, env->gid, err);

	r = r ?: template_wait(l, err);
	launcher_end(l);
	return r;
}

int template_freeze(const struct template_env *env, const struct template_spec *spec, int dir,
		    struct template *t, struct vial_err *err)
{
	_cleanup_(launcher_done) struct launcher l;
	int r;

	launcher_init(&l);
	r = describe(env, spec, &l);
	r = r ?: add_freeze(env, spec, dir, t, &l);
	if (r < 0)
		return err_sys(err, r, "freeze a template");
	memcpy(t->frozen_key, l.launch.next_key, LINK_KEY_SIZE);
	return run(env, &l, err);
}

int template_try_frozen(const struct template_env *env, const struct template_spec *spec,
			const struct template *t, struct vial_err *err)
{
	_cleanup_(launcher_done) struct launcher l;
	int r;

	launcher_init(&l);
	r = describe(env, spec, &l);
	r = r ?: add_try(env, spec, t, &l);
	if (r < 0)
		return err_sys(err, r, "wake a frozen template");
	return run(env, &l, err);
}

int template_build(const struct template_env *env, const struct template_spec *spec, const char *tmp,
		   struct template *ret, struct vial_err *err)
{
	_cleanup_(launcher_done) struct launcher l;
	_cleanup_(template_done) struct template t = TEMPLATE_NONE, machine = TEMPLATE_NONE;
	_cleanup_fd_ int dir = openat(env->dir_fd, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct template_spec plain = *spec;
	int r = dir < 0 ? err_sys(err, -errno, "open the template's directory") : check_room(env, spec, err);

	launcher_init(&l);
	plain.root = NULL;
	if (r == 0 && spec->root)
		r = template_open(env, &plain, false, &machine, err);
	if (r < 0)
		return r;
	r = describe(env, spec, &l);
	r = r ?: spec->root ? add_resume(spec, dir, &machine, &l) : add_boot(spec, dir, &l);
	r = r ?: add_file(&l, dir, "state", O_WRONLY, LAUNCH_FD_STATE_OUT, NULL);
	if (r < 0)
		return err_sys(err, r, "build a template");
	memcpy(t.reset_key, l.launch.next_key, LINK_KEY_SIZE);
	r = run(env, &l, err);
	if (r < 0)
		return err ? err_prefix(err, "build a template for kernel '%s'", spec->kernel_name) : r;
	r = reopen(dir, &t);
	if (r < 0)
		return err_sys(err, r, "open the template's files");
	*ret = t;
	t = TEMPLATE_NONE;
	return 0;
}
