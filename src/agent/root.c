// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * Two phases, because a machine boots once and is restored often. At boot everything that does not depend on the
 * disks is mounted on the initramfs: /dev with what belongs below it, /proc, /sys with the control groups. Setup
 * then mounts the disks and *moves* those three into the new root, which is on the path of each start: few system
 * calls, no waiting (devtmpfs makes a disk's node before the write that binds its driver returns).
 *
 * An initramfs is the kernel's rootfs, which cannot be pivoted away: the new root is moved over "/" and the agent
 * changes root into it [Documentation/filesystems/ramfs-rootfs-initramfs.rst]. All children
 * start from there; the disks' own mounts stay behind, out of the reach of paths.
 */
#include "agent/root.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/sysfile.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

#define FAULT_AROUND_BYTES "262144" /* decimal, a power of two */

#define MNT_LOWER "/mnt/lower"
#define MNT_UPPER "/mnt/upper"
#define MNT_ROOT  "/mnt/root"

/* struct mnt - one mount; a missing target is made */
struct mnt {
	const char *source, *target, *type;
	unsigned long flags;
	const char *data;
};

static const struct mnt early[] = {
	{ "devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755" },
	{ "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
};

static const struct mnt late[] = {
	{ "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
	  "newinstance,ptmxmode=0666,mode=0620,gid=5" },
	{ "shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777" },
	{ "mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
};

static void do_mounts(const struct mnt *m, size_t n)
{
	for (; n > 0; m++, n--) {
		(void)mkdir(m->target, 0755);
		if (mount(m->source, m->target, m->type, m->flags, m->data) < 0 && errno != EBUSY)
			log_warn("mount %s: %s", m->target, strerror(errno));
	}
}

void root_boot_early(void)
{
	do_mounts(early, ARRAY_SIZE(early));
}

/*
 * A page fault brings in the file's neighbouring pages that are in memory: 16 of them, unless it is told otherwise. A fault is
 * dear in an emulated machine, and starting a small program takes some thirty.
 */
static void widen_faults(void)
{
	static const char at[] = "/sys/kernel/debug";

	if (mount("debugfs", at, "debugfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return; /* a kernel without it */
	(void)sysfile_write(AT_FDCWD, "/sys/kernel/debug/fault_around_bytes", FAULT_AROUND_BYTES);
	(void)umount(at);
}

static void loopback_up(void)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo" };

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return;
	ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
	(void)ioctl(fd, SIOCSIFFLAGS, &ifr);
}

/* Only ever the kernel's own initramfs: anything else at "/" is somebody's disk. */
static void empty_initramfs(void)
{
	static const char *const keep[] = { ".", "..", "dev", "proc", "sys", "mnt" };
	struct statfs fs;
	DIR *d;

	if (getpid() != 1 || statfs("/", &fs) < 0 || (fs.f_type != RAMFS_MAGIC && fs.f_type != TMPFS_MAGIC))
		return;
	d = opendir("/");
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		bool kept = false;
		for (size_t i = 0; i < ARRAY_SIZE(keep); i++)
			kept |= strcmp(e->d_name, keep[i]) == 0;
		if (!kept)
			(void)path_rm_rf_at(dirfd(d), e->d_name);
	}
	closedir(d);
}

void root_boot_late(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },	      { "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" }, { "/proc/self/fd/2", "/dev/stderr" },
		{ "/proc/kcore", "/dev/core" },
	};
	static const char *const dirs[] = { "/mnt", MNT_LOWER, MNT_UPPER, MNT_ROOT };

	widen_faults();
	do_mounts(late, ARRAY_SIZE(late));
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
			log_warn("%s: %s", links[i][1], strerror(errno));
	loopback_up();
	empty_initramfs();
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		(void)mkdir(dirs[i], 0755);
}

/* A mount's failure, with what a kernel that lacks the file system needs to hear. */
static int mount_failed(int err_no, const char *what, const char *fstype, struct vial_err *err)
{
	struct utsname u;

	if (err_no != ENODEV)
		return err_sys(err, -err_no, "mount %s (%s)", what, fstype);
	(void)uname(&u);
	return err_set(err, VIAL_E_UNSUPPORTED, "kernel %.60s has no %s", u.release, fstype);
}

static int find_disk(struct slice serial, char *path, size_t size, struct vial_err *err)
{
	int r = disks_find((const char *)serial.p, serial.n, path, size);

	if (r == -ENOENT && access("/sys/bus/virtio/drivers/virtio_blk", F_OK) < 0)
		return err_set(err, VIAL_E_UNSUPPORTED, "kernel has no virtio_blk driver");
	if (r == -ENOENT)
		return err_set(err, VIAL_E_NOT_FOUND, "no disk with serial '%.*s'", (int)MIN(serial.n, 20U),
			       serial.n ? (const char *)serial.p : "");
	return r < 0 ? err_sys(err, r, "look for disks") : 0;
}

/* @target gets the disk of @serial. */
static int mount_disk(struct slice serial, const char *fstype, const char *target, bool rw,
		      struct vial_err *err)
{
	unsigned long flags = (rw ? 0 : MS_RDONLY) | MS_NOATIME;
	bool ext4 = strcmp(fstype, "ext4") == 0;
	char path[32];
	int r = find_disk(serial, path, sizeof(path), err);

	if (r < 0)
		return r;
	/* No thread of ext4's shall be at work, or end, just when a template is resumed. */
	if (ext4 && rw && mount(path, target, fstype, flags, "noinit_itable,no_prefetch_block_bitmaps") == 0)
		return 0;
	if (mount(path, target, fstype, flags, !ext4 ? NULL : rw ? "noinit_itable" : "noload") < 0)
		return mount_failed(errno, path, fstype, err);
	return 0;
}

static int grow(int fd, uint64_t size, struct vial_err *err)
{
	struct statfs fs;

	if (size == 0)
		return 0;
	if (fstatfs(fd, &fs) < 0)
		return err_sys(err, -errno, "size of the writable disk");
	uint64_t blocks = size / (uint64_t)fs.f_bsize;
	if (ioctl(fd, EXT4_IOC_RESIZE_FS, &blocks) < 0)
		return err_sys(err, -errno, "grow the writable disk to %llu bytes", (unsigned long long)size);
	return 0;
}

/* The overlay's root shows the attributes of @upper's directory: they are the image's. */
static int make_upper_dirs(struct vial_err *err)
{
	struct stat st;

	if (mkdir(MNT_UPPER "/work", 0700) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "writable disk: work");
	if (mkdir(MNT_UPPER "/root", 0755) < 0)
		return errno == EEXIST ? 0 : err_sys(err, -errno, "writable disk: root");
	if (stat(MNT_LOWER, &st) < 0 || chown(MNT_UPPER "/root", st.st_uid, st.st_gid) < 0 ||
	    chmod(MNT_UPPER "/root", st.st_mode & 07777) < 0)
		return err_sys(err, -errno, "attributes of the root directory");
	struct timespec times[2] = { st.st_atim, st.st_mtim };
	(void)utimensat(AT_FDCWD, MNT_UPPER "/root", times, 0);
	return 0;
}

static int mount_overlay(struct root *r, const struct agent_setup *m, struct vial_err *err)
{
	static const char opts[] =
		"lowerdir=" MNT_LOWER ",upperdir=" MNT_UPPER "/root,workdir=" MNT_UPPER "/work"
		",redirect_dir=on,index=off,metacopy=off";
	int e = mount_disk(m->upper_serial, "ext4", MNT_UPPER, true, err);

	if (e < 0)
		return e;
	r->base_fd = open(MNT_UPPER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->base_fd < 0)
		return err_sys(err, -errno, "open the writable disk");
	e = grow(r->base_fd, m->upper_size, err);
	if (e == 0)
		e = make_upper_dirs(err);
	if (e < 0)
		return e;
	if (mount("overlay", MNT_ROOT, "overlay", 0, opts) < 0)
		return mount_failed(errno, "overlay", "overlay", err);
	return 0;
}

static int mount_root(struct root *r, const struct agent_setup *m, struct vial_err *err)
{
	char fstype[16];

	if (m->root_fstype.n == 0 || m->root_fstype.n >= sizeof(fstype))
		return err_set(err, VIAL_E_INVALID, "no file system type for the root disk");
	memcpy(fstype, m->root_fstype.p, m->root_fstype.n);
	fstype[m->root_fstype.n] = '\0';
	int e = mount_disk(m->root_serial, fstype, m->root_rw ? MNT_ROOT : MNT_LOWER, m->root_rw, err);
	if (e < 0)
		return e;
	if (!m->root_rw)
		return mount_overlay(r, m, err);
	r->base_fd = open(MNT_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return r->base_fd < 0 ? err_sys(err, -errno, "open the root disk") : 0;
}

/* The mount point is made if it is missing, and never reached through a symlink of the image. */
static int move_mount_in(int root_fd, const char *name, struct vial_err *err)
{
	char from[16], to[32];
	int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	_cleanup_fd_ int fd = openat(root_fd, name, flags);

	if (fd < 0 && mkdirat(root_fd, name, 0755) < 0 && errno == EEXIST) {
		(void)unlinkat(root_fd, name, 0);
		(void)mkdirat(root_fd, name, 0755);
	}
	if (fd < 0)
		fd = openat(root_fd, name, flags);
	if (fd < 0)
		return err_sys(err, -errno, "mount point /%s", name);
	snprintf(from, sizeof(from), "/%s", name);
	snprintf(to, sizeof(to), "/proc/self/fd/%d", fd);
	if (strcmp(name, "proc") == 0)
		snprintf(to, sizeof(to), MNT_ROOT "/proc"); /* not through itself; it was just checked */
	if (mount(from, to, NULL, MS_MOVE, NULL) < 0)
		return err_sys(err, -errno, "move /%s", name);
	return 0;
}

static int enter(struct vial_err *err)
{
	static const char *const moved[] = { "dev", "sys", "proc" };
	_cleanup_fd_ int fd = open(MNT_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return err_sys(err, -errno, "open the root");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(moved); i++)
		r = move_mount_in(fd, moved[i], err);
	if (r < 0)
		return r;
	if (fchdir(fd) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return err_sys(err, -errno, "move into the root");
	return 0;
}

int root_setup(struct root *r, const struct agent_setup *m, struct vial_err *err)
{
	int e = disks_bind(&r->disks);

	if (e < 0)
		return err_sys(err, e, "bind the disks' driver");
	e = mount_root(r, m, err);
	if (e == 0)
		e = enter(err);
	r->ready = e == 0;
	return e;
}

void root_release(struct root *r)
{
	char path[32];

	sync();
	if (!r->ready || r->base_fd < 0)
		return;
	(void)mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->base_fd);
	if (mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
		return;
	/* Somebody still holds a file open for writing: freezing writes the journal out all the same. */
	if (ioctl(r->base_fd, FIFREEZE, 0) < 0)
		log_warn("disk could not be made clean: %s", strerror(errno));
}
