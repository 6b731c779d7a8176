// SPDX-License-Identifier: Apache-2.0
// From a snapshot's stream to memory and device state: a machine that loads the one and saves the other.
#include "engine/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/launcher.h"
#include "engine/template_build.h"

static int describe(const struct template_env *env, const struct launch *like, struct launcher *l)
{
	struct launch *d = &l->launch;
	uint8_t id[16];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	str_hex(id, sizeof(id), d->id);
	d->mode = LAUNCH_CONVERT;
	d->program = strdup(like->program);
	d->accel = strdup(like->accel);
	d->machine = strdup(like->machine);
	d->vcpus = like->vcpus;
	d->memory = like->memory;
	d->log_level = env->log_level;
	/* What holds for the box holds for whoever reads what its guest may have written. */
	d->strict = like->strict;
	d->untrusted = like->untrusted;
	d->without = like->without;
	if (!d->program || !d->accel || !d->machine)
		return -ENOMEM;
	return env->log_fd >= 0 ? launcher_add(l, LAUNCH_FD_LOG, env->log_fd) : 0;
}

int convert_stream(const struct template_env *env, const struct launch *like, int stream_fd, int mem_fd,
		   int state_fd, struct vial_err *err)
{
	_cleanup_(launcher_done) struct launcher l;
	int r = ftruncate(mem_fd, (off_t)like->memory) < 0 ? -errno : 0;

	launcher_init(&l);
	r = r ?: describe(env, like, &l);
	/* Opened anew: the writer's offset is at its end. */
	r = r ?: launcher_add_own(&l, LAUNCH_FD_STATE, fd_reopen(stream_fd, O_RDONLY));
	r = r ?: launcher_add(&l, LAUNCH_FD_MEM, mem_fd);
	r = r ?: launcher_add(&l, LAUNCH_FD_STATE_OUT, state_fd);
	r = r ?: launcher_add_own(&l, LAUNCH_FD_KERNEL, template_kernel_stub());
	r = r ?: template_placeholders(&l);
	if (r < 0)
		return err_sys(err, r, "prepare a saved machine");
	r = launcher_start(&l, env->monitor_path, env->uid, env->gid, err);
	r = r ?: template_wait(&l, err);
	launcher_end(&l);
	return r < 0 && err ? err_prefix(err, "prepare a saved machine") : r;
}
