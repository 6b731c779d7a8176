// SPDX-License-Identifier: Apache-2.0
/*
 * A box of this process.
 *
 * Theory of operation
 *
 * Files: boxes/<id> (boxdir.h) is made by the monitor, which outlives a client that is killed, and removed by it; box_free() looks
 * once more after it in case the monitor was killed. The writable disk has no name: it is gone with the last process that holds
 * it, whatever happens.
 * Start: box_start() returns when the monitor has said that commands can come (MON_DONE on the lifeline).
 */
#include "box/box.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "box/machine.h"
#include "box/saved.h"
#include "box/snapshot.h"
#include "box/warm.h"
#include "engine/qcow2.h"
#include "engine/template.h"
#include "wire/mon.h"

struct template_env box_template_env(struct vial *v, const char *monitor, uid_t uid)
{
	return (struct template_env){
		.dir_fd = v->templates_fd,
		.cache_fd = v->cache_fd,
		.monitor_path = monitor,
		.freezer_path = v->freezer,
		.thaw_path = v->thaw,
		.uid = uid,
		.gid = (gid_t)uid,
		.log_fd = v->log_fd,
		.log_level = (uint32_t)v->log_level,
		.progress = v->progress,
		.progress_data = v->progress_data,
	};
}

_Static_assert(IMAGE_EXTENTS_MAX <= LAUNCH_EXTENTS_MAX, "an image's extents fit a launch description");

int box_open_image(struct vial_box *b, struct vial_err *err)
{
	_cleanup_free_ char *unpack = NULL, *base = NULL;
	_cleanup_fd_ int lock = -1;
	const char *ref = b->spec->rootfs ? b->spec->rootfs : b->spec->image;
	struct image_env env = { .store_fd = b->home->images_fd, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	int r = home_helper(b->home, "vial-unpack", &unpack, err);

	if (r < 0)
		return r;
	if (asprintf(&base, "%s/base.tar", b->home->assets) < 0)
		return err_sys(err, -ENOMEM, "open the image");
	r = home_uid(b->home, &env.uid, &lock, err);
	if (r < 0)
		return r;
	env.gid = (gid_t)env.uid;
	env.unpack_path = unpack;
	env.base_path = base;
	env.progress = b->home->progress;
	env.progress_data = b->home->progress_data;
	if (!ref)
		ref = b->spec->default_image ? b->spec->default_image : "base";
	return image_open(&env, ref, b->spec->rootfs != NULL, &b->image, err);
}

int box_new(struct vial *v, struct vial_box **ret, struct vial_err *err)
{
	struct vial_box *b = calloc(1, sizeof(*b));
	uint8_t id[16];

	if (!b)
		return err_sys(err, -ENOMEM, "create a box");
	b->home = v;
	b->console_fd = b->upper_ro = b->upper_from = b->mem_fd = -1;
	b->lifeline_in.max = FRAME_MAX;
	launcher_init(&b->launcher);
	*ret = b; /* from here on destructible */
	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return err_sys(err, -EIO, "create a box: getrandom");
	str_hex(id, sizeof(id), b->id);
	return 0;
}

int box_create(struct vial *v, const struct vial_spec *spec, struct vial_box **ret, struct vial_err *err)
{
	_cleanup_(box_freep) struct vial_box *b = NULL;
	int r = spec_check(spec, err);

	if (r == 0 && spec->from)
		return box_create_from(v, spec->from, spec, false, ret, err);
	r = r ?: box_new(v, &b, err);
	r = r ?: spec_copy(spec, &b->spec, err);
	r = r ?: box_open_image(b, err);
	if (r < 0)
		return r;
	*ret = take_ptr(b);
	return 0;
}

/* ---- start ---- */

/* struct root_of - an image's root as templates want it; @t points into it */
struct root_of {
	struct template_root t;
	int fds[IMAGE_EXTENTS_MAX];
	uint64_t bytes[IMAGE_EXTENTS_MAX];
};

/* Descriptors stay the image's, but for t.base_fd, which is the caller's to close. */
static int root_of_image(struct vial *v, const struct image *i, struct root_of *ret, struct vial_err *err)
{
	struct stat st;

	*ret = (struct root_of){ .t = { .digest = i->digest, .fstype = i->fstype, .n = i->n_extents } };
	ret->t.base_name = "upper.ext4";
	ret->t.fds = ret->fds;
	ret->t.bytes = ret->bytes;
	for (size_t k = 0; k < i->n_extents; k++) {
		ret->fds[k] = i->extents[k].fd;
		ret->bytes[k] = i->extents[k].bytes;
	}
	ret->t.base_fd = home_asset(v, "upper.ext4", NULL, err);
	if (ret->t.base_fd < 0)
		return ret->t.base_fd;
	if (fstat(ret->t.base_fd, &st) < 0)
		return err_sys(err, -errno, "stat upper.ext4");
	ret->t.base_bytes = (uint64_t)st.st_size;
	return 0;
}

int box_file(struct vial *v)
{
	char name[48];
	int fd = openat(v->boxes_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd < 0 ? -errno : fd;
	snprintf(name, sizeof(name), ".file-%d", (int)getpid());
	fd = openat(v->boxes_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	(void)unlinkat(v->boxes_fd, name, 0);
	return fd;
}

/* The box's writable disk as its machine knows it: empty, or what a frozen one has written. */
static int first_upper(const struct vial_box *b, int fd, uint64_t bytes)
{
	return b->upper_from < 0 ? qcow2_init(fd, bytes) : fd_copy_sparse(b->upper_from, fd);
}

static int add_disks(struct vial_box *b, struct vial_err *err)
{
	struct launcher *l = &b->launcher;
	_cleanup_fd_ int upper = box_file(b->home);
	_cleanup_fd_ int base = -1;
	struct stat st;
	int r = 0;

	base = home_asset(b->home, "upper.ext4", NULL, err);
	if (base < 0)
		return base;
	r = upper < 0 ? upper : fstat(base, &st) < 0 ? -errno : first_upper(b, upper, (uint64_t)st.st_size);
	l->launch.upper_bytes = r < 0 ? 0 : (uint64_t)st.st_size;
	if (r == 0)
		r = b->upper_ro = fd_reopen(upper, O_RDONLY);
	r = r < 0 ? r : launcher_add_own(l, LAUNCH_FD_UPPER, take_fd(upper));
	r = r ?: launcher_add(l, LAUNCH_FD_UPPER_RO, b->upper_ro);
	for (size_t i = 0; r == 0 && i < b->n_mids; i++)
		r = launcher_add(l, LAUNCH_FD_UPPER_MID, b->mids[i]);
	r = r ?: launcher_add_own(l, LAUNCH_FD_UPPER_BASE, take_fd(base));
	for (size_t i = 0; r == 0 && i < b->image.n_extents; i++) {
		l->launch.extent_bytes[i] = b->image.extents[i].bytes;
		l->launch.n_extents = i + 1;
		r = launcher_add(l, LAUNCH_FD_EXTENT, b->image.extents[i].fd);
	}
	return r < 0 ? err_sys(err, r, "prepare the box's disks in '%s'", b->home->path) : 0;
}

static int describe(struct vial_box *b, const struct machine *m)
{
	struct launch *d = &b->launcher.launch;
	const char *hostname = b->spec->hostname;
	char short_id[13];

	/* Docker's habit: the first twelve digits of the id. */
	snprintf(short_id, sizeof(short_id), "%.12s", b->id);
	memcpy(d->id, b->id, sizeof(d->id));
	d->vcpus = m->t.vcpus;
	d->memory = m->t.memory;
	d->cpus = m->cpus;
	d->memory_max = m->memory;
	d->log_level = (uint32_t)b->home->log_level;
	d->cmdline = strdup(m->t.cmdline ? m->t.cmdline : "");
	d->fstype = strdup(b->image.fstype);
	d->hostname = strdup(hostname ? hostname : short_id);
	if (b->spec->console)
		d->console_shell = strdup("/bin/sh");
	if (!d->cmdline || !d->fstype || !d->hostname)
		return -ENOMEM;
	int r = launcher_add_host(&b->launcher, m->t.host);
	if (r < 0)
		return r;
	if (getrandom(d->next_key, LINK_KEY_SIZE, 0) != LINK_KEY_SIZE)
		return -EIO;
	return b->home->log_fd >= 0 ? launcher_add(&b->launcher, LAUNCH_FD_LOG, b->home->log_fd) : 0;
}

/* QEMU must be told of a kernel even where none is booted. */
static int add_stub(struct vial_box *b, const struct machine *m)
{
	if (m->t.host->engine != LAUNCH_QEMU)
		return 0;
	return launcher_add_own(&b->launcher, LAUNCH_FD_KERNEL, template_kernel_stub());
}

static int add_frozen(struct vial_box *b, struct template *t)
{
	struct launch *d = &b->launcher.launch;

	memcpy(d->reset_key, t->frozen_key, LINK_KEY_SIZE);
	d->thaw = strdup(b->home->thaw);
	if (!d->thaw)
		return -ENOMEM;
	b->upper_from = take_fd(t->frozen_upper_fd);
	return launcher_add_own(&b->launcher, LAUNCH_FD_FROZEN, take_fd(t->frozen_fd));
}

/* The file that memory is mapped from, which is taken over. vial-vmm's forks build on it; QEMU's write all anew. */
static int add_mem(struct vial_box *b, const struct machine *m, int fd)
{
	if (m->t.host->engine != LAUNCH_KVM)
		return launcher_add_own(&b->launcher, LAUNCH_FD_MEM, fd);
	b->mem_fd = fd;
	return launcher_add(&b->launcher, LAUNCH_FD_MEM, fd);
}

void box_forget_memory(struct vial_box *b)
{
	fd_close(&b->mem_fd);
	for (size_t i = 0; i < b->n_deltas; i++)
		fd_close(&b->deltas[i]);
	b->n_deltas = 0;
}

static int add_restore(struct vial_box *b, struct machine *m, const char *monitor, uid_t uid,
		       struct vial_err *err)
{
	const struct template_env env = box_template_env(b->home, monitor, uid);
	struct root_of root;
	struct template t;
	int r = root_of_image(b->home, &b->image, &root, err);

	if (r < 0)
		return r;
	m->t.root = &root.t;
	r = template_open(&env, &m->t, false, &t, err);
	m->t.root = NULL;
	fd_close(&root.t.base_fd);
	if (r < 0)
		return r;
	b->launcher.launch.mode = LAUNCH_RESTORE;
	b->launcher.launch.rooted = 1;
	memcpy(b->launcher.launch.reset_key, t.reset_key, LINK_KEY_SIZE);
	r = t.frozen_fd < 0 ? 0 : add_frozen(b, &t);
	int warm = m->t.host->engine == LAUNCH_KVM ? warm_open(b, m, &t) : -1;
	if (warm >= 0) {
		int added = launcher_add_own(&b->launcher, LAUNCH_FD_WARM, warm);
		r = r ?: added;
	}
	r = r ?: add_mem(b, m, take_fd(t.mem_fd));
	r = r ?: launcher_add_own(&b->launcher, LAUNCH_FD_STATE, take_fd(t.state_fd));
	b->mids[b->n_mids++] = take_fd(t.upper_fd);
	r = r ?: add_stub(b, m);
	template_done(&t);
	return r < 0 ? err_sys(err, r, "start from the template") : 0;
}

/* The machine that was saved says itself what it is. */
static int add_saved(struct vial_box *b, struct machine *m, struct vial_err *err)
{
	struct launch *d = &b->launcher.launch;
	struct saved *s = b->from;
	int r = home_host(b->home, err);

	if (r < 0)
		return r;
	m->t.host = &b->home->host;
	m->t.vcpus = s->vcpus;
	m->t.memory = s->memory;
	m->cpus = s->cpus;
	m->memory = s->memory_max;
	d->mode = LAUNCH_RESTORE;
	d->rooted = 1;
	d->untrusted = d->strict = s->untrusted;
	memcpy(d->reset_key, s->key, LINK_KEY_SIZE);
	for (; b->n_mids < s->n_mids; b->n_mids++)
		b->mids[b->n_mids] = take_fd(s->mids[b->n_mids]);
	s->n_mids = 0;
	r = add_mem(b, m, take_fd(s->mem_fd));
	for (; r == 0 && b->n_deltas < s->n_deltas; b->n_deltas++) {
		b->deltas[b->n_deltas] = take_fd(s->deltas[b->n_deltas]);
		r = launcher_add(&b->launcher, LAUNCH_FD_DELTA, b->deltas[b->n_deltas]);
	}
	r = r ?: launcher_add_own(&b->launcher, LAUNCH_FD_STATE, take_fd(s->state_fd));
	r = r ?: add_stub(b, m);
	return r < 0 ? err_sys(err, r, "start from a saved machine") : 0;
}

/* vial-vmm makes its own, which it can give back page by page. */
static int cold_memory(uint64_t bytes)
{
	_cleanup_fd_ int fd = memfd_create("vial-memory", MFD_CLOEXEC);

	return fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ? -errno : take_fd(fd);
}

/* With a console the guest is booted before the user's eyes. */
static int add_cold(struct vial_box *b, const struct machine *m, struct vial_err *err)
{
	struct launcher *l = &b->launcher;
	int sv[2], r = 0;

	l->launch.mode = LAUNCH_COLD;
	if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		r = -errno;
	if (r == 0) {
		b->console_fd = sv[0];
		r = launcher_add_own(l, LAUNCH_FD_CONSOLE, sv[1]);
	}
	if (m->t.host->engine == LAUNCH_QEMU)
		r = r ?: launcher_add_own(l, LAUNCH_FD_MEM, cold_memory(m->t.memory));
	r = r ?: launcher_add(l, LAUNCH_FD_KERNEL, m->t.kernel_fd);
	r = r ?: launcher_add_own(l, LAUNCH_FD_INITRD, template_initrd(&m->t));
	return r < 0 ? err_sys(err, r, "boot with a console") : 0;
}

static int add_memory(struct vial_box *b, struct machine *m, const char *monitor, uid_t uid,
		      struct vial_err *err)
{
	int r;

	if (b->from)
		return add_saved(b, m, err);
	r = machine_init(b->home, b->spec, &b->image, m, err);
	if (r < 0)
		return r;
	return b->spec->console ? add_cold(b, m, err) : add_restore(b, m, monitor, uid, err);
}

/* The monitor's next word on the lifeline: 1, or 0 when it has closed it. An error that it tells is set and returned. */
static int next_word(struct vial_box *b, struct mon_msg *ret, struct vial_err *err)
{
	const uint8_t *p;
	char chunk[1024];
	size_t n;
	int r;

	while ((r = frame_in_next(&b->lifeline_in, &p, &n)) == 0) {
		ssize_t got = recv(b->launcher.lifeline, chunk, sizeof(chunk), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || frame_in_push(&b->lifeline_in, chunk, (size_t)got) < 0)
			return 0;
	}
	if (r < 0 || mon_msg_decode(p, n, ret) < 0)
		return 0;
	if (ret->type != MON_ERROR)
		return 1;
	return err_set(err, ret->error.code < 0 ? ret->error.code : VIAL_E_ENGINE, "%.*s",
		       (int)ret->error.text.n, (const char *)ret->error.text.p);
}

static int wait_made(struct vial_box *b, struct vial_err *err)
{
	struct mon_msg m;
	int r = next_word(b, &m, err);

	if (r < 0)
		return r;
	if (r == 0 || m.type != MON_DONE)
		return err_set(err, VIAL_E_ENGINE, "the box's monitor ended before it began");
	return 0;
}

int box_start(struct vial_box *b, struct vial_err *err)
{
	_cleanup_(machine_done) struct machine m = { .t.kernel_fd = -1 };
	_cleanup_free_ char *monitor = NULL;
	uid_t uid;
	int lock, r;

	if (b->started)
		return err_set(err, VIAL_E_STATE, "the box was started already");
	home_sweep(b->home);
	r = home_helper(b->home, "vial-monitor", &monitor, err);
	r = r ?: home_uid(b->home, &uid, &lock, err);
	if (r < 0)
		return r;
	if (lock >= 0 && launcher_add_own(&b->launcher, LAUNCH_FD_HOLD, lock) < 0)
		return err_sys(err, -EMFILE, "start the box");
	r = add_memory(b, &m, monitor, uid, err);
	r = r ?: add_disks(b, err);
	if (r < 0)
		return r;
	r = describe(b, &m);
	/* Opened anew: its lock is this monitor's alone. */
	r = r
		    ?: launcher_add_own(&b->launcher, LAUNCH_FD_BOXES,
					fd_reopen(b->home->boxes_fd, O_RDONLY | O_DIRECTORY));
	if (r < 0)
		return err_sys(err, r, "start the box");
	r = launcher_start(&b->launcher, monitor, uid, (gid_t)uid, err);
	if (r < 0)
		return r;
	b->started = true;
	return wait_made(b, err);
}

int box_prepare(struct vial *v, const struct vial_spec *spec, bool force, struct vial_err *err)
{
	_cleanup_(box_freep) struct vial_box *b = NULL;
	_cleanup_(machine_done) struct machine m = { .t.kernel_fd = -1 };
	_cleanup_free_ char *monitor = NULL;
	_cleanup_fd_ int lock = -1;
	struct template t;
	uid_t uid;
	int r = box_create(v, spec, &b, err);

	r = r ?: machine_init(v, spec, &b->image, &m, err);
	r = r ?: home_helper(v, "vial-monitor", &monitor, err);
	r = r ?: home_uid(v, &uid, &lock, err);
	if (r < 0)
		return r;
	const struct template_env env = box_template_env(v, monitor, uid);
	r = template_open(&env, &m.t, force, &t, err);
	if (r < 0)
		return r;
	template_done(&t);
	struct root_of root;
	r = root_of_image(v, &b->image, &root, err);
	if (r < 0)
		return r;
	m.t.root = &root.t;
	r = template_open(&env, &m.t, force, &t, err);
	fd_close(&root.t.base_fd);
	if (r < 0)
		return r;
	int warm = m.t.host->engine == LAUNCH_KVM ? warm_open(b, &m, &t) : -1;
	fd_close(&warm);
	template_done(&t);
	return 0;
}

/* ---- end ---- */

static int wait_end(struct vial_box *b, struct vial_err *err)
{
	struct mon_msg m;
	int r;

	while ((r = next_word(b, &m, err)) > 0)
		;
	return r;
}

int box_stop(struct vial_box *b, uint32_t timeout_ms, struct vial_err *err)
{
	_cleanup_buf_ struct buf frame = { 0 };
	struct mon_msg m = { .type = MON_STOP, .u32 = timeout_ms };
	int r;

	if (!b->started || b->launcher.pid == 0)
		return err_set(err, VIAL_E_STATE, "the box does not run");
	r = mon_msg_put(&frame, &m);
	if (r == 0)
		r = fd_send(b->launcher.lifeline, frame.data, frame.len, NULL, 0) < 0 ? -errno : 0;
	r = r < 0 && r != -EPIPE ? err_sys(err, r, "stop the box") : wait_end(b, err);
	launcher_end(&b->launcher);
	return r;
}

void box_free(struct vial_box *b)
{
	if (!b)
		return;
	launcher_done(&b->launcher);
	if (b->started) /* in case the monitor was killed */
		(void)path_rm_rf_at(b->home->boxes_fd, b->id);
	fd_close(&b->console_fd);
	fd_close(&b->upper_ro);
	fd_close(&b->upper_from);
	for (size_t i = 0; i < b->n_mids; i++)
		fd_close(&b->mids[i]);
	box_forget_memory(b);
	saved_free(b->from);
	frame_in_done(&b->lifeline_in);
	image_done(&b->image);
	spec_free(b->spec);
	free(b);
}
