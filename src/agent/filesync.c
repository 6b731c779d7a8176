// SPDX-License-Identifier: Apache-2.0
#include "agent/filesync.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "base/fd.h"

#define FILESYNC_MAX_MS 5000

static void finish(struct agent *a)
{
	struct filesync *f = &a->filesync;
	filesync_done_fn *done = f->done;
	void *user = f->user;

	loop_src_free(f->src);
	loop_src_free(f->timer);
	fd_close(&f->pipe);
	*f = (struct filesync){ 0 };
	if (done)
		done(user);
}

static void on_end(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	finish(data);
}

static void on_timer(struct loop_src *src _unused_, void *data)
{
	finish(data);
}

/* The process is reaped as any orphan is. Its end closes the pipe. */
static int start(struct agent *a, int theirs)
{
	struct filesync *f = &a->filesync;
	int r = loop_add_fd(a->loop, f->pipe, EPOLLIN, on_end, a, &f->src);

	r = r ?: loop_add_timer(a->loop, on_timer, a, &f->timer);
	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		/* Of all descriptors only the pipe: others hold connections and commands' outputs open. */
		(void)dup2(theirs, 0);
		(void)close_range(1, ~0U, 0);
		sync();
		_exit(0);
	}
	loop_timer_set(f->timer, clock_mono_ns() + FILESYNC_MAX_MS * NS_PER_MS);
	return 0;
}

int filesync_start(struct agent *a, filesync_done_fn *done, void *user)
{
	struct filesync *f = &a->filesync;
	int ends[2];

	if (f->src)
		return -EBUSY;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	f->pipe = ends[0];
	int r = start(a, ends[1]);
	close(ends[1]);
	if (r < 0) {
		f->done = NULL;
		finish(a);
		return r;
	}
	f->done = done;
	f->user = user;
	return 0;
}

void filesync_forget(struct agent *a, const void *user)
{
	if (a->filesync.user == user)
		a->filesync.done = NULL;
}
