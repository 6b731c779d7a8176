// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/precopy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "vmm/machine.h"

#define TURN_PAGES 64 /* copied between two looks at the devices */

/* rest() - no device has a chain in flight; they go on by resume_devices(). 0 or -errno */
static int rest(struct machine *m)
{
	int r = 0;

	for (uint32_t w = 0; r == 0 && w < WINDOWS_N; w++)
		if (m->windows[w].dev)
			r = mmio_quiesce(&m->windows[w]);
	return r;
}

static void end(struct machine *m)
{
	loop_src_free(m->precopy);
	m->precopy = NULL;
	control_done(m, VMM_AHEAD, 0, NULL);
}

static bool another_round(struct machine *m)
{
	bool more = rest(m) == 0 && delta_round(&m->delta, &m->vm);

	machine_poke(m);
	return more;
}

static void on_turn(struct loop_src *src, void *data)
{
	struct machine *m = data;
	int r = delta_step(&m->delta, &m->mem, TURN_PAGES);

	if (r < 0) {
		log_debug("writing memory ahead: %s", strerror(-r));
		delta_drop(&m->delta, &m->mem);
	}
	if (r > 0 || (r == 0 && another_round(m)))
		loop_timer_set(src, 1);
	else
		end(m);
}

static int start(struct machine *m, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int r = copy < 0 ? -errno : rest(m);

	r = r ?: delta_begin(&m->delta, &m->vm, &m->map, copy);
	machine_poke(m);
	if (r < 0)
		fd_close(&copy);
	return r;
}

void precopy_start(struct machine *m, int fd)
{
	bool possible = m->map.layers > 0 && m->mem.dirty && !m->mem.shared;
	int r;

	precopy_stop(m);
	precopy_drop(m);
	r = possible ? loop_add_timer(m->loop, on_turn, m, &m->precopy) : -EOPNOTSUPP;
	r = r ?: start(m, fd);
	if (r < 0) {
		log_debug("writing memory ahead: %s", strerror(-r));
		end(m);
		return;
	}
	loop_timer_set(m->precopy, 1);
}

void precopy_stop(struct machine *m)
{
	if (!m->precopy)
		return;
	delta_stop(&m->delta, &m->mem);
	end(m);
}

void precopy_drop(struct machine *m)
{
	if (m->delta.copied)
		delta_drop(&m->delta, &m->mem);
}

bool precopy_is(const struct machine *m, int fd)
{
	struct stat ours, theirs;

	return m->delta.copied && fstat(m->delta.fd, &ours) == 0 && fstat(fd, &theirs) == 0 &&
	       ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}
