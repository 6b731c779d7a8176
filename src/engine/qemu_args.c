// SPDX-License-Identifier: Apache-2.0
// QEMU's command line for a launch description.
#include "engine/qemu_args.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "engine/layout.h"

/* TCG's translation buffer: QEMU's default of 1 GiB would let one busy box hold that much host memory. */
#define TB_SIZE_MIB 64

void qemu_cmd_done(struct qemu_cmd *c)
{
	strv_done(&c->argv);
	fd_close(&c->vmdk_fd);
}

/* Appends one argument; a failure is remembered in @c->error, so that callers need not look each time. */
static void _printf_(2, 3) arg(struct qemu_cmd *c, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	if (c->error == 0)
		c->error = text ? strv_add(&c->argv, text) : -ENOMEM;
}

/* Adds @fd to the child's table and to QEMU's fdset @set, or to a new one (-1); returns the set's number. */
static int add_to_fdset(struct qemu_cmd *c, int fd, int set)
{
	int number = QEMU_FD_FIRST + (int)c->n_fds;

	if (fd < 0 || c->n_fds == ARRAY_SIZE(c->fds)) {
		c->error = c->error ?: -EBADF;
		return -1;
	}
	c->fds[c->n_fds++] = fd;
	set = set < 0 ? number : set;
	arg(c, "-add-fd");
	arg(c, "fd=%d,set=%d", number, set);
	return set;
}

static int add_fdset(struct qemu_cmd *c, int fd)
{
	return add_to_fdset(c, fd, -1);
}

static void machine_args(const struct launch *l, struct qemu_cmd *c)
{
	bool tcg = strcmp(l->accel, "tcg") == 0;
	unsigned long long mib = l->memory >> 20;

	arg(c, "%s", l->program);
	arg(c, "-name");
	arg(c, "vial");
	arg(c, "-M");
	/* What the guest has no use for costs start time: USB, SATA, SMBus, PS/2, the VMware port. */
	arg(c, "%s,usb=off,sata=off,smbus=off,i8042=off,vmport=off,memory-backend=mem", l->machine);
	arg(c, "-accel");
	if (tcg)
		arg(c, "tcg,thread=multi,tb-size=%d", TB_SIZE_MIB);
	else
		arg(c, "%s", l->accel);
	arg(c, "-cpu");
	/* Five-level page tables make each of TCG's software walks longer; a fast "rep movsb" is one turn for each byte there. */
	arg(c, "%s", tcg ? "max,la57=off,erms=off" : "host");
	arg(c, "-smp");
	arg(c, "%u", l->vcpus);
	arg(c, "-m");
	arg(c, "%lluM", mib);
	arg(c, "-object");
	arg(c, "memory-backend-file,id=mem,size=%lluM,mem-path=%s,share=%s", mib, QEMU_PATH_MEM,
	    launch_private(l) ? "off" : "on");
	arg(c, "-nodefaults");
	arg(c, "-no-user-config");
	arg(c, "-display");
	arg(c, "none");
	arg(c, "-vga");
	arg(c, "none");
	arg(c, "-no-reboot");
}

static void channel_args(struct qemu_cmd *c)
{
	arg(c, "-chardev");
	arg(c, "socket,id=qmp,fd=%d", QEMU_FD_QMP);
	arg(c, "-mon");
	arg(c, "chardev=qmp,mode=control");
	arg(c, "-chardev");
	arg(c, "socket,id=agent,fd=%d", QEMU_FD_AGENT);
	arg(c, "-chardev");
	arg(c, "socket,id=console,fd=%d", QEMU_FD_CONSOLE);
	arg(c, "-serial");
	arg(c, "chardev:console");
}

/* A VMDK descriptor joins the extents to one disk; QEMU has no other driver that concatenates. */
static int vmdk_descriptor(const struct launch *l, const int *sets)
{
	_cleanup_buf_ struct buf text = { 0 };
	uint64_t sectors = 0;

	buf_puts(&text, "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
			"createType=\"twoGbMaxExtentFlat\"\n");
	for (size_t i = 0; i < l->n_extents; i++) {
		uint64_t n = l->extent_bytes[i] / 512;

		/* QEMU skips extents that are not called RW; the disk itself is opened read-only. */
		buf_printf(&text, "RW %llu FLAT \"/dev/fdset/%d\" 0\n", (unsigned long long)n, sets[i]);
		sectors += n;
	}
	buf_printf(&text, "ddb.adapterType = \"ide\"\nddb.geometry.cylinders = \"%llu\"\n",
		   (unsigned long long)MAX(sectors / 1008, 1ULL));
	if (!buf_ok(&text))
		return -ENOMEM;
	_cleanup_fd_ int fd = fd_memfd("vial-root", text.data, text.len);
	/* A read-only disk needs a read-only descriptor: QEMU compares. */
	return fd < 0 ? fd : fd_reopen(fd, O_RDONLY);
}

/* Several extents: node "layers" joins them; qemu.c takes it away when the machine is saved. */
static void layers_args(const struct launch *l, const int *sets, struct qemu_cmd *c)
{
	c->vmdk_fd = vmdk_descriptor(l, sets);
	c->layers_set = add_fdset(c, c->vmdk_fd);

	arg(c, "-blockdev");
	arg(c, QEMU_LAYERS_NODE, c->layers_set);
	arg(c, "-blockdev");
	arg(c, "{\"driver\":\"raw\",\"node-name\":\"root\"," QEMU_READ_ONLY "\"file\":\"layers\"}");
}

static void root_args(const struct launch *l, struct qemu_cmd *c)
{
	int sets[LAUNCH_EXTENTS_MAX] = { 0 };

	for (size_t i = 0; i < l->n_extents; i++)
		sets[i] = add_fdset(c, launch_fd(l, LAUNCH_FD_EXTENT, i));
	if (l->n_extents > 1) {
		layers_args(l, sets, c);
		return;
	}
	arg(c, "-blockdev");
	arg(c,
	    "{\"driver\":\"raw\",\"node-name\":\"root\"," QEMU_READ_ONLY QEMU_FILE_NODE(QEMU_READ_ONLY) "}",
	    sets[0]);
}

/* One more qcow2 of the writable disk, over node @below; its node is called @name. */
static void upper_arg(struct qemu_cmd *c, const char *name, const char *below, bool writable, int set)
{
	arg(c, "-blockdev");
	if (writable)
		arg(c,
		    "{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"backing\":\"%s\"," QEMU_DISCARD
			    QEMU_FILE_NODE(QEMU_DISCARD) "}",
		    name, below, set);
	else
		arg(c,
		    "{\"driver\":\"qcow2\",\"node-name\":\"%s\",\"backing\":\"%s\"," QEMU_READ_ONLY
			    QEMU_FILE_NODE(QEMU_READ_ONLY) "}",
		    name, below, set);
}

/*
 * The writable disk: the box's qcow2, over those that its template and the boxes it is a copy of wrote, over
 * the pre-made ext4.
 */
static void upper_args(const struct launch *l, struct qemu_cmd *c)
{
	int ro = launch_fd(l, LAUNCH_FD_UPPER_RO, 0), mid;
	int upper = add_fdset(c, launch_fd(l, LAUNCH_FD_UPPER, 0));
	int base = add_fdset(c, launch_fd(l, LAUNCH_FD_UPPER_BASE, 0));
	char name[16] = "base", below[16];

	if (ro >= 0)
		(void)add_to_fdset(
			c, ro,
			upper); /* which of a set's descriptors is taken depends on the access wanted */
	arg(c, "-blockdev");
	arg(c,
	    "{\"driver\":\"raw\",\"node-name\":\"base\"," QEMU_READ_ONLY QEMU_FILE_NODE(QEMU_READ_ONLY) "}",
	    base);
	for (size_t i = 0; (mid = launch_fd(l, LAUNCH_FD_UPPER_MID, i)) >= 0; i++) {
		memcpy(below, name, sizeof(below));
		snprintf(name, sizeof(name), "mid%zu", i);
		upper_arg(c, name, below, false, add_fdset(c, mid));
	}
	upper_arg(c, "upper", name, true, upper);
}

static void device_args(struct qemu_cmd *c)
{
	arg(c, "-device");
	/* Two ports: each costs two virtqueues that the guest sets up at boot. */
	arg(c, "virtio-serial-pci,id=ser,addr=%d,max_ports=2,disable-legacy=on", LAYOUT_SLOT_SERIAL);
	arg(c, "-device");
	arg(c, "virtserialport,bus=ser.0,nr=1,chardev=agent,name=vial.agent.0");
	arg(c, "-device");
	arg(c, "virtio-blk-pci,drive=root,serial=%s,addr=%d,num-queues=1,disable-legacy=on",
	    LAYOUT_ROOT_SERIAL, LAYOUT_SLOT_ROOT);
	arg(c, "-device");
	/* A full disk of the host is the guest's I/O error: QEMU's default would stop the machine for good. */
	arg(c,
	    "virtio-blk-pci,drive=upper,serial=%s,addr=%d,num-queues=1,disable-legacy=on,werror=report,"
	    "rerror=report",
	    LAYOUT_UPPER_SERIAL, LAYOUT_SLOT_UPPER);
	arg(c, "-device");
	arg(c, "virtio-rng-pci,addr=%d,disable-legacy=on", LAYOUT_SLOT_RNG);
}

static void kernel_args(const struct launch *l, struct qemu_cmd *c)
{
	/*
	 * A restore must name a kernel too, or the option ROM that boots it would be missing from the
	 * machine; it is a stub of a few KiB then, never run, in place of some 20 MiB read and kept.
	 */
	arg(c, "-kernel");
	arg(c, "%s", QEMU_PATH_KERNEL);
	if (launch_incoming(l)) {
		arg(c, "-incoming");
		arg(c, "defer");
		return;
	}
	arg(c, "-initrd");
	arg(c, "%s", QEMU_PATH_INITRD);
	arg(c, "-append");
	arg(c, "%s", l->cmdline);
	/* Started over QMP: events are not told before its negotiation. */
	arg(c, "-S");
}

int qemu_args(const struct launch *l, struct qemu_cmd *ret, struct vial_err *err)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c = { .vmdk_fd = -1 };

	if (l->n_extents == 0 || !l->program || !l->machine || !l->accel ||
	    (!l->cmdline && !launch_incoming(l)))
		return err_set(
			err, VIAL_E_INVALID,
			"launch description lacks a program, a machine, a root disk or a command line");
	if (launch_fd(l, LAUNCH_FD_EXTENT, l->n_extents - 1) < 0 || launch_fd(l, LAUNCH_FD_UPPER, 0) < 0 ||
	    launch_fd(l, LAUNCH_FD_UPPER_BASE, 0) < 0)
		return err_set(err, VIAL_E_INVALID, "launch description lacks a disk's descriptor");
	machine_args(l, &c);
	channel_args(&c);
	root_args(l, &c);
	upper_args(l, &c);
	device_args(&c);
	kernel_args(l, &c);
	if (c.error < 0)
		return err_sys(err, c.error, "compose QEMU's command line");
	*ret = c;
	c = (struct qemu_cmd){ .vmdk_fd = -1 };
	return 0;
}
