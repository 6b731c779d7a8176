// SPDX-License-Identifier: Apache-2.0
// QEMU's command line for a launch description.
#include "engine/qemu_args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "engine/layout.h"

/* TCG's translation buffer: QEMU's default of 1 GiB would let one busy box hold that much host memory. */
#define TB_SIZE_MIB 64

void qemu_cmd_done(struct qemu_cmd *c)
{
	strv_done(&c->argv);
	fd_close(&c->vmdk_fd);
}

/* Adds @fd to the child's table as a QEMU fdset; returns the set's number, which is its descriptor there. */
static int add_fd(struct qemu_cmd *c, int fd)
{
	int as = QEMU_FD_FIRST + (int)c->n_fds;

	c->fds[c->n_fds++] = fd;
	return as;
}

static int add_fdset(struct qemu_cmd *c, int fd)
{
	int set = add_fd(c, fd);
	int r = strv_add(&c->argv, "-add-fd");

	if (r == 0)
		r = strv_addf(&c->argv, "fd=%d,set=%d", set, set);
	return r < 0 ? r : set;
}

static int add2(struct strv *v, const char *a, const char *b)
{
	int r = strv_add(v, a);

	return r < 0 ? r : strv_add(v, b);
}

static int machine_args(const struct launch *l, struct strv *v)
{
	bool kvm = strcmp(l->accel, "kvm") == 0;
	unsigned long long mib = l->memory >> 20;
	int r = strv_add(v, l->qemu);

	r = r ?: add2(v, "-name", "vial");
	r = r ?: strv_add(v, "-M");
	/* What the guest has no use for costs start time: USB, SATA, SMBus, PS/2, the VMware port. */
	r = r
		    ?: strv_addf(v, "%s,usb=off,sata=off,smbus=off,i8042=off,vmport=off,memory-backend=mem",
				 l->machine);
	r = r ?: strv_add(v, "-accel");
	r = r ?: (kvm ? strv_add(v, "kvm") : strv_addf(v, "tcg,thread=multi,tb-size=%d", TB_SIZE_MIB));
	/* Five-level page tables make each of TCG's software walks longer. */
	r = r ?: add2(v, "-cpu", kvm ? "host" : "max,la57=off");
	r = r ?: strv_add(v, "-smp");
	r = r ?: strv_addf(v, "%u", l->vcpus);
	r = r ?: strv_add(v, "-m");
	r = r ?: strv_addf(v, "%lluM", mib);
	r = r ?: strv_add(v, "-object");
	r = r
		    ?: strv_addf(v, "memory-backend-file,id=mem,size=%lluM,mem-path=%s,share=%s", mib,
				 QEMU_PATH_MEM, l->mode == LAUNCH_RESTORE ? "off" : "on");
	r = r ?: strv_add(v, "-nodefaults");
	r = r ?: strv_add(v, "-no-user-config");
	r = r ?: add2(v, "-display", "none");
	r = r ?: add2(v, "-vga", "none");
	r = r ?: strv_add(v, "-no-reboot");
	return r;
}

static int channel_args(struct strv *v)
{
	int r = strv_add(v, "-chardev");

	r = r ?: strv_addf(v, "socket,id=qmp,fd=%d", QEMU_FD_QMP);
	r = r ?: add2(v, "-mon", "chardev=qmp,mode=control");
	r = r ?: strv_add(v, "-chardev");
	r = r ?: strv_addf(v, "socket,id=agent,fd=%d", QEMU_FD_AGENT);
	r = r ?: strv_add(v, "-chardev");
	r = r ?: strv_addf(v, "socket,id=console,fd=%d", QEMU_FD_CONSOLE);
	r = r ?: add2(v, "-serial", "chardev:console");
	return r;
}

/* A VMDK descriptor joins the extents to one disk; QEMU has no other driver that concatenates. */
static int vmdk_descriptor(const struct launch *l, const int *sets)
{
	_cleanup_buf_ struct buf text = { 0 };
	uint64_t sectors = 0;

	buf_puts(&text, "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
			"createType=\"twoGbMaxExtentFlat\"\n");
	for (size_t i = 0; i < l->n_extents; i++) {
		/* QEMU skips extents that are not called RW; the disk itself is opened read-only. */
		buf_printf(&text, "RW %llu FLAT \"/dev/fdset/%d\" 0\n",
			   (unsigned long long)l->extent_bytes[i] / 512, sets[i]);
		sectors += l->extent_bytes[i] / 512;
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
static int layers_args(const struct launch *l, const int *sets, struct qemu_cmd *c)
{
	int set, r;

	c->vmdk_fd = vmdk_descriptor(l, sets);
	if (c->vmdk_fd < 0)
		return c->vmdk_fd;
	set = add_fdset(c, c->vmdk_fd);
	r = set < 0 ? set : strv_add(&c->argv, "-blockdev");
	r = r
		    ?: strv_addf(&c->argv,
				 "{\"driver\":\"vmdk\",\"node-name\":\"layers\",\"read-only\":true,\"file\":{"
				 "\"driver\":\"file\","
				 "\"filename\":\"/dev/fdset/%d\",\"locking\":\"off\",\"read-only\":true}}",
				 set);
	r = r ?: strv_add(&c->argv, "-blockdev");
	return r
		       ?: strv_add(&c->argv, "{\"driver\":\"raw\",\"node-name\":\"root\",\"read-only\":true,"
					     "\"file\":\"layers\"}");
}

static int root_args(const struct launch *l, struct qemu_cmd *c)
{
	int sets[LAUNCH_EXTENTS_MAX] = { 0 };
	int r;

	for (size_t i = 0; i < l->n_extents; i++) {
		sets[i] = add_fdset(c, launch_fd(l, LAUNCH_FD_EXTENT, i));
		if (sets[i] < 0)
			return sets[i];
	}
	if (l->n_extents > 1)
		return layers_args(l, sets, c);
	r = strv_add(&c->argv, "-blockdev");
	return r
		       ?: strv_addf(&c->argv,
				    "{\"driver\":\"raw\",\"node-name\":\"root\",\"read-only\":true,\"file\":{"
				    "\"driver\":"
				    "\"file\",\"filename\":\"/dev/fdset/"
				    "%d\",\"locking\":\"off\",\"read-only\":true}}",
				    sets[0]);
}

/* One file of the writable disk's chain, as the inside of a JSON object. */
static int chain_file(struct qemu_cmd *c, int fd, const char *driver, const char *more, struct buf *json)
{
	int set = add_fdset(c, fd);

	if (set < 0)
		return set;
	buf_printf(json,
		   "\"driver\":\"%s\",%s\"file\":{\"driver\":\"file\",\"filename\":\"/dev/fdset/%d\",%s"
		   "\"locking\":\"off\"}",
		   driver, more, set, more);
	return 0;
}

/* The writable disk: the box's qcow2, over what its template wrote if there is that, over the pre-made ext4. */
static int upper_args(const struct launch *l, struct qemu_cmd *c)
{
	static const char read_only[] = "\"read-only\":true,", discard[] = "\"discard\":\"unmap\",";
	int mid = launch_fd(l, LAUNCH_FD_UPPER_MID, 0);
	_cleanup_buf_ struct buf json = { 0 };
	int r;

	buf_puts(&json, "{\"node-name\":\"upper\",");
	r = chain_file(c, launch_fd(l, LAUNCH_FD_UPPER, 0), "qcow2", discard, &json);
	buf_puts(&json, ",\"backing\":{");
	if (r == 0 && mid >= 0) {
		r = chain_file(c, mid, "qcow2", read_only, &json);
		buf_puts(&json, ",\"backing\":{");
	}
	r = r ?: chain_file(c, launch_fd(l, LAUNCH_FD_UPPER_BASE, 0), "raw", read_only, &json);
	buf_puts(&json, mid >= 0 ? "}}}" : "}}");
	if (r == 0 && !buf_cstr(&json))
		r = -ENOMEM;
	r = r ?: strv_add(&c->argv, "-blockdev");
	return r ?: strv_add(&c->argv, json.data);
}

static int device_args(struct strv *v)
{
	int r = strv_add(v, "-device");

	/* Two ports: each costs two virtqueues that the guest sets up at boot. */
	r = r
		    ?: strv_addf(v, "virtio-serial-pci,id=ser,addr=%d,max_ports=2,disable-legacy=on",
				 LAYOUT_SLOT_SERIAL);
	r = r ?: add2(v, "-device", "virtserialport,bus=ser.0,nr=1,chardev=agent,name=vial.agent.0");
	r = r ?: strv_add(v, "-device");
	r = r
		    ?: strv_addf(v,
				 "virtio-blk-pci,drive=root,serial=%s,addr=%d,num-queues=1,disable-legacy=on",
				 LAYOUT_ROOT_SERIAL, LAYOUT_SLOT_ROOT);
	r = r ?: strv_add(v, "-device");
	r = r
		    ?: strv_addf(
			       v,
			       "virtio-blk-pci,drive=upper,serial=%s,addr=%d,num-queues=1,disable-legacy=on",
			       LAYOUT_UPPER_SERIAL, LAYOUT_SLOT_UPPER);
	r = r ?: strv_add(v, "-device");
	r = r ?: strv_addf(v, "virtio-rng-pci,addr=%d,disable-legacy=on", LAYOUT_SLOT_RNG);
	return r;
}

static int kernel_args(const struct launch *l, struct strv *v)
{
	/*
	 * A restore must name a kernel too, or the option ROM that boots it would be missing from the
	 * machine; it is a stub of a few KiB then, never run, in place of some 20 MiB read and kept.
	 */
	int r = add2(v, "-kernel", QEMU_PATH_KERNEL);

	if (launch_incoming(l))
		return r ?: add2(v, "-incoming", "defer");
	r = r ?: add2(v, "-initrd", QEMU_PATH_INITRD);
	/* Started over QMP: events are not told before its negotiation. */
	r = r ?: strv_add(v, "-S");
	return r ?: add2(v, "-append", l->cmdline);
}

int qemu_args(const struct launch *l, struct qemu_cmd *ret, struct vial_err *err)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c = { .vmdk_fd = -1 };
	int r;

	if (l->n_extents == 0 || !l->qemu || !l->machine || !l->accel || (!l->cmdline && !launch_incoming(l)))
		return err_set(err, VIAL_E_INVALID,
			       "launch description lacks a program, a machine, a root disk or a command line");
	if (launch_fd(l, LAUNCH_FD_EXTENT, l->n_extents - 1) < 0 || launch_fd(l, LAUNCH_FD_UPPER, 0) < 0 ||
	    launch_fd(l, LAUNCH_FD_UPPER_BASE, 0) < 0)
		return err_set(err, VIAL_E_INVALID, "launch description lacks a disk's descriptor");
	r = machine_args(l, &c.argv);
	r = r ?: channel_args(&c.argv);
	r = r ?: root_args(l, &c);
	r = r ?: upper_args(l, &c);
	r = r ?: device_args(&c.argv);
	r = r ?: kernel_args(l, &c.argv);
	if (r < 0)
		return err_sys(err, r, "compose QEMU's command line");
	*ret = c;
	c = (struct qemu_cmd){ .vmdk_fd = -1 };
	return 0;
}
