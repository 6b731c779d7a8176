/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a box's monitor. */
#ifndef BOX_REQUEST_H
#define BOX_REQUEST_H

#include "box/box.h"
#include "wire/mon.h"

/* request_ready() - VIAL_E_STATE unless the box was started and not stopped */
int request_ready(const struct vial_box *b, struct vial_err *err);

/* request_connect() - a connection to the box's monitor; descriptor or -errno */
int request_connect(const struct vial_box *b);

/**
 * request_send() - ask and wait for the answer
 * @m:		MON_PAUSE, MON_RESUME, MON_UPDATE or MON_SNAPSHOT, the latter with @n_fds descriptors
 * @ret_snapshotted: filled when a MON_SNAPSHOTTED came, also when an error followed; NULL: none is expected
 */
int request_send(struct vial_box *b, const struct mon_msg *m, const int *fds, size_t n_fds,
		 struct mon_msg *ret_snapshotted, struct vial_err *err);

#endif
