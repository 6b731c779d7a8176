// SPDX-License-Identifier: Apache-2.0
// Requests to a box's monitor that concern the whole box: one connection, one question, one answer.
#include "box/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "box/boxdir.h"

int request_connect(const struct vial_box *b)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s/%s", b->home->boxes_fd, b->id,
		 BOXDIR_SOCKET);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return take_fd(fd);
}

static int send_request(int fd, const struct mon_msg *m, const int *fds, size_t n_fds)
{
	_cleanup_buf_ struct buf out = { 0 };
	int r = mon_msg_put(&out, m);

	if (r < 0)
		return r;
	/* A few bytes in an empty socket: they go at once. */
	ssize_t sent = fd_send(fd, out.data, out.len, fds, n_fds);
	return sent < 0 ? (int)sent : (size_t)sent == out.len ? 0 : -EIO;
}

/* The next message: 1, 0 at the end of the connection, or an error. */
static int next_answer(int fd, struct frame_in *in, struct mon_msg *ret, struct vial_err *err)
{
	const uint8_t *p;
	char chunk[1024];
	size_t n;
	int r;

	while ((r = frame_in_next(in, &p, &n)) == 0) {
		ssize_t got = recv(fd, chunk, sizeof(chunk), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return 0;
		r = frame_in_push(in, chunk, (size_t)got);
		if (r < 0)
			break;
	}
	r = r < 0 ? r : mon_msg_decode(p, n, ret);
	return r < 0 ? err_set(err, VIAL_E_PROTOCOL, "the box's monitor sent a malformed message") : 1;
}

static int await(int fd, struct mon_msg *ret_snapshotted, struct vial_err *err)
{
	_cleanup_(frame_in_done) struct frame_in in = { .max = FRAME_MAX };
	struct mon_msg m;
	int r;

	while ((r = next_answer(fd, &in, &m, err)) == 1) {
		if (m.type == MON_DONE)
			return 0;
		if (m.type == MON_ERROR)
			return err_set(err, m.error.code < 0 ? m.error.code : VIAL_E_ENGINE, "%.*s",
				       (int)m.error.text.n, (const char *)m.error.text.p);
		if (m.type != MON_SNAPSHOTTED || !ret_snapshotted)
			continue;
		*ret_snapshotted = m;
		if (m.snapshotted.form != 0) /* 0: an error follows */
			return 0;
	}
	return r < 0 ? r : err_set(err, VIAL_E_ENGINE, "the box has ended");
}

int request_ready(const struct vial_box *b, struct vial_err *err)
{
	if (b->started && b->launcher.pid != 0)
		return 0;
	return err_set(err, VIAL_E_STATE, b->started ? "the box was stopped" : "the box was not started");
}

int request_send(struct vial_box *b, const struct mon_msg *m, const int *fds, size_t n_fds,
		 struct mon_msg *ret_snapshotted, struct vial_err *err)
{
	_cleanup_fd_ int fd = -1;
	int r = request_ready(b, err);

	if (r < 0)
		return r;
	fd = request_connect(b);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return err_set(err, VIAL_E_ENGINE, "the box has ended");
	if (fd < 0)
		return err_sys(err, fd, "reach the box's monitor");
	r = send_request(fd, m, fds, n_fds);
	return r < 0 ? err_sys(err, r, "speak to the box's monitor") : await(fd, ret_snapshotted, err);
}
