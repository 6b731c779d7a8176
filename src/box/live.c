// SPDX-License-Identifier: Apache-2.0
// What can be done to a running box as a whole: pause, resume, new limits, forks.
#include "box/live.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "box/request.h"
#include "box/saved.h"

int box_pause(struct vial_box *b, struct vial_err *err)
{
	return request_send(b, &(struct mon_msg){ .type = MON_PAUSE }, NULL, 0, NULL, err);
}

int box_resume(struct vial_box *b, struct vial_err *err)
{
	return request_send(b, &(struct mon_msg){ .type = MON_RESUME }, NULL, 0, NULL, err);
}

/* ---- limits ---- */

static int check_limits(const struct vial_box *b, const struct vial_limits *l, struct vial_err *err)
{
	const struct vial_spec *s = b->spec;
	uint64_t cpus_max = MAX(s->max_cpus, s->cpus), memory_max = MAX(s->max_memory_bytes, s->memory_bytes);

	if (l->cpus > cpus_max)
		return err_set(err, VIAL_E_INVALID,
			       "cpus: %u is more than the box can have (%llu; see --max-cpus)", l->cpus,
			       (unsigned long long)cpus_max);
	if (l->memory_bytes && l->memory_bytes < SPEC_MEMORY_MIN)
		return err_set(err, VIAL_E_INVALID, "memory: less than %llu MiB",
			       (unsigned long long)(SPEC_MEMORY_MIN >> 20));
	if (l->memory_bytes > memory_max)
		return err_set(err, VIAL_E_INVALID,
			       "memory: %llu MiB is more than the box can have (%llu MiB; see --max-memory)",
			       (unsigned long long)(l->memory_bytes >> 20),
			       (unsigned long long)(memory_max >> 20));
	return 0;
}

int box_update(struct vial_box *b, const struct vial_limits *l, struct vial_err *err)
{
	struct launch *d = &b->launcher.launch;
	struct mon_msg m = { .type = MON_UPDATE };
	int r = request_ready(b, err);

	r = r ?: check_limits(b, l, err);
	if (r < 0)
		return r;
	/* 0 is "unchanged" in @l, and "the whole machine" for the monitor. */
	m.update.cpus = l->cpus == 0 ? d->cpus : l->cpus == d->vcpus ? 0 : l->cpus;
	m.update.memory = l->memory_bytes == 0		 ? d->memory_max
			  : l->memory_bytes == d->memory ? 0
							 : l->memory_bytes;
	r = request_send(b, &m, NULL, 0, NULL, err);
	if (r < 0)
		return r;
	d->cpus = m.update.cpus;
	d->memory_max = m.update.memory;
	return 0;
}

/* ---- forks ---- */

static int copy_image(const struct image *i, struct image *ret)
{
	_cleanup_(image_done) struct image c = { 0 };
	int r = strv_copy(&c.config.entrypoint, &i->config.entrypoint);

	r = r ?: strv_copy(&c.config.cmd, &i->config.cmd);
	r = r ?: strv_copy(&c.config.env, &i->config.env);
	if (r < 0)
		return r;
	memcpy(c.fstype, i->fstype, sizeof(c.fstype));
	memcpy(c.digest, i->digest, sizeof(c.digest));
	c.config.user = i->config.user ? strdup(i->config.user) : NULL;
	c.config.workdir = i->config.workdir ? strdup(i->config.workdir) : NULL;
	if ((i->config.user && !c.config.user) || (i->config.workdir && !c.config.workdir))
		return -ENOMEM;
	for (; c.n_extents < i->n_extents; c.n_extents++) {
		c.extents[c.n_extents].bytes = i->extents[c.n_extents].bytes;
		c.extents[c.n_extents].fd = fcntl(i->extents[c.n_extents].fd, F_DUPFD_CLOEXEC, 0);
		if (c.extents[c.n_extents].fd < 0)
			return -errno;
	}
	*ret = c;
	c = (struct image){ 0 };
	return 0;
}

static int make_child(struct vial_box *b, const struct saved *s, struct vial_box **ret, struct vial_err *err)
{
	_cleanup_(box_freep) struct vial_box *c = NULL;
	int r = box_new(b->home, &c, err);

	r = r ?: spec_copy(b->spec, &c->spec, err);
	/* A name of its own; nobody sits at its console. */
	r = r ?: spec_clear(c->spec, "hostname", err);
	r = r ?: spec_clear(c->spec, "console", err);
	if (r < 0)
		return r;
	c->from = malloc(sizeof(*c->from));
	if (!c->from)
		return err_sys(err, -ENOMEM, "fork the box");
	*c->from = SAVED_NONE;
	r = saved_copy(s, c->from);
	r = r ?: copy_image(&b->image, &c->image);
	if (r < 0)
		return err_sys(err, r, "fork the box");
	r = box_start(c, err);
	if (r < 0)
		return r;
	*ret = take_ptr(c);
	return 0;
}

int box_fork(struct vial_box *b, size_t n, struct vial_box **ret, struct vial_err *err)
{
	_cleanup_(saved_done) struct saved s = SAVED_NONE;
	struct vial_box *made[FORK_MAX];
	size_t k = 0;
	int r;

	if (n < 1 || n > FORK_MAX)
		return err_set(err, VIAL_E_INVALID, "%zu forks at once: 1 to %d can be made", n, FORK_MAX);
	r = saved_take(b, false, &s, err);
	for (; r == 0 && k < n; k++) {
		r = make_child(b, &s, &made[k], err);
		if (r < 0)
			break;
	}
	if (r == 0) {
		memcpy(ret, made, n * sizeof(made[0]));
		return 0;
	}
	while (k-- > 0)
		box_free(made[k]);
	return err ? err_prefix(err, "fork the box") : r;
}
