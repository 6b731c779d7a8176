// SPDX-License-Identifier: Apache-2.0
// The machine's virtio devices, from its launch description: each in its window of the layout.
#include <errno.h>
#include <fcntl.h>

#include "base/err.h"
#include "vmm/block/block.h"
#include "vmm/machine.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vsock.h"

/* What a box writes goes with it when the host crashes: there is no one to whom a flush could matter. */
#define SYNC BLOCK_NO_SYNC

static int open_root(struct machine *m, struct block **ret, struct vial_err *err)
{
	struct extent e[EXTENTS_MAX];

	if (m->launch.n_extents > EXTENTS_MAX)
		return err_set(err, VIAL_E_LIMIT, "%zu extents, at most %d", m->launch.n_extents,
			       EXTENTS_MAX);
	for (size_t i = 0; i < m->launch.n_extents; i++)
		e[i] = (struct extent){ machine_fd(m, VMM_FD_EXTENT, i), m->launch.extent_bytes[i] };
	return extents_open(e, m->launch.n_extents, ret, err);
}

static int open_upper(struct machine *m, struct block **ret, struct vial_err *err)
{
	_cleanup_(block_closep) struct block *below = NULL;
	int fd, r = raw_open(machine_fd(m, VMM_FD_UPPER_BASE, 0), SYNC, &below, err);

	for (size_t i = 0; r == 0 && (fd = machine_fd(m, VMM_FD_UPPER_MID, i)) >= 0; i++) {
		struct block *mid;
		r = qcow2_open(fd, below, SYNC, &mid, err);
		if (r == 0)
			below = mid;
	}
	if (r == 0)
		r = qcow2_open(machine_fd(m, VMM_FD_UPPER, 0), below, SYNC, ret, err);
	if (r < 0)
		return r;
	below = NULL;
	if ((*ret)->size == m->launch.upper_bytes)
		return 0;
	block_close(*ret);
	return err_set(err, VIAL_E_CORRUPT, "the writable disk has another size than its description says");
}

static int add_disk(struct machine *m, enum machine_window w, struct block *disk, const char *serial,
		    struct vial_err *err)
{
	const struct virtio_env env = machine_env(m);
	const struct blk_conf conf = { disk, serial, m->launch.disks_differ, BLK_WORKER_SLOW,
				       m->launch.without };
	struct virtio_dev *dev;
	int r = blk_new(&env, &conf, &dev);

	if (r == 0)
		return machine_add(m, w, dev, err);
	block_close(disk);
	return err_sys(err, r, "disk %s", serial);
}

static int add_disks(struct machine *m, struct vial_err *err)
{
	struct block *disk;
	int r = open_root(m, &disk, err);

	if (r < 0)
		return err_prefix(err, "root disk");
	r = add_disk(m, WINDOW_ROOT, disk, "vial-root", err);
	if (r < 0)
		return r;
	r = open_upper(m, &disk, err);
	if (r < 0)
		return err_prefix(err, "writable disk");
	return add_disk(m, WINDOW_UPPER, disk, "vial-upper", err);
}

static int add_vsock(struct machine *m, struct vial_err *err)
{
	const struct virtio_env env = machine_env(m);
	const struct vsock_host host = { m, control_guest_connects };
	struct virtio_dev *dev;
	int r = vsock_new(&env, &host, &dev);

	return r < 0 ? err_sys(err, r, "vsock device") : machine_add(m, WINDOW_VSOCK, dev, err);
}

/* add_small() - those that need nothing but, at most, a descriptor */
static int add_small(struct machine *m, struct vial_err *err)
{
	const struct virtio_env env = machine_env(m);
	struct virtio_dev *dev;
	int net = machine_fd(m, VMM_FD_NET, 0);
	int r = console_new(&env, machine_fd(m, VMM_FD_CONSOLE, 0), &dev);

	r = r < 0 ? err_sys(err, r, "console device") : machine_add(m, WINDOW_CONSOLE, dev, err);
	if (r < 0)
		return r;
	r = rng_new(&env, &dev);
	r = r < 0 ? err_sys(err, r, "entropy device") : machine_add(m, WINDOW_RNG, dev, err);
	if (r < 0)
		return r;
	/* Who was saved with it goes on with it. */
	r = balloon_new(&env, m->launch.mode == VMM_RESTORE, &dev);
	r = r < 0 ? err_sys(err, r, "balloon device") : machine_add(m, WINDOW_BALLOON, dev, err);
	if (r < 0 || net < 0)
		return r;
	r = net_new(&env, net, &dev);
	return r < 0 ? err_sys(err, r, "network device") : machine_add(m, WINDOW_NET, dev, err);
}

int machine_fork_upper(struct machine *m, int fd, struct vial_err *err)
{
	struct virtio_dev *dev = m->windows[WINDOW_UPPER].dev;

	if (!dev)
		return err_set(err, VIAL_E_STATE, "the machine has no writable disk");
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return err_sys(err, -errno, "switch the writable disk");
	return block_fork(blk_disk(dev), copy, SYNC, err);
}

int machine_devices(struct machine *m, struct vial_err *err)
{
	int r = m->launch.n_extents > 0 ? add_disks(m, err) : 0;

	if (r == 0)
		r = add_vsock(m, err);
	return r < 0 ? r : add_small(m, err);
}
