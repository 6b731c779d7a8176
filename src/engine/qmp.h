/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP, QEMU's control protocol: JSON lines both ways. [QEMU docs/interop/qmp-spec]
 *
 * Purpose: send commands without waiting (QEMU answers in order) and report answers and events.
 * Who is trusted: QEMU may be taken over by its guest. Lines are bounded, JSON is parsed by jansson,
 * only the few members named below are looked at.
 */
#ifndef ENGINE_QMP_H
#define ENGINE_QMP_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/loop.h"
#include "base/str.h"

#define QMP_LINE_MAX KIB(256)

struct qmp;

/**
 * struct qmp_events
 * @error:	a command failed; @desc is QEMU's text
 * @returned:	a command succeeded (the negotiation's own is the first); may be NULL
 * @event:	@name such as "RESUME"; @status is data.status if there is one, else NULL
 * @closed:	QEMU is gone or broke the protocol
 */
struct qmp_events {
	void (*error)(void *data, const char *desc);
	void (*event)(void *data, const char *name, const char *status);
	void (*closed)(void *data);
	void (*returned)(void *data);
};

/**
 * qmp_new() - on a connected stream socket, which stays the caller's
 * @negotiate:	queue the negotiation; false for a QEMU that has it behind it
 * Return: 0 or -errno.
 */
int qmp_new(struct loop *loop, int fd, bool negotiate, const struct qmp_events *ev, void *data,
	    struct qmp **ret);
void qmp_free(struct qmp *q);
DEFINE_CLEANUP(struct qmp, qmp_free)

/**
 * qmp_send() - one command, JSON text without newline
 * @fd:		passed along with it, or -1
 * Return: 0 or -errno.
 */
int qmp_send(struct qmp *q, const char *json, int fd);

#endif
