/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that does one job at a time for the I/O thread: what waits for the host's disk.
 *
 * States, under the lock: idle, given (the job is to be run or runs), ran (its result waits for the I/O thread). The owner's
 * data belongs to the worker while it is given, else to the I/O thread; the lock orders the two.
 */
#ifndef VMM_BLOCK_WORKER_H
#define VMM_BLOCK_WORKER_H

#include <stdbool.h>

#include "base/loop.h"

struct worker;

/**
 * struct worker_job - what to do
 * @run:	on the worker's thread
 * @done:	on the I/O thread, from the loop, when @run has returned and nobody called worker_wait() before
 */
struct worker_job {
	void (*run)(void *data);
	void (*done)(void *data);
	void *data;
};

/**
 * worker_new() - start the thread, under JAIL_VMM_IO's filter
 * @without:	JAIL_NO_SECCOMP: without it (tests)
 * Return: 0 or -errno (-EPERM if the filter cannot be had).
 */
int worker_new(struct loop *loop, const struct worker_job *job, unsigned int without, struct worker **ret);
/* worker_free() - wait for what runs, end the thread. NULL is fine */
void worker_free(struct worker *w);

/* All of these: I/O thread */

/* worker_give() - have the job run; only while not busy */
void worker_give(struct worker *w);
/* worker_busy() - given, and neither done() nor worker_wait() has come */
bool worker_busy(const struct worker *w);
/* worker_wait() - wait until the job has run; done() is not called for it. Nothing if not busy */
void worker_wait(struct worker *w);

#endif
