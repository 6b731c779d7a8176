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
static int add_placeholder_disks(struct launcher *l)
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

	l->launch.mode = LAUNCH_BUILD;
	if (getrandom(id, sizeof(id), 0) != sizeof(id) ||
	    getrandom(l->launch.next_key, LINK_KEY_SIZE, 0) != LINK_KEY_SIZE)
		return -EIO;
	str_hex(id, sizeof(id), l->launch.id);
	l->launch.qemu = strdup(spec->host->qemu);
	l->launch.accel = strdup(spec->host->accel);
	l->launch.machine = strdup(spec->host->machine);
	l->launch.cmdline = strdup(spec->cmdline);
	l->launch.fstype = strdup("none");
	l->launch.hostname = strdup("vial");
	l->launch.vcpus = spec->vcpus;
	l->launch.memory = spec->memory;
	l->launch.log_level = env->log_level;
	if (!l->launch.qemu || !l->launch.accel || !l->launch.machine || !l->launch.cmdline || !l->launch.fstype ||
	    !l->launch.hostname)
		return -ENOMEM;
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
static int wait_built(struct launcher *l, struct vial_err *err)
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
		return err_set(err, VIAL_E_ENGINE, "the template's monitor ended without a word");
	if (msg.type == MON_ERROR)
		return err_set(err, msg.error.code < 0 ? msg.error.code : VIAL_E_ENGINE, "%.*s",
			       (int)msg.error.text.n, (const char *)msg.error.text.p);
	return 0;
}

static int make_files(const struct template_env *env, const struct template_spec *spec, const char *tmp,
		      struct launcher *l)
{
	_cleanup_fd_ int dir = openat(env->dir_fd, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int mem, state, r;

	if (dir < 0)
		return -errno;
	mem = openat(dir, "mem", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	state = openat(dir, "state", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = mem < 0 || state < 0 || ftruncate(mem, (off_t)spec->memory) < 0 ? -errno : 0;
	r = r ?: launcher_add_own(l, LAUNCH_FD_MEM, take_fd(mem));
	r = r ?: launcher_add_own(l, LAUNCH_FD_STATE, take_fd(state));
	r = r ?: launcher_add_own(l, LAUNCH_FD_INITRD, template_initrd(spec));
	r = r ?: launcher_add(l, LAUNCH_FD_KERNEL, spec->kernel_fd);
	fd_close(&mem);
	fd_close(&state);
	return r;
}

int template_build(const struct template_env *env, const struct template_spec *spec, const char *tmp,
		   struct template *ret, struct vial_err *err)
{
	_cleanup_(launcher_done) struct launcher l;
	_cleanup_(template_done) struct template t = { .mem_fd = -1, .state_fd = -1 };
	_cleanup_fd_ int dir = -1;
	int r;

	launcher_init(&l);
	r = describe(env, spec, &l);
	r = r ?: make_files(env, spec, tmp, &l);
	r = r ?: add_placeholder_disks(&l);
	if (r < 0)
		return err_sys(err, r, "build a template");
	memcpy(t.reset_key, l.launch.next_key, LINK_KEY_SIZE);
	r = launcher_start(&l, env->monitor_path, env->uid, env->gid, err);
	r = r ?: wait_built(&l, err);
	launcher_end(&l);
	if (r < 0)
		return err->code ? err_prefix(err, "build a template for kernel '%s'", spec->kernel_name) : r;
	dir = openat(env->dir_fd, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t.mem_fd = dir < 0 ? -1 : openat(dir, "mem", O_RDONLY | O_CLOEXEC);
	t.state_fd = dir < 0 ? -1 : openat(dir, "state", O_RDONLY | O_CLOEXEC);
	if (t.mem_fd < 0 || t.state_fd < 0)
		return err_sys(err, -errno, "open the template's files");
	*ret = t;
	t = (struct template){ .mem_fd = -1, .state_fd = -1 };
	return 0;
}
