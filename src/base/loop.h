/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-thread event loop over epoll: descriptors and timers.
 *
 * Theory of operation
 *
 * Purpose: what vial-monitor and vial-agent run on. Children are watched through
 * pidfds, signals through signalfds: both are plain descriptors here.
 * Invariants: a source may be freed from within any callback, its own included;
 * events already fetched for it are then dropped. Callbacks never nest.
 * Limits: LOOP_BATCH events a turn, and each timer once, so that no source starves another.
 * Threads: none; a loop belongs to the thread that runs it.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/attr.h"

#define LOOP_BATCH 32

struct loop;
struct loop_src;

/* loop_io_fn - @events: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR that are ready */
typedef void loop_io_fn(struct loop_src *src, uint32_t events, void *data);
typedef void loop_timer_fn(struct loop_src *src, void *data);

int loop_new(struct loop **ret); /* 0 or -errno */
/* loop_free() - also frees all sources left in it; their descriptors stay open. NULL is fine */
void loop_free(struct loop *l);
DEFINE_CLEANUP(struct loop, loop_free)

/**
 * loop_add_fd() - watch @fd, which stays the caller's
 * @events:	EPOLLIN | EPOLLOUT as wanted, 0 for hang-up and errors only (level-triggered)
 * @ret:	freed with loop_src_free() before @fd is closed
 * Return: 0 or -errno.
 */
int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_io_fn *fn, void *data, struct loop_src **ret);
/* loop_src_set_events() - change what is watched; cheap if nothing changes; 0 or -errno */
int loop_src_set_events(struct loop_src *src, uint32_t events);

/**
 * loop_add_timer() - a one-shot timer, disarmed until loop_timer_set()
 * Return: 0 or -errno.
 */
int loop_add_timer(struct loop *l, loop_timer_fn *fn, void *data, struct loop_src **ret);
/**
 * loop_timer_set() - fire once
 * @mono_ns:	when (clock_mono_ns() scale); set from its own callback, not before the next turn; 0 disarms
 */
void loop_timer_set(struct loop_src *timer, uint64_t mono_ns);

/* loop_src_free() - stop watching; NULL is fine */
void loop_src_free(struct loop_src *src);
DEFINE_CLEANUP(struct loop_src, loop_src_free)

/* loop_run() - serve until loop_quit(); returns its argument, or -errno if epoll fails */
int loop_run(struct loop *l);
void loop_quit(struct loop *l, int result);
/* loop_turn() - one round: wait at most @timeout_ms (-1: no limit), serve what is ready; 0 or -errno */
int loop_turn(struct loop *l, int timeout_ms);

#endif
