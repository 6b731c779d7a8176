/* SPDX-License-Identifier: Apache-2.0 */
/* Helper threads. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/**
 * thread_start() - a thread with all signals blocked: they are the other threads' business
 * @stack:	bytes. Smaller than a huge page (2 MiB): with those, clearing one and keeping it is what a thread of the usual size costs
 * Return: 0 or -errno.
 */
int thread_start(pthread_t *ret, size_t stack, void *(*run)(void *), void *data);

#endif
