// SPDX-License-Identifier: Apache-2.0
// A thread that does one job at a time for the I/O thread.
// System calls beside the job's own: futex, write (and read, by the I/O thread) of an eventfd.
#include "vmm/block/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/thread.h"
#include "jail/jail.h"

#define WORKER_STACK KIB(512)

enum state { STARTING, REFUSED, IDLE, GIVEN, RAN, QUIT };

/* @busy: the I/O thread's own view: @state is GIVEN or RAN */
struct worker {
	struct worker_job job;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum state state;
	bool busy;
	unsigned int without;
	int event;
	struct loop_src *src;
};

static void set(struct worker *w, enum state state)
{
	pthread_mutex_lock(&w->lock);
	w->state = state;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Waits until the state is another; the new one. */
static enum state leave(struct worker *w, enum state state)
{
	pthread_mutex_lock(&w->lock);
	while (w->state == state)
		pthread_cond_wait(&w->changed, &w->lock);
	state = w->state;
	pthread_mutex_unlock(&w->lock);
	return state;
}

static enum state state_of(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	enum state state = w->state;
	pthread_mutex_unlock(&w->lock);
	return state;
}

static void *work(void *data)
{
	struct worker *w = data;
	const uint64_t one = 1;

	if (jail_thread(JAIL_VMM_IO, w->without, NULL) < 0) {
		set(w, REFUSED);
		return NULL;
	}
	set(w, IDLE);
	for (;;) {
		enum state now = state_of(w);

		if (now == QUIT)
			return NULL;
		if (now != GIVEN) {
			leave(w, now);
			continue;
		}
		w->job.run(w->job.data);
		set(w, RAN);
		(void)!write(w->event, &one, sizeof(one));
	}
}

static void on_event(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct worker *w = data;
	uint64_t n;

	(void)!read(w->event, &n, sizeof(n));
	/* An event of a job that worker_wait() has taken may come late, when the next one is given. */
	if (!w->busy || state_of(w) != RAN)
		return;
	w->busy = false;
	set(w, IDLE);
	w->job.done(w->job.data);
}

static void destroy(struct worker *w)
{
	loop_src_free(w->src);
	fd_close(&w->event);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static int start(struct worker *w)
{
	int r = thread_start(&w->thread, WORKER_STACK, work, w);

	if (r == 0 && leave(w, STARTING) == REFUSED) {
		pthread_join(w->thread, NULL);
		r = -EPERM;
	}
	return r;
}

int worker_new(struct loop *loop, const struct worker_job *job, unsigned int without, struct worker **ret)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct worker){ .job = *job, .state = STARTING, .without = without };
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r = w->event < 0 ? -errno : loop_add_fd(loop, w->event, EPOLLIN, on_event, w, &w->src);
	r = r ?: start(w);
	if (r < 0) {
		destroy(w);
		return r;
	}
	*ret = w;
	return 0;
}

void worker_give(struct worker *w)
{
	w->busy = true;
	set(w, GIVEN);
}

bool worker_busy(const struct worker *w)
{
	return w->busy;
}

void worker_wait(struct worker *w)
{
	if (!w->busy)
		return;
	leave(w, GIVEN);
	w->busy = false;
	set(w, IDLE);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	worker_wait(w);
	set(w, QUIT);
	pthread_join(w->thread, NULL);
	destroy(w);
}
