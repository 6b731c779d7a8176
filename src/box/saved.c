// SPDX-License-Identifier: Apache-2.0
/*
 * Saving a running box.
 *
 * Theory of operation
 *
 * Files have no names: they are gone with the last process that holds them. The box's monitor writes the machine into one (a
 * stream) or two (state and memory, see enum engine_form); a stream is then turned into the pair by a machine of its own
 * (convert.h), while the box goes on. Of the writable disk nothing is copied: the box gets a new file on top, and the old
 * one, which it writes no more, belongs to both. Each snapshot and each fork makes that chain longer by one, to
 * LAUNCH_UPPERS_MAX.
 * Memory likewise, where the engine maps it from files (kvm): a fork writes what has changed into a memfd, and box and children
 * go on over the box's files and that one, which is sealed: nobody can change what the others see. So pages move, they are
 * not doubled. A snapshot for a file is written whole instead, since it must stand alone, and changes nothing here.
 */
#include "box/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "box/request.h"
#include "engine/convert.h"
#include "engine/engine.h"
#include "engine/qcow2.h"

void saved_done(struct saved *s)
{
	fd_close(&s->mem_fd);
	fd_close(&s->state_fd);
	for (size_t i = 0; i < s->n_deltas; i++)
		fd_close(&s->deltas[i]);
	s->n_deltas = 0;
	for (size_t i = 0; i < s->n_mids; i++)
		fd_close(&s->mids[i]);
	s->n_mids = 0;
}

void saved_free(struct saved *s)
{
	if (s)
		saved_done(s);
	free(s);
}

int saved_add_mid(struct saved *s, int fd)
{
	if (s->n_mids == LAUNCH_UPPERS_MAX)
		return -EMFILE;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	s->mids[s->n_mids++] = copy;
	return 0;
}

static int add_delta(struct saved *s, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return -errno;
	s->deltas[s->n_deltas++] = copy;
	return 0;
}

int saved_copy(const struct saved *s, struct saved *ret)
{
	_cleanup_(saved_done) struct saved t = *s;
	int r = 0;

	t.n_mids = t.n_deltas = 0;
	t.mem_fd = fcntl(s->mem_fd, F_DUPFD_CLOEXEC, 0);
	t.state_fd = fd_reopen(s->state_fd, O_RDONLY); /* each reader has an offset of its own */
	if (t.mem_fd < 0 || t.state_fd < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < s->n_mids; i++)
		r = saved_add_mid(&t, s->mids[i]);
	for (size_t i = 0; r == 0 && i < s->n_deltas; i++)
		r = add_delta(&t, s->deltas[i]);
	if (r < 0)
		return r;
	*ret = t;
	t = SAVED_NONE;
	return 0;
}

/* ---- taking ---- */

struct files {
	int state, mem, upper, upper_ro;
};

static void files_done(struct files *f)
{
	fd_close(&f->state);
	fd_close(&f->mem);
	fd_close(&f->upper);
	fd_close(&f->upper_ro);
}

/* A delta is as large as the memory that it takes the place of, so it may be memory. */
static int make_mem(struct vial_box *b, bool delta)
{
	int fd = delta ? memfd_create("vial-delta", MFD_CLOEXEC | MFD_ALLOW_SEALING) : box_file(b->home);

	return fd < 0 && delta ? -errno : fd;
}

static int make_files(struct vial_box *b, bool delta, struct files *f)
{
	f->state = box_file(b->home);
	f->mem = f->state < 0 ? -1 : make_mem(b, delta);
	f->upper = f->mem < 0 ? f->mem : box_file(b->home);
	if (f->state < 0 || f->mem < 0 || f->upper < 0)
		return f->state < 0 ? f->state : f->mem < 0 ? f->mem : f->upper;
	int r = qcow2_init(f->upper, b->launcher.launch.upper_bytes);
	if (r < 0)
		return r;
	f->upper_ro = fd_reopen(f->upper, O_RDONLY);
	return f->upper_ro < 0 ? f->upper_ro : 0;
}

/* Both ends of a file that is complete: what is handed on can only be read. */
static int read_only(int *fd)
{
	int ro = fd_reopen(*fd, O_RDONLY);

	if (ro < 0)
		return ro;
	fd_close(fd);
	*fd = ro;
	return 0;
}

/* The box goes on in the new upper: the one until now is frozen. */
static void push_upper(struct vial_box *b, struct files *f)
{
	b->mids[b->n_mids++] = b->upper_ro;
	b->upper_ro = take_fd(f->upper_ro);
}

static int convert(struct vial_box *b, struct files *f, struct vial_err *err)
{
	_cleanup_free_ char *monitor = NULL;
	_cleanup_fd_ int lock = -1, stream = take_fd(f->state);
	uid_t uid;
	int r = home_helper(b->home, "vial-monitor", &monitor, err);

	r = r ?: home_uid(b->home, &uid, &lock, err);
	if (r < 0)
		return r;
	const struct template_env env = box_template_env(b->home, monitor, uid);
	f->state = box_file(b->home);
	if (f->state < 0)
		return err_sys(err, f->state, "save the box in '%s'", b->home->path);
	return convert_stream(&env, &b->launcher.launch, stream, f->mem, f->state, err);
}

/* Where the engine reads the memory from: what was written, or that over the box's files, which is the box's memory from now on. */
static int collect_memory(struct vial_box *b, struct files *f, bool delta, struct saved *ret)
{
	int r = delta && fcntl(f->mem, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0 ? -errno
												    : 0;

	r = r ?: read_only(&f->mem);
	if (r < 0)
		return r;
	if (!delta) {
		ret->mem_fd = take_fd(f->mem);
		return 0;
	}
	b->deltas[b->n_deltas++] = take_fd(f->mem);
	ret->mem_fd = fcntl(b->mem_fd, F_DUPFD_CLOEXEC, 0);
	r = ret->mem_fd < 0 ? -errno : 0;
	for (size_t i = 0; r == 0 && i < b->n_deltas; i++)
		r = add_delta(ret, b->deltas[i]);
	return r;
}

static int collect(struct vial_box *b, struct files *f, bool delta, struct saved *ret, struct vial_err *err)
{
	int r = read_only(&f->state);

	r = r ?: collect_memory(b, f, delta, ret);
	for (size_t i = 0; r == 0 && i < b->n_mids; i++)
		r = saved_add_mid(ret, b->mids[i]);
	if (r < 0)
		return err_sys(err, r, "save the box");
	ret->state_fd = take_fd(f->state);
	ret->vcpus = b->launcher.launch.vcpus;
	ret->memory = b->launcher.launch.memory;
	ret->cpus = b->launcher.launch.cpus;
	ret->memory_max = b->launcher.launch.memory_max;
	ret->upper_bytes = b->launcher.launch.upper_bytes;
	ret->untrusted = b->launcher.launch.untrusted;
	return 0;
}

/* Has the monitor take it; the layers of the box's disk are right afterwards, whatever happens. */
static int request(struct vial_box *b, bool delta, struct files *f, struct mon_msg *ret, struct vial_err *err)
{
	/* What a start writes is wanted of a box that is recorded, nothing else. */
	const uint32_t flags = (delta ? MON_SNAP_DELTA : 0U) | (b->recording ? 0U : MON_SNAP_SYNC);
	const struct mon_msg ask = { .type = MON_SNAPSHOT, .u32 = flags };
	const int fds[MON_SNAPSHOT_FDS] = { f->state, f->mem, f->upper, f->upper_ro };
	int r = request_send(b, &ask, fds, MON_SNAPSHOT_FDS, ret, err);

	if (ret->type == MON_SNAPSHOTTED)
		push_upper(b, f);
	if (r == 0 && ret->type != MON_SNAPSHOTTED)
		return err_set(err, VIAL_E_PROTOCOL, "the box's monitor has not saved what it says it has");
	if (r == 0 && delta != (ret->snapshotted.form == ENGINE_FORM_DELTA))
		r = err_set(err, VIAL_E_PROTOCOL,
			    "the box's monitor saved something else than it was asked to");
	return r;
}

int saved_take(struct vial_box *b, bool whole, struct saved *ret, struct vial_err *err)
{
	_cleanup_(saved_done) struct saved s = SAVED_NONE;
	_cleanup_(files_done) struct files f = { -1, -1, -1, -1 };
	bool delta = !whole && b->mem_fd >= 0 && b->n_deltas < LAUNCH_UPPERS_MAX;
	struct mon_msg m = { 0 };
	int r = request_ready(b, err);

	if (r < 0)
		return r;
	if (b->n_mids == LAUNCH_UPPERS_MAX)
		return err_set(err, VIAL_E_LIMIT,
			       "the box's disk has %d layers already, one for each snapshot and fork: no "
			       "more can be taken",
			       LAUNCH_UPPERS_MAX);
	r = make_files(b, delta, &f);
	if (r < 0)
		return err_sys(err, r, "save the box in '%s'", b->home->path);
	r = request(b, delta, &f, &m, err);
	if (r == 0) {
		memcpy(s.key, m.snapshotted.key, LINK_KEY_SIZE);
		b->pause_us = m.snapshotted.pause_us;
		r = m.snapshotted.form == ENGINE_FORM_STREAM ? convert(b, &f, err) : 0;
	}
	r = r ?: collect(b, &f, delta, &s, err);
	if (r < 0) {
		/* It may go on over a delta that is lost here. */
		if (delta)
			box_forget_memory(b);
		return r;
	}
	*ret = s;
	s = SAVED_NONE;
	return 0;
}
