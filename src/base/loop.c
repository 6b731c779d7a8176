// SPDX-License-Identifier: Apache-2.0
// One-thread event loop over epoll.
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

struct loop_src {
	struct loop *loop;
	struct loop_src *prev, *next; /* loop.live or loop.dead */
	int fd;			      /* -1: a timer */
	uint32_t events;
	uint64_t deadline_ns; /* timers: 0 when disarmed */
	uint64_t fired;	      /* timers: number of the turn in which it last fired */
	loop_io_fn *io;
	loop_timer_fn *timer;
	void *data;
	bool dead; /* freed during a turn; memory goes at its end */
};

struct loop {
	int epfd;
	bool in_turn;
	bool quit;
	int result;
	uint64_t turns;
	struct loop_src *live;
	struct loop_src *dead;
};

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		int r = -errno;
		free(l);
		return r;
	}
	*ret = l;
	return 0;
}

static void free_list(struct loop_src *s)
{
	while (s) {
		struct loop_src *next = s->next;
		free(s);
		s = next;
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	free_list(l->live);
	free_list(l->dead);
	close(l->epfd);
	free(l);
}

static void link_src(struct loop_src **head, struct loop_src *s)
{
	s->prev = NULL;
	s->next = *head;
	if (*head)
		(*head)->prev = s;
	*head = s;
}

static struct loop_src *new_src(struct loop *l, void *data)
{
	struct loop_src *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->loop = l;
	s->fd = -1;
	s->data = data;
	return s;
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_io_fn *fn, void *data, struct loop_src **ret)
{
	struct loop_src *s = new_src(l, data);
	struct epoll_event ev = { .events = events, .data.ptr = s };

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->events = events;
	s->io = fn;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int r = -errno;
		free(s);
		return r;
	}
	link_src(&l->live, s);
	*ret = s;
	return 0;
}

int loop_src_set_events(struct loop_src *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	if (src->events == events)
		return 0;
	if (epoll_ctl(src->loop->epfd, EPOLL_CTL_MOD, src->fd, &ev) < 0)
		return -errno;
	src->events = events;
	return 0;
}

int loop_add_timer(struct loop *l, loop_timer_fn *fn, void *data, struct loop_src **ret)
{
	struct loop_src *s = new_src(l, data);

	if (!s)
		return -ENOMEM;
	s->timer = fn;
	link_src(&l->live, s);
	*ret = s;
	return 0;
}

void loop_timer_set(struct loop_src *timer, uint64_t mono_ns)
{
	timer->deadline_ns = mono_ns;
}

void loop_src_free(struct loop_src *src)
{
	if (!src || src->dead)
		return;
	struct loop *l = src->loop;
	if (src->fd >= 0)
		(void)epoll_ctl(l->epfd, EPOLL_CTL_DEL, src->fd, NULL);
	if (src->prev)
		src->prev->next = src->next;
	else
		l->live = src->next;
	if (src->next)
		src->next->prev = src->prev;
	if (!l->in_turn) {
		free(src);
		return;
	}
	/* An event already fetched may still point here. */
	src->dead = true;
	link_src(&l->dead, src);
}

static int next_timeout_ms(struct loop *l, int timeout_ms)
{
	uint64_t first = 0;

	for (struct loop_src *s = l->live; s; s = s->next)
		if (s->deadline_ns && (!first || s->deadline_ns < first))
			first = s->deadline_ns;
	if (!first)
		return timeout_ms;
	uint64_t now = clock_mono_ns();
	uint64_t wait_ms = first > now ? (first - now + NS_PER_MS - 1) / NS_PER_MS : 0;
	int ms = wait_ms > 1000000 ? 1000000 : (int)wait_ms;
	return timeout_ms >= 0 && timeout_ms < ms ? timeout_ms : ms;
}

static void fire_timers(struct loop *l)
{
	uint64_t now = clock_mono_ns();
	struct loop_src *s = l->live;

	l->turns++;
	while (s) {
		/* One that arms itself for what is past already fires in the next turn: others have theirs first. */
		if (!s->deadline_ns || s->deadline_ns > now || s->fired == l->turns) {
			s = s->next;
			continue;
		}
		s->fired = l->turns;
		s->deadline_ns = 0;
		s->timer(s, s->data);
		s = l->live; /* the callback may have changed the list: start over */
	}
}

int loop_turn(struct loop *l, int timeout_ms)
{
	struct epoll_event ev[LOOP_BATCH];
	int n = epoll_wait(l->epfd, ev, LOOP_BATCH, next_timeout_ms(l, timeout_ms));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	l->in_turn = true;
	for (int i = 0; i < n; i++) {
		struct loop_src *s = ev[i].data.ptr;
		if (!s->dead)
			s->io(s, ev[i].events, s->data);
	}
	fire_timers(l);
	l->in_turn = false;
	free_list(l->dead);
	l->dead = NULL;
	return 0;
}

int loop_run(struct loop *l)
{
	l->quit = false;
	while (!l->quit) {
		int r = loop_turn(l, -1);
		if (r < 0)
			return r;
	}
	return l->result;
}

void loop_quit(struct loop *l, int result)
{
	l->quit = true;
	l->result = result;
}
