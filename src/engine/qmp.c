// SPDX-License-Identifier: Apache-2.0
// QMP client.
#include "engine/qmp.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"

struct qmp {
	struct loop_src *src;
	int fd;
	const struct qmp_events *ev;
	void *data;
	struct buf in;
};

static void handle_line(struct qmp *q, const char *line, size_t n)
{
	json_t *msg = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(msg, "event"));
	json_t *error = json_object_get(msg, "error");

	if (error) {
		const char *desc = json_string_value(json_object_get(error, "desc"));
		q->ev->error(q->data, desc ? desc : "no description");
	} else if (name) {
		json_t *data = json_object_get(msg, "data");
		log_debug("qmp event %s", name);
		q->ev->event(q->data, name, json_string_value(json_object_get(data, "status")));
	} else if (json_object_get(msg, "return") && q->ev->returned) {
		q->ev->returned(q->data);
	}
	json_decref(msg);
}

static void hang_up(struct qmp *q)
{
	loop_src_free(q->src); /* what is left to read, or a hang-up, would be told for ever */
	q->src = NULL;
	q->ev->closed(q->data);
}

static void on_readable(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct qmp *q = data;
	char *nl;

	if (buf_reserve(&q->in, KIB(4)) < 0) {
		hang_up(q); /* a line without end */
		return;
	}
	ssize_t r = recv(q->fd, q->in.data + q->in.len, KIB(4), MSG_DONTWAIT);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (r <= 0) {
		hang_up(q);
		return;
	}
	q->in.len += (size_t)r;
	while (q->in.len && (nl = memchr(q->in.data, '\n', q->in.len))) {
		size_t n = (size_t)(nl - q->in.data) + 1;
		handle_line(q, q->in.data, n);
		buf_consume(&q->in, n);
	}
}

int qmp_new(struct loop *loop, int fd, bool negotiate, const struct qmp_events *ev, void *data,
	    struct qmp **ret)
{
	_cleanup_(qmp_freep) struct qmp *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->fd = fd;
	q->ev = ev;
	q->data = data;
	q->in.limit = QMP_LINE_MAX;
	r = loop_add_fd(loop, fd, EPOLLIN, on_readable, q, &q->src);
	if (r < 0)
		return r;
	r = negotiate ? qmp_send(q, "{\"execute\":\"qmp_capabilities\"}", -1) : 0;
	if (r < 0)
		return r;
	*ret = q;
	q = NULL;
	return 0;
}

void qmp_free(struct qmp *q)
{
	if (!q)
		return;
	loop_src_free(q->src);
	buf_done(&q->in);
	free(q);
}

int qmp_send(struct qmp *q, const char *json, int fd)
{
	_cleanup_buf_ struct buf line = { 0 };
	size_t sent = 0;

	buf_puts(&line, json);
	buf_puts(&line, "\n");
	if (!buf_ok(&line))
		return -ENOMEM;
	/* Commands are a few hundred bytes in an otherwise idle socket: they fit at once. */
	while (sent < line.len) {
		ssize_t r =
			fd_send(q->fd, line.data + sent, line.len - sent, &fd, fd >= 0 && sent == 0 ? 1 : 0);
		if (r < 0)
			return (int)r;
		sent += (size_t)r;
	}
	return 0;
}
